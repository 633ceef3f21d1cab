package main

import (
	"context"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// broken returns the file with the mutation in it.
func (m *mutation) broken(root string) ([]byte, error) {
	src, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(m.file)))
	if err != nil {
		return nil, err
	}
	if n := strings.Count(string(src), m.old); n != 1 {
		return nil, fmt.Errorf("what it replaces stands %d times in %s, not once", n, m.file)
	}
	mutant := []byte(strings.Replace(string(src), m.old, m.new, 1))
	_, err = parser.ParseFile(token.NewFileSet(), m.file, mutant, 0)
	return mutant, err
}

// pkg is a package that has tests.
type pkg struct{ path, dir string } // dir from the module's root, as in mutation.file

// tested returns the packages whose tests should notice: those that users see, and those that a mutation is in.
func tested(ctx context.Context, root string) (ps []pkg, err error) {
	dirs := []string{".", "./store/..."}
	for i := range mutations {
		if d := "./" + path.Dir(mutations[i].file); !slices.Contains(dirs, d) && !strings.HasPrefix(d, "./store/") {
			dirs = append(dirs, d)
		}
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"list", "-f", "{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{.Dir}}{{end}}"}, dirs...)...)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return nil, told(err)
	}
	for line := range strings.Lines(string(out)) {
		p, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
		if dir, err = filepath.Rel(root, dir); err != nil {
			return nil, err
		}
		ps = append(ps, pkg{p, filepath.ToSlash(dir)})
	}
	return ps, nil
}

// told adds what a command has printed to the error that it failed with.
func told(err error) error {
	var e *exec.ExitError
	if errors.As(err, &e) {
		return fmt.Errorf("%w: %s", err, e.Stderr)
	}
	return err
}

// tester tries mutants.
type tester struct {
	root     string
	dir      string // for what is made
	packages []pkg
	all      bool
	timeout  time.Duration
}

// tests runs the tests of packages that match run, all if it is empty, and returns those that fail.
type tests func(run string, ps []pkg) ([]string, error)

// limit is how long tests may take: a few are shorter than all of them, and who waits for ever is noticed earlier.
func (t *tester) limit(run string) string {
	if run != "" {
		return (t.timeout / 3).String()
	}
	return t.timeout.String()
}

// try returns the tests that fail: the first ones that do, or all. One that does not compile is an error: it shows nothing.
func (t *tester) try(m mutation, test tests) (killers []string, err error) {
	if t.all {
		return test("", t.packages)
	}
	var own, others []pkg
	for _, p := range t.packages {
		if p.dir == path.Dir(m.file) {
			own = append(own, p)
		} else {
			others = append(others, p)
		}
	}
	for _, try := range []struct {
		run string
		ps  []pkg
	}{{m.by, own}, {m.by, others}, {"", own}, {"", others}} {
		if killers, err = test(try.run, try.ps); err != nil || len(killers) > 0 {
			return killers, err
		}
	}
	return nil, nil
}

// apart returns what runs the tests with a mutant that is built by itself.
func (t *tester) apart(ctx context.Context, n int, m mutation) tests {
	return func(run string, ps []pkg) ([]string, error) {
		if len(ps) == 0 {
			return nil, nil
		}
		mutant, err := m.broken(t.root)
		if err != nil {
			return nil, err
		}
		o := overlay{}
		if err := o.put(filepath.Join(t.root, filepath.FromSlash(m.file)), filepath.Join(t.dir, fmt.Sprint(n, ".go")), mutant); err != nil {
			return nil, err
		}
		flag, err := o.flag(filepath.Join(t.dir, fmt.Sprint(n, ".json")))
		if err != nil {
			return nil, err
		}
		args := []string{"test", flag, "-vet=off", "-timeout", t.limit(run), "-run", run}
		if !t.all {
			args = append(args, "-failfast")
		}
		for _, p := range ps {
			args = append(args, p.path)
		}
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = t.root
		return noticed(ctx, cmd)
	}
}

// noticed runs tests, and returns those that fail.
func noticed(ctx context.Context, cmd *exec.Cmd) ([]string, error) {
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err == nil {
		return nil, nil
	}
	return failures(string(out))
}

var (
	failed  = regexp.MustCompile(`(?m)^--- FAIL: (\S+)`)
	running = regexp.MustCompile(`(?m)^\s+(Test\S+|Example\S+) \(`)
	panics  = regexp.MustCompile(`(?m)^(?:panic|fatal error): (.*)`)
)

// failures reads what go test printed of tests that failed.
func failures(out string) (names []string, err error) {
	if strings.Contains(out, "[build failed]") || strings.Contains(out, "[setup failed]") {
		return nil, fmt.Errorf("it does not compile, and shows nothing:\n%s", out)
	}
	for _, m := range failed.FindAllStringSubmatch(out, -1) {
		names = append(names, m[1])
	}
	if p := panics.FindStringSubmatch(out); p != nil {
		if strings.Contains(p[1], "test timed out") {
			for _, m := range running.FindAllStringSubmatch(out, -1) {
				names = append(names, m[1]+" (timed out)")
			}
		} else {
			names = append(names, "panic: "+p[1])
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("the tests failed, and do not say which:\n%s", out)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
