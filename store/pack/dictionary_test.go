package pack

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
)

func dictionaryOf(t testing.TB, size int) []byte {
	t.Helper()
	d, err := Train(sessions(t, 1, 500, size))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// With a dictionary values take less; those of before are read, and so are those of older dictionaries.
func TestDictionaries(t *testing.T) {
	first, second := dictionaryOf(t, 256), dictionaryOf(t, 1024)
	ids := map[uint32]bool{}
	for _, d := range [][]byte{first, second} {
		id, err := inspect(d)
		if err != nil || id < 1<<15 || id >= 1<<31 || id != hashID(d) || len(d) > dictSize+1024 {
			t.Errorf("a dictionary of %d bytes, ID %d: %v", len(d), id, err)
		}
		ids[id] = true
	}
	if len(ids) != 2 {
		t.Error("two dictionaries have one ID")
	}
	none, old, both := coderOf(t, Options{}), coderOf(t, Options{Dictionaries: [][]byte{first}}), coderOf(t, Options{Dictionaries: [][]byte{first, second}})
	var sizes [3]int
	for _, value := range sessions(t, 9, 200, 1024) {
		for i, c := range []*coder{none, old, both} {
			st := stored(t, c, value)
			sizes[i] += len(st)
			if got, err := read(t, both, st); err != nil || !bytes.Equal(got, value) {
				t.Fatalf("read %.60q, %v", got, err)
			}
			if i == 2 {
				if got, err := read(t, old, st); err == nil {
					t.Fatalf("without its dictionary: %.60q", got)
				}
				if id := binary.LittleEndian.Uint32(st[headSize+1:]); id != hashID(second) {
					t.Fatalf("packed with the dictionary %d, want the last one", id)
				}
			}
		}
	}
	if sizes[1] >= sizes[0] || sizes[2] >= sizes[1] {
		t.Errorf("stored without, with a dictionary of other values, with one of such values: %d bytes", sizes)
	}
}

// New copies dictionaries: coders that are made later have them, too.
func TestDictionariesAreCopied(t *testing.T) {
	d := dictionaryOf(t, 256)
	c := coderOf(t, Options{Dictionaries: [][]byte{d}})
	clear(d)
	for range cap(c.encoders.slots) {
		e, err := c.encoders.take(t.Context())
		if err != nil {
			t.Fatalf("an encoder: %v", err)
		}
		dec, err := c.decoders.take(t.Context())
		if err != nil {
			t.Fatalf("a decoder: %v", err)
		}
		defer func() { c.encoders.give(e); c.decoders.give(dec) }()
	}
}

func TestTrain(t *testing.T) {
	samples := sessions(t, 1, 100, 256)
	was := fmt.Sprint(samples)
	d, err := Train(samples)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(samples) != was {
		t.Error("the samples are changed")
	}
	for i := range samples { // the dictionary has nothing of theirs
		clear(samples[i])
	}
	if id := hashID(d); id != binary.LittleEndian.Uint32(d[4:]) {
		t.Error("the dictionary has changed with the samples")
	}
	for what, samples := range map[string][][]byte{
		"none": nil, "empty": {nil, {}}, "short": {[]byte("a"), []byte("b")}, "one": {noise(1000)},
	} {
		if d, err := Train(samples); err == nil {
			t.Errorf("%s: a dictionary of %d bytes", what, len(d))
		}
	}
}

// Whatever the samples are, there is an error, or a dictionary that works.
func TestTrainOnAnything(t *testing.T) {
	r := rand.New(rand.NewPCG(rand.Uint64(), 0))
	made := 0
	for range 100 {
		samples := make([][]byte, r.IntN(40))
		for i := range samples {
			samples[i] = make([]byte, r.IntN(400))
			few := 1 + r.IntN(256)
			for j := range samples[i] {
				samples[i][j] = byte(r.IntN(few))
			}
			if i > 0 && r.IntN(2) == 0 {
				copy(samples[i], samples[r.IntN(i)])
			}
		}
		d, err := Train(samples)
		if err != nil {
			continue
		}
		s, err := New(bare{}, Options{MinSize: 1, Dictionaries: [][]byte{d}})
		if err != nil {
			t.Fatalf("a dictionary that cannot be used: %v", err)
		}
		made++
		for _, value := range append(samples, noise(300), nil) {
			if got, err := read(t, s.coder, stored(t, s.coder, value)); err != nil || !bytes.Equal(got, value) {
				t.Fatalf("%q is read as %q, %v", value, got, err)
			}
		}
	}
	t.Logf("%d dictionaries", made)
	if made == 0 {
		t.Error("no dictionary was made of anything")
	}
}
