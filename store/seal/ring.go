package seal

import (
	"container/list"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/seed-6f1f505d/kvstore/store"
)

const (
	// maxBlocks bounds what is sealed under one subkey, in blocks of 16 bytes: 1 TiB. Told by AES from a random function, whose blocks may
	// repeat, it is with a chance of at most maxBlocks²/2¹²⁹ = 2⁻⁵⁷. It is also the bound of the count, which has 40 bits.
	maxBlocks = 1 << 36

	// maxSubkeys bounds the subkeys that are kept to open with, of about 1 KiB each. Every Open of a store, anywhere, seals under one of its own.
	maxSubkeys = 1024

	// maxValue is the largest value in bytes, far above any store's: AES-GCM has a limit of its own, of 64 GiB.
	maxValue = 1 << 30
)

// subkeyID says which subkey it is: the key of the ring and the salt that it is derived from.
type subkeyID struct {
	key  uint32
	salt [saltSize]byte
}

// subkey seals and opens, with AES-256-GCM.
type subkey struct {
	id   subkeyID
	aead cipher.AEAD

	// used is the number of blocks sealed under it so far. A record's count is what stood there before it, so no two have
	// the same, as each has a block at least; that is all that GCM asks of nonces. Only the one that made the salt counts.
	used atomic.Uint64
}

// take returns the count for a value, or that the subkey has none left.
func (k *subkey) take(value int) (count uint64, ok bool) {
	blocks := uint64(value)/16 + 2 // the value's, the last of them in part, and the tag's
	end := k.used.Add(blocks)
	return end - blocks, end <= maxBlocks
}

// ring has the keys, and the subkeys that are in use.
type ring struct {
	secrets map[uint32][]byte
	newest  uint32 // the key that seals

	sealing atomic.Pointer[subkey]
	renewal sync.Mutex // makes one of many replace it

	mu    sync.Mutex // held for a few instructions; derivations happen outside
	kept  map[subkeyID]*list.Element
	order *list.List // of *subkey, the one used last in front; at most maxSubkeys
}

func newRing(keys []Key) (*ring, error) {
	r := &ring{secrets: map[uint32][]byte{}, kept: map[subkeyID]*list.Element{}, order: list.New()}
	for _, k := range keys {
		r.secrets[k.ID] = append([]byte(nil), k.Secret[:]...)
		r.newest = k.ID
	}
	return r, r.renew(nil)
}

// derive makes a subkey, by HKDF (RFC 5869) with SHA-256.
func (r *ring) derive(id subkeyID) (*subkey, error) {
	secret, ok := r.secrets[id.key]
	if !ok {
		return nil, fmt.Errorf("it is sealed with the key %d, which is not in the ring", id.key)
	}
	key, err := hkdf.Key(sha256.New, secret, id.salt[:], "kvstore/store/seal: value 1", 32)
	if err != nil {
		return nil, err
	}
	aead, err := newGCM(key)
	return &subkey{id: id, aead: aead}, err
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// renew replaces the subkey that seals, unless somebody else has done so since spent was read.
func (r *ring) renew(spent *subkey) error {
	r.renewal.Lock()
	defer r.renewal.Unlock()
	if r.sealing.Load() != spent {
		return nil
	}
	id := subkeyID{key: r.newest}
	rand.Read(id.salt[:]) // never fails
	k, err := r.derive(id)
	if err != nil {
		return fmt.Errorf("store/seal: no subkey could be derived: %w", err)
	}
	r.sealing.Store(k)
	return nil
}

// seal appends an entry's value, sealed in epoch for the place, to b.
func (r *ring) seal(b []byte, p *place, epoch uint64, e *store.Entry) ([]byte, error) {
	k := r.sealing.Load()
	count, ok := k.take(len(e.Value))
	for !ok {
		if err := r.renew(k); err != nil {
			return b, err
		}
		k = r.sealing.Load()
		count, ok = k.take(len(e.Value))
	}
	start := len(b)
	b = appendHead(b, &head{k.id, count, epoch})
	return k.aead.Seal(b, p.at(count), e.Value, p.bind(e.Key, e.Expires, b[start:])), nil
}

var errForged = errors.New("it is not what was sealed for this place: it was changed, or moved, or sealed with another secret")

// open replaces an entry's value, which belongs to the caller, by what was sealed; an error says what is wrong with it, and the
// value is lost then. No record of an epoch above the given one is taken. stale tells that the newest key did not seal it.
func (r *ring) open(p *place, epoch uint64, e *store.Entry) (stale bool, err error) {
	h, err := parseHead(e.Value)
	if err != nil {
		return false, err
	}
	if h.epoch > epoch {
		return false, fmt.Errorf("it is of epoch %d, the session's is %d", h.epoch, epoch)
	}
	k, fresh, err := r.find(p, h.subkeyID)
	if err != nil {
		return false, err
	}
	record := e.Value
	sealed := record[headSize:]
	value, err := k.aead.Open(sealed[:0], p.at(h.count), sealed, p.bind(e.Key, e.Expires, record[:headSize]))
	if err != nil {
		return false, errForged
	}
	if fresh {
		r.keep(k)
	}
	p.last = k
	e.Value = value[:len(value):len(value)]
	return h.key != r.newest, nil
}

// find returns a subkey. A fresh one is derived, and not kept yet: not before it has opened something, or made-up salts would drive out
// those that are in use.
func (r *ring) find(p *place, id subkeyID) (k *subkey, fresh bool, err error) {
	if k := p.last; k != nil && k.id == id {
		return k, false, nil
	}
	if k := r.sealing.Load(); k.id == id {
		return k, false, nil
	}
	r.mu.Lock()
	if e := r.kept[id]; e != nil {
		r.order.MoveToFront(e)
		k = e.Value.(*subkey)
	}
	r.mu.Unlock()
	if k != nil {
		return k, false, nil
	}
	k, err = r.derive(id)
	return k, true, err
}

// keep remembers a subkey, in the place of the one not used for longest if there are too many.
func (r *ring) keep(k *subkey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kept[k.id] != nil {
		return // somebody else derived it, too
	}
	r.kept[k.id] = r.order.PushFront(k)
	if r.order.Len() > maxSubkeys {
		old := r.order.Remove(r.order.Back()).(*subkey)
		delete(r.kept, old.id)
	}
}
