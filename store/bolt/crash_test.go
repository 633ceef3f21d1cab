package bolt

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
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

// writeChild claims all sessions and changes them until it is killed. On stdout it says what it is about to
// try and what was acknowledged.
func writeChild() error {
	ctx := context.Background()
	s, err := Open(os.Getenv("FILE"), &Options{NoSync: os.Getenv("NOSYNC") != "", LockTimeout: 10 * time.Second})
	if err != nil {
		return err
	}
	say := func(what, id string, epoch, seq uint64) {
		os.Stdout.WriteString(fmt.Sprintf("%s %s %d %d\n", what, id, epoch, seq)) // one write: lines stay whole
	}
	me := store.Owner{Node: "child", Incarnation: store.NewIncarnation()}
	var wg sync.WaitGroup
	errs := make(chan error, crashWriters)
	for w := range crashWriters {
		wg.Go(func() {
			errs <- func() error {
				rng := rand.New(rand.NewPCG(uint64(os.Getpid()), uint64(w)))
				epochs, seqs := map[string]uint64{}, map[string]uint64{}
				for {
					// A writer's sessions are its own; a call holds some of them.
					var changes []store.Change
					for i := w; i < crashSessions; i += crashWriters {
						id := crashSession(i)
						if epochs[id] == 0 {
							snap, err := s.Load(ctx, id)
							if err != nil {
								return err
							}
							epochs[id] = snap.Header.Epoch + 1
							say("try", id, epochs[id], 0)
							c, err := s.Claim(ctx, store.ClaimRequest{Session: id, Owner: me, Create: true, Force: true})
							if err != nil || c.Outcome != store.Granted || c.Header.Epoch != epochs[id] {
								return fmt.Errorf("claim of %s: %+v, %v", id, c.Header, err)
							}
							say("ack", id, epochs[id], 0)
						}
						if rng.IntN(2) == 0 {
							seqs[id]++
							c := store.Change{Session: id, Owner: me, Epoch: epochs[id], Seq: seqs[id], Create: true}
							if c.Delete = crashDeletes(c.Seq); !c.Delete {
								c.Puts = crashPuts(c.Epoch, c.Seq)
							}
							changes = append(changes, c)
							say("try", id, c.Epoch, c.Seq)
						}
					}
					rs, err := s.Apply(ctx, changes)
					if err != nil {
						return err
					}
					for i, r := range rs {
						if r.Outcome != store.Applied {
							return fmt.Errorf("change %+v: %+v", changes[i], r)
						}
						say("ack", changes[i].Session, changes[i].Epoch, changes[i].Seq)
					}
				}
			}()
		})
	}
	wg.Wait()
	return <-errs
}

// TestKilled kills a writing process again and again. What it was told is written must be there, whole; what it
// was not told may be there, whole; and nothing else.
func TestKilled(t *testing.T) {
	rng, rounds := random(t, 200, 30, true)
	path := ""
	var states [crashSessions]crashState
	acks := 0
	for round := range rounds {
		if round%40 == 0 { // now and then also from nothing
			path = filepath.Join(t.TempDir(), fmt.Sprint(round))
			for i := range states {
				states[i] = crashState{neverWasHere: true}
			}
		}
		env := []string{"FILE=" + path}
		if rng.IntN(2) == 0 {
			env = append(env, "NOSYNC=1")
		}
		early := rng.IntN(5) == 0 // kill it while it opens the file
		wait := time.Duration(rng.IntN(30_000)) * time.Microsecond
		lines := killedChild(t, env, early, wait)
		possible := [crashSessions][]crashState{}
		for i, s := range states {
			possible[i] = []crashState{s}
		}
		for _, line := range lines {
			var what string
			var i int
			var epoch, seq uint64
			if n, err := fmt.Sscanf(line, "%s session-%d %d %d", &what, &i, &epoch, &seq); n != 4 {
				t.Fatalf("the child says %q: %v", line, err)
			}
			next := possible[i][0].after(epoch, seq)
			if what == "ack" {
				possible[i] = []crashState{next}
				acks++
			} else {
				possible[i] = append(possible[i], next)
			}
		}
		verifyKilled(t, round, path, &possible, &states)
	}
	t.Logf("%d rounds, %d acknowledged", rounds, acks)
	if acks < rounds {
		t.Errorf("only %d changes were acknowledged in %d rounds: the children were not at work", acks, rounds)
	}
}

// killedChild runs a writing child, kills it and returns what it said.
func killedChild(t *testing.T, env []string, early bool, wait time.Duration) []string {
	t.Helper()
	cmd := child(t, "write", env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	first, all := make(chan struct{}), make(chan []byte)
	go func() {
		var said []byte
		buf := make([]byte, 64<<10)
		for {
			n, err := out.Read(buf)
			if len(said) == 0 {
				close(first)
			}
			said = append(said, buf[:n]...)
			if err != nil {
				break
			}
		}
		all <- said
	}()
	if !early {
		<-first
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

func verifyKilled(t *testing.T, round int, path string, possible *[crashSessions][]crashState, states *[crashSessions]crashState) {
	t.Helper()
	s, err := Open(path, nil)
	if err != nil {
		t.Fatalf("round %d: after the kill: %v", round, err)
	}
	defer s.Close()
	if err := s.Check(t.Context()); err != nil {
		t.Fatalf("round %d: after the kill Check gives: %v", round, err)
	}
	for i := range possible {
		snap, err := s.Load(t.Context(), crashSession(i))
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		found := false
		for _, p := range possible[i] {
			if matches(snap, p) {
				states[i], found = p, true
			}
		}
		if !found {
			var es []string
			for _, e := range snap.Entries {
				es = append(es, fmt.Sprintf("%q=%.12q", e.Key, e.Value))
			}
			t.Fatalf("round %d, %s: found %+v with entries %v; want one of %+v", round, crashSession(i), snap.Header, es, possible[i])
		}
	}
}

func matches(snap store.Snapshot, p crashState) bool {
	h := snap.Header
	var want []store.Entry
	if p.madeSeq > 0 {
		want = crashPuts(p.madeEpoch, p.madeSeq)
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
