package kvstore

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// codecFunc is a user's codec.
type codecFunc struct {
	append func(dst []byte, v any) ([]byte, error)
	decode func(src []byte, v any) error
}

func (c codecFunc) Append(dst []byte, v any) ([]byte, error) { return c.append(dst, v) }

func (c codecFunc) Decode(src []byte, v any) error { return c.decode(src, v) }

func TestEncode(t *testing.T) {
	v := 5
	for _, tc := range []struct {
		name   string
		append func(dst []byte, v any) ([]byte, error)
		out    string
		want   string
		is     error
	}{
		{"appends", func(dst []byte, v any) ([]byte, error) { return append(dst, "more"...), nil }, "dstmore", "", nil},
		{"nothing", func(dst []byte, v any) ([]byte, error) { return dst, nil }, "dst", "", nil},
		{"error", func(dst []byte, v any) ([]byte, error) { return append(dst, "more"...), io.ErrNoProgress }, "dst", "*int", io.ErrNoProgress},
		{"error and nil", func(dst []byte, v any) ([]byte, error) { return nil, io.ErrNoProgress }, "dst", "", io.ErrNoProgress},
		{"panic", func(dst []byte, v any) ([]byte, error) { panic("kaboom 42") }, "dst", "kaboom 42", nil},
		{"panic with an error", func(dst []byte, v any) ([]byte, error) { panic(io.ErrNoProgress) }, "dst", "panic", io.ErrNoProgress},
		{"runtime panic", func(dst []byte, v any) ([]byte, error) { return dst[:*v.(*int)*1000], nil }, "dst", "out of range", nil},
		{"too short", func(dst []byte, v any) ([]byte, error) { return nil, nil }, "dst", "fewer", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, err := encode(codecFunc{append: tc.append}, []byte("dst"), &v)
			if string(out) != tc.out {
				t.Errorf("out = %q, want %q", out, tc.out)
			}
			if (err != nil) != (tc.want != "" || tc.is != nil) || err != nil && !strings.Contains(err.Error(), tc.want) || tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("error %v, want one with %q that is %v", err, tc.want, tc.is)
			}
		})
	}
	if out, err := encode(nil, []byte("dst"), &v); err == nil || string(out) != "dst" {
		t.Errorf("no codec: %q, %v", out, err)
	}
	if out, err := encode(Msgpack{}, []byte("dst"), &v); err != nil || string(out) != "dst\x05" {
		t.Errorf("Msgpack: %q, %v", out, err)
	}
}

func TestDecode(t *testing.T) {
	var v int
	for _, tc := range []struct {
		name   string
		decode func(src []byte, v any) error
		want   string
		is     error
	}{
		{"sets", func(src []byte, v any) error { *v.(*int) = len(src); return nil }, "", nil},
		{"error", func(src []byte, v any) error { return io.ErrNoProgress }, "*int", io.ErrNoProgress},
		{"panic", func(src []byte, v any) error { panic(fmt.Sprint("kaboom ", 42)) }, "kaboom 42", nil},
		{"panic with an error", func(src []byte, v any) error { panic(io.ErrNoProgress) }, "panic", io.ErrNoProgress},
		{"runtime panic", func(src []byte, v any) error { *v.(*string) = ""; return nil }, "interface conversion", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := decode(codecFunc{decode: tc.decode}, []byte("src"), &v)
			if (err != nil) != (tc.want != "" || tc.is != nil) || err != nil && !strings.Contains(err.Error(), tc.want) || tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("error %v, want one with %q that is %v", err, tc.want, tc.is)
			}
		})
	}
	if v != 3 {
		t.Errorf("decoded %d", v)
	}
	if err := decode(nil, nil, &v); err == nil {
		t.Error("no codec: no error")
	}
}
