package seal

import (
	"bytes"
	"crypto/cipher"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// BenchmarkValue seals and opens values, beside what AES-GCM alone takes for them: with a cipher that is there, a nonce, and the same additional
// data. They take turns in one run, and what is reported are the medians, and their ratio.
func BenchmarkValue(b *testing.B) {
	for _, size := range []int{64, 256, 4096} {
		b.Run(fmt.Sprintf("seal/%d", size), func(b *testing.B) { benchmarkSeal(b, size) })
		b.Run(fmt.Sprintf("open/%d", size), func(b *testing.B) { benchmarkOpen(b, size) })
	}
}

// turn is how many values are sealed or opened in one turn.
const turn = 256

type bare struct {
	aead  cipher.AEAD
	nonce []byte
	data  []byte
}

func bench(b *testing.B, size int) (r *ring, p *place, e store.Entry, gcm bare) {
	r = testRing(b, 1)
	p = in("sip/call-7f3a9c21@10.0.0.1")
	e = store.Entry{Key: "leg/1", Value: bytes.Repeat([]byte("v"), size), Expires: 1}
	gcm = bare{r.sealing.Load().aead, make([]byte, 12), bytes.Clone(p.bind(e.Key, e.Expires, make([]byte, headSize)))}
	return r, p, e, gcm
}

func benchmarkSeal(b *testing.B, size int) {
	r, p, e, gcm := bench(b, size)
	arena := make([]byte, 0, turn*(size+Overhead))
	report(b,
		func() {
			arena = arena[:0]
			for range turn {
				arena = gcm.aead.Seal(arena, gcm.nonce, e.Value, gcm.data)
			}
		},
		func() {
			arena = arena[:0]
			for range turn {
				var err error
				if arena, err = r.seal(arena, p, 1, &e); err != nil {
					b.Fatal(err)
				}
			}
		})
}

func benchmarkOpen(b *testing.B, size int) {
	r, p, e, gcm := bench(b, size)
	sealed := record(b, testRing(b, 1), "sip/call-7f3a9c21@10.0.0.1", 1, e) // by another store
	plain := gcm.aead.Seal(nil, gcm.nonce, e.Value, gcm.data)
	buffer := make([]byte, len(sealed))
	report(b,
		func() {
			for range turn {
				buffer := buffer[:copy(buffer, plain)]
				if _, err := gcm.aead.Open(buffer[:0], gcm.nonce, buffer, gcm.data); err != nil {
					b.Fatal(err)
				}
			}
		},
		func() {
			for range turn {
				p.last = nil // as of the first value of a session
				e.Value = buffer[:copy(buffer, sealed)]
				if _, err := r.open(p, 1, &e); err != nil {
					b.Fatal(err)
				}
			}
		})
}

// report measures both in turns.
func report(b *testing.B, alone, ours func()) {
	alone()
	ours()
	times := [2][]time.Duration{}
	b.ReportAllocs()
	for b.Loop() {
		for i, f := range []func(){alone, ours} {
			began := time.Now()
			f()
			times[i] = append(times[i], time.Since(began))
		}
	}
	var median [2]float64
	for i := range times {
		slices.Sort(times[i])
		median[i] = float64(times[i][len(times[i])/2]) / turn
	}
	b.ReportMetric(median[0], "gcm-ns/value")
	b.ReportMetric(median[1], "ns/value")
	b.ReportMetric(median[1]/median[0], "ratio")
	b.ReportMetric(0, "ns/op")
}
