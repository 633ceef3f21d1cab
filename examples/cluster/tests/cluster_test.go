package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-6f1f505d/kvstore/internal/callrun"
	"github.com/seed-6f1f505d/kvstore/internal/pgserver"
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

// play runs the program with the given flags, small, and returns its report and its exit status.
func play(t *testing.T, args ...string) (r report, status int) {
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
	args = append([]string{"-calls", "300", "-seconds", "0.5", "-workers", "24", "-seed", "42", "-json"}, args...)
	cmd := exec.CommandContext(ctx, filepath.Join(program.dir, binary), args...)
	cmd.Stderr = os.Stderr
	tmp := t.TempDir()
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind in the temporary directory: %v, %v", left, err)
	}
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("status %d, %v\n%s", status, err, out)
	}
	t.Logf("%s", out)
	for _, name := range []string{"adopted", "redirected", "zombie_attempted", "zombie_landed", "synced_lost", "torn", "lag_bound_ms",
		"worst_loss_ms", "first_answer_ms"} {
		if !strings.Contains(string(out), `"`+name+`": `) {
			t.Errorf("-json prints no %q", name)
		}
	}
	return r, status
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
	if r.Store != embedded || r.FirstAnswerStoreMS == nil || *r.FirstAnswerStoreMS <= 0 {
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
		if _, err := parse(strings.Fields(c.args), io.Discard); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one about %s", c.args, err, c.want)
		}
	}
	if c, err := parse(nil, io.Discard); err != nil || c.store != embedded || c.seed != 1 {
		t.Errorf("without flags: %+v, %v", c, err)
	}
	if _, err := parse(strings.Fields(pg+"-node a -listen 10.0.0.1:7001"), io.Discard); err != nil {
		t.Error(err)
	}
	if _, err := parse([]string{"-store", "my://user:secret@host"}, io.Discard); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a URL that is not understood: %v", err)
	}
}

func TestAStoreThatIsNotThereIsNoReport(t *testing.T) {
	if status := run([]string{"-store", "postgres://127.0.0.1:1/none?connect_timeout=2"}, os.Stdout, os.Stderr); status != callrun.ExitFailed {
		t.Errorf("status %d", status)
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
