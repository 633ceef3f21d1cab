//go:build amd64 || arm64

package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

func init() { children["storm"] = stormChild }

// stubborn is a store that is opened again whenever it says that it must be.
type stubborn struct {
	path string
	mu   sync.RWMutex // held for reading while the store is used
	s    *Store
}

const stubbornTries = 500

// do calls f until it gives no error. Every error must name the file.
func (r *stubborn) do(f func(s *Store) error) error {
	var err error
	for range stubbornTries {
		r.mu.RLock()
		s := r.s
		err = f(s)
		r.mu.RUnlock()
		if err == nil {
			return nil
		}
		if !strings.Contains(err.Error(), r.path) {
			return fmt.Errorf("an error that does not name the file: %w", err)
		}
		if strings.Contains(err.Error(), "opened anew") {
			if err := r.reopen(s); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("after %d tries: %w", stubbornTries, err)
}

// reopen closes s, if nobody did before, and opens the file.
func (r *stubborn) reopen(s *Store) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.s != s {
		return nil
	}
	if s != nil {
		if err := s.Close(); err != nil && !strings.Contains(err.Error(), r.path) {
			return fmt.Errorf("Close gives an error that does not name the file: %w", err)
		}
	}
	var err error
	for range stubbornTries {
		if r.s, err = Open(r.path, &Options{LockTimeout: 10 * time.Second}); err == nil {
			return nil
		}
		if !strings.Contains(err.Error(), r.path) {
			return fmt.Errorf("Open gives an error that does not name the file: %w", err)
		}
	}
	return fmt.Errorf("Open, after %d tries: %w", stubbornTries, err)
}

// stormChild claims all sessions and changes them until it is killed, whatever errors it meets. It repeats what failed until that
// is acknowledged.
func stormChild() error {
	r := &stubborn{path: os.Getenv("FILE")}
	if err := r.reopen(nil); err != nil {
		return err
	}
	return writeSessions(r.do, true)
}

// fault is what goes wrong with some of a child's calls.
type fault struct {
	name  string
	nr    []uintptr
	errno []syscall.Errno
	short bool // half of what is written is
}

var faults = []fault{
	{"full", []uintptr{syscall.SYS_PWRITE64, syscall.SYS_FTRUNCATE, syscall.SYS_OPENAT}, []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG}, false},
	{"full in the middle", []uintptr{syscall.SYS_PWRITE64}, []syscall.Errno{syscall.ENOSPC}, true},
	{"write", []uintptr{syscall.SYS_PWRITE64}, []syscall.Errno{syscall.EIO}, true},
	{"sync", []uintptr{syscall.SYS_FDATASYNC, syscall.SYS_FSYNC}, []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT}, false},
	{"resize", []uintptr{syscall.SYS_FTRUNCATE}, []syscall.Errno{syscall.EIO, syscall.EPERM}, false},
	{"read", []uintptr{syscall.SYS_PREAD64}, []syscall.Errno{syscall.EIO}, false},
	{"map", []uintptr{syscall.SYS_MMAP}, []syscall.Errno{syscall.ENOMEM, syscall.EAGAIN}, false},
	{"open", []uintptr{syscall.SYS_OPENAT}, []syscall.Errno{syscall.EACCES, syscall.EROFS, syscall.EMFILE, syscall.EIO}, false},
	{"read-only", []uintptr{syscall.SYS_PWRITE64, syscall.SYS_FTRUNCATE, syscall.SYS_OPENAT, syscall.SYS_FSYNC, syscall.SYS_FDATASYNC}, []syscall.Errno{syscall.EROFS}, false},
	{"everything", append(trappedCalls, syscall.SYS_MMAP), []syscall.Errno{syscall.EIO}, true},
}

// power runs children on a disk.
type power struct {
	stead
	rng    *rand.Rand
	ledger *ledger
	heard  int    // bytes of what the child said
	probe  string // where images are opened
	log    []string

	images, kills, faults, calls, acks int
}

// life runs a child until call number dies, counting those that change something, has some of its calls fail, and looks at images of
// what a power cut would leave.
func (p *power) life(dies int, rate float64) {
	t := p.t
	c, err := startTrapped(child(t, "storm", "FILE="+p.disk.path))
	if err != nil {
		t.Fatal(err)
	}
	p.heard = 0
	defer func() {
		err := c.kill()
		p.kills++
		p.listen(c)
		if t.Failed() {
			return
		}
		if err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("%s: the child ended by itself: %v", p.what, err)
		}
	}()
	var f *fault
	from, left := 0, 0
	if none := p.faults == 0; none || p.rng.IntN(2) == 0 {
		f = &faults[p.rng.IntN(len(faults))]
		from, left = p.rng.IntN(dies+1), 1+p.rng.IntN(6)
		if none { // as soon as can be: each round is to have one, and chance alone does not see to that
			from = 0
		}
	}
	halved := false
	for n := 0; ; {
		event, call, err := c.next()
		if err != nil {
			t.Fatal(err)
		}
		if event == trapDead {
			return
		}
		p.listen(c)
		if event != trapCall {
			continue
		}
		ours, changes := p.concerns(c, call)
		if ours && changes {
			p.log = append(p.log, fmt.Sprintf("call %d: %d(%d, %#x, %d, %d) dirty %d sizes %v", n+1, call.nr, call.args[0], call.args[1], call.args[2], call.args[3], len(p.disk.dirty), p.disk.sizes))
		}
		if !ours {
			if err := c.answer(call, answer{pass: true}); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if changes {
			n++
			p.calls++
			for k := p.looks(call.nr, rate); k > 0; k-- {
				p.look(p.disk.image(p.rng))
			}
		}
		if n >= dies {
			p.what = fmt.Sprintf("killed at call %d (%d)", n, call.nr)
			if p.rng.IntN(2) == 0 && call.nr != syscall.SYS_OPENAT && call.nr != syscall.SYS_MMAP && call.nr != syscall.SYS_PREAD64 {
				p.do(c, call, true)
			}
			return
		}
		a := answer{}
		hit := halved && call.nr == syscall.SYS_PWRITE64
		if !hit && f != nil && left > 0 && n >= from {
			for _, nr := range f.nr {
				hit = hit || nr == call.nr
			}
			if hit {
				left--
				p.faults++
			}
		}
		switch {
		case !hit:
			a = p.do(c, call, false)
		case f.short && !halved && call.nr == syscall.SYS_PWRITE64 && p.rng.IntN(2) == 0:
			a = p.do(c, call, true)
			halved = true
			p.what = fmt.Sprintf("%s: half of call %d", f.name, n)
		default:
			halved = false
			a.errno = f.errno[p.rng.IntN(len(f.errno))]
			p.what = fmt.Sprintf("%s: call %d (%d) gives %v", f.name, n, call.nr, a.errno)
			if call.nr == syscall.SYS_FSYNC || call.nr == syscall.SYS_FDATASYNC {
				p.disk.failSync(p.rng)
			}
		}
		if hit {
			p.log = append(p.log, p.what)
		}
		if err := c.answer(call, a); err != nil {
			t.Fatal(err)
		}
	}
}

// listen takes what the child has said up to now.
func (p *power) listen(c *trap) {
	c.hear()
	for {
		i := bytes.IndexByte(c.said[p.heard:], '\n')
		if i < 0 {
			return
		}
		if err := p.ledger.hear(string(c.said[p.heard : p.heard+i])); err != nil {
			p.t.Fatalf("%s: %v", p.what, err)
		}
		p.log = append(p.log, string(c.said[p.heard:p.heard+i]))
		p.heard += i + 1
	}
}

// looks tells how many images to look at before a call.
func (p *power) looks(nr uintptr, rate float64) int {
	if nr == syscall.SYS_FSYNC || nr == syscall.SYS_FDATASYNC {
		rate *= 8
	}
	n := int(rate)
	if p.rng.Float64() < rate-float64(n) {
		n++
	}
	return n
}

// look opens what a power cut, or a kill, would leave, and wants to find there what was acknowledged, and nothing that was not tried.
func (p *power) look(image []byte) {
	p.t.Helper()
	p.images++
	err := func() error {
		os.Remove(p.probe)
		if p.disk.named {
			if err := os.WriteFile(p.probe, image, 0o600); err != nil {
				return err
			}
		}
		s, err := Open(p.probe, &Options{NoSync: true, Check: true})
		if err != nil {
			return err
		}
		defer s.Close()
		return p.ledger.verify(func(id string) (store.Snapshot, error) { return s.Load(context.Background(), id) })
	}()
	if err != nil {
		kept := filepath.Join(os.TempDir(), "kvstore-bolt-image.db")
		os.WriteFile(kept, image, 0o600)
		p.t.Fatalf("after %s, of an image (kept as %s): %v\n%s", p.what, kept, err, strings.Join(p.log, "\n"))
	}
}

// TestPowerCuts kills writing processes, has their calls fail, and cuts the power, in all combinations: a file that was left by a kill is
// opened again, and then the power fails; one whose sync failed likewise.
func TestPowerCuts(t *testing.T) {
	needTraps(t)
	rng, rounds := random(t, 12, 3, false)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var sum power
	for round := range rounds {
		path := filepath.Join(dir, fmt.Sprint(round), "sessions.db")
		if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		p := &power{stead: stead{t: t, disk: newDisk(path)}, rng: rng, ledger: newLedger(), probe: filepath.Join(dir, "image.db")}
		for range 6 {
			dies := 1 + rng.IntN([]int{10, 40, 300}[rng.IntN(3)])
			p.life(dies, 0.1)
			if b, err := os.ReadFile(path); err == nil { // only killed
				named := p.disk.named
				p.disk.named = true
				p.look(b)
				p.disk.named = named
			} else if !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			if rng.IntN(3) == 0 {
				p.what += ", then a power cut"
				image := p.disk.image(rng)
				p.look(image)
				if err := p.disk.cut(image); err != nil {
					t.Fatal(err)
				}
			}
		}
		sum.images, sum.kills, sum.faults, sum.calls, sum.acks = sum.images+p.images, sum.kills+p.kills, sum.faults+p.faults, sum.calls+p.calls, sum.acks+p.ledger.acks
		os.RemoveAll(filepath.Dir(path))
	}
	t.Logf("%d images, %d kills, %d faults in %d calls, %d acknowledged", sum.images, sum.kills, sum.faults, sum.calls, sum.acks)
	if sum.acks < rounds || sum.faults < rounds/2 {
		t.Errorf("the children were not at work")
	}
}
