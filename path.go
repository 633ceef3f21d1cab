package kvstore

import (
	"fmt"
	"strings"
)

// JoinKey returns the key of a path of elements, each of which may be any bytes: "a", "b/c" give "a/b%2Fc". In an element a separator becomes
// %2F and a percent sign %25; a zero byte at the beginning of the first becomes %00, since keys must not begin with one; an empty
// element is a percent sign alone. No elements give the empty key. So different lists have different keys, and what is below the key of a list is what
// has more elements. Elements without any of these bytes, as most, stand as they are.
func JoinKey(elems ...string) string {
	var b strings.Builder
	for i, e := range elems {
		if i > 0 {
			b.WriteByte('/')
		}
		if e == "" {
			b.WriteByte('%')
		}
		for j := range len(e) {
			switch c := e[j]; {
			case c == '/':
				b.WriteString("%2F")
			case c == '%':
				b.WriteString("%25")
			case c == 0 && i == 0 && j == 0:
				b.WriteString("%00")
			default:
				b.WriteByte(c)
			}
		}
	}
	return b.String()
}

// SplitKey is the inverse of JoinKey. A key that JoinKey never returns, one with an empty element, say, or another escape, is
// ErrInvalid.
func SplitKey(key string) ([]string, error) {
	if key == "" {
		return nil, nil
	}
	elems := strings.Split(key, "/")
	for i, e := range elems {
		switch {
		case e == "%":
			elems[i] = ""
			continue
		case e == "":
			return nil, fmt.Errorf("%w: key %.64q: element %d is empty: JoinKey writes %q for that", ErrInvalid, key, i, "%")
		case i == 0 && e[0] == 0:
			return nil, fmt.Errorf("%w: key %.64q begins with a zero byte", ErrInvalid, key)
		}
		var b strings.Builder
		for j := 0; j < len(e); j++ {
			if e[j] != '%' {
				b.WriteByte(e[j])
				continue
			}
			switch esc := e[j:min(j+3, len(e))]; {
			case esc == "%2F":
				b.WriteByte('/')
			case esc == "%25":
				b.WriteByte('%')
			case esc == "%00" && i == 0 && j == 0:
				b.WriteByte(0)
			default:
				return nil, fmt.Errorf("%w: key %.64q: element %d: %q is no escape of JoinKey's", ErrInvalid, key, i, esc)
			}
			j += 2
		}
		elems[i] = b.String()
	}
	return elems, nil
}
