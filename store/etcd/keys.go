package etcd

import (
	"fmt"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed-6f1f505d/kvstore/store"
)

// keyspace names the keys of a store, all of which begin with it:
//
//	format                              the version of all this
//	s/<length>/<session>/<tenure>       the session's head, of which there is one at most: see head.go
//	e/<length>/<session>/<key>          an entry: see entry.go
//	p/<length>/<session>/<id>/<number>  a part of a change that is too large for one transaction: see large.go
//	i/<incarnation>/<session>           the index of owners: empty
//	n/<incarnation>                     a node; it hangs on the node's lease
//	a/<alias>                           the index of aliases: a session's ID, see alias.go
//	g/<session>                         the session's guard: empty, and written by whoever takes an alias of which the index names the session
//	d/<milliseconds>/<session>          a tombstone's time, and its tenure: see sweep.go
//
// A session's ID is arbitrary bytes. Its length before it keeps the range of its keys from being a part of any other's.
type keyspace string

func (k keyspace) format() string { return string(k) + "format" }

func (k keyspace) heads() string                      { return string(k) + "s/" }
func (k keyspace) headsOf(session string) string      { return k.heads() + measured(session) }
func (k keyspace) head(session, tenure string) string { return k.headsOf(session) + tenure }

// parseHead is the inverse of head.
func (k keyspace) parseHead(key []byte) (session, tenure string, ok bool) {
	text := after(k.heads(), key)
	length, rest, _ := strings.Cut(text, "/")
	n, err := strconv.Atoi(length)
	if err != nil || n < 0 || n >= len(rest) || rest[n] != '/' {
		return text, "", false
	}
	return rest[:n], rest[n+1:], true
}

func (k keyspace) entries(session string) string { return string(k) + "e/" + measured(session) }

func (k keyspace) parts(session, id string) string {
	return string(k) + "p/" + measured(session) + id + "/"
}

func (k keyspace) owned(i store.Incarnation) string { return string(k) + "i/" + i.String() + "/" }
func (k keyspace) index(i store.Incarnation, session string) string {
	return k.owned(i) + session
}

func (k keyspace) alias(alias string) string { return string(k) + "a/" + alias }

func (k keyspace) guard(session string) string { return string(k) + "g/" + session }

func (k keyspace) nodes() string                   { return string(k) + "n/" }
func (k keyspace) node(i store.Incarnation) string { return string(k) + "n/" + i.String() }

func (k keyspace) graves() string { return string(k) + "d/" }
func (k keyspace) grave(ms int64, session string) string {
	return k.gravesAt(ms) + session
}
func (k keyspace) gravesAt(ms int64) string { return fmt.Sprintf("%sd/%019d/", string(k), ms) }

func measured(session string) string { return strconv.Itoa(len(session)) + "/" + session + "/" }

// end is the first key after all that begin with prefix, which ends with a slash.
func end(prefix string) string {
	return prefix[:len(prefix)-1] + string(prefix[len(prefix)-1]+1)
}

// within chooses the keys that begin with prefix.
func within(prefix string) clientv3.OpOption { return clientv3.WithRange(end(prefix)) }

// next is the first key after key.
func next(key string) string { return key + "\x00" }

// after returns what of key comes after prefix.
func after(prefix string, key []byte) string { return strings.TrimPrefix(string(key), prefix) }
