// Package tests runs the demo as its user does. It is a directory of its own, so that what is built with the race detector is this, and not the NATS
// server that the demo has in it.
package tests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-6f1f505d/kvstore/internal/callrun"
	"github.com/seed-6f1f505d/kvstore/internal/outage"
	"github.com/seed-6f1f505d/kvstore/internal/pgserver"
	"github.com/seed-6f1f505d/kvstore/internal/proc"
	"github.com/seed-6f1f505d/kvstore/internal/redisserver"
)

// program is the program, built once, as its user would have it.
var program struct {
	once sync.Once
	dir  string
	err  error
}

const binary = "cluster.exe"

func build() {
	p := &program
	if p.dir, p.err = os.MkdirTemp("", "cluster-test-"); p.err != nil {
		return
	}
	out, err := exec.Command("go", "build", "-ldflags=-w", "-o", filepath.Join(p.dir, binary), "..").CombinedOutput()
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

// report is what -json prints, as far as it is looked at.
type report struct {
	Store              string   `json:"store"`
	Seed               uint64   `json:"seed"`
	Calls              int      `json:"calls"`
	Events             int      `json:"events"`
	Synced             int      `json:"synced"`
	Strayed            int      `json:"strayed"`
	Redirected         int      `json:"redirected"`
	Adopted            int      `json:"adopted"`
	FrozenMS           float64  `json:"frozen_ms"`
	ZombieAttempted    int      `json:"zombie_attempted"`
	ZombieLanded       int      `json:"zombie_landed"`
	ZombieChecked      int      `json:"zombie_checked"`
	FirstAnswerMS      float64  `json:"first_answer_ms"`
	FirstAnswerKillMS  float64  `json:"first_answer_kill_ms"`
	FirstAnswerStopMS  float64  `json:"first_answer_stop_ms"`
	FirstAnswerStoreMS *float64 `json:"first_answer_store_ms"`
	LagBoundMS         float64  `json:"lag_bound_ms"`
	WorstLossMS        float64  `json:"worst_loss_ms"`
	SyncedLost         int      `json:"synced_lost"`
	Torn               int      `json:"torn"`
	Corrupt            int      `json:"corrupt"`
	CallsLost          int      `json:"calls_lost"`
	Regressed          int      `json:"regressed"`
	CleanExitLost      int      `json:"clean_exit_lost"`
	Checked            int      `json:"checked"`
	OK                 bool     `json:"ok"`
	Problems           []string `json:"problems"`
}

// play runs the program with the given flags, small, and returns its report and its exit status.
func play(t *testing.T, args ...string) (r report, status int) {
	t.Helper()
	tmp := t.TempDir()
	out, said, status := execute(t, tmp, append([]string{"-calls", "300", "-seconds", "0.5", "-workers", "24", "-seed", "42", "-json"}, args...)...)
	if said != "" {
		t.Logf("it said:\n%s", said)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind in the temporary directory: %v, %v", left, err)
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("status %d, %v\n%s", status, err, out)
	}
	t.Logf("%s", out)
	for _, name := range []string{"adopted", "redirected", "zombie_attempted", "zombie_landed", "synced_lost", "torn", "lag_bound_ms",
		"worst_loss_ms", "first_answer_ms"} {
		if !strings.Contains(out, `"`+name+`": `) {
			t.Errorf("-json prints no %q", name)
		}
	}
	return r, status
}

// execute runs the program, and returns what it printed, what it printed of errors, and its exit status.
func execute(t *testing.T, tmp string, args ...string) (out, said string, status int) {
	t.Helper()
	if testing.Short() {
		t.Skip("it builds the program and starts processes")
	}
	program.once.Do(build)
	if program.err != nil {
		t.Fatal(program.err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(program.dir, binary), args...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return stdout.String(), stderr.String(), exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return stdout.String(), stderr.String(), 0
}

// unharmed requires that nothing was lost that was promised, in a run that shows so.
func unharmed(t *testing.T, r report, status int) {
	t.Helper()
	if status != 0 || !r.OK || r.ZombieLanded+r.SyncedLost+r.Torn+r.Corrupt+r.CallsLost+r.Regressed+r.CleanExitLost != 0 || len(r.Problems) > 0 {
		t.Errorf("status %d: a guarantee was broken", status)
	}
	if r.Calls != 300 || r.Seed != 42 || r.Events < 900 || r.Synced == 0 || r.Adopted < 100 || r.Strayed == 0 || r.Redirected == 0 ||
		r.ZombieAttempted == 0 || r.ZombieChecked == 0 || r.Checked != 600 || r.FirstAnswerKillMS <= 0 || r.FirstAnswerStopMS <= 0 ||
		r.FrozenMS < 1000 || r.LagBoundMS < 100 {
		t.Error("this run proves nothing")
	}
}

// The store is the demo's own: it needs nothing.
func TestEmbedded(t *testing.T) {
	r, status := play(t)
	unharmed(t, r, status)
	if r.Store != "embedded" || r.FirstAnswerStoreMS == nil || *r.FirstAnswerStoreMS <= 0 {
		t.Error("no server of the store was killed: this run proves nothing of that")
	}
}

func TestPostgres(t *testing.T) {
	srv := pgserver.Start(t, "fsync=off")
	r, status := play(t, "-store", srv.URL())
	unharmed(t, r, status)
	mustBeDropped(t, srv.URL())
}

func TestRedis(t *testing.T) {
	srv := redisserver.Start(t)
	r, status := play(t, "-store", srv.URL())
	unharmed(t, r, status)
	if keys, err := srv.Do("DBSIZE"); err != nil || keys != "0" {
		t.Errorf("keys were left behind: %v, %v", keys, err)
	}
}

func TestEtcd(t *testing.T) {
	exe, err := proc.Tool("../../../store/etcd/server", "server")
	if err != nil {
		t.Fatal(err)
	}
	client, peer := address(t), address(t)
	serve(t, client, exe, "--data-dir", t.TempDir(), "--log-level", "error", "--listen-client-urls", "http://"+client, "--advertise-client-urls", "http://"+client,
		"--listen-peer-urls", "http://"+peer, "--initial-advertise-peer-urls", "http://"+peer, "--initial-cluster", "default=http://"+peer)
	r, status := play(t, "-store", "etcd://"+client)
	unharmed(t, r, status)
}

func TestNATS(t *testing.T) {
	exe, err := proc.Tool("../../../store/nats/server", "nats-server")
	if err != nil {
		t.Fatal(err)
	}
	at := address(t)
	host, port, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, at, exe, "--jetstream", "--store_dir", t.TempDir(), "--addr", host, "--port", port)
	r, status := play(t, "-store", "nats://"+at)
	unharmed(t, r, status)
}

// address returns an address of the loopback that nobody has now.
func address(t *testing.T) string {
	t.Helper()
	port, err := proc.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint("127.0.0.1:", port)
}

// serve runs a server until the test ends, and returns when it takes connections.
func serve(t *testing.T, at, exe string, args ...string) {
	t.Helper()
	p, err := proc.Run(exec.Command(exe, args...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	outage.Until(t, "the server answers", func() bool {
		select {
		case <-p.Ended():
			t.Fatalf("the server ended: %s", p.Log())
		default:
		}
		c, err := net.Dial("tcp", at)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// The control: with a fence that lets late writes through the judge must see them.
func TestABrokenFenceIsFoundOut(t *testing.T) {
	srv := pgserver.Start(t, "fsync=off")
	r, status := play(t, "-store", srv.URL(), "-leaky")
	if status != callrun.ExitBroken || r.OK || r.ZombieLanded == 0 || r.ZombieAttempted < r.ZombieLanded {
		t.Errorf("status %d: it was not found out: %+v", status, r)
	}
}

func TestFlagsThatCannotBeRight(t *testing.T) {
	const pg = "-store postgres://host/db "
	for _, c := range []struct{ args, want string }{
		{"-calls 0", "-calls"},
		{"-seconds NaN", "-seconds"},
		{"-sync 101", "-sync"},
		{"-stray -1", "-stray"},
		{"-workers 0", "-workers"},
		{"-lease 1ms", "-lease"},
		{"-maxdelay 1us", "-maxdelay"},
		{"-store mysql://host/db", "-store"},
		{"-store host:5432", "-store"},
		{"more", `"more"`},
		{"-calls x", "-calls"},
		{pg + "-listen 127.0.0.1:7001", "-listen"},
		{pg + "-node a", "-listen"},
		{pg + "-node a -listen :7001", "-listen"},
		{pg + "-node a -listen 0.0.0.0:7001", "-listen"},
		{pg + "-node a -listen 127.0.0.1:7001 -json", "-json"},
		{"-node a -listen 127.0.0.1:7001", "-store"},
	} {
		out, said, status := execute(t, t.TempDir(), strings.Fields(c.args)...)
		if status != callrun.ExitFailed || out != "" || !strings.Contains(said, c.want) {
			t.Errorf("%s: status %d, it said %q, want something about %s", c.args, status, said, c.want)
		}
	}
	if _, said, _ := execute(t, t.TempDir(), "-store", "my://user:secret@host"); said == "" || strings.Contains(said, "secret") {
		t.Errorf("a URL that is not understood: %s", said)
	}
}

func TestAStoreThatIsNotThereIsNoReport(t *testing.T) {
	out, said, status := execute(t, t.TempDir(), "-store", "postgres://127.0.0.1:1/none?connect_timeout=2")
	if status != callrun.ExitFailed || out != "" || said == "" {
		t.Errorf("status %d, %q, %q", status, out, said)
	}
}

// mustBeDropped requires that a run left nothing in the database.
func mustBeDropped(t *testing.T, url string) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.WithoutCancel(t.Context()))
	var n int
	if err := c.QueryRow(t.Context(), `SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'kvstore%'`).Scan(&n); err != nil || n != 0 {
		t.Errorf("%d schemas were left behind, %v", n, err)
	}
}
