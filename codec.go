package kvstore

import (
	"fmt"
)

// Codec turns values into the bytes that are stored, and back.
//
// What Append writes, Decode must read, and the Decode of every other program version that shares the store: stored
// bytes outlive the process. The methods are called from many goroutines at a time. Append runs when a value is
// flushed, which is once per flush window and after Put has returned; an error, or a panic, which is taken for
// an error, hands the entry to the application as one that cannot be stored.
type Codec interface {
	// Append appends the encoding of *v to dst, and returns the extended slice, as append does. v is a pointer to
	// the value (a *V), which it must not change. It must not keep dst or v. After an error, what lies beyond
	// dst's length is undefined, and the returned slice is not looked at.
	Append(dst []byte, v any) ([]byte, error)

	// Decode sets *v from src, the bytes that one Append added; v is a *V to a zero V. It must not keep src,
	// or anything that points into it, and must not change it. After an error *v is not looked at.
	Decode(src []byte, v any) error
}

// encode is c.Append with the guarantees that the flush path relies on: no panic leaves it, and out is dst extended,
// or after an error dst as it was.
func encode(c Codec, dst []byte, v any) (out []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			out, err = dst, fmt.Errorf("kvstore: encoding %T: panic in %T.Append: %w", v, c, panicError(p))
		}
	}()
	out, err = c.Append(dst, v)
	if err != nil {
		return dst, fmt.Errorf("kvstore: encoding %T: %w", v, err)
	}
	if len(out) < len(dst) {
		return dst, fmt.Errorf("kvstore: encoding %T: %T.Append returned %d bytes, fewer than the %d it got", v, c, len(out), len(dst))
	}
	return out, nil
}

// decode is c.Decode with no panic that leaves it.
func decode(c Codec, src []byte, v any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("kvstore: decoding %T: panic in %T.Decode: %w", v, c, panicError(p))
		}
	}()
	if err := c.Decode(src, v); err != nil {
		return fmt.Errorf("kvstore: decoding %T: %w", v, err)
	}
	return nil
}

// panicError makes an error of a recovered value, so that an error that was thrown stays visible to errors.Is.
func panicError(p any) error {
	if err, ok := p.(error); ok {
		return err
	}
	return fmt.Errorf("%v", p)
}
