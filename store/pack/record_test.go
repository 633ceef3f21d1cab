package pack

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

func coderOf(t testing.TB, o Options) *coder {
	t.Helper()
	return wrap(t, memory.New(), o).coder
}

// stored returns what a coder stores of a value.
func stored(t testing.TB, c *coder, value []byte) []byte {
	t.Helper()
	e, err := c.encoders.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.encoders.give(e)
	was := bytes.Clone(value)
	got, altered := c.appendStored([]byte("before"), e, value)
	if !bytes.Equal(value, was) {
		t.Fatalf("the value was changed")
	}
	if altered && !bytes.HasPrefix(got, []byte("before")) || !altered && string(got) != "before" {
		t.Fatalf("appended to what was there: %q", got)
	}
	if !altered {
		return was
	}
	return got[len("before"):]
}

// read returns the value of what is stored, of which it leaves the bytes as they are.
func read(t testing.TB, c *coder, stored []byte) ([]byte, error) {
	t.Helper()
	var d *zstd.Decoder
	value, err := c.value(t.Context(), &d, bytes.Clone(stored))
	if d != nil {
		c.decoders.give(d)
	}
	var why damage
	if err != nil && !errors.As(err, &why) {
		t.Fatalf("error %v is no damage", err)
	}
	return value, err
}

func marked(mark uint64, rest string) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, mark), rest...)
}

// awkward are values that could be taken for something else.
func awkward(t testing.TB, c *coder) map[string][]byte {
	long := bytes.Repeat([]byte("session "), 40)
	vs := map[string][]byte{
		"nil": nil, "empty": {}, "one byte": {0xc1}, "short": []byte("short"), "of the mark's size": []byte("12345678"),
		"long": long, "zeros": make([]byte, 1<<20), "noise": noise(5000),
		"the mark": marked(markPacked, ""), "the mark cut": marked(markPacked, "")[:7], "the other mark": marked(markPlain, ""),
		"mark and check": marked(markPacked, "1234"), "mark and noise": marked(markPacked, string(noise(300))), "mark and words": marked(markPacked, string(long)),
		"other mark and noise": marked(markPlain, string(noise(300))), "later version": marked(markPlain^1<<63, "anything"),
		"record":              stored(t, c, long),
		"record of a record":  stored(t, c, stored(t, c, long)),
		"frame":               []byte(frameMagic + "anything at all"),
		"record of the mark":  stored(t, c, marked(markPacked, "")),
		"record of its words": stored(t, c, marked(markPlain, string(long))),
	}
	for i := range markSize {
		v := marked(markPacked, "anything")
		v[i] ^= 0x55
		vs[fmt.Sprint("wrong byte ", i)] = v
	}
	return vs
}

func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// Whatever the value is, it comes back.
func TestValues(t *testing.T) {
	dictionary := dictionaryOf(t, 256)
	for name, o := range map[string]Options{
		"default": {}, "from one byte": {MinSize: 1, MinGain: 0.001}, "with a dictionary": {Dictionaries: [][]byte{dictionary}}, "off": {MinSize: -1},
		"small bound": {MaxValue: 200},
	} {
		c := coderOf(t, o)
		for what, value := range awkward(t, coderOf(t, Options{MinSize: 1})) {
			st := stored(t, c, value)
			if got, err := read(t, c, st); err != nil || !bytes.Equal(got, value) {
				t.Errorf("%s: %s: %.40q is stored as %.60q, which is read as %.40q, %v", name, what, value, st, got, err)
			}
			if len(st) > len(value)+headSize {
				t.Errorf("%s: %s: %d bytes are stored as %d", name, what, len(value), len(st))
			}
			if kindOf(st) == raw && !bytes.Equal(st, value) || kindOf(st) == strange {
				t.Errorf("%s: %s: stored as %.60q", name, what, st)
			}
			if o.MinSize < 0 && kindOf(st) == packed {
				t.Errorf("%s: %s: it is packed", name, what)
			}
		}
	}
}

// What is stored of a value when it pays to pack it, and when it does not.
func TestPays(t *testing.T) {
	zeros := make([]byte, 1000)
	half := append(noise(500), make([]byte, 500)...)
	for _, c := range []struct {
		what  string
		o     Options
		value []byte
		want  kind
	}{
		{"below MinSize", Options{}, zeros[:63], raw},
		{"at MinSize", Options{}, zeros[:64], packed},
		{"below a MinSize", Options{MinSize: 500}, zeros[:499], raw},
		{"at a MinSize", Options{MinSize: 500}, zeros[:500], packed},
		{"at MaxValue", Options{MaxValue: 700}, zeros[:700], packed},
		{"above MaxValue", Options{MaxValue: 700}, zeros[:701], raw},
		{"noise", Options{}, noise(1000), raw},
		{"half is saved", Options{}, half, packed},
		{"half, where more is wanted", Options{MinGain: 0.6}, half, raw},
		{"an eighth is not saved", Options{}, append(noise(890), make([]byte, 110)...), raw},
		{"an eighth is saved", Options{}, append(noise(800), make([]byte, 200)...), packed},
		{"it is off", Options{MinSize: -1}, zeros, raw},
	} {
		if got := kindOf(stored(t, coderOf(t, c.o), c.value)); got != c.want {
			t.Errorf("%s: %d bytes are stored as kind %d, want %d", c.what, len(c.value), got, c.want)
		}
	}
}

// What programs write begins with no mark, nor with one of which a byte is wrong.
func TestMarkIsStrange(t *testing.T) {
	mark := marked(markPacked, "\x00\x00\x00\x00 and what follows")
	var v any
	if err := (kvstore.Msgpack{}).Decode(mark, &v); err == nil {
		t.Errorf("it is MessagePack, of %v: without this package a record would pass for a value", v)
	}
	for _, m := range []uint64{markPacked, markPlain} {
		for i, b := range marked(m, "") {
			if b < 0x80 {
				t.Errorf("byte %d of the mark is %#x: it may be of a text, or the last of a number", i, b)
			}
		}
	}
	if d := uint64(markPacked ^ markPlain); d>>56 == 0 || d<<8 != 0 {
		t.Errorf("the marks differ by %#x, want the last byte alone", d)
	}
}

// records are one of each kind, by coders that can read them.
func records(t testing.TB) map[string]struct {
	c             *coder
	value, record []byte
} {
	d := dictionaryOf(t, 256)
	rs := map[string]struct {
		c             *coder
		value, record []byte
	}{}
	for name, r := range map[string]struct {
		o     Options
		value []byte
	}{
		"packed":          {Options{}, sessions(t, 3, 1, 1000)[0]},
		"with dictionary": {Options{Dictionaries: [][]byte{d}}, sessions(t, 3, 1, 256)[0]},
		"plain":           {Options{}, marked(markPacked, "and what follows")},
	} {
		c := coderOf(t, r.o)
		record := stored(t, c, r.value)
		if kindOf(record) == raw {
			t.Fatalf("%s: no record", name)
		}
		rs[name] = struct {
			c             *coder
			value, record []byte
		}{c, r.value, record}
	}
	return rs
}

// A record with a flipped bit, or another byte, or of which the end is missing, is damaged; none is ever read as another value.
func TestDamage(t *testing.T) {
	for name, r := range records(t) {
		same := 0
		check := func(what string, at int, record []byte) {
			t.Helper()
			switch got, err := read(t, r.c, record); {
			case err != nil:
			case bytes.Equal(got, r.value):
				same++ // a bit that says nothing
			default:
				t.Errorf("%s: %s %d: read as %.60q", name, what, at, got)
			}
		}
		for bit := range 8 * len(r.record) {
			record := bytes.Clone(r.record)
			record[bit/8] ^= 1 << (bit % 8)
			check("bit", bit, record)
		}
		for i := range r.record {
			record := bytes.Clone(r.record)
			record[i] ^= 0xff
			check("byte", i, record)
		}
		if same > len(r.record)/20 {
			t.Errorf("%s: %d changes of %d bytes go unnoticed", name, same, len(r.record))
		}
		for n := range len(r.record) {
			got, err := read(t, r.c, r.record[:n])
			if n < markSize { // nothing tells it from a short value
				if err != nil || !bytes.Equal(got, r.record[:n]) {
					t.Errorf("%s: cut to %d: %q, %v", name, n, got, err)
				}
			} else if err == nil {
				t.Errorf("%s: cut to %d: read as %.60q", name, n, got)
			}
		}
	}
}

// A dictionary with the ID of another one, and other contents, is found out, though the frame unpacks with it.
func TestWrongDictionary(t *testing.T) {
	d := dictionaryOf(t, 256)
	other := bytes.Clone(d)
	for i := len(other) / 2; i < len(other); i++ {
		other[i] ^= 1
	}
	value := sessions(t, 3, 1, 256)[0]
	record := stored(t, coderOf(t, Options{Dictionaries: [][]byte{d}}), value)
	if got, err := read(t, coderOf(t, Options{Dictionaries: [][]byte{other}}), record); err == nil || !strings.Contains(err.Error(), "check") {
		t.Errorf("read as %.60q, %v", got, err)
	}
}

// bomb is a record that says that it is of size bytes, and is of so many blocks of 128 KiB of zeros.
func bomb(size, blocks int) []byte {
	b := marked(markPacked, "\x00\x00\x00\x00\xa0") // a single segment with four bytes for its size
	b = binary.LittleEndian.AppendUint32(b, uint32(size))
	return append(b, zeros(blocks)...)
}

func zeros(blocks int) (b []byte) {
	for i := range blocks {
		h := 128<<10<<3 | 1<<1 // RLE
		if i == blocks-1 {
			h |= 1
		}
		b = append(b, byte(h), byte(h>>8), byte(h>>16), 0)
	}
	return b
}

// What a record may have its reader allocate is bounded, whatever it says.
func TestBombs(t *testing.T) {
	c := coderOf(t, Options{MaxValue: 1 << 20})
	for _, b := range []struct {
		what   string
		record []byte
		want   string
	}{
		{"more than MaxValue", bomb(1<<20+1, 9), "Options.MaxValue is 1048576"},
		{"4 GiB", bomb(1<<32-1, 1<<12), "Options.MaxValue is 1048576"},
		{"more than it says", bomb(100, 1<<12), "frame"},
		{"more than it says, at the bound", bomb(1<<20, 1<<12), "frame"},
		{"less than it says", bomb(1<<20, 1), "frame"},
		{"nothing", bomb(1<<20, 0), "frame"},
		{"no size", append(marked(markPacked, "\x00\x00\x00\x00\x00\x40"), zeros(1<<12)...), "frame"},
		{"no size, and little", append(marked(markPacked, "\x00\x00\x00\x00\x00\x40"), zeros(1)...), "131072 bytes instead of 0"},
		{"frame upon frame", bytes.Join([][]byte{bomb(1<<20, 8), bytes.Repeat(append([]byte(frameMagic), bomb(1<<20, 8)[headSize:]...), 100)}, nil), "frame"},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := read(t, c, b.record)
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), b.want) {
			t.Errorf("%s: %v, want an error about %q", b.what, err, b.want)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 8<<20 {
			t.Errorf("%s: it took %d bytes", b.what, took)
		}
	}
	whole := bomb(1<<20, 8)
	putCheck(whole, make([]byte, 1<<20))
	if got, err := read(t, c, whole); err != nil || len(got) != 1<<20 {
		t.Errorf("exactly MaxValue: %d bytes, %v", len(got), err)
	}
}

const maxFuzzed = 64 << 10

// Any bytes that are stored are read as a value, or are damaged.
func FuzzRecord(f *testing.F) {
	for _, r := range records(f) {
		f.Add(r.record)
	}
	f.Add(bomb(1<<15, 1))
	f.Add(marked(markPlain, "12"))
	s, err := New(memory.New(), Options{MaxValue: maxFuzzed, Dictionaries: [][]byte{dictionaryOf(f, 256)}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, stored []byte) {
		for _, in := range [][]byte{stored, marked(markPacked, string(stored)), marked(markPacked, "1234\xa0"+string(stored)), marked(markPlain, string(stored))} {
			value, err := read(t, s.coder, in)
			if err == nil && len(value) > max(len(in), maxFuzzed) {
				t.Fatalf("%d bytes of %d", len(value), len(in))
			}
			if err == nil && kindOf(in) == raw && !bytes.Equal(value, in) {
				t.Fatalf("the value %q is read as %q", in, value)
			}
		}
	})
}

// Any value comes back, also of a record of which a byte was changed, or that is damaged then.
func FuzzValue(f *testing.F) {
	for _, v := range sessions(f, 3, 5, 256) {
		f.Add(v, uint16(3), byte(4))
	}
	f.Add(marked(markPacked, "\x00"), uint16(9), byte(1))
	var cs []*coder
	for _, o := range []Options{{}, {MinSize: 1, Dictionaries: [][]byte{dictionaryOf(f, 256)}}} {
		s, err := New(memory.New(), o)
		if err != nil {
			f.Fatal(err)
		}
		cs = append(cs, all(s).coder)
	}
	f.Fuzz(func(t *testing.T, value []byte, at uint16, change byte) {
		for _, c := range cs {
			record := stored(t, c, value)
			if got, err := read(t, c, record); err != nil || !bytes.Equal(got, value) {
				t.Fatalf("%q is read as %q, %v", value, got, err)
			}
			if kindOf(record) == raw || len(record) == 0 {
				continue
			}
			record[int(at)%len(record)] ^= change
			if got, err := read(t, c, record); err == nil && !bytes.Equal(got, value) {
				t.Fatalf("damaged by %#x at %d, %q is read as %q", change, int(at)%len(record), value, got)
			}
		}
	})
}

// A damaged entry is the error, by its name, and the others are there.
func TestCorruptError(t *testing.T) {
	ctx := context.Background()
	d := dictionaryOf(t, 256)
	id, err := inspect(d)
	if err != nil {
		t.Fatal(err)
	}
	mem := memory.New()
	known := wrap(t, mem, Options{Dictionaries: [][]byte{d}})
	vs := sessions(t, 3, 2, 256)
	put(t, known, "s", "a", string(vs[0]), "b", "short", "c", string(vs[1]), "d", strings.Repeat("z", 300))

	without := wrap(t, bare{mem}, Options{})
	snap, err := without.Load(ctx, "s")
	var damaged []string
	many, _ := err.(interface{ Unwrap() []error })
	if many == nil {
		t.Fatalf("several entries are damaged: %v", err)
	}
	for _, e := range many.Unwrap() {
		var c *store.CorruptError
		if !errors.As(e, &c) || c.Session != "s" || c.Header || !strings.Contains(c.Reason, fmt.Sprint("dictionary ", id)) {
			t.Errorf("error %v, want a CorruptError that names the dictionary %d", e, id)
			continue
		}
		damaged = append(damaged, c.Key)
	}
	if fmt.Sprint(damaged) != "[a c d]" || len(snap.Entries) != 1 || string(snap.Entries[0].Value) != "short" {
		t.Errorf("damaged: %v, read: %v; want a, c and d, and the rest", damaged, snap.Entries)
	}
	if snap, err := without.Load(ctx, "s", "b"); err != nil || len(snap.Entries) != 1 {
		t.Errorf("what is sound: %v, %v", snap, err)
	}
	c, err := without.Claim(ctx, store.ClaimRequest{Session: "s", Owner: owner(), Keys: []string{"a", "b"}})
	if err != nil || fmt.Sprint(c.Unread) != "[a]" || len(c.Entries) != 1 {
		t.Errorf("claim: %+v, %v; want a unread", c, err)
	}
	if snap, err := known.Load(ctx, "s"); err != nil || len(snap.Entries) != 4 || string(snap.Entries[0].Value) != string(vs[0]) {
		t.Errorf("with the dictionary: %v, %v", snap.Entries, err)
	}
}
