package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/seed-6f1f505d/kvstore/store"
)

func testRing(t testing.TB, ids ...uint32) *ring {
	t.Helper()
	var keys []Key
	for _, id := range ids {
		keys = append(keys, Key{ID: id, Secret: [32]byte{byte(id), 1}})
	}
	r, err := newRing(keys)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func in(session string) *place {
	p := new(place)
	p.enter(session)
	return p
}

func record(t testing.TB, r *ring, session string, epoch uint64, e store.Entry) []byte {
	t.Helper()
	b, err := r.seal(nil, in(session), epoch, &e)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A record is what the comment of record.go says, also to one who only knows that.
func TestFormat(t *testing.T) {
	r := testRing(t, 7)
	r.sealing.Load().used.Store(0x0102030405)
	b := record(t, r, "session", 9, store.Entry{Key: "key", Value: []byte("value"), Expires: 1000})
	salt := b[8:24]
	secret := append([]byte{7, 1}, make([]byte, 30)...)
	key, err := hkdf.Key(sha256.New, secret, salt, "kvstore/store/seal: value 1", 32)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	head := "\xc1ks\x01" + "\x00\x00\x00\x07" + string(salt) + "\x01\x02\x03\x04\x05" + "\x00\x00\x00\x00\x00\x00\x00\x09"
	if string(b[:37]) != head {
		t.Errorf("the head is %x, want %x", b[:37], head)
	}
	place := "\x00\x00\x00\x07session" + "\x00\x00\x00\x00\x00\x00\x03\xe8" + "\x00\x00\x00\x03key" + head
	value, err := gcm.Open(nil, []byte("\x00\x00\x00\x00\x00\x00\x00\x01\x02\x03\x04\x05"), b[37:], []byte(place))
	if err != nil || string(value) != "value" {
		t.Errorf("it opens as %q, %v", value, err)
	}
}

// A record opens where it belongs, and nowhere else.
func TestBinding(t *testing.T) {
	r := testRing(t, 1)
	e := store.Entry{Key: "key", Value: []byte("value"), Expires: 1000}
	b := record(t, r, "session", 5, e)
	if len(b) != len(e.Value)+Overhead {
		t.Errorf("%d bytes of %d, Overhead is %d", len(b), len(e.Value), Overhead)
	}
	for _, c := range []struct {
		name    string
		session string
		epoch   uint64 // the header's
		key     string
		expires store.Time
		epochIn uint64 // put into the record
		want    string
	}{
		{"where it belongs", "session", 5, "key", 1000, 5, ""},
		{"in a later epoch", "session", 6, "key", 1000, 5, ""},
		{"in an earlier epoch", "session", 4, "key", 1000, 5, "it is of epoch 5, the session's is 4"},
		{"another key", "session", 5, "kez", 1000, 5, errForged.Error()},
		{"another session", "sessiom", 5, "key", 1000, 5, errForged.Error()},
		{"the border moved", "sessionk", 5, "ey", 1000, 5, errForged.Error()},
		{"the borders moved across the expiry", "session\x00", 5, "ey", 1000<<8 | 'k', 5, errForged.Error()},
		{"the names exchanged", "key", 5, "session", 1000, 5, errForged.Error()},
		{"another expiry", "session", 5, "key", 1001, 5, errForged.Error()},
		{"no expiry", "session", 5, "key", 0, 5, errForged.Error()},
		{"another epoch", "session", 9, "key", 1000, 6, errForged.Error()},
		{"no epoch", "session", 9, "key", 1000, 0, "it is of epoch 0, which no session has"},
	} {
		got := store.Entry{Key: c.key, Value: bytes.Clone(b), Expires: c.expires}
		binary.BigEndian.PutUint64(got.Value[epochAt:], c.epochIn)
		_, err := r.open(in(c.session), c.epoch, &got)
		switch {
		case c.want == "" && (err != nil || string(got.Value) != "value"):
			t.Errorf("%s: %q, %v", c.name, got.Value, err)
		case c.want != "" && (err == nil || err.Error() != c.want):
			t.Errorf("%s: error %v, want %s", c.name, err, c.want)
		}
	}
}

// Whatever bit is flipped, or however many bytes are missing: an error.
func TestDamagedRecord(t *testing.T) {
	r := testRing(t, 1, 2)
	b := record(t, r, "s", 1, store.Entry{Key: "k", Value: []byte("value")})
	open := func(b []byte) error {
		_, err := r.open(in("s"), store.MaxEpoch, &store.Entry{Key: "k", Value: b})
		return err
	}
	for bit := range 8 * len(b) {
		c := bytes.Clone(b)
		c[bit/8] ^= 1 << (bit % 8)
		if open(c) == nil {
			t.Errorf("bit %d is flipped, and nobody sees it", bit)
		}
	}
	for n := range b {
		if open(bytes.Clone(b[:n])) == nil {
			t.Errorf("%d bytes pass for %d", n, len(b))
		}
	}
	if open(append(bytes.Clone(b), 0)) == nil {
		t.Error("a byte more, and nobody sees it")
	}
	if err := open([]byte("plain")); !errors.Is(err, errPlain) {
		t.Errorf("what was never sealed gives error %v", err)
	}
	newer := bytes.Clone(b)
	newer[3]++
	if err := open(newer); err == nil || !strings.Contains(err.Error(), "version is 2") {
		t.Errorf("another version gives error %v", err)
	}
}

// The last key seals, all open, and an unknown one is named.
func TestRotation(t *testing.T) {
	older, both, newer := testRing(t, 1), testRing(t, 1, 2), testRing(t, 2)
	e := store.Entry{Key: "k", Value: []byte("v")}
	for _, c := range []struct {
		by, with *ring
		stale    bool
		want     string
	}{
		{older, older, false, ""},
		{older, both, true, ""},
		{both, both, false, ""},
		{both, newer, false, ""},
		{both, older, false, "it is sealed with the key 2, which is not in the ring"},
		{older, newer, false, "it is sealed with the key 1, which is not in the ring"},
	} {
		got := store.Entry{Key: "k", Value: record(t, c.by, "s", 1, e)}
		stale, err := c.with.open(in("s"), 1, &got)
		if stale != c.stale || (err == nil) != (c.want == "") || err != nil && err.Error() != c.want {
			t.Errorf("stale %t, error %v; want %t, %s", stale, err, c.stale, c.want)
		}
	}
	wrong := testRing(t, 1)
	wrong.secrets[1][0] ^= 1
	if _, err := wrong.open(in("s"), 1, &store.Entry{Key: "k", Value: record(t, older, "s", 1, e)}); err != errForged {
		t.Errorf("another secret of the same ID gives error %v", err)
	}
}

// No two records have the same subkey and count, whoever seals, also where a subkey ends.
func TestNoNonceTwice(t *testing.T) {
	r := testRing(t, 1)
	first := r.sealing.Load()
	first.used.Store(maxBlocks - 300)
	var mu sync.Mutex
	seen := map[head]bool{}
	salts := map[[saltSize]byte]bool{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			p := in("s")
			for n := range 200 {
				e := store.Entry{Key: "k", Value: make([]byte, n)}
				b, err := r.seal(nil, p, 1, &e)
				h, perr := parseHead(b)
				if err != nil || perr != nil {
					t.Error(err, perr)
					return
				}
				got := store.Entry{Key: "k", Value: b}
				if _, err := r.open(p, 1, &got); err != nil {
					t.Error(err)
				}
				mu.Lock()
				if seen[h] {
					t.Errorf("%+v was there before", h)
				}
				seen[h], salts[h.salt] = true, true
				if h.salt == first.id.salt && h.count+uint64(n)/16+2 > maxBlocks {
					t.Errorf("count %d of %d blocks is above the bound", h.count, n/16)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(salts) != 2 {
		t.Errorf("%d salts, want 2", len(salts))
	}
}

// A count takes as many blocks as AES does: those of the value, and one for the tag.
func TestBlocks(t *testing.T) {
	for _, c := range []struct {
		value int
		least uint64
	}{{0, 1}, {1, 2}, {15, 2}, {16, 2}, {17, 3}, {maxValue, maxValue/16 + 1}} {
		k := new(subkey)
		if k.take(c.value); k.used.Load() < c.least {
			t.Errorf("%d blocks are counted of %d bytes, at least %d are used", k.used.Load(), c.value, c.least)
		}
	}
	k := new(subkey)
	k.used.Store(maxBlocks - 2)
	if _, ok := k.take(15); !ok {
		t.Error("the last two blocks cannot be used")
	}
	if _, ok := k.take(0); ok {
		t.Error("more blocks are used than there are")
	}
}

// Every open store has a salt of its own.
func TestSalts(t *testing.T) {
	a, b := testRing(t, 1), testRing(t, 1)
	if a.sealing.Load().id.salt == b.sealing.Load().id.salt {
		t.Error("two have the same salt")
	}
}

// Subkeys that open something are kept, the ones used last, and a bounded number of them; made-up ones are not.
func TestKeptSubkeys(t *testing.T) {
	r := testRing(t, 1)
	from := func() (*ring, []byte) {
		other := testRing(t, 1)
		return other, record(t, other, "s", 1, store.Entry{Key: "k"})
	}
	open := func(b []byte) error {
		_, err := r.open(in("s"), 1, &store.Entry{Key: "k", Value: bytes.Clone(b)})
		return err
	}
	used, first := from()
	unused, second := from()
	for _, b := range [][]byte{first, second} {
		if err := open(b); err != nil {
			t.Fatal(err)
		}
	}
	for range maxSubkeys - 1 {
		_, b := from()
		if err := errors.Join(open(first), open(b)); err != nil {
			t.Fatal(err)
		}
		forged := bytes.Clone(b)
		forged[8] ^= 1 // the salt
		if open(forged) == nil {
			t.Fatal("a made-up salt opens")
		}
		if h, _ := parseHead(forged); r.kept[h.subkeyID] != nil {
			t.Fatal("a made-up salt is kept")
		}
	}
	if len(r.kept) != maxSubkeys || r.order.Len() != maxSubkeys {
		t.Errorf("%d subkeys are kept, %d in order; want %d", len(r.kept), r.order.Len(), maxSubkeys)
	}
	if r.kept[used.sealing.Load().id] == nil {
		t.Error("the subkey that is used all the time is not kept")
	}
	if r.kept[unused.sealing.Load().id] != nil {
		t.Error("the subkey not used for longest is kept")
	}
	if err := open(second); err != nil {
		t.Errorf("derived anew it does not open: %v", err)
	}
}

// A value is sealed into the room that there is for it, and opened where it lies.
func TestNoAllocations(t *testing.T) {
	r, p := testRing(t, 1), in("s")
	e := store.Entry{Key: "k", Value: make([]byte, 256)}
	from := record(t, testRing(t, 1), "s", 1, e)
	room, buffer := make([]byte, 0, 256+Overhead), make([]byte, 256+Overhead)
	if n := testing.AllocsPerRun(100, func() { r.seal(room, p, 1, &e) }); n > 0 {
		t.Errorf("sealing allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		got := store.Entry{Key: "k", Value: buffer[:copy(buffer, from)]}
		if _, err := r.open(p, 1, &got); err != nil || &got.Value[0] != &buffer[headSize] || cap(got.Value) != 256 {
			t.Fatalf("%d bytes with room for %d, %v", len(got.Value), cap(got.Value), err)
		}
	}); n > 0 {
		t.Errorf("opening allocates %v times", n)
	}
}

// What is no record is an error and never a panic; what is one was sealed here.
func FuzzRecord(f *testing.F) {
	r := testRing(f, 1, 2)
	genuine := record(f, r, "s", 3, store.Entry{Key: "k", Value: []byte("value"), Expires: 7})
	f.Add(genuine, "s", "k", uint64(3), int64(7))
	f.Add(genuine[:headSize], "s", "k", uint64(3), int64(7))
	f.Add(genuine, "", "sk", uint64(2), int64(0))
	f.Add([]byte("plain"), "s", "", uint64(1), int64(-1))
	f.Add(record(f, testRing(f, 9), "s", 1, store.Entry{}), "s", "", uint64(1), int64(0))
	f.Add([]byte{0xc1, 'k', 's', 1}, "", "", uint64(0), int64(0))
	f.Fuzz(func(t *testing.T, b []byte, session, key string, epoch uint64, expires int64) {
		// The head is read as it is written.
		if h, err := parseHead(b); err == nil && !bytes.Equal(appendHead(nil, &h), b[:headSize]) {
			t.Errorf("%x is read as %+v", b, h)
		}
		e := store.Entry{Key: key, Value: bytes.Clone(b), Expires: store.Time(expires)}
		if _, err := r.open(in(session), epoch, &e); err == nil && // another process of the fuzzer has another genuine one
			(len(b) != len(genuine) || session != "s" || key != "k" || expires != 7 || epoch < 3 || string(e.Value) != "value") {
			t.Errorf("%x opens as %q", b, e.Value)
		}
		// And what is sealed for a place opens there.
		e = store.Entry{Key: key, Value: b, Expires: store.Time(expires)}
		e.Value = record(t, r, session, max(epoch&store.MaxEpoch, 1), e)
		if _, err := r.open(in(session), store.MaxEpoch, &e); err != nil || !bytes.Equal(e.Value, b) {
			t.Errorf("%x comes back as %x, %v", b, e.Value, err)
		}
	})
}
