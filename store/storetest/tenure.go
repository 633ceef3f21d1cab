package storetest

import (
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// tenure is one owner's epoch of one session. It numbers the owner's changes.
type tenure struct {
	session string
	owner   store.Owner
	epoch   uint64
	seq     uint64 // of the last change that was made
}

func newOwner(name string) store.Owner {
	return store.Owner{Node: name, Incarnation: store.NewIncarnation()}
}

// own gives a session, made if need be, to a new owner without a lease, who
// then puts the keys and values named in turn.
func (k *kit) own(id string, kv ...string) *tenure {
	k.t.Helper()
	t := k.claimed(store.ClaimRequest{Session: id, Owner: newOwner("own"), Create: true, Force: true})
	if len(kv) > 0 {
		k.applied(t.change(kv...))
	}
	return t
}

// take gives an existing session to a new owner, by force.
func (k *kit) take(id string) *tenure {
	k.t.Helper()
	return k.claimed(store.ClaimRequest{Session: id, Owner: newOwner("take"), Force: true})
}

// claimed makes a claim that must be granted.
func (k *kit) claimed(r store.ClaimRequest) *tenure {
	k.t.Helper()
	h := k.claims(store.Granted, r).Header
	return &tenure{session: r.Session, owner: r.Owner, epoch: h.Epoch, seq: h.Seq}
}

// unclaimed is a tenure of a new owner that no store knows of.
func unclaimed(id string, epoch uint64) *tenure {
	return &tenure{session: id, owner: newOwner("new"), epoch: epoch}
}

// change returns the tenure's next change, which puts the keys and values named in turn.
func (t *tenure) change(kv ...string) store.Change {
	t.seq++
	c := store.Change{Session: t.session, Owner: t.owner, Epoch: t.epoch, Seq: t.seq}
	for i := 0; i+1 < len(kv); i += 2 {
		c.Puts = append(c.Puts, store.Entry{Key: kv[i], Value: []byte(kv[i+1])})
	}
	return c
}

// What a change may be besides puts.

func creating(c store.Change) store.Change                 { c.Create = true; return c }
func born(c store.Change, seq uint64) store.Change         { c.Create, c.Birth = true, seq; return c }
func wiping(c store.Change) store.Change                   { c.Wipe = true; return c }
func erasing(c store.Change) store.Change                  { c.Delete = true; return c }
func releasing(c store.Change) store.Change                { c.Release = true; return c }
func ending(c store.Change, at store.Time) store.Change    { c.Expires = at; return c }
func versioned(c store.Change, schema uint32) store.Change { c.Schema = schema; return c }
func dropping(c store.Change, keys ...string) store.Change { c.Deletes = keys; return c }

type kind struct {
	name string
	of   func(t *tenure) store.Change
}

const aliasChange = "alias change"

// kinds has every way to change a session: each must be fenced, and each must be idempotent.
var kinds = []kind{
	{"put", func(t *tenure) store.Change { return t.change("k", "zombie", "new", "zombie") }},
	{"delete", func(t *tenure) store.Change { return dropping(t.change(), "k") }},
	{"wipe", func(t *tenure) store.Change { return wiping(t.change()) }},
	{"wipe and put", func(t *tenure) store.Change { return wiping(t.change("new", "zombie")) }},
	{"expiry touch", func(t *tenure) store.Change { return ending(t.change(), inAnHour()) }},
	{"expiry in the past", func(t *tenure) store.Change { return ending(t.change(), anHourAgo()) }},
	{aliasChange, func(t *tenure) store.Change {
		c := t.change()
		c.Aliases = []string{"zombie of " + t.session}
		return c
	}},
	{"schema change", func(t *tenure) store.Change { return versioned(t.change(), 77) }},
	{"release", func(t *tenure) store.Change { return releasing(t.change()) }},
	{"session delete", func(t *tenure) store.Change { return erasing(t.change()) }},
	{"create", func(t *tenure) store.Change { return creating(t.change("k", "zombie")) }},
	{"create and delete", func(t *tenure) store.Change { return creating(erasing(t.change())) }},
	{"nothing", func(t *tenure) store.Change { return t.change() }},
}

func inAnHour() store.Time  { return store.TimeOf(time.Now().Add(time.Hour)) }
func anHourAgo() store.Time { return store.TimeOf(time.Now().Add(-time.Hour)) }
