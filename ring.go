package kvstore

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// Placement of names on members, by consistent hashing: Karger et al., "Consistent Hashing and Random
// Trees" (STOC 1997); the preference lists of Owners are those of DeCandia et al., "Dynamo" (SOSP 2007).
//
// Everything here is a pure function of the member set, and must stay so across releases: the nodes of two
// releases have to agree about it while one is being rolled out. testdata/ring.golden holds it in place.

const (
	// ringPoints is the number of points that a member has on the circle per unit of weight. The share of a
	// member deviates from its due by about 1/sqrt(ringPoints × weight) (standard deviation), 6 % at 256;
	// twice the points would cost twice the memory (16 bytes each) for 4.4 %.
	ringPoints = 256

	// maxRingWeight bounds a ring's memory: 256 × 1024 points are 4 MiB for one member.
	maxRingWeight = 1024
)

// Member is one participant of a [Ring].
type Member struct {
	// Name identifies the member, and is all that places it: two rings whose members have equal names and
	// weights are equal, wherever the members run. Not empty, and unique in a ring.
	Name string

	// Weight is the member's share relative to the others': a member of weight 2 owns about twice the keys
	// of one of weight 1. 0 means 1; the maximum is 1024. A weight that changes moves only keys to or from
	// that member.
	Weight int
}

// Ring maps keys to the members that own them. When a member comes or goes, only the keys that it
// gains or loses change owners: about 1/n of all keys, for n members of equal weight.
//
// A Ring does not change, and is safe for concurrent use. To add or to remove a member, make a new one. The
// zero Ring, like NewRing(), is empty.
//
// Programs that hold different rings disagree about owners for as long as the difference lasts. A request that
// is passed on to an owner should therefore carry the sender's [Ring.Version], and its receiver must serve
// or refuse it, never pass it on again: two nodes that each think the other one is the owner would
// otherwise wait for each other.
type Ring struct {
	members []Member    // sorted by name, weights ≥ 1
	points  []ringPoint // sorted by (hash, member); len = ringPoints × sum of weights
	version uint64
}

// ringPoint is one point of the circle: it owns the arc that ends at it, (previous hash, hash].
type ringPoint struct {
	hash   uint64
	member int32 // index into members; since those are sorted, its order is that of the names
}

// NewRing returns the ring of members, whose order does not matter. It fails, and names the member, if a
// name is empty or occurs twice, or if a weight is negative or above 1024. No members at all is a valid ring,
// in which nothing has an owner.
//
// It costs about 256 hashes and 4 KiB per unit of weight.
func NewRing(members ...Member) (*Ring, error) {
	r := &Ring{members: slices.Clone(members)}
	total := 0
	for i := range r.members {
		m := &r.members[i]
		switch {
		case m.Name == "":
			return nil, fmt.Errorf("kvstore: ring member %d of %d has an empty name", i+1, len(members))
		case m.Weight < 0:
			return nil, fmt.Errorf("kvstore: ring member %q: weight %d is negative", m.Name, m.Weight)
		case m.Weight > maxRingWeight:
			return nil, fmt.Errorf("kvstore: ring member %q: weight %d is above the maximum of %d", m.Name, m.Weight, maxRingWeight)
		case m.Weight == 0:
			m.Weight = 1
		}
		total += m.Weight
	}
	slices.SortFunc(r.members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(r.members); i++ {
		if r.members[i].Name == r.members[i-1].Name {
			return nil, fmt.Errorf("kvstore: ring member %q is given twice", r.members[i].Name)
		}
	}

	r.points = make([]ringPoint, 0, total*ringPoints)
	var form []byte // hashed form of all members, in the order of their names: the version
	var buf []byte
	for i, m := range r.members {
		for j := range m.Weight * ringPoints {
			// A point is xxhash64, seed 0, of the name's bytes and the point's number as 4 bytes, big-endian.
			// The number has a fixed length and stands last, so no two (name, number) share a form.
			buf = binary.BigEndian.AppendUint32(append(buf[:0], m.Name...), uint32(j))
			r.points = append(r.points, ringPoint{xxhash.Sum64(buf), int32(i)})
		}
		form = binary.BigEndian.AppendUint32(form, uint32(len(m.Name)))
		form = append(form, m.Name...)
		form = binary.BigEndian.AppendUint32(form, uint32(m.Weight))
	}
	// Members that collide on a point are ordered by name, so that the first of them is the same everywhere.
	slices.SortFunc(r.points, func(a, b ringPoint) int {
		if a.hash != b.hash {
			if a.hash < b.hash {
				return -1
			}
			return 1
		}
		return int(a.member) - int(b.member)
	})
	if len(r.members) > 0 {
		r.version = xxhash.Sum64(form)
	}
	return r, nil
}

// Owner returns the name of the member that owns key, or "" in an empty ring. Any string is a key. It allocates
// nothing, and takes time logarithmic in the number of members.
func (r *Ring) Owner(key string) string {
	if len(r.points) == 0 {
		return ""
	}
	return r.members[r.points[r.find(key)].member].Name
}

// Owners returns the names of the first n distinct members for key, in order of preference: the first one is
// Owner(key), and the second one is who would own key if the first were not there. It returns all members, in
// that order, if there are fewer than n, and nil if there are none or n ≤ 0. The caller owns the slice.
//
// A member that leaves changes no list but those it was in, and there the rest keep their order.
func (r *Ring) Owners(key string, n int) []string {
	n = min(n, len(r.members))
	if n <= 0 {
		return nil
	}
	owners := make([]string, 0, n)
	seen := make([]uint64, (len(r.members)+63)/64)
	for i := r.find(key); len(owners) < n; i++ {
		if i == len(r.points) {
			i = 0
		}
		m := r.points[i].member
		if w, b := m/64, uint64(1)<<(m%64); seen[w]&b == 0 {
			seen[w] |= b
			owners = append(owners, r.members[m].Name)
		}
	}
	return owners
}

// Members returns the members, sorted by name, with weights as they count (so never 0). The caller owns
// the slice.
func (r *Ring) Members() []Member { return slices.Clone(r.members) }

// Version identifies the member set: rings of the same members with the same weights have the same version, in
// every process and release, and others have, but for a collision of 64-bit hashes, a different one. An empty
// ring has version 0. Versions have no order.
func (r *Ring) Version() uint64 { return r.version }

// find returns the index of the point that owns key: the first at or after the key's hash, around the circle.
// The ring must not be empty.
func (r *Ring) find(key string) int {
	h := xxhash.Sum64String(key)
	lo, hi := 0, len(r.points)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if r.points[mid].hash < h {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == len(r.points) {
		return 0
	}
	return lo
}
