package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// format is the version of what is kept, and how.
const format = "kvstore 3"

// oldest is the first version of the server that compares ranges, renews no lease that is being revoked, and is still repaired.
const oldestMajor, oldestMinor = 3, 5

func secure() *tls.Config { return &tls.Config{MinVersion: tls.VersionTLS12} }

// prepare makes sure of the format, and that the server is one that a store can be on.
func (s *Store) prepare(ctx context.Context) error {
	if err := s.version(ctx); err != nil {
		return err
	}
	key := s.keys.format()
	r, err := s.client.Get(ctx, key)
	if err != nil {
		return fmt.Errorf("store/etcd: open: %w", called(ctx, err))
	}
	if len(r.Kvs) == 0 {
		others, err := s.client.Get(ctx, s.opt.Prefix, clientv3.WithPrefix(), clientv3.WithLimit(1), clientv3.WithKeysOnly())
		if err != nil {
			return fmt.Errorf("store/etcd: open: %w", called(ctx, err))
		}
		if len(others.Kvs) > 0 && string(others.Kvs[0].Key) != key {
			return fmt.Errorf("store/etcd: open: the keys that begin with %q are not kvstore's: there is %.80q. Name another prefix in Options.Prefix", s.opt.Prefix, others.Kvs[0].Key)
		}
		// Of several that come at once one makes it.
		t, err := s.commit(ctx, []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(key), "=", 0)},
			[]clientv3.Op{clientv3.OpPut(key, format)}, []clientv3.Op{clientv3.OpGet(key)})
		if err != nil {
			return fmt.Errorf("store/etcd: open: %w", err)
		}
		if t.Succeeded {
			return nil
		}
		r.Kvs = t.Responses[0].GetResponseRange().Kvs
	}
	if len(r.Kvs) == 0 || string(r.Kvs[0].Value) != format {
		var is []byte
		if len(r.Kvs) > 0 {
			is = r.Kvs[0].Value
		}
		return fmt.Errorf("store/etcd: open: what is kept under %q has the format %.80q, and this program knows %q only", s.opt.Prefix, is, format)
	}
	return nil
}

// askFor is how long a server may take to tell its version.
const askFor = 3 * time.Second

// version asks the servers in turn until one tells its version.
func (s *Store) version(ctx context.Context) error {
	eps := s.client.Endpoints()
	if len(eps) == 0 {
		return errors.New("store/etcd: open: the client has no endpoints")
	}
	var last error
	for _, ep := range eps {
		one, cancel := context.WithTimeout(ctx, askFor)
		r, err := s.client.Status(one, ep)
		cancel()
		if err != nil {
			if last = err; ctx.Err() != nil {
				break
			}
			continue
		}
		var major, minor int
		if n, _ := fmt.Sscanf(r.Version, "%d.%d", &major, &minor); n != 2 || major < oldestMajor || major == oldestMajor && minor < oldestMinor {
			return fmt.Errorf("store/etcd: open: the server at %s is etcd %q, and %d.%d is the oldest that can be used", ep, r.Version, oldestMajor, oldestMinor)
		}
		return nil
	}
	if errors.Is(rpctypes.Error(last), rpctypes.ErrPermissionDenied) {
		return nil // it does not tell everyone
	}
	return fmt.Errorf("store/etcd: open: no server answers as etcd does (one that wants TLS is asked with etcds://): %w", called(ctx, last))
}
