package seal

import (
	"errors"
	"fmt"
	"slices"

	"github.com/seed-6f1f505d/kvstore/store"
)

// told returns an error of the inner store with the true names, where its type has any. Its text may have others.
func (s *Store) told(err error) error {
	if s.names == nil || err == nil {
		return err
	}
	all := leaves(err)
	if len(all) > 1 {
		for i := range all {
			all[i] = s.told(all[i])
		}
		return errors.Join(all...)
	}
	var c *store.CorruptError
	if errors.As(err, &c) {
		shown := *c
		shown.Session = s.names.known(sessionName, "", c.Session)
		shown.Key = s.names.known(keyName, shown.Session, c.Key)
		if c.Alias != "" {
			shown.Alias = s.names.known(aliasName, "", c.Alias)
		}
		return fmt.Errorf("store/seal: the inner store: %w", &shown)
	}
	var clash *store.AliasError
	if errors.As(err, &clash) {
		return &store.AliasError{
			Alias:   s.names.known(aliasName, "", clash.Alias),
			Session: s.names.known(sessionName, "", clash.Session),
			Holder:  s.names.known(sessionName, "", clash.Holder),
		}
	}
	var lost *store.ForgottenError
	if errors.As(err, &lost) {
		ids := make([]string, len(lost.Sessions))
		for i, id := range lost.Sessions {
			ids[i] = s.names.known(sessionName, "", id)
		}
		slices.Sort(ids)
		return &store.ForgottenError{Sessions: ids}
	}
	return err
}

// leaves returns the errors that are joined in err, below whatever wraps them; itself if none are.
func leaves(err error) (all []error) {
	for e := err; e != nil; e = errors.Unwrap(e) {
		if j, ok := e.(interface{ Unwrap() []error }); ok {
			for _, e := range j.Unwrap() {
				all = append(all, leaves(e)...)
			}
			return all
		}
	}
	return []error{err}
}
