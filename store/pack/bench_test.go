package pack

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/seed-6f1f505d/kvstore"
)

// ways are the ways to store values: as they are, packed, and packed with a dictionary of other values of that size.
func ways(b *testing.B, training [][]byte) []*way {
	b.Helper()
	d, err := Train(training)
	if err != nil {
		b.Fatal(err)
	}
	ws := []*way{{name: "none", o: Options{MinSize: -1}}, {name: "zstd"}, {name: "dictionary", o: Options{Dictionaries: [][]byte{d}}}}
	for _, w := range ws {
		w.c = coderOf(b, w.o)
	}
	return ws
}

type way struct {
	name           string
	o              Options
	c              *coder
	bytes          int
	packs, unpacks []float64 // ns per value, of each round
}

// round packs and unpacks all values.
func (w *way) round(b *testing.B, values [][]byte) {
	b.Helper()
	e, err := w.c.encoders.take(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer w.c.encoders.give(e)
	records := make([][]byte, len(values))
	var buf []byte
	buf = slices.Grow(buf, 2*len(values)*len(values[0]))
	w.bytes = 0
	start := time.Now()
	for i, v := range values {
		records[i] = v
		if !w.c.asIs(v) {
			var altered bool
			from := len(buf)
			if buf, altered = w.c.appendStored(buf, e, v); altered {
				records[i] = buf[from:]
			}
		}
		w.bytes += len(records[i])
	}
	w.packs = append(w.packs, float64(time.Since(start).Nanoseconds())/float64(len(values)))
	var d *zstd.Decoder
	start = time.Now()
	for _, r := range records {
		if _, err := w.c.value(b.Context(), &d, r); err != nil {
			b.Fatal(err)
		}
	}
	w.unpacks = append(w.unpacks, float64(time.Since(start).Nanoseconds())/float64(len(values)))
	if d != nil {
		w.c.decoders.give(d)
	}
}

// BenchmarkValues gives the table of the package's comment. The ways take turns, and of each the fastest round is reported: the one that nothing else on the
// machine has disturbed. -benchtime=500x.
func BenchmarkValues(b *testing.B) {
	for _, size := range []int{256, 4096} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			ws, values := ways(b, sessions(b, 1, 1000, size)), sessions(b, 2, 100, size)
			for b.Loop() {
				for _, w := range ws {
					w.round(b, values)
				}
			}
			b.ReportMetric(0, "ns/op")
			for _, w := range ws {
				b.ReportMetric(float64(w.bytes)/float64(len(values)), w.name+"-B/value")
				b.ReportMetric(slices.Min(w.packs), w.name+"-pack-ns")
				b.ReportMetric(slices.Min(w.unpacks), w.name+"-unpack-ns")
			}
		})
	}
}

// small is a value as short as values with names are.
func small(t testing.TB, seed uint64, n, size int) [][]byte {
	vs := make([][]byte, n)
	for i, s := range sessions(t, seed, n, 512) {
		var m map[string]any
		if err := (kvstore.Msgpack{}).Decode(s, &m); err != nil {
			t.Fatal(err)
		}
		part := map[string]any{}
		for _, name := range []string{"State", "Node", "User", "Version", "Locale", "Updated", "Remote", "Agent"} {
			part[name] = m[name]
			b, err := (kvstore.Msgpack{}).Append(nil, &part)
			if err != nil {
				t.Fatal(err)
			}
			if vs[i] = b; len(b) >= size {
				break
			}
		}
	}
	return vs
}

// BenchmarkMinSize says from which size on it pays to pack: of values of about so many bytes, the part that is packed, and what is saved of all.
func BenchmarkMinSize(b *testing.B) {
	for _, size := range []int{16, 32, 48, 64, 96, 128} {
		values := small(b, 2, 200, size)
		var bytes int
		for _, v := range values {
			bytes += len(v)
		}
		d, err := Train(small(b, 1, 1000, size))
		if err != nil {
			b.Fatal(err)
		}
		for _, gain := range []float64{0.001, 1.0 / 8} {
			b.Run(fmt.Sprintf("%d/gain=%.3f", bytes/len(values), gain), func(b *testing.B) {
				ws := []*way{{name: "zstd"}, {name: "dictionary", o: Options{Dictionaries: [][]byte{d}}}}
				for _, w := range ws {
					w.o.MinSize, w.o.MinGain = 1, gain
					w.c = coderOf(b, w.o)
				}
				for b.Loop() {
					for _, w := range ws {
						w.round(b, values)
					}
				}
				b.ReportMetric(0, "ns/op")
				for _, w := range ws {
					packs := 0
					for _, v := range values {
						if kindOf(stored(b, w.c, v)) == packed {
							packs++
						}
					}
					b.ReportMetric(100*float64(packs)/float64(len(values)), w.name+"-%packed")
					b.ReportMetric(100*float64(bytes-w.bytes)/float64(bytes), w.name+"-%saved")
					b.ReportMetric(slices.Min(w.packs), w.name+"-pack-ns")
				}
			})
		}
	}
}
