package storetest

import "github.com/seed-6f1f505d/kvstore/store"

// stamp is the place of a change in the order of all.
type stamp struct{ epoch, seq uint64 }

func (s stamp) above(t stamp) bool { return s.epoch > t.epoch || s.epoch == t.epoch && s.seq > t.seq }

const stampBase = 1 << 50 // far from now, and beyond year 2262

func (s stamp) time() store.Time { return store.Time(stampBase + s.epoch<<24 + s.seq) }

func stampOf(t store.Time) stamp {
	if t < stampBase {
		return stamp{}
	}
	return stamp{uint64(t-stampBase) >> 24, uint64(t) & (1<<24 - 1)}
}

// reading is what a Load or a Claim gave.
type reading struct {
	header  store.Header
	stamp   stamp
	entries map[string]string // nil if not all could be read
}

func read(h store.Header, es []store.Entry) reading {
	v := reading{header: h, stamp: stampOf(h.Expires), entries: map[string]string{}}
	for _, e := range es {
		v.entries[e.Key] = string(e.Value)
	}
	return v
}
