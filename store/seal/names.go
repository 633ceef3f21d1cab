package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"hash"
	"sync"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file hides names. The same name always gives the same bytes, or nothing could be found by it. That is what a synthetic
// IV is for (SIV: Rogaway and Shrimpton, EUROCRYPT 2006; RFC 5297):
//
//	iv     = the first 16 bytes of HMAC-SHA256(mac key, kind ‖ length of parent, 4 bytes ‖ parent ‖ name)
//	stored = iv ‖ AES-256-CTR(cipher key, iv, name)
//
// Whoever has the keys gets the name back, and sees from the IV whether it is one that was stored. The RFC has an IV of CMAC
// and clears two bits of it for the counter; here it is HMAC's, and CTR counts in all 128 bits.
//
// The keys are derived from Options.NameKey by HKDF (RFC 5869). The parent of a key is its session; so one key in two sessions
// gives different bytes. Session IDs and aliases have none. The empty key, which is the main entry's, stays empty.

// Longest names in bytes that can be hidden.
const (
	growth = 16 // bytes that a hidden name is longer

	maxHidden = min(store.MaxSession, store.MaxKey) - growth
)

// kind of a name.
type kind byte

const (
	sessionName kind = 1
	keyName     kind = 2
	aliasName   kind = 3
)

var errName = errors.New("its name is damaged, or was hidden with another NameKey, or not at all")

// names hides names. Nil hides none.
type names struct {
	block cipher.Block
	macs  sync.Pool // of hash.Hash, keyed
}

func newNames(key *[32]byte) (*names, error) {
	if key == nil {
		return nil, nil
	}
	macKey, err := hkdf.Key(sha256.New, key[:], nil, "kvstore/store/seal: mac of names 1", 32)
	if err != nil {
		return nil, err
	}
	cipherKey, err := hkdf.Key(sha256.New, key[:], nil, "kvstore/store/seal: cipher of names 1", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(cipherKey)
	if err != nil {
		return nil, err
	}
	n := &names{block: block}
	n.macs.New = func() any { return hmac.New(sha256.New, macKey) }
	return n, nil
}

// fits reports whether a session ID or key can be stored.
func (n *names) fits(name string) bool { return n == nil || len(name) <= maxHidden }

// hide returns what the inner store knows a name by.
func (n *names) hide(k kind, parent, name string) string {
	if n == nil || k == keyName && name == "" {
		return name
	}
	b := make([]byte, growth+len(name))
	iv := n.iv(k, parent, name)
	copy(b, iv[:])
	copy(b[growth:], name)
	cipher.NewCTR(n.block, iv[:]).XORKeyStream(b[growth:], b[growth:])
	return string(b)
}

// show is the inverse of hide.
func (n *names) show(k kind, parent, stored string) (string, error) {
	if n == nil || k == keyName && stored == "" {
		return stored, nil
	}
	if len(stored) < growth {
		return "", errName
	}
	b := []byte(stored[growth:])
	iv := []byte(stored[:growth])
	cipher.NewCTR(n.block, iv).XORKeyStream(b, b)
	name := string(b)
	want := n.iv(k, parent, name)
	if !hmac.Equal(iv, want[:]) || name == "" && k != aliasName {
		return "", errName
	}
	return name, nil
}

func (n *names) iv(k kind, parent, name string) (iv [growth]byte) {
	mac := n.macs.Get().(hash.Hash)
	defer n.macs.Put(mac)
	mac.Reset()
	b := make([]byte, 0, 5+len(parent)+len(name)+sha256.Size)
	b = append(b, byte(k))
	b = appendString(b, parent)
	b = append(b, name...)
	mac.Write(b)
	copy(iv[:], mac.Sum(b[len(b):]))
	return iv
}

// hideAll returns the names' stored forms in a slice of its own, nil for none.
func (n *names) hideAll(k kind, parent string, names []string) []string {
	if n == nil || len(names) == 0 {
		return names
	}
	hidden := make([]string, len(names))
	for i, name := range names {
		hidden[i] = n.hide(k, parent, name)
	}
	return hidden
}

// known is show for what is only to be told to somebody: what cannot be shown stays as it is.
func (n *names) known(k kind, parent, stored string) string {
	if name, err := n.show(k, parent, stored); err == nil {
		return name
	}
	return stored
}
