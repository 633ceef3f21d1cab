// Command mutants breaks the code on purpose, in one place after the other, and shows which test notices.
//
//	go run ./internal/mutants            all of them: a table; exit status 1 if one survives
//	go run ./internal/mutants -run REGEXP   some, by name
//	go run ./internal/mutants -all       run all tests for each, and name all that fail
//	go run ./internal/mutants -jobs 1    one at a time, instead of as many as there are processors
//
// Nothing in the tree is touched: the compiler reads the broken file in place of the other (go help build, -overlay).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	f := flag.NewFlagSet("mutants", flag.ContinueOnError)
	name := f.String("run", "", "only those whose name matches this `regexp`")
	all := f.Bool("all", false, "run all tests for each, instead of ending with the first that fails")
	jobs := f.Int("jobs", runtime.NumCPU(), "how many at a time")
	timeout := f.Duration("timeout", 3*time.Minute, "of the tests, for each: who waits for ever is noticed, too")
	if err := f.Parse(args); err != nil {
		return err
	}
	only, err := regexp.Compile(*name)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	var mu sync.Mutex // guards out and what is counted
	survivors, void, n := 0, 0, 0
	var tries errgroup.Group
	tries.SetLimit(max(*jobs, 1))
	for _, m := range mutations {
		if !only.MatchString(m.name) {
			continue
		}
		n++
		tries.Go(func() error {
			killers, err := m.try(ctx, root, *all, *timeout)
			if ctx.Err() != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			verdict := strings.Join(killers, " ")
			switch {
			case err != nil:
				void++
				verdict = "ERROR: " + err.Error()
			case len(killers) == 0:
				survivors++
				verdict = "SURVIVED"
			}
			fmt.Fprintf(out, "%-62s %-22s %s\n", m.name, m.file, verdict)
			return nil
		})
	}
	if err := tries.Wait(); err != nil {
		return err
	}
	switch {
	case n == 0:
		return fmt.Errorf("-run: nothing matches %q", *name)
	case survivors+void > 0:
		return fmt.Errorf("of %d mutants %d survived, and %d could not be tried", n, survivors, void)
	}
	fmt.Fprintf(out, "%d mutants, none survived\n", n)
	return nil
}

// moduleRoot returns the directory of this module's go.mod.
func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	root := filepath.Dir(strings.TrimSpace(string(out)))
	if err == nil {
		if _, serr := os.Stat(filepath.Join(root, "internal", "mutants")); serr != nil {
			err = errors.New("to be run within the module")
		}
	}
	return root, err
}

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

// try returns the tests that fail: the first ones that do, or all. One that does not compile is an error: it shows nothing.
func (m *mutation) try(ctx context.Context, root string, all bool, timeout time.Duration) ([]string, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	mutant, err := m.broken(root)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "kvstore-mutant-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file, overlay := filepath.Join(dir, "mutant.go"), filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, mutant, 0o600); err != nil {
		return nil, err
	}
	o, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(root, filepath.FromSlash(m.file)): file}})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(overlay, o, 0o600); err != nil {
		return nil, err
	}
	test := func(args ...string) ([]string, error) {
		cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-overlay", overlay, "-vet=off", "-timeout", timeout.String()}, args...)...)
		cmd.Dir = root
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
	if all {
		return test(".", "./store/...")
	}
	killers, err := test("-failfast", "-run", m.by, "./"+path.Dir(m.file)) // building the others takes most of the time
	if err == nil && len(killers) == 0 {
		killers, err = test("-failfast", "-run", m.by, ".", "./store/...")
	}
	if err == nil && len(killers) == 0 {
		killers, err = test("-failfast", ".", "./store/...")
	}
	return killers, err
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
