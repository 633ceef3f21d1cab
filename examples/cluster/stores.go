package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	goredis "github.com/redis/go-redis/v9"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/etcd"
	"github.com/seed-6f1f505d/kvstore/store/nats"
	"github.com/seed-6f1f505d/kvstore/store/postgres"
	"github.com/seed-6f1f505d/kvstore/store/redis"
)

// engine is a kind of store.
type engine struct {
	schemes []string
	form    string // of its URLs

	// open opens a part of the store of its own, named by space: letters, digits and low lines.
	open func(ctx context.Context, url, space string) (store.Store, error)

	// drop removes such a part, when nobody uses it any more.
	drop func(ctx context.Context, url, space string) error
}

// embedded stands for a store that the demo runs itself.
const embedded = "embedded"

const defaultStore = embedded

// engines are the kinds of stores.
var engines = []engine{
	{
		schemes: []string{"postgres", "postgresql"},
		form:    "postgres://user:password@host/database",
		open: func(ctx context.Context, url, space string) (store.Store, error) {
			return opened(postgres.Open(ctx, url, &postgres.Options{Schema: space}))
		},
		drop: dropPostgres,
	},
	{
		schemes: []string{"redis", "rediss"},
		form:    "redis://host:6379",
		open: func(ctx context.Context, url, space string) (store.Store, error) {
			return opened(redis.Open(ctx, url, &redis.Options{Prefix: space}))
		},
		drop: dropRedis,
	},
	{
		schemes: []string{"etcd", "etcds"},
		form:    "etcd://host:2379,host2:2379",
		open: func(ctx context.Context, url, space string) (store.Store, error) {
			return opened(etcd.Open(ctx, url, &etcd.Options{Prefix: space + "/"}))
		},
		drop: dropEtcd,
	},
	{
		schemes: []string{"nats", "tls"},
		form:    "nats://host:4222,nats://host2:4222",
		open: func(ctx context.Context, url, space string) (store.Store, error) {
			return opened(nats.Open(ctx, url, &nats.Options{Stream: space}))
		},
		drop: dropNATS,
	},
}

// opened keeps a nil store from becoming a store that is not nil.
func opened[S store.Store](s S, err error) (store.Store, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// engineOf returns what a URL names.
func engineOf(url string) (engine, bool) {
	scheme, _, ok := strings.Cut(url, "://")
	for _, e := range engines {
		for _, s := range e.schemes {
			if ok && s == scheme {
				return e, true
			}
		}
	}
	return engine{}, false
}

// storeForms names the URLs that are understood.
func storeForms() string {
	var forms []string
	for _, e := range engines {
		forms = append(forms, e.form)
	}
	return fmt.Sprintf("%s, or %s", strings.Join(forms, ", "), embedded)
}

func dropPostgres(ctx context.Context, url, space string) error {
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	_, err = c.Exec(ctx, "DROP SCHEMA IF EXISTS "+pgx.Identifier{space}.Sanitize()+" CASCADE")
	return err
}

// dropRedis removes all keys with the space in their names, from all masters if it is a Cluster.
func dropRedis(ctx context.Context, url, space string) error {
	sweep := func(ctx context.Context, c *goredis.Client) error {
		keys := c.Scan(ctx, 0, "*"+space+"*", 1000).Iterator()
		for keys.Next(ctx) {
			if err := c.Unlink(ctx, keys.Val()).Err(); err != nil { // one by one: a Cluster takes no keys of several slots
				return err
			}
		}
		return keys.Err()
	}
	o, err := goredis.ParseURL(url)
	if err == nil {
		c := goredis.NewClient(o)
		info, err := c.InfoMap(ctx, "cluster").Result()
		if err != nil || info["Cluster"]["cluster_enabled"] != "1" {
			return errors.Join(err, sweep(ctx, c), c.Close())
		}
		c.Close()
	}
	many, err := goredis.ParseClusterURL(url)
	if err != nil {
		return err
	}
	c := goredis.NewClusterClient(many)
	return errors.Join(c.ForEachMaster(ctx, sweep), c.Close())
}

func dropEtcd(ctx context.Context, raw, space string) error {
	cfg := clientv3.Config{Context: ctx, Logger: zap.NewNop()}
	scheme, rest, _ := strings.Cut(raw, "://")
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		u, err := url.Parse("etcd://" + rest[:at+1] + "host")
		if err != nil {
			return errors.New("the user of the etcd URL is not understood")
		}
		cfg.Username = u.User.Username()
		cfg.Password, _ = u.User.Password()
		rest = rest[at+1:]
	}
	for host := range strings.SplitSeq(strings.TrimSuffix(rest, "/"), ",") {
		cfg.Endpoints = append(cfg.Endpoints, map[string]string{"etcd": "http://", "etcds": "https://"}[scheme]+host)
	}
	c, err := clientv3.New(cfg)
	if err != nil {
		return err
	}
	_, err = c.Delete(ctx, space+"/", clientv3.WithPrefix())
	return errors.Join(err, c.Close())
}

// dropNATS removes the stream, and whatever else has its name at the beginning of its own.
func dropNATS(ctx context.Context, url, space string) error {
	conn, err := natsgo.Connect(url)
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	list := js.StreamNames(ctx)
	var errs []error
	for stream := range list.Name() {
		if strings.HasPrefix(stream, space) {
			errs = append(errs, js.DeleteStream(ctx, stream))
		}
	}
	return errors.Join(append(errs, list.Err())...)
}
