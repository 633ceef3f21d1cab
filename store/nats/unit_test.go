package nats

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

func TestEscape(t *testing.T) {
	for _, id := range []string{"a", "call-7_X", "a.b", "*", ">", "=", "==41", "\x00\xff", "é ", strings.Repeat("\xff", store.MaxSession)} {
		token := escape(id)
		if strings.ContainsAny(token, ".*> \t\r\n\x00") {
			t.Errorf("escape(%.20q) is %.20q", id, token)
		}
		if got, ok := unescape(token); got != id || !ok {
			t.Errorf("unescape(%.20q) is %.20q, %t, want %.20q", token, got, ok, id)
		}
	}
	for _, token := range []string{"=", "=4", "=zz", "a.b", "=41", "=ff"} {
		if got, ok := unescape(token); ok {
			t.Errorf("unescape(%q) is %q; nothing is escaped so", token, got)
		}
	}
}

// Whatever the bytes of a message are, they are the document that was written, or an error.
func TestDecodeDamaged(t *testing.T) {
	d := &document{
		header: store.Header{Session: "s", Epoch: 3, Seq: 9, Owner: store.Owner{Node: "n", Incarnation: store.NewIncarnation()}, Released: true,
			Expires: store.Time(1) << 62, Aliases: []string{"x", ""}, Schema: 1 << 31},
		index: 77,
		slots: []slot{newSlot(&store.Entry{Key: "", Value: []byte("main")}), newSlot(&store.Entry{Key: "k", Expires: 5}), newSlot(&store.Entry{Key: "l", Value: make([]byte, 300)})},
	}
	good := d.encode()
	check := func(b []byte) (sound bool) {
		got, err := decode("s", message{Seq: 1, Data: b})
		if err != nil {
			var corrupt *store.CorruptError
			if !errors.As(err, &corrupt) || !corrupt.Header || corrupt.Session != "s" {
				t.Fatalf("the error is %v", err)
			}
			return false
		}
		for i := range got.slots {
			if _, err := got.slots[i].entry("s"); err != nil {
				return false
			}
		}
		if string(got.encode()) != string(good) {
			t.Fatalf("%x is read as %+v", b, got)
		}
		return true
	}
	if !check(good) {
		t.Fatal("what was written is not read")
	}
	for i := range good {
		check(good[:i])
		for bit := range 8 {
			b := append([]byte{}, good...)
			if b[i] ^= 1 << bit; check(b) {
				t.Errorf("bit %d of byte %d does not matter", bit, i)
			}
		}
	}
	if check(append(append([]byte{}, good...), 0)) {
		t.Error("what follows does not matter")
	}
	for range 20_000 { // behind a checksum that is right
		b := append([]byte{}, good[1+maxLength:len(good)-304-4]...)
		for range 1 + rand.N(3) {
			b[rand.N(len(b))] = byte(rand.N(256))
		}
		got, err := decode("s", message{Seq: 1, Data: seal(4096, nil, func([]byte) []byte { return append(make([]byte, 1+maxLength), b...) })})
		if err == nil {
			for i := range got.slots {
				got.slots[i].entry("s")
			}
		}
	}
}

// The server's clock is between the bounds, however long its answers take, and whether or not it is set.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c clock
		if !c.old() {
			t.Error("a clock that was never set is good enough")
		}
		ahead := 3 * time.Hour
		for range 200 {
			sent := time.Now()
			time.Sleep(time.Duration(rand.N(50)) * time.Millisecond)
			shown := time.Now().Add(ahead)
			time.Sleep(time.Duration(rand.N(50)) * time.Millisecond)
			c.learn(shown, sent, time.Now())
			low, high := c.bounds()
			if is := time.Now().Add(ahead); low.After(is) || high.Before(is) {
				t.Fatalf("it is %v, and the bounds are %v and %v", is, low, high)
			}
			if rand.N(20) == 0 {
				ahead += time.Duration(rand.N(2000)-1000) * time.Hour // by more than any bounds are apart
			}
			time.Sleep(time.Duration(rand.N(5000)) * time.Millisecond)
		}
		time.Sleep(2 * clockAge)
		if !c.old() {
			t.Error("a clock that was set long ago is good enough")
		}
	})
}

// A document that is older than what is known is not believed, for a while.
func TestOlder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const day = 24 * time.Hour
		at := func(seq uint64, deleted bool) *document {
			return &document{seq: seq, header: store.Header{Session: "s", Epoch: 1, Deleted: deleted}}
		}
		c := newCache(1 << 20)
		is := func(want bool, seq uint64) {
			t.Helper()
			if got := c.older("s", seq, day); got != want {
				t.Errorf("that %d is older is %t", seq, got)
			}
		}
		is(false, 0)
		c.learn(at(10, false))
		c.learn(at(7, false))
		is(true, 9)
		is(true, 0)
		is(false, 10)
		is(false, 11)
		time.Sleep(patience)
		is(true, 9) // since 10 was seen again
		time.Sleep(patience - time.Millisecond)
		is(true, 9)
		time.Sleep(time.Millisecond)
		is(false, 9) // it is lost
		is(false, 0)
		c.learn(at(10, false))
		time.Sleep(day)
		is(false, 0) // its tombstone has ended
		c.learn(at(10, true))
		is(false, 0)
		c.learn(at(10, false))
		c.outdated("s", 10)
		if c.document("s") != nil {
			t.Error("what is outdated is given")
		}
		is(true, 9)
		c.allOutdated(false)
		is(true, 9)
		c.allOutdated(true)
		is(false, 9)
	})
}

// The cache holds what it may, and forgets the rest.
func TestCache(t *testing.T) {
	c := newCache(100_000)
	value := make([]byte, 1000)
	for range 10_000 {
		session := string(rune('a' + rand.N(500)))
		d := &document{seq: rand.Uint64(), header: store.Header{Session: session, Epoch: 1}, raw: value[:rand.N(1000)]}
		switch rand.N(4) {
		case 0:
			c.learnPage(session, d.seq, d.slots)
			c.dropPage(session, d.seq*uint64(rand.N(2)))
		default:
			c.learn(d)
			c.document(session)
		}
		size := 0
		for e := c.recent.Front(); e != nil; e = e.Next() {
			size += e.Value.(*item).size
		}
		if size != c.size || size > c.max || len(c.items) != c.recent.Len() {
			t.Fatalf("%d bytes in %d items, counted as %d", size, len(c.items), c.size)
		}
	}
	none := newCache(-1)
	none.learn(&document{seq: 1, header: store.Header{Session: "s", Epoch: 1}})
	if none.document("s") != nil || len(none.items) > 0 {
		t.Error("a cache without room keeps something")
	}
}
