package bolt

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

const (
	crashSessions = 12
	crashWriters  = 3
	crashKeys     = 4
)

func crashSession(i int) string { return fmt.Sprintf("session-%02d", i) }

// crashDeletes tells which changes delete the session.
func crashDeletes(seq uint64) bool { return seq%7 == 0 }

// crashPuts are the entries after change seq of a tenure: all of them say which change it was, and
// their sizes cover what lies in the header, beside it, and over several pages.
func crashPuts(epoch, seq uint64) (es []store.Entry) {
	for k := range crashKeys {
		key := ""
		if k > 0 {
			key = fmt.Sprintf("key-%d", k)
		}
		stamp := fmt.Appendf(nil, "%d/%d/%d|", epoch, seq, k)
		size := []int{10, 900, 3000, 9000}[(seq+uint64(k))%4]
		es = append(es, store.Entry{Key: key, Value: append(stamp, bytes.Repeat([]byte{byte(seq)}, size)...)})
	}
	return es
}

// crashAliases are the session's aliases after change seq: some come, some go, some stay.
func crashAliases(id string, seq uint64) (aliases []string) {
	for i := range uint64(3) {
		aliases = append(aliases, fmt.Sprintf("alias %d of %s", seq/(i+1), id))
	}
	return slices.Compact(aliases)
}

// crashState is what a session may be found as.
type crashState struct {
	epoch, seq            uint64 // of the header
	madeEpoch, madeSeq    uint64 // of the change that wrote the entries; 0: there are none
	deleted, neverWasHere bool
}

// after is the state that one more operation makes of s. seq 0 is a claim.
func (s crashState) after(epoch, seq uint64) crashState {
	n := crashState{epoch: epoch, seq: seq}
	switch {
	case seq == 0 && !s.deleted && !s.neverWasHere:
		n.madeEpoch, n.madeSeq = s.madeEpoch, s.madeSeq
	case seq == 0:
	case crashDeletes(seq):
		n.deleted = true
	default:
		n.madeEpoch, n.madeSeq = epoch, seq
	}
	return n
}

// writeChild claims all sessions and changes them until it is killed.
func writeChild() error {
	s, err := Open(os.Getenv("FILE"), &Options{NoSync: os.Getenv("NOSYNC") != "", LockTimeout: 10 * time.Second})
	if err != nil {
		return err
	}
	return writeSessions(func(f func(*Store) error) error { return f(s) }, false)
}

// writeSessions claims all sessions and changes them until the process is killed, or do gives an error. On stdout it says what it has
// found, is about to try, and what was acknowledged: see ledger. repeats tells that do calls again what failed, so that a change may be there already.
func writeSessions(do func(func(*Store) error) error, repeats bool) error {
	ctx := context.Background()
	say := func(what, id string, epoch, seq uint64) {
		os.Stdout.WriteString(fmt.Sprintf("%s %s %d %d\n", what, id, epoch, seq)) // one write: lines stay whole
	}
	me := store.Owner{Node: "child", Incarnation: store.NewIncarnation()}
	errs := make(chan error, crashWriters)
	for w := range crashWriters {
		go func() {
			errs <- func() error {
				rng := rand.New(rand.NewPCG(uint64(os.Getpid()), uint64(w)))
				epochs, seqs := map[string]uint64{}, map[string]uint64{}
				for {
					// A writer's sessions are its own; a call holds some of them.
					var changes []store.Change
					for i := w; i < crashSessions; i += crashWriters {
						id := crashSession(i)
						if epochs[id] == 0 {
							err := do(func(s *Store) error {
								snap, err := s.Load(ctx, id)
								if err == nil {
									epochs[id] = snap.Header.Epoch + 1
									say("read", id, snap.Header.Epoch, snap.Header.Seq)
								}
								return err
							})
							if err != nil {
								return err
							}
							say("try", id, epochs[id], 0)
							err = do(func(s *Store) error {
								c, err := s.Claim(ctx, store.ClaimRequest{Session: id, Owner: me, Create: true, Force: true})
								if err == nil && (c.Outcome != store.Granted || c.Header.Epoch != epochs[id]) {
									return fmt.Errorf("claim of %s: %+v", id, c.Header)
								}
								return err
							})
							if err != nil {
								return err
							}
							say("ack", id, epochs[id], 0)
						}
						if rng.IntN(2) == 0 {
							seqs[id]++
							c := store.Change{Session: id, Owner: me, Epoch: epochs[id], Seq: seqs[id], Create: true}
							if c.Delete = crashDeletes(c.Seq); !c.Delete {
								c.Puts, c.Aliases = crashPuts(c.Epoch, c.Seq), crashAliases(id, c.Seq)
							}
							changes = append(changes, c)
							say("try", id, c.Epoch, c.Seq)
						}
					}
					err := do(func(s *Store) error {
						rs, err := s.Apply(ctx, changes)
						if err != nil {
							return err
						}
						for i, r := range rs {
							switch {
							case r.Outcome == store.Applied, repeats && r.Outcome == store.Already:
							case r.Outcome == store.Undecided && r.Err != nil:
								return r.Err
							default:
								return fmt.Errorf("change %+v: %+v", changes[i], r)
							}
						}
						return nil
					})
					if err != nil {
						return err
					}
					for _, c := range changes {
						say("ack", c.Session, c.Epoch, c.Seq)
					}
				}
			}()
		}()
	}
	return <-errs // the others need not end
}

// TestKilled kills a writing process again and again. What it was told is written must be there, whole; what it
// was not told may be there, whole; and nothing else.
func TestKilled(t *testing.T) {
	rng, rounds := random(t, 200, 30, false)
	path, l, acks := "", newLedger(), 0
	for round := range rounds {
		if round%40 == 0 { // now and then also from nothing
			path = filepath.Join(t.TempDir(), fmt.Sprint(round))
			acks += l.acks
			l = newLedger()
		}
		env := []string{"FILE=" + path}
		if rng.IntN(2) == 0 {
			env = append(env, "NOSYNC=1")
		}
		// By what it has done, and not by the time alone: a machine with much else to do gives a child of 30 ms hardly a change.
		acked := rng.IntN(30)
		if rng.IntN(5) == 0 {
			acked = -1 // kill it while it opens the file
		}
		wait := time.Duration(rng.IntN(10_000)) * time.Microsecond
		for _, line := range killedChild(t, env, acked, wait) {
			if err := l.hear(line); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		if err := verifyKilled(t.Context(), path, l); err != nil {
			t.Fatalf("round %d, after the kill: %v", round, err)
		}
	}
	acks += l.acks
	t.Logf("%d rounds, %d acknowledged", rounds, acks)
	if acks < rounds {
		t.Errorf("only %d changes were acknowledged in %d rounds: the children were not at work", acks, rounds)
	}
}

// killedChild runs a writing child, kills it after wait, once it was told of so many changes that they are written, and returns what it
// said. With 0 it must have begun to say something, with -1 not even that.
func killedChild(t *testing.T, env []string, acked int, wait time.Duration) []string {
	t.Helper()
	cmd := child(t, "write", env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	enough, all := make(chan struct{}), make(chan []byte)
	go func() {
		var said []byte
		buf := make([]byte, 64<<10)
		for told := false; ; {
			n, err := out.Read(buf)
			said = append(said, buf[:n]...)
			if !told && (err != nil || bytes.Count(said, []byte("ack ")) >= acked) {
				told = true
				close(enough)
			}
			if err != nil {
				break
			}
		}
		all <- said
	}()
	if acked >= 0 {
		<-enough
	}
	time.Sleep(wait)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	said := <-all
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the child ended by itself: %v", err)
	}
	if i := bytes.LastIndexByte(said, '\n'); i >= 0 {
		return strings.Split(string(said[:i]), "\n")
	}
	return nil
}

// verifyKilled looks at what is there after a kill. From then on that is what there is.
func verifyKilled(ctx context.Context, path string, l *ledger) error {
	s, err := Open(path, nil)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Check(ctx); err != nil {
		return fmt.Errorf("Check gives: %w", err)
	}
	var seen []string
	err = l.verify(func(id string) (store.Snapshot, error) {
		snap, err := s.Load(ctx, id)
		seen = append(seen, fmt.Sprintf("read %s %d %d", id, snap.Header.Epoch, snap.Header.Seq))
		return snap, err
	})
	for _, line := range seen {
		if err == nil {
			err = l.hear(line)
		}
	}
	return err
}

func matches(snap store.Snapshot, p crashState) bool {
	h := snap.Header
	var want []store.Entry
	if p.madeSeq > 0 {
		want = crashPuts(p.madeEpoch, p.madeSeq)
	}
	if p.madeSeq > 0 && !slices.Equal(h.Aliases, crashAliases(h.Session, p.madeSeq)) {
		return false
	}
	if h.Epoch != p.epoch || h.Seq != p.seq || h.Deleted != p.deleted || len(snap.Entries) != len(want) {
		return false
	}
	for i, e := range snap.Entries {
		if e.Key != want[i].Key || !bytes.Equal(e.Value, want[i].Value) {
			return false
		}
	}
	return true
}
