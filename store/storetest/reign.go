package storetest

import (
	"fmt"
	"maps"
	"math/rand/v2"

	"github.com/seed-6f1f505d/kvstore/store"
)

// reign writes as long as the tenure lasts, and for a while longer; without a
// successor it ends when no claim is to come. was has the entries at its beginning.
func (r *race) reign(t *tenure, was map[string]string) {
	defer r.leave(1)
	aside := unclaimed(r.id+"/"+t.owner.Node, 1)
	aside.owner = t.owner
	if was == nil {
		was = map[string]string{}
	}
	var sent []store.Change
	for extra, last := 0, false; extra < headway && r.ctx.Err() == nil; {
		select {
		case <-r.done:
			last = true
		default:
		}
		c, is := r.random(t, was)
		r.mu.Lock()
		r.states[stamp{c.Epoch, c.Seq}] = is
		r.mu.Unlock()
		switch r.flush(aside, c) {
		case store.Applied:
			r.acked(stamp{c.Epoch, c.Seq})
			was, sent = is, append(sent, c)
		case store.Fenced:
			last = true // now a zombie: it goes on for a while
		case store.Already:
			r.blame(saysAlready, "change %d of epoch %d is there before it was sent", c.Seq, c.Epoch)
			last = true
		default:
			return
		}
		if last {
			extra++
		}
		if len(sent) > 0 && rand.N(4) == 0 {
			twin := sent[rand.N(len(sent))]
			if o := r.flush(aside, twin); o == store.Applied {
				r.blame(saysAlready, "change %d of epoch %d is applied twice", twin.Seq, twin.Epoch)
			}
		}
	}
}

// flush applies a change, beside one to a session that nobody else knows of.
func (r *race) flush(aside *tenure, c store.Change) store.Outcome {
	cs := []store.Change{c, creating(aside.change("k", "v"))}
	at := rand.N(2)
	if at == 1 {
		cs[0], cs[1] = cs[1], cs[0]
	}
	rs, err := r.st.Apply(r.ctx, cs)
	if err == nil && len(rs) != 2 {
		err = fmt.Errorf("none, and %d results for 2 changes", len(rs))
	}
	if err != nil {
		r.failed("Apply", err)
		return store.Undecided
	}
	if o := rs[1-at].Outcome; o != store.Applied {
		r.blame(saysAtomic, "a change to session %q is %v, beside one to a session that others claim", aside.session, o)
	}
	o := rs[at].Outcome
	if o != store.Applied && o != store.Fenced && o != store.Already {
		r.failed("Apply", fmt.Errorf("none, and the outcome %v of change %d of epoch %d", o, c.Seq, c.Epoch))
	}
	return o
}

func (r *race) acked(s stamp) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.applied[s] = true
	r.open(len(r.applied) / headway)
}

// judge compares all that was answered, when nothing runs any more.
func (r *race) judge(force bool) {
	r.t.Helper()
	end := r.load(r.id)
	final := read(end.Header, end.Entries)
	epochs := map[uint64]bool{}
	for _, g := range r.grants {
		if epochs[g.header.Epoch] {
			r.blame(saysOneWins, "epoch %d was granted twice", g.header.Epoch)
		}
		epochs[g.header.Epoch] = true
		if g.header.Seq != 0 || !g.stamp.above(stamp{}) && g.header.Epoch > 1 {
			r.blame(saysNoneLate, "granted is %+v, want seq 0 and the stamp of a former change", g.header)
		}
		for s := range r.applied {
			if s.epoch < g.header.Epoch && s.above(g.stamp) {
				r.blame(saysNoneLate, "change %d of epoch %d was applied; the claim of epoch %d has change %d of epoch %d as the last one",
					s.seq, s.epoch, g.header.Epoch, g.stamp.seq, g.stamp.epoch)
			}
		}
	}
	if won := len(r.grants) - 1; !force && won != 1 {
		r.blame(saysOneWins, "%d claimants were granted one orphan", won)
	}
	for _, v := range append(append(r.grants, r.readings...), final) {
		if v.entries != nil && !maps.Equal(v.entries, r.states[v.stamp]) {
			r.blame(saysView, "read %q with the header of change %d of epoch %d, which left %q", v.entries, v.stamp.seq, v.stamp.epoch, r.states[v.stamp])
		}
		if h := v.header; h.Seq != 0 && v.stamp != (stamp{h.Epoch, h.Seq}) {
			r.blame(saysNoneLate, "header %+v has been written by change %d of epoch %d", h, v.stamp.seq, v.stamp.epoch)
		}
	}
	for s := range r.applied {
		if s.above(final.stamp) {
			r.blame(saysLatest, "change %d of epoch %d was applied, and is not in the last reading, whose last change is %d of epoch %d", s.seq, s.epoch, final.stamp.seq, final.stamp.epoch)
		}
	}
}
