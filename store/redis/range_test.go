package redis

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/seed-6f1f505d/kvstore/internal/redisserver"
	"github.com/seed-6f1f505d/kvstore/store"
)

// names are n different keys, some of which a dictionary would order otherwise than their bytes are, or take for the same.
func names(n int) []string {
	set := map[string]bool{"": true}
	for _, key := range []string{"\x00", "\xff", "a", "A", "á", "a/b", "a-b", "ab", "aB", "ch", "cz", "dd", "aa", "az", "\xc3", "\xc3\xa1\xff", "é", "e\u0301"} {
		set[key] = true
	}
	for len(set) < n {
		b := make([]byte, 1+rand.IntN(4))
		for i := range b {
			b[i] = "aAbBzZ/-_ .09\x00\x01\x7f\x80\xc3\xa1\xff"[rand.IntN(20)]
		}
		set[string(b)] = true
	}
	keys := make([]string, 0, n)
	for key := range set {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// rangesOf reads the whole of a session, and parts of it, in pages.
func rangesOf(t *testing.T, st *Store, id string, keys []string) {
	t.Helper()
	o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	c := store.Change{Session: id, Owner: o, Epoch: 1, Seq: 1, Create: true}
	for _, key := range keys {
		c.Puts = append(c.Puts, store.Entry{Key: key, Value: []byte("v" + key)})
	}
	apply(t, st, c, store.Applied)
	for n := range 20 {
		r := store.Range{Limit: []int{5, 1 + rand.IntN(len(keys)), rangePage}[n%3], KeysOnly: n%2 == 0}
		if n > 0 {
			r.From, r.To = keys[rand.IntN(len(keys))], keys[rand.IntN(len(keys))]
		}
		var want, got []string
		for _, key := range keys {
			if r.Has(key) {
				want = append(want, key)
			}
		}
		for asked := r; ; {
			p, err := st.LoadRange(t.Context(), id, asked)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range p.Entries {
				got = append(got, e.Key)
				if r.KeysOnly != (e.Value == nil) || !r.KeysOnly && string(e.Value) != "v"+e.Key {
					t.Fatalf("entry %q has the value %q", e.Key, e.Value)
				}
			}
			if p.Next != "" && r.Limit >= len(want) && len(want) <= rangePage {
				t.Fatalf("of %d entries %+v gives %d, and there are more from %q on", len(keys), r, len(got), p.Next)
			}
			if asked.From = p.Next; p.Next == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("of %d entries %+v gives %q\nwant %q", len(keys), r, got, want)
		}
	}
}

// The order is that of bytes, in the locale of a language, too, and however many entries there are.
func TestRangeInAnyLocale(t *testing.T) {
	for _, locale := range []string{"C", "en_US", "hu_HU"} {
		t.Run(locale, func(t *testing.T) {
			t.Setenv("LC_ALL", locale)
			if locale != "C" {
				dir := t.TempDir()
				if out, err := exec.Command("localedef", "-i", locale, "-f", "UTF-8", dir+"/"+locale).CombinedOutput(); err != nil {
					t.Skipf("NOT TESTED: this machine makes no locale %s: %v, %s", locale, err, out)
				}
				t.Setenv("LOCPATH", dir)
			}
			st := open(t, redisserver.Start(t).URL(), fresh())
			byLocale, err := st.client.Eval(t.Context(), `return {'a' < 'B', 'ddz' < 'dez'}`, nil).Slice()
			if err != nil || (byLocale[0] == nil) != (locale == "C") {
				t.Fatalf("the server does not sort as %s does: %v, %v", locale, byLocale, err)
			}
			for _, n := range []int{20, 200, 1500} {
				rangesOf(t, st, fmt.Sprint(n), names(n))
			}
		})
	}
}

// A page of large values ends early, and that of many small ones with its limit: a script does not hold its server up for as long as a session is large.
func TestRangeEndsPages(t *testing.T) {
	st := open(t, redisserver.Start(t).URL(), fresh())
	o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	large := store.Change{Session: "large", Owner: o, Epoch: 1, Seq: 1, Create: true}
	for i := range 200 {
		large.Puts = append(large.Puts, store.Entry{Key: fmt.Sprintf("%03d", i), Value: bytes.Repeat([]byte{byte(i)}, 50_000)})
	}
	small := store.Change{Session: "small", Owner: o, Epoch: 1, Seq: 1, Create: true}
	for i := range 2*rangePage + 500 {
		small.Puts = append(small.Puts, store.Entry{Key: fmt.Sprintf("%05d", i)})
	}
	for _, c := range []store.Change{large, small} {
		apply(t, st, c, store.Applied)
		var pages []int
		all := 0
		for from := ""; ; {
			p, err := st.LoadRange(t.Context(), c.Session, store.Range{From: from, Limit: 1 << 40})
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range p.Entries {
				if want := c.Puts[all]; e.Key != want.Key || !bytes.Equal(e.Value, want.Value) {
					t.Fatalf("entry %d is %.20q = %.20q, want %.20q", all, e.Key, e.Value, want.Key)
				}
				all++
			}
			pages = append(pages, len(p.Entries))
			if from = p.Next; from == "" {
				break
			}
		}
		want := []int{64, 64, 64, 8} // what is looked at together, after which there is more than 1 MiB
		if c.Session == "small" {
			want = []int{rangePage, rangePage, 500}
		}
		if !slices.Equal(pages, want) {
			t.Errorf("%s: the pages have %v entries, want %v", c.Session, pages, want)
		}
	}
}

// What is damaged in a header is told beside the entries, as by Load.
func TestRangeUnderDamagedHeader(t *testing.T) {
	st := open(t, redisserver.Start(t).URL(), fresh())
	o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	apply(t, st, store.Change{Session: "s", Owner: o, Epoch: 1, Seq: 1, Create: true, Puts: []store.Entry{{Key: "k", Value: []byte("v")}}}, store.Applied)
	if err := (damager{st}).Damage("s", "", true); err != nil {
		t.Fatal(err)
	}
	p, err := st.LoadRange(t.Context(), "s", store.Range{})
	if err == nil || !strings.Contains(err.Error(), "header") || len(p.Entries) != 1 {
		t.Errorf("it gives %+v, %v", p, err)
	}
}
