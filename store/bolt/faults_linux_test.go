//go:build amd64 || arm64

package bolt

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/seed-6f1f505d/kvstore/store"
)

func init() { children["few"] = fewChild }

// fewChild makes a file and a few changes, each until it is acknowledged. It has one writer, so that its calls are the same each time.
func fewChild() error {
	ctx := context.Background()
	r := &stubborn{path: os.Getenv("FILE")}
	if err := r.reopen(nil); err != nil {
		return err
	}
	me := store.Owner{Node: "child", Incarnation: store.Incarnation{1}}
	for seq := uint64(1); seq <= 4; seq++ {
		c := store.Change{Session: crashSession(0), Owner: me, Epoch: 1, Seq: seq, Create: true, Puts: crashPuts(1, seq), Aliases: crashAliases(crashSession(0), seq)}
		fmt.Printf("try %s 1 %d\n", c.Session, seq)
		err := r.do(func(s *Store) error {
			if _, err := s.Load(ctx, c.Session); err != nil {
				return err
			}
			rs, err := s.Apply(ctx, []store.Change{c})
			if err == nil && rs[0].Outcome != store.Applied && rs[0].Outcome != store.Already {
				err = fmt.Errorf("%+v", rs[0])
			}
			return err
		})
		if err != nil {
			return err
		}
		fmt.Printf("ack %s 1 %d\n", c.Session, seq)
	}
	return nil
}

// few runs fewChild. Call number nth, counting from 1 those about the file, fails with errno; if half is set, after half of what it
// had to write. It returns the calls, and whether the file was opened again after that.
func (p *power) few(nth int, errno syscall.Errno, half bool) (calls []trapped, failed trapped, again bool) {
	p.t.Helper()
	c, err := startTrapped(child(p.t, "few", "FILE="+p.disk.path))
	if err != nil {
		p.t.Fatal(err)
	}
	p.heard = 0
	rest := false
	for {
		event, call, err := c.next()
		if err != nil {
			p.t.Fatal(err)
		}
		p.listen(c)
		if event == trapDead {
			break
		}
		if event != trapCall {
			continue
		}
		a := answer{pass: true}
		if ours, _ := p.concerns(c, call); ours {
			calls = append(calls, call)
			again = again || len(calls) > nth && nth > 0 && call.nr == syscall.SYS_OPENAT && p.text(c, call, call.args[1]) == p.disk.path
			fails := len(calls) == nth
			if fails {
				failed = call
				p.faults++
			}
			switch {
			case fails && half && call.nr == syscall.SYS_PWRITE64:
				a, rest = p.do(c, call, true), true
			case fails || rest:
				a, rest = answer{errno: errno}, false
				if call.nr == syscall.SYS_FSYNC || call.nr == syscall.SYS_FDATASYNC {
					p.disk.failSync(p.rng)
				}
			default:
				a = p.do(c, call, false)
			}
			if len(calls) > nth && nth > 0 && call.nr == syscall.SYS_FDATASYNC && p.rng.IntN(4) == 0 {
				p.look(p.disk.image(p.rng))
			}
		}
		if err := c.answer(call, a); err != nil {
			p.t.Fatal(err)
		}
	}
	if err := c.kill(); err != nil {
		p.t.Fatalf("%s: %v", p.what, err)
	}
	p.listen(c)
	p.look(p.disk.image(p.rng))
	return calls, failed, again
}

// TestFaultAtEachCall has, one after the other, each call fail that a store makes about its file while it is opened and written: for want of
// space, of permission, of memory, because the disk is gone or read-only. The store says so and names the file, goes on when
// that is over, or when it is opened again if it asks for that, and loses nothing that it acknowledged.
func TestFaultAtEachCall(t *testing.T) {
	needTraps(t)
	rng, rounds := random(t, 1, 1, true)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	run := 0
	try := func(what string, nth int, errno syscall.Errno, half bool) (*power, []trapped, trapped, bool) {
		run++
		path := filepath.Join(dir, fmt.Sprint(run), "sessions.db")
		if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		p := &power{stead: stead{t: t, disk: newDisk(path), what: what}, rng: rng, ledger: newLedger(), probe: filepath.Join(dir, "image.db")}
		calls, failed, again := p.few(nth, errno, half)
		os.RemoveAll(filepath.Dir(path))
		if p.ledger.acks != 4 {
			t.Fatalf("%s: %d changes were acknowledged, want 4", what, p.ledger.acks)
		}
		return p, calls, failed, again
	}
	_, calls, _, _ := try("nothing", 0, 0, false)
	errnos := []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EROFS, syscall.EACCES, syscall.EDQUOT, syscall.ENOMEM, syscall.EPERM, syscall.EFBIG}
	opened := slices.IndexFunc(calls, func(c trapped) bool { return c.nr == syscall.SYS_FDATASYNC }) + 1 // the first sync is of the new file
	faults, images, reopened := 0, 0, 0
	step := 1
	if testing.Short() || raceEnabled {
		step = 4
	}
	for round := range min(rounds, len(errnos)) {
		for n := rng.IntN(step); n < len(calls); n += step {
			for _, half := range []bool{false, true} {
				if half && calls[n].nr != syscall.SYS_PWRITE64 {
					continue
				}
				errno := errnos[(n+round)%len(errnos)]
				if calls[n].nr == syscall.SYS_FSYNC || calls[n].nr == syscall.SYS_FDATASYNC {
					errno = []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT}[(n+round)%3]
				}
				if calls[n].nr == syscall.SYS_FADVISE64 {
					errno = syscall.EINVAL
				}
				what := fmt.Sprintf("call %d (%d) gives %v, half of it done: %v", n+1, calls[n].nr, errno, half)
				p, _, failed, again := try(what, n+1, errno, half)
				faults, images = faults+p.faults, images+p.images
				if again {
					reopened++
				}
				meta := failed.nr == syscall.SYS_PWRITE64 && failed.args[3] < 2*uint64(os.Getpagesize()) && half
				sync := failed.nr == syscall.SYS_FDATASYNC
				if n >= opened && (meta || sync) && !again {
					t.Errorf("%s: the store goes on, though it cannot know what the disk has", what)
				}
			}
		}
	}
	t.Logf("%d calls, %d faults, %d images; opened again %d times", len(calls), faults, images, reopened)
	if faults == 0 || reopened == 0 || reopened == faults {
		t.Error("the faults did not do what they should")
	}
}
