package model

import "math/bits"

// This file makes states equal that differ in nothing that can matter. Of the numbers of transactions and of flushes only the order
// does: they become the smallest ones in that order. (The story of a violation has the true ones.)

// numbers is a set of numbers below 64, and the map to their ranks.
type numbers uint64

func (n *numbers) add(v *uint8) { *n |= 1 << *v }

// rank replaces a number by how many there are up to it; 0 stays.
func (n *numbers) rank(v *uint8) {
	*v = uint8(bits.OnesCount64(uint64(*n&^1) & (2<<*v - 1)))
}

// dense reports whether all numbers are their ranks already.
func (n numbers) dense() bool { return (n|1)&((n|1)+1) == 0 }

func (s *State) canonical(b *Bounds) {
	for id := range uint8(b.Sessions) {
		var n numbers
		s.transactions(b, id, n.add)
		if n.dense() {
			continue
		}
		r := &s.records[id]
		for _, txs := range []*set{&r.landed, &r.unseen, &r.lost} {
			var ranked set
			for tx := uint8(1); tx <= maxTx; tx++ {
				if txs.has(tx) {
					v := tx
					n.rank(&v)
					ranked |= one(v)
				}
			}
			*txs = ranked
		}
		s.transactions(b, id, n.rank)
	}
	for o := uint8(1); o <= uint8(maxNodes*(b.Crashes+1)); o++ {
		var n numbers
		if s.flushes(b, o, n.add); n.dense() {
			continue
		}
		s.flushes(b, o, n.rank)
	}
}

// transactions calls do for everything that is the number of a transaction of a session.
func (s *State) transactions(b *Bounds, id uint8, do func(*uint8)) {
	r := &s.records[id]
	do(&r.tx)
	do(&r.floor)
	r.val.each(do)
	for i := range b.Nodes {
		n := &s.nodes[i]
		l := &n.sessions[id]
		do(&l.tx)
		do(&l.died)
		l.val.each(do)
		if n.flights[id].phase != idle {
			n.flights[id].change.transactions(do)
		}
		if n.asks[id].phase != idle {
			n.asks[id].claim.transactions(do)
		}
	}
	for i := range s.late {
		if m := &s.late[i]; m.kind != none && m.session == id {
			m.transactions(do)
		}
	}
}

func (m *message) transactions(do func(*uint8)) {
	do(&m.tx)
	m.val.each(do)
}

func (p *pair) each(do func(*uint8)) {
	for k := range p {
		do(&p[k])
	}
}

// flushes calls do for everything that is the number of a flush of an incarnation.
func (s *State) flushes(b *Bounds, owner uint8, do func(*uint8)) {
	for id := range b.Sessions {
		if r := &s.records[id]; r.owner == owner {
			do(&r.seq)
		}
	}
	for i := range uint8(b.Nodes) {
		n := &s.nodes[i]
		mine := s.incarnation(i) == owner
		if mine {
			do(&n.seq)
		}
		for id := range b.Sessions {
			f, l := &n.flights[id], &n.sessions[id]
			if f.owner == owner { // of the header
				do(&f.seq)
			}
			if mine {
				do(&l.birth)
				do(&l.retry)
				do(&f.change.seq)
				do(&f.change.birth)
			}
		}
	}
	for i := range s.late {
		if m := &s.late[i]; m.kind == change && m.owner == owner {
			do(&m.seq)
			do(&m.birth)
		}
	}
}
