package bolt

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/seed-6f1f505d/kvstore/store"
)

func containsText(err error, s string) bool { return strings.Contains(err.Error(), s) }

func TestHeaderRecord(t *testing.T) {
	full := store.Header{Session: "s", Epoch: 1 << 63, Seq: 1<<64 - 1, Owner: owner("node"), Released: true,
		Expires: -1, Aliases: []string{"", "a", strings.Repeat("b", 300)}, Schema: 1<<32 - 1}
	tomb := store.Header{Session: "s", Epoch: 1, Seq: 1, Owner: owner(""), Deleted: true}
	for _, h := range []header{
		{},
		{flags: flagEntries | flagApart},
		{flags: flagInline, inline: []byte{}},
		{flags: flagInline | flagInlineExpires | flagEntries, inline: []byte("value"), inlineExpires: 1 << 62},
	} {
		h.set(&full)
		testHeader(t, h, full)
	}
	h := header{died: 12345}
	h.set(&tomb)
	testHeader(t, h, tomb)
}

func testHeader(t *testing.T, h header, want store.Header) {
	t.Helper()
	key := appendPrefix(nil, "s")
	b := appendHeader(nil, key, &h)
	if len(b) > h.size() {
		t.Errorf("%+v takes %d bytes, size says at most %d", h, len(b), h.size())
	}
	got, err := decodeHeader(key, b)
	if err != nil {
		t.Fatalf("%+v: %v", h, err)
	}
	if head := got.head("s"); !reflect.DeepEqual(head, want) {
		t.Errorf("head is %+v, want %+v", head, want)
	}
	if got.flags != h.flags || !bytes.Equal(got.inline, h.inline) || got.inlineExpires != h.inlineExpires || got.died != h.died {
		t.Errorf("read %+v, want %+v", got, h)
	}
	for i := range len(b) * 8 {
		b[i/8] ^= 1 << (i % 8)
		if _, err := decodeHeader(key, b); err == nil {
			t.Errorf("bit %d was flipped, and that was not noticed", i)
		}
		b[i/8] ^= 1 << (i % 8)
	}
	if _, err := decodeHeader(appendPrefix(nil, "t"), b); err == nil {
		t.Error("under another key it is not damaged")
	}
	for i := range b {
		if _, err := decodeHeader(key, b[:i]); err == nil {
			t.Errorf("cut to %d bytes it is not damaged", i)
		}
	}
}

// TestAliasesWithoutEnd has a record, sealed as it should be, that says it has an alias in each of its bytes. Each would take 16 in memory.
func TestAliasesWithoutEnd(t *testing.T) {
	key := appendPrefix(nil, "s")
	h := header{}
	h.set(&store.Header{Epoch: 1, Seq: 1, Owner: owner("n"), Schema: 1})
	b := appendHeader(nil, key, &h)
	b = b[:len(b)-sumSize-1] // without the count
	const n = 16 << 20
	b = binary.AppendUvarint(b, n)
	b = seal(key, append(b, make([]byte, n)...))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := decodeHeader(key, b)
	runtime.ReadMemStats(&after)
	if err == nil {
		t.Error("it is not damaged")
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 {
		t.Errorf("to find that it is damaged takes %d bytes", n)
	}
	h.set(&store.Header{Epoch: 1, Seq: 1, Owner: owner("n"), Aliases: make([]string, maxHeader/11)}) // as many as can be written
	if _, err := decodeHeader(key, appendHeader(nil, key, &h)); err != nil {
		t.Error(err)
	}
}

// TestKeysAreUnambiguous has session "a" with key "bc" and session "ab" with key "c", and worse.
func TestKeysAreUnambiguous(t *testing.T) {
	parts := []string{"", "a", "ab", "abc", "b", "bc", "c", "\x00", "\x00a", "a\x00", "\x01", "\x01a", strings.Repeat("a", 127), strings.Repeat("a", 128), strings.Repeat("\x00", 1024)}
	seen := map[string]string{}
	for _, id := range parts {
		if id == "" {
			continue
		}
		prefix := appendPrefix(nil, id)
		for i, key := range append([]string{"header"}, parts...) {
			k := appendEntryKey(nil, prefix, key)
			if i == 0 {
				k = prefix
			}
			if other, ok := seen[string(k)]; ok {
				t.Errorf("session %.20q, key %.20q has the record key of %s", id, key, other)
			}
			seen[string(k)] = id + "/" + key
			p, s, e, entry, err := parseKey(k)
			if err != nil || string(s) != id || !bytes.Equal(p, prefix) || entry != (i > 0) || i > 0 && string(e) != key {
				t.Errorf("session %.20q, key %.20q is parsed as %.20q, %.20q, %v, %v", id, key, s, e, entry, err)
			}
			if entry != isEntryOf(k, prefix) || bytes.Compare(k, afterEntries(nil, prefix)) >= 0 {
				t.Errorf("session %.20q, key %.20q is not among its session's", id, key)
			}
			if len(k) >= maxRecordKey {
				t.Errorf("a record key has %d bytes", len(k))
			}
		}
	}
}

func FuzzKey(f *testing.F) {
	f.Add(appendPrefix(nil, "session"))
	f.Add(appendEntryKey(nil, appendPrefix(nil, "session"), "key"))
	f.Fuzz(func(t *testing.T, k []byte) {
		prefix, session, key, entry, err := parseKey(k)
		if err != nil {
			return
		}
		again := appendPrefix(nil, string(session))
		if !bytes.Equal(again, prefix) {
			t.Fatalf("%x has the prefix %x, which would be written as %x", k, prefix, again)
		}
		if entry {
			again = appendEntryKey(nil, again, string(key))
		}
		if !bytes.Equal(again, k) {
			t.Fatalf("%x would be written as %x", k, again)
		}
	})
}

// FuzzHeader seals what it is given, or else no input would get past the checksum.
func FuzzHeader(f *testing.F) {
	key := appendPrefix(nil, "s")
	h := header{flags: flagInline | flagInlineExpires | flagEntries, inline: []byte("value"), inlineExpires: 5}
	h.set(&store.Header{Epoch: 3, Seq: 4, Owner: store.Owner{Node: "n"}, Expires: 9, Aliases: []string{"x"}, Schema: 2})
	b := appendHeader(nil, key, &h)
	f.Add(b[:len(b)-sumSize])
	h = header{died: 7}
	h.set(&store.Header{Epoch: 1, Deleted: true})
	b = appendHeader(nil, key, &h)
	f.Add(b[:len(b)-sumSize])
	f.Fuzz(func(t *testing.T, content []byte) {
		if _, err := decodeHeader(key, content); err == nil && len(content) < sumSize {
			t.Fatal("read without a checksum")
		}
		b := seal(key, bytes.Clone(content))
		h, err := decodeHeader(key, b)
		if err != nil {
			return
		}
		if again := appendHeader(nil, key, &h); !bytes.Equal(again, b) {
			t.Fatalf("%x would be written as %x", b, again)
		}
		if len(b) > h.size() {
			t.Fatalf("%d bytes, size says at most %d", len(b), h.size())
		}
		// And through the contract's form.
		n := header{flags: h.flags & (flagInline | flagInlineExpires | flagApart | flagEntries), inline: h.inline, inlineExpires: h.inlineExpires, died: h.died}
		head := h.head("s")
		n.set(&head)
		if m, err := decodeHeader(key, appendHeader(nil, key, &n)); err != nil || !reflect.DeepEqual(m.head("s"), head) {
			t.Fatalf("%+v becomes %+v, %v", head, m.head("s"), err)
		}
	})
}

func FuzzEntry(f *testing.F) {
	key := appendEntryKey(nil, appendPrefix(nil, "s"), "k")
	for _, expires := range []store.Time{0, 1 << 40, -1} {
		b := appendEntry(nil, key, []byte("value"), expires)
		f.Add(b[:len(b)-sumSize])
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		decodeEntry(key, content)
		b := seal(key, bytes.Clone(content))
		value, expires, err := decodeEntry(key, b)
		if err != nil {
			return
		}
		again := appendEntry(nil, key, value, expires)
		if !bytes.Equal(again, b) {
			t.Fatalf("%x would be written as %x", b, again)
		}
		if len(again) > len(value)+entryOverhead {
			t.Fatalf("%d bytes for a value of %d", len(again), len(value))
		}
	})
}

func FuzzAlias(f *testing.F) {
	f.Add([]byte("alias"), appendAlias(nil, []byte("alias"), "session"))
	f.Add([]byte(""), appendAlias(nil, nil, "session"))
	f.Add([]byte("alias"), appendAlias(nil, []byte("alias"), ""))
	f.Fuzz(func(t *testing.T, alias, content []byte) {
		for _, content := range [][]byte{content, seal(alias, bytes.Clone(content))} {
			session, err := decodeAlias(alias, content)
			if err != nil {
				continue
			}
			if again := appendAlias(nil, alias, string(session)); !bytes.Equal(again, content) {
				t.Fatalf("%x under %x would be written as %x", content, alias, again)
			}
			if len(session) == 0 || len(session) > store.MaxSession || len(alias) == 0 || len(alias) > store.MaxAlias {
				t.Fatalf("alias %x is that of session %x", alias, session)
			}
		}
	})
}

func FuzzGrave(f *testing.F) {
	f.Add(appendGrave(nil, 1<<40, []byte("s")))
	f.Fuzz(func(t *testing.T, key []byte) {
		died, session, err := decodeGrave(key, seal(key, nil))
		if err == nil && !bytes.Equal(appendGrave(nil, died, session), key) {
			t.Fatalf("%x would be written as %x", key, appendGrave(nil, died, session))
		}
	})
}
