package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-6f1f505d/kvstore/internal/outage"
	"github.com/seed-6f1f505d/kvstore/internal/pgserver"
	"github.com/seed-6f1f505d/kvstore/store"
)

// What Open cannot work with it refuses, says what to do, and leaves nothing behind.
func TestRefusals(t *testing.T) {
	srv := pgserver.Start(t, "fsync=off")
	admin := connect(t, srv.URL())
	exec(t, admin, `
		CREATE ROLE poor LOGIN PASSWORD 'secret';
		CREATE ROLE frozen LOGIN SUPERUSER; ALTER ROLE frozen SET default_transaction_read_only = on;
		CREATE SCHEMA shop; CREATE TABLE shop.orders (id int);`)
	exec(t, admin, Schema("newer"))
	exec(t, admin, `UPDATE newer.format SET version = 7`)
	as := func(user string) string { return strings.Replace(srv.URL(), "postgres@", user+"@", 1) }
	for _, c := range []struct {
		url  string
		opt  Options
		says []string
	}{
		{"postgres://x:geheim@127.0.0.1:99999/", Options{}, []string{"URL", "port"}},
		{srv.URLAt(1), Options{}, []string{"127.0.0.1:1", "refused"}},
		{as("nobody"), Options{}, []string{"nobody", "does not exist"}},
		{as("poor"), Options{}, []string{"may not make it", "CREATE", "postgres.Schema"}},
		{as("frozen"), Options{}, []string{"read-only"}},
		{srv.URL(), Options{Schema: "shop"}, []string{"shop", "not kvstore's", "Options.Schema"}},
		{srv.URL(), Options{Schema: "newer"}, []string{"newer", "format 7", "2"}},
		{srv.URL(), Options{Schema: strings.Repeat("x", 64)}, []string{"Options.Schema", "63"}},
		{srv.URL(), Options{TombstoneRetention: -1}, []string{"TombstoneRetention"}},
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
	var left int
	if err := admin.QueryRow(t.Context(), `SELECT count(*) FROM pg_namespace WHERE nspname = 'kvstore'`).Scan(&left); err != nil || left != 0 {
		t.Errorf("of what was refused there is a schema left: %d, %v", left, err)
	}
	if _, err := New(t.Context(), nil, nil); err == nil {
		t.Error("New takes no pool")
	}
}

// A role that owns nothing works with a schema that was made for it, with the rights that Schema's comment names and no others.
func TestByHand(t *testing.T) {
	srv := pgserver.Start(t, "fsync=off")
	exec(t, connect(t, srv.URL()), Schema("")+`
		CREATE ROLE app LOGIN;
		GRANT USAGE ON SCHEMA kvstore TO app;
		GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA kvstore TO app;`)
	st := open(t, strings.Replace(srv.URL(), "postgres@", "app@", 1), nil)
	o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	apply(t, st, store.Change{Session: "s", Owner: o, Epoch: 1, Seq: 1, Create: true, Puts: []store.Entry{{Key: "k"}}}, store.Applied)
	if c, err := st.Claim(t.Context(), store.ClaimRequest{Session: "s", Owner: o, All: true}); err != nil || len(c.Entries) != 1 {
		t.Errorf("claim: %+v, %v", c, err)
	}
	if _, err := st.KeepAlive(t.Context(), store.Node{Incarnation: o.Incarnation}, 1); err != nil {
		t.Error(err)
	}
	relaxed := open(t, strings.Replace(srv.URL(), "postgres@", "app@", 1), &Options{Relaxed: true})
	if err := relaxed.Barrier(t.Context()); err != nil {
		t.Error(err)
	}
}

// The schema relies on an isolation level, and says so where it has another one.
func TestIsolation(t *testing.T) {
	srv := pgserver.Start(t, "fsync=off", "default_transaction_isolation=repeatable read")
	st := open(t, srv.URL(), nil)
	_, err := st.Apply(t.Context(), []store.Change{{Session: "s", Owner: store.Owner{Incarnation: store.NewIncarnation()}, Epoch: 1, Seq: 1, Create: true}})
	if err == nil || !strings.Contains(err.Error(), "read committed") {
		t.Errorf("Apply at another isolation level gives %v", err)
	}
}

func TestLimits(t *testing.T) {
	srv := pgserver.Start(t, "fsync=off")
	st := open(t, srv.URL(), fresh())
	o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	c := store.Change{Session: "s", Owner: o, Epoch: 1, Seq: 1, Create: true, Puts: []store.Entry{
		{Key: "large", Value: bytes.Repeat([]byte{1}, MaxValue+1)}, {Key: "small"}}}
	rs, err := st.Apply(t.Context(), []store.Change{c, {Session: "t", Owner: o, Epoch: 1, Seq: 1, Create: true}})
	if err != nil || rs[0].Outcome != store.Rejected || !errors.Is(rs[0].Err, store.ErrTooLarge) || fmt.Sprint(rs[0].Keys) != "[large]" ||
		!strings.Contains(rs[0].Err.Error(), fmt.Sprint(MaxValue)) || rs[1].Outcome != store.Applied {
		t.Errorf("a value that is too large: %+v, %v", rs, err)
	}
	c.Puts[0].Value = c.Puts[0].Value[1:]
	for i := range 20_000 {
		c.Puts = append(c.Puts, store.Entry{Key: fmt.Sprint(i), Value: []byte("v")})
	}
	apply(t, st, c, store.Applied)
	snap, err := st.Load(t.Context(), "s")
	if err != nil || len(snap.Entries) != 20_002 {
		t.Errorf("%d entries, %v", len(snap.Entries), err)
	}
	for i := range snap.Entries {
		if e := &snap.Entries[i]; e.Key == "large" && !bytes.Equal(e.Value, c.Puts[0].Value) {
			t.Error("the large value is another one")
		}
	}
}

// A disk that is full is an error that says so; what was acknowledged stays, and it goes on when there is room.
func TestDiskFull(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "small")
	outage.MountSmall(t, dir, 8<<20)
	srv := pgserver.Start(t, "fsync=off")
	srv.Own(t, dir)
	admin := connect(t, srv.URL())
	exec(t, admin, fmt.Sprintf(`CREATE TABLESPACE small LOCATION '%s'`, dir))
	exec(t, admin, `ALTER ROLE postgres SET default_tablespace = small`)
	st := open(t, srv.URL(), nil)
	o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	c := store.Change{Session: "s", Owner: o, Epoch: 1, Create: true}
	noise := make([]byte, 200<<10)
	var full error
	for full == nil {
		if c.Seq++; c.Seq > 1000 {
			t.Fatal("the disk does not fill")
		}
		for i := range noise { // or it is compressed
			noise[i] = byte(uint64(i)*c.Seq*2654435761>>13) ^ byte(i>>8)
		}
		c.Puts = []store.Entry{{Key: fmt.Sprint(c.Seq), Value: noise}}
		_, full = st.Apply(t.Context(), []store.Change{c})
	}
	if !strings.Contains(full.Error(), "No space left") {
		t.Errorf("the error is %v", full)
	}
	snap, err := st.Load(t.Context(), "s")
	if err != nil || snap.Header.Seq != c.Seq-1 || len(snap.Entries) != int(c.Seq-1) {
		t.Errorf("%d were acknowledged, and on record are %+v, %d entries, %v", c.Seq-1, snap.Header, len(snap.Entries), err)
	}
	if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
		t.Fatal(err)
	}
	apply(t, st, c, store.Applied)
}
