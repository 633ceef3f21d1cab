package store

import (
	"errors"
	"fmt"
	"slices"
)

// ErrClosed is given by every method of a store after Close.
var ErrClosed = errors.New("store: closed")

// ErrInvalid is what a malformed request's error wraps. Nothing of it was applied.
var ErrInvalid = errors.New("store: invalid request")

// ErrTooLarge is what the Err of a Rejected change wraps if a size is to blame.
var ErrTooLarge = errors.New("store: too large")

// AliasError is the Err of a change that is Rejected because it names an alias that another session has. The same change without that alias is not.
type AliasError struct {
	Alias   string
	Session string // the change's
	Holder  string // the session that has the alias
}

func (e *AliasError) Error() string {
	return fmt.Sprintf("store: session %q: the alias %q is that of session %q", e.Session, e.Alias, e.Holder)
}

// CorruptError names a record that is damaged. The rest of the store stays readable.
type CorruptError struct {
	Session string // empty if Alias is not
	Key     string // the entry; meaningless if Header
	Header  bool   // the session's header is damaged, not an entry
	Alias   string // what tells whose this alias is is damaged
	Reason  string
}

func (e *CorruptError) Error() string {
	if e.Alias != "" {
		return fmt.Sprintf("store: alias %q: its record is damaged: %s", e.Alias, e.Reason)
	}
	if e.Header {
		return fmt.Sprintf("store: session %q: header is damaged: %s", e.Session, e.Reason)
	}
	return fmt.Sprintf("store: session %q, key %q: entry is damaged: %s", e.Session, e.Key, e.Reason)
}

// Check reports what is malformed in the request, as an error that wraps ErrInvalid.
func (r *ClaimRequest) Check() error {
	if err := checkSession(r.Session, r.Owner); err != nil {
		return err
	}
	for _, k := range r.Keys {
		if len(k) > MaxKey {
			return fmt.Errorf("%w: session %q: key %.32q… has %d bytes, at most %d are allowed", ErrInvalid, r.Session, k, len(k), MaxKey)
		}
	}
	if r.Epoch > MaxEpoch {
		return fmt.Errorf("%w: session %q: epoch %d is above MaxEpoch", ErrInvalid, r.Session, r.Epoch)
	}
	return nil
}

// CheckClaims reports what is malformed in the requests of one ClaimAll, as an error that wraps ErrInvalid.
func CheckClaims(rs []ClaimRequest) error {
	seen := make(map[string]bool, len(rs))
	for i := range rs {
		if err := rs[i].Check(); err != nil {
			return err
		}
		if id := rs[i].Session; len(rs) > 1 {
			if seen[id] {
				return fmt.Errorf("%w: session %q is claimed twice in one call", ErrInvalid, id)
			}
			seen[id] = true
		}
	}
	return nil
}

// Check reports what is malformed in the change, as an error that wraps
// ErrInvalid, with the keys to blame, if any are.
func (c *Change) Check() (keys []string, err error) {
	if err := checkSession(c.Session, c.Owner); err != nil {
		return nil, err
	}
	if c.Epoch == 0 || c.Seq == 0 {
		return nil, fmt.Errorf("%w: session %q: epoch %d, seq %d: both start at 1", ErrInvalid, c.Session, c.Epoch, c.Seq)
	}
	if c.Birth > c.Seq || c.Birth > 0 && !c.Create {
		return nil, fmt.Errorf("%w: session %q: birth %d, seq %d, create %t: Birth is the Seq of an earlier attempt to create", ErrInvalid, c.Session, c.Birth, c.Seq, c.Create)
	}
	if c.Epoch > MaxEpoch || c.Seq > MaxEpoch {
		return nil, fmt.Errorf("%w: session %q: epoch %d, seq %d: MaxEpoch is exceeded", ErrInvalid, c.Session, c.Epoch, c.Seq)
	}
	if c.Delete && (len(c.Puts) > 0 || len(c.Deletes) > 0) {
		return nil, fmt.Errorf("%w: session %q: a change that deletes the session cannot change its entries", ErrInvalid, c.Session)
	}
	if err := c.checkAliases(); err != nil {
		return nil, err
	}
	check := func(k string) {
		if len(k) > MaxKey {
			keys = append(keys, k)
			err = fmt.Errorf("%w: session %q: key %.32q… has %d bytes, at most %d are allowed", ErrInvalid, c.Session, k, len(k), MaxKey)
		}
	}
	for i := range c.Puts {
		check(c.Puts[i].Key)
	}
	for _, k := range c.Deletes {
		check(k)
	}
	for _, k := range c.twice() {
		keys = append(keys, k)
		err = fmt.Errorf("%w: session %q: key %.32q stands twice in the change", ErrInvalid, c.Session, k)
	}
	return keys, err
}

func (c *Change) checkAliases() error {
	if len(c.Aliases) == 0 {
		return nil
	}
	if len(c.Aliases) > MaxAliases {
		return fmt.Errorf("%w: session %q: %d aliases, at most %d are allowed", ErrInvalid, c.Session, len(c.Aliases), MaxAliases)
	}
	bytes := 0
	for i, a := range c.Aliases {
		switch {
		case a == "":
			return fmt.Errorf("%w: session %q: an alias is empty", ErrInvalid, c.Session)
		case len(a) > MaxAlias:
			return fmt.Errorf("%w: session %q: alias %.32q… has %d bytes, at most %d are allowed", ErrInvalid, c.Session, a, len(a), MaxAlias)
		case i < 16 && slices.Contains(c.Aliases[:i], a):
			return fmt.Errorf("%w: session %q: alias %.32q stands twice in the change", ErrInvalid, c.Session, a)
		}
		bytes += len(a)
	}
	if len(c.Aliases) > 16 {
		seen := make(map[string]struct{}, len(c.Aliases))
		for _, a := range c.Aliases {
			if _, twice := seen[a]; twice {
				return fmt.Errorf("%w: session %q: alias %.32q stands twice in the change", ErrInvalid, c.Session, a)
			}
			seen[a] = struct{}{}
		}
	}
	if bytes > MaxAliasBytes {
		return fmt.Errorf("%w: session %q: its aliases have %d bytes, at most %d are allowed", ErrInvalid, c.Session, bytes, MaxAliasBytes)
	}
	return nil
}

// twice returns the keys that stand more than once in Puts and Deletes.
func (c *Change) twice() (keys []string) {
	n := len(c.Puts) + len(c.Deletes)
	key := func(i int) string {
		if i < len(c.Puts) {
			return c.Puts[i].Key
		}
		return c.Deletes[i-len(c.Puts)]
	}
	if n <= 16 { // as most changes: to compare all is cheaper than a map
		for i := 1; i < n; i++ {
			k := key(i)
			for j := range i {
				if key(j) == k {
					keys = append(keys, k)
					break
				}
			}
		}
		return keys
	}
	seen := make(map[string]struct{}, n)
	for i := range n {
		k := key(i)
		if seen[k] = struct{}{}; len(seen)+len(keys) <= i {
			keys = append(keys, k)
		}
	}
	return keys
}

func checkSession(id string, o Owner) error {
	switch {
	case id == "":
		return fmt.Errorf("%w: the session ID is empty", ErrInvalid)
	case len(id) > MaxSession:
		return fmt.Errorf("%w: session ID %.32q… has %d bytes, at most %d are allowed", ErrInvalid, id, len(id), MaxSession)
	case o.Incarnation == Incarnation{}:
		return fmt.Errorf("%w: session %q: no owner is named", ErrInvalid, id)
	}
	return nil
}
