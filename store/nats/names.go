package nats

import (
	"encoding/hex"
	"hash/fnv"
	"strconv"
	"strings"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file names the subjects. All of a store's begin with the name of its stream:
//
//	KVSTORE.s.<bucket>.<session>               the document of a session
//	KVSTORE.p.<bucket>.<session>.<base>.<tag>  a page of a large session's entries
//	KVSTORE.i.<incarnation>.<bucket>.<session> tells that the incarnation may own the session
//	KVSTORE.l.<incarnation>                    the lease of a node
//
// Buckets keep the answer that lists subjects below the size and the count at which a server cuts it off.

const buckets = 256

// escape returns arbitrary bytes as one token of a subject. What is a letter, a digit, '_' or '-' stays readable.
func escape(id string) string {
	plain := func(c byte) bool {
		return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
	}
	n := 0
	for i := range len(id) {
		if !plain(id[i]) {
			n++
		}
	}
	if n == 0 {
		return id
	}
	b := make([]byte, 0, len(id)+2*n)
	for i := range len(id) {
		if c := id[i]; plain(c) {
			b = append(b, c)
		} else {
			b = append(b, '=', "0123456789ABCDEF"[c>>4], "0123456789ABCDEF"[c&15])
		}
	}
	return string(b)
}

// unescape is the inverse of escape, and tells of what escape cannot have made.
func unescape(token string) (id string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(token); i++ {
		if token[i] != '=' {
			b.WriteByte(token[i])
			continue
		}
		if i+2 >= len(token) {
			return "", false
		}
		c, err := hex.DecodeString(token[i+1 : i+3])
		if err != nil {
			return "", false
		}
		b.WriteByte(c[0])
		i += 2
	}
	id = b.String()
	return id, escape(id) == token
}

func bucketName(i int) string { return hex.EncodeToString([]byte{byte(i)}) }

// path is a session's bucket and name in subjects.
func path(session string) string {
	h := fnv.New32a()
	h.Write([]byte(session))
	sum := h.Sum32()
	return bucketName(int(byte(sum^sum>>8^sum>>16^sum>>24))) + "." + escape(session)
}

func (s *Store) documentSubject(session string) string { return s.prefix + "s." + path(session) }

func (s *Store) indexSubject(i store.Incarnation, session string) string {
	return s.prefix + "i." + i.String() + "." + path(session)
}

func (s *Store) leaseSubject(i store.Incarnation) string { return s.prefix + "l." + i.String() }

func (s *Store) pageSubject(session string, base, tag uint64) string {
	return s.prefix + "p." + path(session) + "." + strconv.FormatUint(base, 16) + "." + strconv.FormatUint(tag, 16)
}

// parsePage is the inverse of pageSubject.
func (s *Store) parsePage(subject string) (session string, base, tag uint64, ok bool) {
	t := strings.Split(strings.TrimPrefix(subject, s.prefix+"p."), ".")
	if len(t) != 4 {
		return "", 0, 0, false
	}
	session, ok = unescape(t[1])
	base, err := strconv.ParseUint(t[2], 16, 64)
	tag, err2 := strconv.ParseUint(t[3], 16, 64)
	return session, base, tag, ok && err == nil && err2 == nil
}

// lastToken returns the session that a document's or an index's subject ends with.
func lastToken(subject string) (session string, ok bool) {
	return unescape(subject[strings.LastIndexByte(subject, '.')+1:])
}
