package nats

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-6f1f505d/kvstore/internal/outage"
	"github.com/seed-6f1f505d/kvstore/internal/proc"
	"github.com/seed-6f1f505d/kvstore/store"
)

// What Open cannot work with it refuses, says what to do, and leaves nothing behind.
func TestRefusals(t *testing.T) {
	srv := start(t, `
		accounts: {
			A: {jetstream: enabled, users: [
				{user: a, password: secret},
				{user: reader, password: secret, permissions: {publish: ["$JS.API.STREAM.INFO.>", "$JS.API.STREAM.MSG.GET.>"], subscribe: ">"}},
				{user: nothing, password: secret, permissions: {publish: ["x"], subscribe: ">"}}]},
			B: {users: [{user: b, password: secret}]}
		}`)
	as := func(user string) string { return fmt.Sprintf("nats://%s@127.0.0.1:%d", user, srv.port) }
	nc, err := nats.Connect(as("a:secret"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	open(t, as("a:secret"), &Options{Stream: "good"})
	good := (&Store{nc: nc, opt: Options{Stream: "good"}, prefix: "good."}).config()
	with := func(name string, change func(c *jetstream.StreamConfig)) Options {
		t.Helper()
		c := good
		c.Name, c.Subjects = name, []string{name + ".>"}
		c.Metadata = map[string]string{metadataKey: good.Metadata[metadataKey]}
		change(&c)
		if _, err := js.CreateStream(t.Context(), c); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return Options{Stream: name}
	}
	none := func(*jetstream.StreamConfig) {}
	for _, c := range []struct {
		url  string
		opt  Options
		says []string
	}{
		{"nats://x:secret@127.0.0.1:port", Options{}, []string{"port"}},
		{"nats://x:secret@127.0.0.1:1", Options{}, []string{"127.0.0.1:1", "no servers"}},
		{as("a:wrong"), Options{}, []string{"Authorization"}},
		{as("b:secret"), Options{}, []string{"JetStream", "switched on", "account"}},
		{as("nothing:secret"), Options{}, []string{"ermissions", "$JS.API.STREAM.INFO.KVSTORE"}},
		{as("reader:secret"), Options{}, []string{"ermissions", "$JS.API.STREAM.CREATE.KVSTORE"}},
		{as("reader:secret"), Options{Stream: "good"}, []string{"ermissions", "good.l."}},
		{as("a:secret"), with("shop", func(c *jetstream.StreamConfig) { c.Metadata = nil }), []string{"shop", "not kvstore's", "Options.Stream"}},
		{as("a:secret"), with("newer", func(c *jetstream.StreamConfig) { c.Metadata[metadataKey] = "7" }), []string{"newer", "format 7", "1"}},
		{as("a:secret"), with("subjects", func(c *jetstream.StreamConfig) { c.Subjects = []string{"others.>", "subjects.s.>"} }), []string{"others.>"}},
		{as("a:secret"), with("history", func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 2 }), []string{"more than one message"}},
		{as("a:secret"), with("aged", func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }), []string{"max_age"}},
		{as("a:secret"), with("full", func(c *jetstream.StreamConfig) { c.Discard, c.MaxBytes = jetstream.DiscardOld, 1<<20 }), []string{"discard", "max_bytes"}},
		{as("a:secret"), with("small", func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1000 }), []string{"1000", "max_msg_size"}},
		{as("a:secret"), with("memory", func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }), []string{"in memory"}},
		{as("a:secret"), with("quiet", func(c *jetstream.StreamConfig) { c.NoAck = true }), []string{"no_ack"}},
		{as("a:secret"), with("stuck", func(c *jetstream.StreamConfig) { c.DenyDelete = true }), []string{"deny_delete"}},
		{as("a:secret"), with("forever", func(c *jetstream.StreamConfig) { c.AllowMsgTTL = false }), []string{"allow_msg_ttl"}},
		{as("a:secret"), with("marked", func(c *jetstream.StreamConfig) { c.SubjectDeleteMarkerTTL = time.Minute }), []string{"subject_delete_marker_ttl"}},
		{as("a:secret"), with("queue", func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy }), []string{"retention"}},
		{as("a:secret"), with("late", func(c *jetstream.StreamConfig) { c.PersistMode = jetstream.AsyncPersistMode }), []string{"persist_mode"}},
		{as("a:secret"), Options{Stream: "three", Replicas: 3}, []string{"three", "3 replicas", "Options.Replicas"}},
		{as("a:secret"), Options{Stream: "a.b"}, []string{"Options.Stream", "a.b"}},
		{as("a:secret"), Options{Stream: strings.Repeat("x", 65)}, []string{"Options.Stream", "64"}},
		{as("a:secret"), Options{Domain: "a.b"}, []string{"Options.Domain"}},
		{as("a:secret"), Options{Replicas: 6}, []string{"Options.Replicas", "5"}},
		{as("a:secret"), Options{Timeout: -1}, []string{"Options.Timeout"}},
		{as("a:secret"), Options{TombstoneRetention: 1}, []string{"TombstoneRetention"}},
	} {
		c.opt.Timeout = max(c.opt.Timeout, -1)
		if c.opt.Timeout == 0 {
			c.opt.Timeout = 300 * time.Millisecond
		}
		refuses(t, c.url, &c.opt, c.says...)
	}
	with("taken", none)
	if err := js.DeleteStream(t.Context(), "taken"); err != nil {
		t.Fatal(err)
	}
	with("other", func(c *jetstream.StreamConfig) { c.Subjects = []string{"taken.s.x"} })
	refuses(t, as("a:secret"), &Options{Stream: "taken"}, "taken.>", "another stream", "Options.Stream")

	names := js.StreamNames(t.Context())
	for name := range names.Name() {
		if name == "KVSTORE" || name == "three" || name == "taken" {
			t.Errorf("of what was refused there is a stream %s left", name)
		}
	}
	if in, err := js.Stream(t.Context(), "shop"); err != nil || in.CachedInfo().State.Msgs != 0 {
		t.Errorf("of what was refused there are messages left: %v", err)
	}
	if _, err := New(t.Context(), nil, nil); err == nil {
		t.Error("New takes no connection")
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(over, as("a:secret"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Open with a context that is over gives %v", err)
	}
}

func refuses(t *testing.T, url string, o *Options, says ...string) {
	t.Helper()
	st, err := Open(t.Context(), url, o)
	if err == nil {
		st.Close()
		t.Errorf("Open(%s, %+v) gives no error; want one that says %q", url, o, says)
		return
	}
	for _, word := range says {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("Open(%s, %+v) gives %v; want it to say %q", url, o, err, word)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error tells the password: %v", err)
	}
}

// A server that takes small messages only cannot have what each store must.
func TestSmallMessages(t *testing.T) {
	srv := start(t, "max_payload: 500KB")
	refuses(t, srv.url(), nil, "512000", "max_payload", fmt.Sprint(minPayload))
}

// A server that is too old ignores what it does not know of, as Debian's does.
func TestOldServer(t *testing.T) {
	path, err := exec.LookPath("nats-server")
	if err != nil {
		const why = "NOT TESTED: there is no old nats-server here; Debian's package is one"
		if os.Getenv("CI") != "" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	n := newNode(t, "old", "")
	if n.Process, err = proc.Run(exec.Command(path, "-c", n.config)); err != nil {
		t.Fatal(err)
	}
	n.await(t)
	nc, err := nats.Connect(n.url())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if v := nc.ConnectedServerVersion(); checkServer(nc) == nil {
		t.Skipf("NOT TESTED: the nats-server here is %s, and not an old one", v)
	}
	refuses(t, n.url(), nil, nc.ConnectedServerVersion(), "2.12", "oldest")
}

// A server that wants TLS gets it, and a wrong authority is an error that tells that.
func TestTLS(t *testing.T) {
	good, other := outage.Certify(t), outage.Certify(t)
	srv := start(t, fmt.Sprintf("tls: {cert_file: %q, key_file: %q}\nauthorization: {user: u, password: secret}", good+".crt", good+".key"))
	connect := func(user, ca string) error {
		nc, err := nats.Connect(fmt.Sprintf("tls://%s@127.0.0.1:%d", user, srv.port), append(Connect(), nats.RootCAs(ca+".crt"))...)
		if err != nil {
			return err
		}
		defer nc.Close()
		st, err := New(t.Context(), nc, nil)
		if err != nil {
			return err
		}
		return st.Close()
	}
	if err := connect("u:secret", good); err != nil {
		t.Error(err)
	}
	if err := connect("u:secret", other); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("another authority gives %v", err)
	}
	if err := connect("u:wrong", good); err == nil || !strings.Contains(err.Error(), "Authorization") {
		t.Errorf("a wrong password gives %v", err)
	}
	refuses(t, fmt.Sprintf("nats://u:secret@127.0.0.1:%d", srv.port), nil, "certificate")
}

func TestLimits(t *testing.T) {
	srv := start(t, "")
	st := open(t, srv.url(), fresh())
	o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	c := store.Change{Session: "s", Owner: o, Epoch: 1, Seq: 1, Create: true, Puts: []store.Entry{
		{Key: "large", Value: bytes.Repeat([]byte{1}, MaxValue+1)}, {Key: "small"}}}
	rs, err := st.Apply(t.Context(), []store.Change{c, {Session: "t", Owner: o, Epoch: 1, Seq: 1, Create: true}})
	if err != nil || rs[0].Outcome != store.Rejected || !errors.Is(rs[0].Err, store.ErrTooLarge) || fmt.Sprint(rs[0].Keys) != "[large]" ||
		!strings.Contains(rs[0].Err.Error(), fmt.Sprint(MaxValue)) || rs[1].Outcome != store.Applied {
		t.Errorf("a value that is too large: %+v, %v", rs, err)
	}
	c.Session = strings.Repeat("\xff", store.MaxSession)
	c.Puts[0].Value = c.Puts[0].Value[1:]
	c.Puts[0].Key = strings.Repeat("\xfe", store.MaxKey)
	for i := range 20_000 {
		c.Puts = append(c.Puts, store.Entry{Key: fmt.Sprint(i), Value: []byte("v")})
	}
	for i := range 500 {
		c.Puts = append(c.Puts, store.Entry{Key: fmt.Sprint(i, strings.Repeat("\x00", store.MaxKey-10)), Value: []byte("v")})
	}
	apply(t, st, c, store.Applied)
	again := open(t, srv.url(), &st.opt)
	snap, err := again.Load(t.Context(), c.Session)
	if err != nil || len(snap.Entries) != 20_502 {
		t.Fatalf("%d entries, %v", len(snap.Entries), err)
	}
	for i := range snap.Entries {
		if e := &snap.Entries[i]; e.Key == c.Puts[0].Key && !bytes.Equal(e.Value, c.Puts[0].Value) {
			t.Error("the large value is another one")
		}
	}
	b := store.Owner{Node: strings.Repeat("\x00", 200), Incarnation: store.NewIncarnation()}
	if got, err := again.Claim(t.Context(), store.ClaimRequest{Session: c.Session, Owner: b, Keys: []string{"7", c.Puts[0].Key, "none"}}); err != nil || len(got.Entries) != 2 {
		t.Errorf("a claim gives %d entries, %v", len(got.Entries), err)
	}
	n := 0
	for h, err := range again.Sessions(t.Context(), store.Query{Owner: b.Incarnation}) {
		if n++; err != nil || h.Session != c.Session {
			t.Errorf("the walk gives %+v, %v", h, err)
		}
	}
	if n != 1 {
		t.Errorf("the walk has %d sessions", n)
	}
	wide := store.Change{Session: "wide", Owner: store.Owner{Node: strings.Repeat("x", 1<<20), Incarnation: o.Incarnation}, Epoch: 1, Seq: 1, Create: true}
	rs, err = st.Apply(t.Context(), []store.Change{wide})
	if err != nil || rs[0].Outcome != store.Rejected || !errors.Is(rs[0].Err, store.ErrTooLarge) {
		t.Errorf("a header that is too large: %+v, %v", rs, err)
	}
}

// A stream that is full, by a limit that somebody has set, refuses what has no room, and says so; what was acknowledged stays, and it goes on when
// there is room.
func TestStreamFull(t *testing.T) {
	srv := start(t, "")
	st := open(t, srv.url(), nil)
	limit := func(max int64) {
		t.Helper()
		js, err := jetstream.New(st.nc)
		if err != nil {
			t.Fatal(err)
		}
		c := st.config()
		c.MaxBytes = max
		if _, err := js.UpdateStream(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	limit(4 << 20)
	fill(t, st, "maximum bytes", func() { limit(-1) })
}

// A disk that is full is an error that says so; what was acknowledged stays, and it goes on when there is room and the server was started again.
func TestDiskFull(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "small")
	outage.MountSmall(t, dir, 16<<20)
	srv := newNode(t, "small", "")
	srv.configure(t, fmt.Sprintf("listen: \"127.0.0.1:%d\"\njetstream: {store_dir: %q, max_file: 1GB}\n", srv.port, dir))
	srv.run(t)
	srv.await(t)
	st := open(t, srv.url(), nil)
	fill(t, st, "", func() {
		t.Log(srv.Log())
		if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
			t.Fatal(err)
		}
		srv.stop()
		srv.run(t)
		srv.await(t)
	})
	srv.stop() // the disk goes first
}

// fill writes until there is no room, and again when room was made.
func fill(t *testing.T, st *Store, says string, room func()) {
	t.Helper()
	o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	c := store.Change{Session: "s", Owner: o, Epoch: 1, Create: true}
	noise := make([]byte, 200<<10)
	var full error
	for full == nil {
		if c.Seq++; c.Seq > 1000 {
			t.Fatal("there is always room")
		}
		for i := range noise {
			noise[i] = byte(uint64(i)*c.Seq*2654435761>>13) ^ byte(i>>8)
		}
		c.Puts = []store.Entry{{Key: fmt.Sprint(c.Seq), Value: noise}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, full = st.Apply(ctx, []store.Change{c})
		cancel()
	}
	t.Logf("after %d: %v", c.Seq-1, full)
	if !strings.Contains(full.Error(), says) {
		t.Errorf("the error is %v", full)
	}
	room()
	var snap store.Snapshot
	outage.Until(t, "it can be read", func() bool {
		var err error
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if snap, err = st.Load(ctx, "s"); err != nil {
			t.Log(err)
		}
		return err == nil
	})
	if at := snap.Header.Seq; at != c.Seq-1 && at != c.Seq || len(snap.Entries) != int(at) {
		t.Errorf("%d were acknowledged, and on record are %+v, %d entries", c.Seq-1, snap.Header, len(snap.Entries))
	}
	c.Seq++
	apply(t, st, c, store.Applied)
}
