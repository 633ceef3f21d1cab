package kvstore_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// FuzzAPI runs programs over the whole API, on a few nodes whose calls to the store can be made to fail, and compares each
// step with a model of plain maps (apimodel_test.go). Any bytes are a program, and the same bytes are the same run: nothing
// but they chooses what is done, and no two things happen at the same instant. (What the DB draws itself, the waits between
// attempts, is shorter than the pauses between operations; one program in a few thousand still feels it.)
//
// The first byte chooses options (see runProgram). Then each operation takes five bytes:
//
//	verb node session key argument
//
// and spaces between operations are skipped, so that a program can be written by hand: "0 C0a00 P0a00 T0005" makes session a on
// node 0, puts its main entry, and lets 20 ms pass. What verbs there are is the table apiVerbs; any other byte is
// one of them, too. Nodes, sessions and keys are counted from '0', 'a' and '0'.
func FuzzAPI(f *testing.F) {
	f.Add([]byte("0 C0a00 p0a01 A1a00 Y0a00 K0000 T0009 A1a00"))
	f.Add([]byte("0 C0a00 c0a03 b0a00 b0a01 b0a00 f0a00 t0a01 a0a00 a0a01 l0a00 L0a00 Y0a00 l1a01 c0a04 f0a01 x0a00 r0a00 l0a00 R0a00 A1a00 L1a00 c1a02 f1a00 f1a00 l1a00 l1a01"))
	f.Add([]byte("0 C0a00 v0a10 w0a10 w0a10 v0a10 p0a10 w0a10 w0a11 v0a10 v0a10 d0a10 w0a10 v0a10 U0a01 w0a10 Y0a00 S1a00 w1a10 w0a10"))
	f.Add([]byte("2 O0a00 c0a04 b0a00 b0a00 t0a00 a0a00 v0a10 T0a06 O0b00 c0b03 T0a06 O0c00 T0a06 w0a10 f0a00 l0b00 c0a02 B0a00 f0a01 c0b02 b0a00 H0a00 f0a00 L0a04 e0a03 L0a00 T0a09 O0a00 f0a00 c0a02"))
	f.Add([]byte("0 O0a00 c0a04 b0a00 b0a00 t0a00 Y0a00 B0a00 c0a03 f0a00 b0a00 x0a00 a0a00 S1a00 f1a00 l1a00 l0a00 H0a00 T0a05 c0a03 L1a00 K1a00 T0a09 A0a00 L0a00 f0a00 f0a00 c0a02"))
	f.Fuzz(func(t *testing.T, code []byte) {
		synctest.Test(t, func(t *testing.T) { runProgram(t, code) })
	})
}

// maxProgram is the number of operations of a program; what is beyond is not run.
const maxProgram = 400

var apiVerbs = map[byte]func(*program, instr){
	'C': (*program).create,
	'A': func(p *program, i instr) { p.claim(i, "Adopt") },
	'O': func(p *program, i instr) { p.claim(i, "AdoptOrCreate") },
	'S': func(p *program, i instr) { p.claim(i, "Steal") },
	'h': (*program).session,
	'G': (*program).get,
	'P': (*program).put,
	'D': (*program).remove,
	'g': (*program).read,
	'L': (*program).list,
	'p': (*program).write,
	'd': (*program).delete,
	'U': (*program).update,
	'X': (*program).expire,
	'c': (*program).add,
	'b': (*program).push,
	'f': (*program).pop,
	'v': (*program).sees,
	'w': (*program).swap,
	't': (*program).after,
	'x': (*program).cancel,
	'a': (*program).name,
	'r': (*program).unname,
	'l': (*program).lookup,
	'e': (*program).idle,
	'Y': (*program).sync,
	'F': (*program).flush,
	'R': (*program).release,
	'Q': func(p *program, i instr) { p.leave(i, true) },
	'Z': func(p *program, i instr) { p.leave(i, false) },
	'K': (*program).kill,
	'N': func(*program, instr) {}, // a node that is down is opened by whatever it is to do
	'T': (*program).pass,
	'B': func(p *program, i instr) { p.disturb(i, storetest.Fault{Fail: storetest.Before}, "fail") },
	'E': func(p *program, i instr) {
		p.disturb(i, storetest.Fault{Fail: storetest.After}, "are applied, and fail")
	},
	'J': func(p *program, i instr) {
		p.disturb(i, storetest.Fault{Fail: storetest.Late}, "fail, to be applied late")
	},
	'W': func(p *program, i instr) { p.disturb(i, storetest.Fault{Delay: apiSlow}, "are slow") },
	'H': func(p *program, i instr) { p.disturb(i, storetest.Fault{}, "answer") },
	'V': (*program).replay,
	'I': (*program).lapse,
}

var apiOrder = slices.Sorted(maps.Keys(apiVerbs))

// instr is an operation.
type instr struct {
	verb byte
	m    *peer
	g    *tale
	key  string
	kept bool // use the handle that the node has
	b    byte // that key comes from
	arg  byte
}

func runProgram(t *testing.T, code []byte) *program {
	p := &program{t: t, ctx: context.Background(), st: memory.New()}
	p.opt = kvstore.Options{MaxDelay: apiDelay, Lease: apiLease, RetryMin: apiRetry, RetryMax: apiRetry, StoreTimeout: apiWait, Flushers: 1}
	first := byte('0')
	if len(code) > 0 {
		first, code = code[0], code[1:]
	}
	first -= '0'
	nodes := 2 + int(first&1)
	p.opt.MaxResident = []int{0, 1, 2, 0}[first>>1&3]
	p.opt.MaxBatch = []int{1024, 1}[first>>3&1]
	p.opt.Strict = first>>4&1 == 1
	p.log("%d nodes, MaxResident %d, MaxBatch %d, Strict %v", nodes, p.opt.MaxResident, p.opt.MaxBatch, p.opt.Strict)
	for i := range 3 {
		p.tales = append(p.tales, &tale{id: string(rune('a' + i)), stolen: map[store.Incarnation]bool{}})
	}
	t.Cleanup(func() {
		for _, m := range p.peers { // after a failure, too, no goroutine may stay in the bubble
			if m.db != nil {
				m.end()
			}
		}
		synctest.Wait()
	})
	for i := range nodes {
		m := &peer{member: member{name: fmt.Sprint("n", i)}}
		p.peers = append(p.peers, m)
		p.open(m)
	}
	for range maxProgram {
		for len(code) > 0 && (code[0] == ' ' || code[0] == '\n') {
			code = code[1:]
		}
		if len(code) == 0 {
			break
		}
		var b [5]byte
		code = code[copy(b[:], code):]
		p.step(p.decode(b))
	}
	p.finish()
	return p
}

func (p *program) decode(b [5]byte) instr {
	i := instr{verb: b[0], arg: b[4], b: b[3]}
	if apiVerbs[i.verb] == nil {
		i.verb = apiOrder[int(i.verb)%len(apiOrder)]
	}
	i.m = p.peers[int(b[1]-'0')%len(p.peers)]
	i.g = p.tales[int(b[2]-'a')%len(p.tales)]
	i.key = modelKeys[int(b[3]-'0')%len(modelKeys)]
	i.kept = (b[3]-'0')&4 == 0
	return i
}

// step does one thing, and lets what comes of it happen. A little time passes before it, so that what comes of two operations, and
// of two nodes, never happens at the same instant, in an order that nobody knows; and while calls fail, as much as
// the random wait before one is repeated.
func (p *program) step(i instr) {
	pause := time.Microsecond
	for _, m := range p.peers {
		if m.faulty {
			pause = 5*apiRetry + time.Microsecond
		}
	}
	time.Sleep(pause)
	p.settle(nil)
	if i.m.db == nil && !strings.ContainsRune("KQZTHBEJWVI", rune(i.verb)) {
		p.open(i.m)
		p.log("%s is opened", i.m.name)
	}
	p.avoidEdge()
	p.alive = p.runs()
	apiVerbs[i.verb](p, i)
	p.settle(nil)
}

// avoidEdge lets pass what expires soon, since it would depend on the moment what an operation finds.
func (p *program) avoidEdge() {
	for again := true; again; {
		again = false
		for _, at := range p.ends {
			if left := time.Until(at.Std()); left >= 0 && left < apiEdge {
				p.alive = p.runs()
				time.Sleep(left + time.Millisecond)
				p.settle(nil)
				again = true
			}
		}
	}
	p.ends = slices.DeleteFunc(p.ends, func(at store.Time) bool { return at.Past(time.Now()) })
}

func (p *program) brief() (context.Context, context.CancelFunc) {
	return context.WithTimeout(p.ctx, apiWait)
}

func (p *program) value() string {
	p.n++
	return fmt.Sprint("v", p.n)
}

// finish brings everything to rest, and compares once more.
func (p *program) finish() {
	for _, m := range p.peers {
		if m.db != nil {
			p.inject(m, storetest.Fault{})
		}
	}
	p.log("the end")
	p.alive = p.runs()
	time.Sleep(10 * apiLag)
	p.settle(nil)
	for _, m := range p.peers {
		if m.db == nil {
			continue
		}
		p.avoidEdge()
		p.alive = p.runs()
		p.flush(instr{m: m})
		for _, g := range p.tales {
			if l := m.own[g]; l != nil && l.last().now().exists {
				p.list(instr{m: m, g: g})
			}
		}
	}
	for _, m := range p.peers {
		p.avoidEdge()
		p.alive = p.runs()
		p.leave(instr{m: m}, false)
	}
	for _, l := range p.lines {
		p.account(l)
	}
}

// TestProgramsRepeat runs the seeds of FuzzAPI twice: what happens must not depend on anything but the bytes.
func TestProgramsRepeat(t *testing.T) {
	files, err := filepath.Glob("testdata/fuzz/FuzzAPI/*")
	check(t, err)
	if len(files) < 7 {
		t.Errorf("%d seeds", len(files))
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		check(t, err)
		quoted := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(strings.TrimPrefix(string(b), "go test fuzz v1\n")), "[]byte("), ")")
		code, err := strconv.Unquote(quoted)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var first []string
		for range 2 {
			synctest.Test(t, func(t *testing.T) {
				p := runProgram(t, []byte(code))
				if first != nil && !slices.Equal(first, p.trace) {
					t.Errorf("%s runs as\n%s\nand then as\n%s", name, strings.Join(first, "\n"), strings.Join(p.trace, "\n"))
				}
				first = p.trace
			})
		}
	}
}
