package main

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// This file is what both sides of a measurement are given: IDs, values, sequences of keys; and
// the stores that cost nothing.

const (
	idSize    = 24
	valueSize = 256
)

// appendID appends the i-th session ID: no two are equal, and their order says nothing.
func appendID(dst []byte, i int) []byte {
	x := uint64(i) // SplitMix64 (Steele et al., 2014): one to one
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	var raw [idSize / 2]byte
	binary.BigEndian.PutUint64(raw[:], x)
	binary.BigEndian.PutUint32(raw[8:], uint32(x*0x9e3779b97f4a7c15>>32))
	return hex.AppendEncode(dst, raw[:])
}

func idOf(i int) string { return string(appendID(make([]byte, 0, idSize), i)) }

// makeIDs returns n IDs, each with memory of its own, as a program has them.
func makeIDs(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = idOf(i)
	}
	return ids
}

// values are what is put; many, so that they do not all lie in the nearest cache.
var values = func() [][]byte {
	vs := make([][]byte, 1024)
	for i := range vs {
		vs[i] = make([]byte, valueSize)
		for j := range vs[i] {
			vs[i][j] = byte(i + j)
		}
	}
	return vs
}()

func valueOf(i int) []byte { return values[i%len(values)] }

// keys is a sequence of IDs in one string. They are copies: an event brings an ID of its own, and a map that is
// asked for the very string that it holds would be spared the comparison. Each round draws a new sequence, because a
// map that makes an entry for each Store has them in memory in the order of the last sequence, and holds
// its strings: the same one again would find everything lined up.
type keys string

func (k keys) at(i int) string { return string(k)[i*idSize : (i+1)*idSize] }

func (k keys) len() int { return len(k) / idSize }

func makeKeys(n int, index func(i int) int) keys {
	b := make([]byte, 0, n*idSize)
	for i := range n {
		b = appendID(b, index(i))
	}
	return keys(b)
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 20)) }

// rng returns numbers that nothing in this run was drawn from yet.
func (r *runner) rng() *rand.Rand {
	r.draws++
	return newRand(r.draws)
}

// draw returns a new sequence of n of the first sessions IDs.
//
//	uniform   any, with replacement
//	zipf      as traffic has them: few are hot, and always the same ones
//	shuffled  each once; n is ignored
func (r *runner) draw(how string, n, sessions int) keys {
	rng := r.rng()
	switch how {
	case "uniform":
		return makeKeys(n, func(int) int { return rng.IntN(sessions) })
	case "zipf":
		scattered := newRand(0).Perm(sessions) // neighbours share memory: the hot ones are not to be neighbours
		z := rand.NewZipf(rng, 1.01, 1, uint64(sessions-1))
		return makeKeys(n, func(int) int { return scattered[z.Uint64()] })
	}
	p := rng.Perm(sessions)
	return makeKeys(sessions, func(i int) int { return p[i] })
}

// discard is a store that takes everything and keeps nothing: what is measured is the DB alone.
type discard struct{ *memory.Store }

func newDiscard() discard { return discard{memory.New()} }

func (discard) Apply(_ context.Context, changes []store.Change) ([]store.Result, error) {
	results := make([]store.Result, len(changes))
	for i := range results {
		results[i].Outcome = store.Applied
	}
	return results, nil
}

func (discard) Claim(_ context.Context, r store.ClaimRequest) (store.Claim, error) {
	return store.Claim{Outcome: store.Granted, Created: true, Header: store.Header{Session: r.Session, Epoch: 1, Owner: r.Owner}}, nil
}

// options are those of every DB here. No lease lapses in a run, because after a lapse the DB asks the
// store for each session, and discard knows none. Nothing waits for room, and nothing is
// flushed but on demand, unless a row says otherwise.
func options() kvstore.Options {
	return kvstore.Options{Node: "bench", Lease: time.Hour, MaxDelay: time.Hour, MaxBuffer: math.MaxInt64 / 4, StoreTimeout: time.Minute}
}

type db = kvstore.DB[[]byte]

func openDB(st store.Store, o kvstore.Options) (*db, error) {
	return kvstore.Open[[]byte](context.Background(), st, o)
}

// closeDB closes a DB whose work is done, and gives an error if it lost anything: then it did less
// than was measured.
func closeDB(d *db) error {
	s := d.Stats()
	err := d.Close(context.Background())
	if s.Lost+s.Fenced+s.Retries > 0 {
		return fmt.Errorf("lost %d, fenced %d, repeated %d: the measurement is void (%v)", s.Lost, s.Fenced, s.Retries, err)
	}
	return err
}

// fill makes the sessions resident, each with one entry, clean.
func fill(d *db, ids []string) error { return fillWith(d, ids, valueOf) }

func fillWith(d *db, ids []string, value func(i int) []byte) error {
	ctx := context.Background()
	for i, id := range ids {
		if err := d.Put(ctx, id, value(i)); err != nil {
			return err
		}
	}
	return d.Flush(ctx)
}

// populate is fill where a claim would be a call that costs something: of sessions that are in no store yet.
func populate(d *db, ids []string) error {
	ctx := context.Background()
	for i, id := range ids {
		h, err := d.Create(ctx, id)
		if err == nil {
			err = h.Put(ctx, "", valueOf(i))
		}
		if err != nil {
			return err
		}
	}
	return d.Flush(ctx)
}

// waitClean waits until all is stored that was put, without asking for it.
func waitClean(d *db) {
	for d.Stats().Buffered > 0 {
		time.Sleep(time.Millisecond)
	}
}

// tempDir returns a new directory for files, and what removes it.
func (c *config) tempDir() (string, func(), error) {
	dir, err := os.MkdirTemp(c.dir, "")
	return dir, func() { os.RemoveAll(dir) }, err
}

func file(dir, name string) string { return filepath.Join(dir, name) }
