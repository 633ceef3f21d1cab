package pack

import (
	"context"
	"errors"

	"github.com/klauspost/compress/zstd"

	"github.com/seed-6f1f505d/kvstore/store"
)

// unpacker turns what one call has read into values.
type unpacker struct {
	*coder
	d *zstd.Decoder // taken from the pool when it was first needed
}

func (u *unpacker) done() {
	if u.d != nil {
		u.decoders.give(u.d)
	}
}

// entries unpacks what was read, in its place. What is damaged is left out, and is added to errs. err says that the rest could not be unpacked now.
func (u *unpacker) entries(ctx context.Context, session string, es []store.Entry, errs []error) (_ []store.Entry, _ []error, err error) {
	sound := es[:0]
	for _, e := range es {
		value, err := u.value(ctx, &u.d, e.Value)
		var why damage
		switch {
		case errors.As(err, &why):
			errs = append(errs, &store.CorruptError{Session: session, Key: e.Key, Reason: string(why)})
			continue
		case err != nil:
			return nil, nil, err
		}
		e.Value = value
		sound = append(sound, e)
	}
	clear(es[len(sound):])
	return sound, errs, nil
}

// claim unpacks the entries of a claim. What is damaged is named in Unread.
func (u *unpacker) claim(ctx context.Context, session string, c *store.Claim) error {
	es, errs, err := u.entries(ctx, session, c.Entries, nil)
	if err != nil {
		return err
	}
	c.Entries = es
	for _, err := range errs {
		var corrupt *store.CorruptError
		if errors.As(err, &corrupt) {
			c.Unread = append(c.Unread, corrupt.Key)
		}
	}
	return nil
}
