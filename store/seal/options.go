package seal

import (
	"fmt"
)

// Key is a secret of the ring.
type Key struct {
	ID     uint32   // stands in each record that is sealed with it; any number, never to be used again for another secret
	Secret [32]byte // from a random generator: it is no password
}

// Options of a store. They are read once, by [New], which copies what it keeps.
type Options struct {
	// Keys is the ring. The last one seals, all open. At least one is needed; no ID and no secret may stand twice, and a secret of
	// zeros only is refused.
	Keys []Key

	// NameKey hides session IDs, keys and aliases: see "Names". Nil: they are stored as they are. It is for a store that is
	// empty at first, and cannot be changed: with another one, or none, none of the sessions is found.
	NameKey *[32]byte

	// AcceptPlain takes a value that was never sealed for what it says, so that a store that was in use without this
	// package can be read. False: such a value is damaged.
	//
	// It is for a migration, to be ended with [Store.Reseal]: as long as it is set, whoever can write to the inner store can put in a value of his own.
	AcceptPlain bool
}

// check reports what is wrong with the options.
func (o *Options) check() error {
	if len(o.Keys) == 0 {
		return fmt.Errorf("store/seal: Options.Keys is empty: a key is needed to seal with")
	}
	ids, secrets := map[uint32]int{}, map[[32]byte]int{}
	for i, k := range o.Keys {
		if k.Secret == ([32]byte{}) {
			return fmt.Errorf("store/seal: Options.Keys[%d], with ID %d, has no secret: all of it is zero", i, k.ID)
		}
		if was, twice := ids[k.ID]; twice {
			return fmt.Errorf("store/seal: Options.Keys[%d] and [%d] both have the ID %d", was, i, k.ID)
		}
		if was, twice := secrets[k.Secret]; twice {
			return fmt.Errorf("store/seal: Options.Keys[%d] and [%d], with IDs %d and %d, have the same secret", was, i, o.Keys[was].ID, k.ID)
		}
		ids[k.ID], secrets[k.Secret] = i, i
	}
	if o.NameKey != nil && *o.NameKey == ([32]byte{}) {
		return fmt.Errorf("store/seal: Options.NameKey has no secret: all of it is zero")
	}
	return nil
}
