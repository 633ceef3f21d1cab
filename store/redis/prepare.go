package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	client "github.com/redis/go-redis/v9"
)

// format is the version of what is kept.
const format = 1

// prepare makes sure that the servers are such that a store can be on them, and of the keyspace.
func (s *Store) prepare(ctx context.Context) error {
	var err error
	s.tells = true // unless one does not
	if s.cluster != nil {
		var mu sync.Mutex
		masters := 0
		err = s.cluster.ForEachMaster(ctx, func(ctx context.Context, c *client.Client) error {
			mu.Lock()
			defer mu.Unlock()
			masters++
			return s.examine(ctx, c)
		})
		if err == nil && masters == 0 {
			err = errors.New("no server of the Cluster is known to have slots")
		}
	} else {
		err = s.examine(ctx, s.client.(*client.Client))
	}
	if err == nil {
		err = s.keyspace(ctx)
	}
	if err != nil {
		return fmt.Errorf("store/redis: open: %w", err)
	}
	return nil
}

// examine refuses a server that sessions would not be safe on.
func (s *Store) examine(ctx context.Context, c *client.Client) error {
	at := c.Options().Addr
	info, err := c.InfoMap(ctx).Result()
	if err != nil && denied(err) {
		if !s.opt.AllowVolatile {
			return fmt.Errorf("the server at %s does not let this user read INFO, which tells whether it keeps what it acknowledges: grant +info, "+
				"or set Options.AllowVolatile to go without that: %w", at, err)
		}
		s.tells = false
		s.opt.Logger.Warn("store/redis: whether the server keeps what it acknowledges cannot be known, as this user may not read INFO", "server", at)
		return nil
	}
	if err != nil {
		return err
	}
	field := func(section, name string) string { return info[section][name] }
	version := field("Server", "redis_version")
	if major, _, _ := strings.Cut(version, "."); number(major) < 6 {
		return fmt.Errorf("the server at %s is Redis %s, and 6.0 is the oldest that can be used", at, version)
	}
	if in := field("Cluster", "cluster_enabled") == "1"; in && s.cluster == nil {
		return fmt.Errorf("the server at %s is of a Cluster: give a *redis.ClusterClient", at)
	} else if !in && s.cluster != nil {
		return fmt.Errorf("the server at %s is of no Cluster: give a *redis.Client", at)
	}
	if role := field("Replication", "role"); role != "master" {
		return fmt.Errorf("the server at %s is a replica, which takes no writes: connect to its master, %s:%s", at, field("Replication", "master_host"), field("Replication", "master_port"))
	}
	if n := number(field("Replication", "connected_slaves")); n < s.opt.Replicas {
		s.opt.Logger.Warn("store/redis: there are fewer replicas than must confirm, so nothing can be acknowledged now", "server", at, "replicas", n, "Options.Replicas", s.opt.Replicas)
	}
	var lacks []string
	if field("Persistence", "aof_enabled") == "1" {
		if err := c.Do(ctx, "waitaof", 0, 0, 1).Err(); err != nil { // before 7.2 it is not known
			s.tells = false
			if denied(err) {
				s.opt.Logger.Warn("store/redis: this user may not run WAITAOF, so a Sync does not wait for the server's disk", "server", at)
			}
		}
	} else {
		s.tells = false
		lacks = append(lacks, "it has no append-only file, so when it is restarted it loses every session, or what changed since its last snapshot, "+
			"and who owned what (set appendonly yes)")
	}
	if policy := field("Memory", "maxmemory_policy"); policy != "noeviction" {
		lacks = append(lacks, fmt.Sprintf("its maxmemory-policy is %s, so when its memory is full it drops sessions, and who owned them (set noeviction)", policy))
	}
	switch {
	case len(lacks) == 0:
	case s.opt.AllowVolatile:
		s.opt.Logger.Warn("store/redis: the server does not keep all that it acknowledges", "server", at, "why", strings.Join(lacks, "; "))
	default:
		return fmt.Errorf("the server at %s does not keep all that it acknowledges: %s. Options.AllowVolatile takes it as it is", at, strings.Join(lacks, "; "))
	}
	return nil
}

func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// keyspace finds out into how many buckets the keyspace is divided, and decides it for a new one: last of all, so that what is refused leaves nothing.
func (s *Store) keyspace(ctx context.Context) error {
	buckets, err := s.meta(ctx)
	if err != nil {
		return err
	}
	made := buckets != 0
	if !made {
		buckets = s.opt.Buckets
		if buckets == 0 && s.cluster != nil {
			buckets = clusterBuckets
		}
		buckets = max(buckets, 1)
	}
	s.buckets = newBuckets(s.opt.Prefix, buckets)
	if err := s.allowed(ctx); err != nil {
		return err
	}
	if !made {
		if err := s.client.SetNX(ctx, s.metaKey(), fmt.Sprintf(metaForm, format, buckets), 0).Err(); err != nil {
			return fmt.Errorf("making the keyspace %q: %w", s.opt.Prefix, err)
		}
		if buckets, err = s.meta(ctx); err != nil { // somebody else may have been first
			return err
		}
		s.buckets = newBuckets(s.opt.Prefix, buckets)
	}
	if s.opt.Buckets != 0 && s.opt.Buckets != buckets {
		s.opt.Logger.Warn("store/redis: the keyspace was made with another number of buckets, which stays", "prefix", s.opt.Prefix, "buckets", buckets, "Options.Buckets", s.opt.Buckets)
	}
	return nil
}

const metaForm = "kvstore format %d buckets %d"

func (s *Store) metaKey() string { return s.opt.Prefix + ":meta" }

// meta returns the number of buckets on record, 0 if there is none, and refuses what is not ours, or of a format that we do not know.
func (s *Store) meta(ctx context.Context) (buckets int, err error) {
	notOurs := fmt.Sprintf("the keyspace %q is not kvstore's, as its key %q shows. Name another one in Options.Prefix", s.opt.Prefix, s.metaKey())
	meta, err := s.client.Get(ctx, s.metaKey()).Result()
	switch {
	case errors.Is(err, client.Nil):
		return 0, nil
	case err != nil && strings.HasPrefix(err.Error(), "WRONGTYPE"):
		return 0, fmt.Errorf("%s: %w", notOurs, err)
	case err != nil && denied(err):
		return 0, fmt.Errorf("this user cannot read the key %q: grant the keys that begin with %q and with %q: %w", s.metaKey(), s.opt.Prefix+":", "{"+s.opt.Prefix+":", err)
	case err != nil:
		return 0, err
	}
	var version int
	if got, _ := fmt.Sscanf(meta, metaForm, &version, &buckets); got == 0 {
		return 0, errors.New(notOurs)
	}
	if version != format || buckets < 1 || buckets > maxBuckets {
		return 0, fmt.Errorf("the keyspace %q has format %d (its key %q is %q), and this program knows %d only", s.opt.Prefix, version, s.metaKey(), meta, format)
	}
	return buckets, nil
}

// rights is what a user must be allowed, as ACL SETUSER takes it, beside the keys.
const rights = "+eval +evalsha +info +cluster|slots +cluster|shards +command +set +setnx +get +del +hset +hget +hmget +hgetall +hkeys +hlen +hscan +hdel " +
	"+persist +pexpire +zadd +zrem +zcard +zrangebylex +time +wait +asking"

// allowed finds out whether this user may do what the scripts do.
func (s *Store) allowed(ctx context.Context) error {
	calls := make([]*call, len(s.buckets))
	for i := range calls {
		b := &s.buckets[i]
		calls[i] = &call{bucket: b, script: rightsScript, keys: 1, args: []any{b.session[:len(b.session)-len("s:")] + "rights"}}
	}
	s.run(ctx, calls...)
	for _, c := range calls {
		if c.err != nil {
			return fmt.Errorf("running a script: %w", c.err)
		}
		if what := text(c.cmd.Val()); what != "" {
			return fmt.Errorf("this user cannot do what a store does: %s. The package's comment names what it needs", what)
		}
	}
	return nil
}
