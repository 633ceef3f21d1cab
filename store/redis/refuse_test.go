package redis

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	client "github.com/redis/go-redis/v9"

	"github.com/seed-6f1f505d/kvstore/internal/outage"
	"github.com/seed-6f1f505d/kvstore/internal/redisserver"
	"github.com/seed-6f1f505d/kvstore/store"
)

// What Open cannot work with it refuses, says what to do, and leaves nothing behind.
func TestRefusals(t *testing.T) {
	srv := redisserver.Start(t)
	srv.Must(t, "SET", "shop:meta", "orders")
	srv.Must(t, "HSET", "other:meta", "k", "v")
	srv.Must(t, "SET", "newer:meta", "kvstore format 7 buckets 1")
	srv.Must(t, "SET", "odd:meta", "kvstore format 1 buckets 100000")
	srv.Must(t, "ACL", "SETUSER", "reader", "on", ">geheim", "~*", "+@read", "+info", "+eval", "+evalsha")
	srv.Must(t, "ACL", "SETUSER", "elsewhere", "on", ">geheim", "~{app:*", "~app:*", "+@all")
	srv.Must(t, "ACL", "SETUSER", "blind", "on", ">geheim", "~*", "+@all", "-info")
	keys := srv.Must(t, "DBSIZE")
	forgets := redisserver.Start(t, "appendonly no")
	evicts := redisserver.Start(t, "maxmemory 100mb", "maxmemory-policy allkeys-lru")
	replica := redisserver.Start(t, fmt.Sprint("replicaof 127.0.0.1 ", srv.Port))
	lone := redisserver.Start(t, "cluster-enabled yes")
	as := func(who string) string { return strings.Replace(srv.URL(), "redis://", "redis://"+who+"@", 1) }
	for _, c := range []struct {
		url  string
		opt  Options
		says []string
	}{
		{"redis://x:geheim@127.0.0.1:99999x/", Options{}, []string{"URL", "port"}},
		{"http://x:geheim@127.0.0.1/", Options{}, []string{"URL", "scheme"}},
		{srv.URL() + "/0?nonsense=1", Options{}, []string{"URL", "nonsense"}},
		{srv.URL() + "/0?addr=x:1&nonsense=1", Options{}, []string{"URL"}},
		{srv.URLAt(1), Options{}, []string{"127.0.0.1:1", "refused"}},
		{as("nobody:geheim"), Options{}, []string{"WRONGPASS"}},
		{as("reader:geheim"), Options{}, []string{"cannot do what a store does", "TIME", "package's comment"}},
		{as("elsewhere:geheim"), Options{}, []string{"kvstore:meta", "{kvstore:", "grant"}},
		{as("blind:geheim"), Options{}, []string{"+info", "Options.AllowVolatile"}},
		{forgets.URL(), Options{}, []string{"append-only", "loses every session", "appendonly yes", "Options.AllowVolatile"}},
		{evicts.URL(), Options{}, []string{"maxmemory-policy is allkeys-lru", "noeviction", "Options.AllowVolatile"}},
		{replica.URL(), Options{}, []string{"replica", fmt.Sprint("127.0.0.1:", srv.Port)}},
		{lone.URL(), Options{}, []string{"no server of the Cluster"}},
		{lone.URL() + "/2", Options{}, []string{"Cluster", "databases"}},
		{fmt.Sprint(srv.URL(), "?addr=127.0.0.1:", srv.Port), Options{}, []string{"cluster support disabled"}},
		{srv.URL(), Options{Prefix: "shop"}, []string{"shop", "not kvstore's", "Options.Prefix"}},
		{srv.URL(), Options{Prefix: "other"}, []string{"other", "not kvstore's", "Options.Prefix"}},
		{srv.URL(), Options{Prefix: "newer"}, []string{"newer", "format 7", "1"}},
		{srv.URL(), Options{Prefix: "odd"}, []string{"odd", "buckets 100000"}},
		{srv.URL(), Options{Prefix: strings.Repeat("x", 65)}, []string{"Options.Prefix", "64"}},
		{srv.URL(), Options{Prefix: "a{b}"}, []string{"Options.Prefix", "braces"}},
		{srv.URL(), Options{Buckets: 513}, []string{"Options.Buckets", "512"}},
		{srv.URL(), Options{Replicas: -1}, []string{"Options.Replicas"}},
		{srv.URL(), Options{ReplicaWait: 1}, []string{"Options.ReplicaWait", "millisecond"}},
		{srv.URL(), Options{TombstoneRetention: -1}, []string{"Options.TombstoneRetention"}},
	} {
		st, err := Open(t.Context(), c.url, &c.opt)
		if err == nil {
			st.Close()
			t.Errorf("Open(%s, %+v) gives no error; want one that says %q", c.url, c.opt, c.says)
			continue
		}
		for _, word := range c.says {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("Open(%s, %+v) gives %v; want it to say %q", c.url, c.opt, err, word)
			}
		}
		if strings.Contains(err.Error(), "geheim") {
			t.Errorf("the error tells the password: %v", err)
		}
	}
	for _, s := range []*redisserver.Server{forgets, evicts, lone} {
		if n := s.Must(t, "DBSIZE"); n != "0" {
			t.Errorf("of what was refused there are %s keys left", n)
		}
	}
	if n := srv.Must(t, "DBSIZE"); n != keys {
		t.Errorf("there were %s keys, and after what was refused there are %s", keys, n)
	}
	ring := client.NewRing(&client.RingOptions{Addrs: map[string]string{"a": fmt.Sprint("127.0.0.1:", srv.Port)}})
	defer ring.Close()
	single := client.NewClient(&client.Options{Addr: fmt.Sprint("127.0.0.1:", lone.Port)})
	defer single.Close()
	for _, c := range []client.UniversalClient{nil, (*client.Client)(nil), (*client.ClusterClient)(nil), ring, single} {
		if _, err := New(t.Context(), c, nil); err == nil {
			t.Errorf("New takes %T", c)
		}
	}
}

// What is allowed all the same is told in words that say what is lost.
func TestAllowVolatile(t *testing.T) {
	srv := redisserver.Start(t, "appendonly no", "maxmemory 100mb", "maxmemory-policy volatile-ttl")
	srv.Must(t, "ACL", "SETUSER", "blind", "on", ">x", "~*", "+@all", "-info")
	for who, says := range map[string][]string{
		"":         {"append-only", "loses every session", "volatile-ttl", "drops sessions"},
		"blind:x@": {"cannot be known", "INFO"},
	} {
		var log bytes.Buffer
		o := fresh()
		o.AllowVolatile, o.Logger = true, slog.New(slog.NewTextHandler(&log, nil))
		open(t, strings.Replace(srv.URL(), "redis://", "redis://"+who, 1), o)
		for _, word := range says {
			if !strings.Contains(log.String(), word) {
				t.Errorf("the log is %s; want it to say %q", log.String(), word)
			}
		}
	}
}

// A user who may do what the package's comment names, and nothing else, can use a store.
func TestRights(t *testing.T) {
	srv := redisserver.Start(t)
	rule := strings.Fields("on >x resetkeys ~kvstore:* ~{kvstore:* -@all " + rights)
	srv.Must(t, append([]string{"ACL", "SETUSER", "app"}, rule...)...)
	st := open(t, strings.Replace(srv.URL(), "redis://", "redis://app:x@", 1), nil)
	o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	apply(t, st, store.Change{Session: "s", Owner: o, Epoch: 1, Seq: 1, Create: true, Puts: []store.Entry{{Key: "k"}}}, store.Applied)
	if c, err := st.Claim(t.Context(), store.ClaimRequest{Session: "s", Owner: o, All: true}); err != nil || len(c.Entries) != 1 {
		t.Errorf("claim: %+v, %v", c, err)
	}
	if _, err := st.KeepAlive(t.Context(), store.Node{Incarnation: o.Incarnation}, 1); err != nil {
		t.Error(err)
	}
	for _, err := range st.Sessions(t.Context(), store.Query{}) {
		if err != nil {
			t.Error(err)
		}
	}
	apply(t, st, store.Change{Session: "s", Owner: o, Epoch: 1, Seq: 2, Aliases: []string{"x"}}, store.Applied)
	if err := st.client.Del(t.Context(), st.buckets[0].order).Err(); err != nil { // as an earlier version left it
		t.Fatal(err)
	}
	if f, err := st.Find(t.Context(), store.AliasRange{}); err != nil || len(f.Aliases) != 1 {
		t.Errorf("Find: %+v, %v", f, err)
	}
	apply(t, st, store.Change{Session: "s", Owner: o, Epoch: 1, Seq: 3, Delete: true}, store.Applied)
}

func TestLimits(t *testing.T) {
	srv := redisserver.Start(t)
	st := open(t, patient(srv.URL()), fresh())
	o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	c := store.Change{Session: "s", Owner: o, Epoch: 1, Seq: 1, Create: true, Puts: []store.Entry{
		{Key: "large", Value: bytes.Repeat([]byte{1}, MaxValue+1)}, {Key: "small"}}}
	many := store.Change{Session: "many", Owner: o, Epoch: 1, Seq: 1, Create: true}
	for i := range 20_000 {
		many.Puts = append(many.Puts, store.Entry{Key: fmt.Sprint(i), Value: []byte("v")})
	}
	more := many
	for i := len(more.Puts); i <= MaxEntries; i++ {
		more.Deletes = append(more.Deletes, fmt.Sprint(i))
	}
	big := store.Change{Session: "big", Owner: o, Epoch: 1, Seq: 1, Create: true}
	for i := range MaxChange / MaxValue {
		big.Puts = append(big.Puts, store.Entry{Key: fmt.Sprint(i), Value: c.Puts[0].Value[1:]})
	}
	rs, err := st.Apply(t.Context(), []store.Change{c, more, big, {Session: "t", Owner: o, Epoch: 1, Seq: 1, Create: true}})
	if err != nil {
		t.Fatal(err)
	}
	for i, limit := range []int{MaxValue, MaxEntries, MaxChange} {
		r := rs[i]
		if r.Outcome != store.Rejected || !errors.Is(r.Err, store.ErrTooLarge) || !strings.Contains(r.Err.Error(), fmt.Sprint(limit)) || (fmt.Sprint(r.Keys) == "[large]") != (i == 0) {
			t.Errorf("change %d is too large: %+v", i, r)
		}
	}
	if rs[3].Outcome != store.Applied {
		t.Errorf("the change beside them: %+v", rs[3])
	}
	c.Puts[0].Value = c.Puts[0].Value[1:]
	apply(t, st, c, store.Applied)
	apply(t, st, many, store.Applied)
	snap, err := st.Load(t.Context(), "s", "large")
	if err != nil || len(snap.Entries) != 1 || !bytes.Equal(snap.Entries[0].Value, c.Puts[0].Value) {
		t.Errorf("the large value is another one: %v", err)
	}
	keys := make([]string, len(many.Puts))
	for i := range keys {
		keys[i] = many.Puts[i].Key
	}
	for _, r := range []store.ClaimRequest{{All: true}, {Keys: keys}} {
		r.Session, r.Owner = "many", o
		got, err := st.Claim(t.Context(), r)
		if err != nil || len(got.Entries) != len(keys) {
			t.Errorf("a claim of %d entries gives %d, %v", len(keys), len(got.Entries), err)
		}
	}
	many.Seq, many.Create, many.Puts, many.Deletes = 2, false, []store.Entry{{Key: keys[0], Value: []byte("w")}}, keys[1:]
	apply(t, st, many, store.Applied)
	if snap, err = st.Load(t.Context(), "many"); err != nil || len(snap.Entries) != 1 || string(snap.Entries[0].Value) != "w" {
		t.Errorf("%d entries are left, %v", len(snap.Entries), err)
	}
}

// More changes than one script has, some of them of one session: they are written in their order.
func TestManyChanges(t *testing.T) {
	srv := redisserver.Start(t)
	o := fresh()
	o.Buckets = 2
	st := open(t, srv.URL(), o)
	owner := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	var cs []store.Change
	for i := range 10 * callChanges {
		cs = append(cs, store.Change{Session: fmt.Sprint("s", i), Owner: owner, Epoch: 1, Seq: 1, Create: true})
		if i%100 == 0 { // of one session, all through
			cs = append(cs, store.Change{Session: "often", Owner: owner, Epoch: 1, Seq: uint64(1 + i/100), Create: i == 0, Puts: []store.Entry{{Key: fmt.Sprint(i)}}})
		}
	}
	for _, want := range []store.Outcome{store.Applied, store.Already} {
		rs, err := st.Apply(t.Context(), cs)
		if err != nil {
			t.Fatal(err)
		}
		for i := range rs {
			if rs[i].Outcome != want {
				t.Fatalf("change %d, of %s: %+v; want %v", i, cs[i].Session, rs[i], want)
			}
		}
	}
	n := 0
	for h, err := range st.Sessions(t.Context(), store.Query{Owner: owner.Incarnation}) {
		if n++; err != nil || h.Owner != owner {
			t.Fatalf("%+v, %v", h, err)
		}
	}
	snap, err := st.Load(t.Context(), "often")
	if n != 10*callChanges+1 || err != nil || len(snap.Entries) != (10*callChanges+99)/100 {
		t.Errorf("%d sessions, and %d entries of one, %v", n, len(snap.Entries), err)
	}
}

// Memory that is full is an error of each change that needs some, and that says so. Nothing of it is written. What needs none goes on: deletions, and
// claims, so that others can take over.
func TestMemoryFull(t *testing.T) {
	srv := redisserver.Start(t)
	st := open(t, srv.URL(), nil)
	o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	kept := store.Change{Session: "kept", Owner: o, Epoch: 1, Seq: 1, Create: true, Puts: []store.Entry{{Key: "k", Value: []byte("1")}, {Key: "l", Value: []byte("1")}}}
	apply(t, st, kept, store.Applied)
	srv.Must(t, "CONFIG", "SET", "maxmemory", "1")
	more := kept
	more.Create, more.Seq, more.Puts, more.Deletes = false, 2, []store.Entry{{Key: "k", Value: []byte("2")}}, nil
	next := store.Change{Session: "kept", Owner: o, Epoch: 1, Seq: 3}
	wide := store.Change{Session: "kept", Owner: o, Epoch: 1, Seq: 2, Puts: more.Puts}
	for i := range plainSets {
		wide.Puts = append(wide.Puts, store.Entry{Key: fmt.Sprint(i)})
	}
	for _, cs := range [][]store.Change{{more, next}, {wide}, {{Session: "new", Owner: o, Epoch: 1, Seq: 1, Create: true}}} {
		rs, err := st.Apply(t.Context(), cs)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs {
			if r.Outcome != store.Undecided || r.Err == nil || !strings.Contains(r.Err.Error(), "maxmemory") && !strings.Contains(r.Err.Error(), errFollows.Error()) {
				t.Errorf("without memory: %+v", r)
			}
		}
	}
	snap, err := st.Load(t.Context(), "kept")
	if err != nil || snap.Header.Seq != 1 || len(snap.Entries) != 2 || string(snap.Entries[0].Value) != "1" || string(snap.Entries[1].Value) != "1" {
		t.Errorf("without memory something was written: %+v, %v", snap, err)
	}

	b := store.Owner{Node: "b", Incarnation: store.NewIncarnation()}
	got, err := st.Claim(t.Context(), store.ClaimRequest{Session: "kept", Owner: b, All: true})
	if err != nil || got.Outcome != store.Granted || got.Header.Epoch != 2 || len(got.Entries) != 2 {
		t.Errorf("a claim without memory: %+v, %v", got, err)
	}
	apply(t, st, next, store.Fenced)
	apply(t, st, store.Change{Session: "kept", Owner: b, Epoch: 2, Seq: 1, Release: true}, store.Applied)
	if ran, err := st.KeepAlive(t.Context(), store.Node{Incarnation: b.Incarnation}, time.Hour); err != nil || ran {
		t.Errorf("a lease without memory: %t, %v", ran, err)
	}
	open(t, srv.URL(), nil)
	apply(t, st, store.Change{Session: "kept", Owner: b, Epoch: 2, Seq: 2, Delete: true}, store.Applied)
	srv.Must(t, "CONFIG", "SET", "maxmemory", "0")
	apply(t, st, store.Change{Session: "new", Owner: o, Epoch: 1, Seq: 1, Create: true}, store.Applied)
}

// A disk that is full is an error that says so; what was acknowledged stays, and it goes on when there is room.
func TestDiskFull(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "small")
	outage.MountSmall(t, dir, 8<<20)
	srv := redisserver.Start(t, "dir "+dir, "appendfsync no", "auto-aof-rewrite-percentage 0")
	st := open(t, srv.URL(), nil)
	o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	c := store.Change{Session: "s", Owner: o, Epoch: 1, Create: true}
	var full error
	for full == nil {
		if c.Seq++; c.Seq > 1000 {
			t.Fatal("the disk does not fill")
		}
		c.Puts = []store.Entry{{Key: fmt.Sprint(c.Seq), Value: make([]byte, 200<<10)}}
		rs, err := st.Apply(t.Context(), []store.Change{c})
		if full = err; err == nil {
			full = rs[0].Err
		}
	}
	if !strings.Contains(full.Error(), "MISCONF") || !strings.Contains(full.Error(), "No space left") {
		t.Errorf("the error is %v", full)
	}
	snap, err := st.Load(t.Context(), "s")
	if err != nil || snap.Header.Seq != c.Seq-1 || len(snap.Entries) != int(c.Seq-1) {
		t.Errorf("%d were acknowledged, and on record are %+v, %d entries, %v", c.Seq-1, snap.Header, len(snap.Entries), err)
	}
	if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
		t.Fatal(err)
	}
	outage.Until(t, "the server writes again", func() bool {
		rs, err := st.Apply(t.Context(), []store.Change{c})
		return err == nil && rs[0].Outcome == store.Applied
	})
	srv.Kill()
	if err := srv.Run(); err != nil {
		t.Fatal(err)
	}
	outage.Until(t, "the server answers", func() bool {
		snap, err = st.Load(t.Context(), "s")
		return err == nil
	})
	if snap.Header.Seq != c.Seq || len(snap.Entries) != int(c.Seq) {
		t.Errorf("%d were acknowledged, and on record are %+v, %d entries", c.Seq, snap.Header, len(snap.Entries))
	}
}

// Whatever stands where the name of the servers' memory should is no name, and is replaced.
func TestMemoryIsNoName(t *testing.T) {
	srv := redisserver.Start(t)
	for _, junk := range []string{"", "x", strings.Repeat("ab", 15), strings.Repeat("ab", 17), strings.Repeat("zz", 16)} {
		o := fresh()
		if _, err := srv.Do("SET", o.Prefix+":memory", junk); err != nil {
			t.Fatal(err)
		}
		st := open(t, srv.URL(), o)
		owner := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
		apply(t, st, store.Change{Session: "s", Owner: owner, Epoch: 1, Seq: 1, Create: true}, store.Applied)
		if name, err := srv.Do("GET", o.Prefix+":memory"); err != nil || name == junk || len(name) != 32 {
			t.Errorf("instead of %q there is %q, %v", junk, name, err)
		}
	}
}
