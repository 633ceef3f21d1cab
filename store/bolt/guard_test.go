package bolt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// TestCutWhileCallsRun takes the file away while transactions begin: all calls return, and so does Close.
func TestCutWhileCallsRun(t *testing.T) {
	_, rounds := random(t, 20, 5, true)
	for round := range rounds {
		path := temp(t)
		s, err := Open(path, &Options{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		fill(t, s, owner("a"), 1000)
		var wg sync.WaitGroup
		var stop atomic.Bool
		begun, failed := make(chan bool, 8), make(chan error, 8)
		for g := range cap(failed) {
			wg.Go(func() {
				met := false
				for i := g; !stop.Load() || !met; i++ {
					if i == g+500 {
						begun <- true
					}
					if _, err := s.Load(context.Background(), fmt.Sprintf("s%05d", i%1000)); err != nil && !met {
						met = true
						failed <- err
					}
				}
			})
		}
		for range cap(begun) {
			<-begun
		}
		if err := os.Truncate(path, 0); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			for range cap(failed) {
				if err := <-failed; !strings.Contains(err.Error(), path) {
					t.Errorf("the error does not name the file: %v", err)
				}
			}
			stop.Store(true)
			wg.Wait()
			s.Close()
			close(done)
		}()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Fatalf("round %d: calls, or Close, do not return", round)
		}
	}
}

// TestBrokenWaitsForNobody has a Store in which one call is stuck for ever, with the turn to write.
func TestBrokenWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(temp(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.turn <- struct{}{}
		cause := errors.New("cause")
		var wg sync.WaitGroup
		wg.Go(func() {
			c := store.Change{Session: "s", Owner: owner("a"), Epoch: 1, Seq: 1, Create: true}
			if _, err := s.Apply(t.Context(), []store.Change{c}); !errors.Is(err, cause) {
				t.Errorf("a call that waits for its turn gives %v", err)
			}
		})
		wg.Go(func() {
			if err := s.Check(t.Context()); !errors.Is(err, cause) {
				t.Errorf("Check gives %v", err)
			}
		})
		synctest.Wait()
		closed := false
		wg.Go(func() { s.Close(); closed = true })
		synctest.Wait()
		if closed {
			t.Error("Close did not wait for a call that runs")
		}
		s.setBroken(cause)
		wg.Wait()
		if _, err := s.Load(t.Context(), "s"); !errors.Is(err, store.ErrClosed) {
			t.Errorf("after Close, Load gives %v", err)
		}
		s.db.Close() // the map, which Close had to leave
	})
}

// panicky is a logger that panics.
type panicky struct{ slog.Handler }

func (panicky) Enabled(context.Context, slog.Level) bool  { return true }
func (panicky) Handle(context.Context, slog.Record) error { panic("the logger's") }

func TestLoggerPanics(t *testing.T) {
	o := owner("a")
	s := orchard(t, o, 500, func(i int) bool { return i >= 60 && i < 450 }, leafOfIndex("x061"))
	s.opt.TombstoneRetention = time.Nanosecond
	s.opt.Logger = slog.New(panicky{})
	for seq := uint64(2); seq < 4; seq++ {
		apply(t, s, header7("x000", o, seq), store.Applied)
	}
}
