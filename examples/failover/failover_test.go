package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore/internal/callrun"
	"github.com/seed-6f1f505d/kvstore/internal/callsim"
)

// program is the program, built once, as its user would have it.
var program struct {
	once sync.Once
	dir  string
	err  error
}

const binary = "failover.exe"

func build() {
	p := &program
	if p.dir, p.err = os.MkdirTemp("", "failover-test-"); p.err != nil {
		return
	}
	out, err := exec.Command("go", "build", "-o", filepath.Join(p.dir, binary), ".").CombinedOutput()
	if err != nil {
		p.err = fmt.Errorf("%w\n%s", err, out)
	}
}

func TestMain(m *testing.M) {
	code := m.Run()
	if program.dir != "" {
		os.RemoveAll(program.dir)
	}
	os.Exit(code)
}

// command returns a command that runs the program, with a temporary directory of its own.
func command(t *testing.T, args ...string) (cmd *exec.Cmd, tmp string) {
	t.Helper()
	if testing.Short() {
		t.Skip("it builds the program and starts processes")
	}
	program.once.Do(build)
	if program.err != nil {
		t.Fatal(program.err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	cmd = exec.CommandContext(ctx, filepath.Join(program.dir, binary), args...)
	cmd.Stderr = os.Stderr
	tmp = t.TempDir()
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp, "TMP="+tmp, "TEMP="+tmp)
	return cmd, tmp
}

func mustBeEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind in the temporary directory: %v, %v", left, err)
	}
}

func TestRunLosesNothingThatWasPromised(t *testing.T) {
	cmd, tmp := command(t, "-calls", "200", "-seconds", "1", "-seed", "42", "-json")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var r callsim.Report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !r.OK || r.SyncedLost+r.Torn+r.Corrupt+r.CallsLost+r.Regressed+r.CleanExitLost+r.EarlyTimers+r.TornTimers != 0 || len(r.Problems) > 0 {
		t.Errorf("a guarantee was broken:\n%s", out)
	}
	if r.Calls != 200 || r.Seed != 42 || r.Events < 200 || r.EventsAfter < 200 || r.StoreWrites < 200 || r.Synced == 0 ||
		r.Adopted < 100 || r.Checked != 600 || r.FirstAdoptMS <= 0 || r.LagBoundMS < 100 || r.Logged < 400 || r.Lookups < 100 || r.TimersFired < 100 || r.AdoptP99MS < r.AdoptP50MS {
		t.Errorf("this run proves nothing:\n%s", out)
	}
	var fields map[string]any
	if err := json.Unmarshal(out, &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"calls", "events", "store_writes", "lag_bound_ms", "worst_loss_ms", "first_adopt_ms",
		"adopt_p99_ms", "adopted", "synced_lost", "torn", "calls_lost", "within_bound", "early_timers", "torn_timers", "timers_fired", "logged", "lookups", "by_timer", "clean_exit_lost"} {
		if _, ok := fields[name]; !ok {
			t.Errorf("-json prints no %q", name)
		}
	}
	mustBeEmpty(t, tmp)
}

func TestAReportThatCannotBeWrittenIsAnError(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		r, w := io.Pipe()
		r.Close()
		if err := callrun.Report(&callsim.Report{OK: true}, asJSON, w); err == nil {
			t.Errorf("as JSON %v: nothing was written, and there is no error", asJSON)
		}
	}
}

// served is a program with -serve, as its user sees it.
type served struct {
	t     *testing.T
	cmd   *exec.Cmd
	tmp   string
	addr  map[string]string
	pid   map[string]int
	lines chan string
}

func startServing(t *testing.T) *served {
	cmd, tmp := command(t, "-serve", "-a", "127.0.0.1:0", "-b", "127.0.0.1:0", "-maxdelay", "20ms")
	s := &served{t: t, cmd: cmd, tmp: tmp, addr: map[string]string{}, pid: map[string]int{}, lines: make(chan string, 100)}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	go func() {
		defer close(s.lines)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			s.lines <- sc.Text()
		}
	}()
	node := regexp.MustCompile(`^node (\w) (?:serves|waits) +at (\S+) \(pid (\d+)\)`)
	for len(s.addr) < 2 {
		if m := node.FindStringSubmatch(s.line("node ")); m != nil {
			s.addr[m[1]] = m[2]
			s.pid[m[1]], _ = strconv.Atoi(m[3])
		}
	}
	return s
}

// line returns the next line with the given beginning.
func (s *served) line(begin string) string {
	s.t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case l, ok := <-s.lines:
			if !ok {
				s.t.Fatalf("it ended before it said %q", begin)
			}
			if strings.HasPrefix(l, begin) {
				return l
			}
		case <-late:
			s.t.Fatalf("it never said %q", begin)
		}
	}
}

func (s *served) kill(node string) {
	s.t.Helper()
	p, err := os.FindProcess(s.pid[node])
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// until asks a node until it answers with the status, and returns the answer.
func (s *served) until(node string, status int, method, path, body string) (re callsim.Reply) {
	s.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		req, err := http.NewRequest(method, "http://"+s.addr[node]+path, strings.NewReader(body))
		if err != nil {
			s.t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			data, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode == status {
				if err := json.Unmarshal(data, &re); err != nil {
					s.t.Fatal(err)
				}
				return re
			}
		}
		if time.Now().After(end) {
			s.t.Fatalf("node %s, %s %s: no answer %d, but %v, %v", node, method, path, status, resp, err)
		}
	}
}

func TestServeSurvivesKillsByHand(t *testing.T) {
	s := startServing(t)
	s.until("b", 503, "GET", "/calls/c1", "")
	s.until("a", 200, "POST", "/calls/c1/events?sync=1", `{"kind":"invite","from":"alice"}`)
	s.kill("a")
	re := s.until("b", 200, "POST", "/calls/c1/events?sync=1", `{"kind":"answer"}`)
	if re.N != 2 || re.Epoch != 2 || re.Adopted == nil || re.Adopted.N != 1 {
		t.Errorf("b after the kill of a: %+v", re)
	}
	s.line("node a is gone")
	s.line("node a is back")
	s.until("a", 503, "GET", "/calls/c1", "")
	s.kill("b")
	re = s.until("a", 200, "GET", "/calls/c1", "")
	if re.N != 2 || re.Epoch != 3 || re.Entries[callsim.Dialog].From != "alice" {
		t.Errorf("a after the kill of b: %+v", re)
	}
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be interrupted from another one here")
	}
	s.cmd.Process.Signal(os.Interrupt)
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("interrupted: %v", err)
	}
	mustBeEmpty(t, s.tmp)
}

func TestNodesEndWithTheirParent(t *testing.T) {
	s := startServing(t)
	s.until("a", 200, "POST", "/calls/c1/events", `{"kind":"invite"}`)
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, node := range []string{"a", "b"} {
		for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			resp, err := http.Get("http://" + s.addr[node] + "/stats")
			if err != nil {
				break // nobody listens any more
			}
			resp.Body.Close()
			if time.Now().After(end) {
				t.Fatalf("node %s outlives its parent", node)
			}
		}
	}
}

func TestFlagsThatCannotBeRight(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"-calls 0", "-calls"},
		{"-seconds 0", "-seconds"},
		{"-seconds NaN", "-seconds"},
		{"-sync 101", "-sync"},
		{"-workers 0", "-workers"},
		{"-maxdelay 1us", "-maxdelay"},
		{"-serve -json", "-json"},
		{"more", `"more"`},
		{"-calls x", "-calls"},
	} {
		if _, err := parse(strings.Fields(c.args), io.Discard); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one about %s", c.args, err, c.want)
		}
	}
	c, err := parse(nil, io.Discard)
	if err != nil || c.calls != 10_000 || c.a != "127.0.0.1:0" {
		t.Errorf("without flags: %+v, %v", c, err)
	}
	if c, err = parse([]string{"-serve"}, io.Discard); err != nil || c.b != "127.0.0.1:7002" {
		t.Errorf("-serve: %+v, %v", c, err)
	}
}
