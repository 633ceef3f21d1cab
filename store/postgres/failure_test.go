package postgres

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/internal/pgserver"
	"github.com/seed-6f1f505d/kvstore/store"
)

// ints is a codec that leaves the store's values readable.
type ints struct{}

func (ints) Append(dst []byte, v any) ([]byte, error) {
	return strconv.AppendInt(dst, int64(*v.(*int)), 10), nil
}

func (ints) Decode(src []byte, v any) (err error) {
	*v.(*int), err = strconv.Atoi(string(src))
	return err
}

// work is a node under load: writers count in sessions of their own, and now and then wait until a count is stored.
type work struct {
	db     *kvstore.DB[int]
	synced [sessions]atomic.Int64 // the highest count that Sync has returned for
	syncs  atomic.Int64
	ill    atomic.Bool // Health has reported that the store cannot be reached
	lost   atomic.Int64
	stop   context.CancelFunc
	wg     sync.WaitGroup
}

const sessions = 16

func name(i int) string { return fmt.Sprint("session-", i) }

func start(t *testing.T, st store.Store) *work {
	t.Helper()
	w := new(work)
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	db, err := kvstore.Open[int](ctx, st, kvstore.Options{
		Node: "a", Codec: ints{}, MaxDelay: 5 * time.Millisecond, StoreTimeout: 500 * time.Millisecond, Lease: time.Second,
		Hooks: kvstore.Hooks{
			Lost: func(kvstore.Lost) { w.lost.Add(1) },
			Health: func(h kvstore.Health) {
				for _, p := range h.Problems {
					if p == kvstore.StoreUnreachable {
						w.ill.Store(true)
					}
				}
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.db = db
	for i := range sessions {
		s, err := db.AdoptOrCreate(ctx, name(i))
		if err != nil {
			t.Fatal(err)
		}
		w.wg.Go(func() {
			for n := 1; ctx.Err() == nil; n++ {
				if err := s.Put(ctx, "", n); err != nil {
					t.Errorf("Put: %v", err)
					return
				}
				if err := s.Put(ctx, "again", n); err != nil {
					t.Errorf("Put: %v", err)
					return
				}
				if err := s.Sync(ctx); err == nil {
					w.synced[i].Store(int64(n))
					w.syncs.Add(1)
				} else if ctx.Err() == nil {
					t.Errorf("Sync: %v", err)
					return
				}
			}
		})
	}
	return w
}

// until waits for something that must come.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in vain waited for this: %s", what)
		}
	}
}

// progress waits until so many more changes are known to be stored.
func (w *work) progress(t *testing.T, n int64) {
	t.Helper()
	from := w.syncs.Load()
	until(t, "changes are stored", func() bool { return w.syncs.Load() >= from+n })
}

// endure has something befall the server, waits until Health tells, ends it, and waits until all is well again.
func (w *work) endure(t *testing.T, befall, end func()) {
	t.Helper()
	w.progress(t, 200)
	w.ill.Store(false)
	befall()
	until(t, "Health tells that there is no answer", w.ill.Load)
	end()
	until(t, "Health is well again", func() bool { return w.db.Health().LastError == nil })
}

// end lets the node die, has another one adopt its sessions, and compares what that finds with what was known to be stored.
func (w *work) end(t *testing.T, st store.Store) {
	t.Helper()
	w.stop()
	w.wg.Wait()
	now, cancel := context.WithCancel(context.Background())
	cancel()
	w.db.Close(now)
	ctx := context.Background()
	db, err := kvstore.Open[int](ctx, st, kvstore.Options{Node: "b", Codec: ints{}})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(ctx)
	for i := range sessions {
		s, err := db.Adopt(ctx, name(i), "again")
		if err != nil {
			t.Errorf("%s: %v", name(i), err)
			continue
		}
		a, err := s.Get(ctx, "")
		b, err2 := s.Get(ctx, "again")
		if want := int(w.synced[i].Load()); err != nil || err2 != nil || a < want || b < want || s.Epoch() != 2 {
			t.Errorf("%s is %d, %d in epoch %d (%v, %v); known to be stored was %d in epoch 1", name(i), a, b, s.Epoch(), err, err2, want)
		}
	}
	t.Logf("%d changes were known to be stored", w.syncs.Load())
}

// The server is killed under load, all its processes at once, and started again.
func TestServerKilled(t *testing.T) {
	srv := pgserver.Start(t)
	st := open(t, srv.URL(), nil)
	w := start(t, st)
	for range 5 {
		w.endure(t, srv.Kill, func() {
			if err := srv.Run(); err != nil {
				t.Fatal(err)
			}
		})
	}
	w.progress(t, 200)
	w.end(t, st)
	if n := w.lost.Load(); n > sessions { // what was under way in the end
		t.Errorf("%d losses were reported", n)
	}
}

// With Relaxed a killed server forgets the last flushes, though it had acknowledged them; but nothing from before a claim, nor that.
func TestRelaxedServerKilled(t *testing.T) {
	srv := pgserver.Start(t, "wal_writer_delay=1s")
	o := fresh()
	o.Relaxed = true
	st := open(t, srv.URL(), o)
	claim := func(id string) store.Claim {
		t.Helper()
		c, err := st.Claim(t.Context(), store.ClaimRequest{Session: id, Owner: store.Owner{Node: "x", Incarnation: store.NewIncarnation()}, Create: true, All: true})
		if err != nil || c.Outcome != store.Granted {
			t.Fatalf("claim: %+v, %v", c, err)
		}
		return c
	}
	flush := func(c store.Claim, seqs uint64) {
		for seq := range seqs {
			v := strconv.AppendUint(nil, seq+1, 10)
			apply(t, st, store.Change{Session: c.Header.Session, Owner: c.Header.Owner, Epoch: c.Header.Epoch, Seq: seq + 1,
				Puts: []store.Entry{{Value: v}, {Key: "k", Value: v}}}, store.Applied)
		}
	}
	forgotten := 0
	for round := range 3 {
		taken, left := claim(fmt.Sprint("taken/", round)), claim(fmt.Sprint("left/", round))
		flush(taken, 20)
		by := claim(taken.Header.Session)
		flush(left, 20)
		srv.Kill()
		if err := srv.Run(); err != nil {
			t.Fatal(err)
		}
		var snap store.Snapshot
		until(t, "the server answers", func() (ok bool) {
			var err error
			snap, err = st.Load(t.Context(), taken.Header.Session)
			return err == nil
		})
		if snap.Header.Epoch != 2 || snap.Header.Owner != by.Header.Owner || len(snap.Entries) != 2 || string(snap.Entries[0].Value) != "20" || string(snap.Entries[1].Value) != "20" {
			t.Errorf("what was claimed is now %+v", snap)
		}
		snap, err := st.Load(t.Context(), left.Header.Session)
		if err != nil || snap.Header.Epoch != 1 || snap.Header.Owner != left.Header.Owner {
			t.Errorf("what was flushed is now %+v, %v", snap, err)
		}
		for _, e := range snap.Entries {
			if string(e.Value) != fmt.Sprint(snap.Header.Seq) {
				t.Errorf("it is torn: %+v", snap)
			}
		}
		if snap.Header.Seq < 20 {
			forgotten++
		}
	}
	if forgotten == 0 {
		t.Error("nothing was forgotten: the test shows nothing of Relaxed")
	}
}

// The server stands still for longer than any time-out and the lease, and then goes on where it was: with the calls, too, that were given up.
func TestServerFrozen(t *testing.T) {
	srv := pgserver.Start(t, "fsync=off")
	st := open(t, srv.URL(), nil)
	w := start(t, st)
	for range 3 {
		w.endure(t, srv.Freeze, func() {
			until(t, "the lease is over", func() bool { return w.db.Health().LeaseLeft <= 0 })
			srv.Thaw()
		})
	}
	w.progress(t, 200)
	w.end(t, st)
}

// Connections hang, in one direction or both: nothing is refused and nothing answered. What the server was asked it does all the same.
func TestConnectionsHang(t *testing.T) {
	srv := pgserver.Start(t, "fsync=off")
	p := newProxy(t, srv.Port)
	st := open(t, srv.URLAt(p.port), nil)
	w := start(t, st)
	for _, deaf := range []bool{true, false, true, false} {
		w.endure(t, func() { p.hang(deaf) }, p.heal)
	}
	w.progress(t, 200)
	w.end(t, st)
}

// proxy is a way to a server on which connections can be made to hang.
type proxy struct {
	port int

	mu    sync.Mutex
	mute  bool // what the server says does not arrive
	deaf  bool // nor what it is told
	conns map[net.Conn]bool
	free  *sync.Cond
}

func newProxy(t *testing.T, to int) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{port: l.Addr().(*net.TCPAddr).Port, conns: map[net.Conn]bool{}}
	p.free = sync.NewCond(&p.mu)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", to))
			if err != nil {
				in.Close()
				continue
			}
			p.mu.Lock()
			p.conns[in], p.conns[out] = true, true
			p.mu.Unlock()
			wg.Go(func() { p.pass(out, in, &p.deaf) })
			wg.Go(func() { p.pass(in, out, &p.mute) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.heal()
		wg.Wait()
	})
	return p
}

func (p *proxy) pass(to, from net.Conn, held *bool) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		for *held {
			p.free.Wait()
		}
		p.mu.Unlock()
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

func (p *proxy) hang(deaf bool) {
	p.mu.Lock()
	p.mute, p.deaf = true, deaf
	p.mu.Unlock()
}

// heal lets through what waits, and then ends the connections that there are.
func (p *proxy) heal() {
	p.mu.Lock()
	p.mute, p.deaf = false, false
	conns := p.conns
	p.conns = map[net.Conn]bool{}
	p.mu.Unlock()
	p.free.Broadcast()
	for c := range conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			tcp.CloseWrite()
		}
	}
}
