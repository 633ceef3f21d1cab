// Command mutants breaks the code on purpose, in one place after the other, and shows which test notices.
//
//	go run ./internal/mutants            all of them: a table; exit status 1 if one survives
//	go run ./internal/mutants -run REGEXP   some, by name
//	go run ./internal/mutants -all       run all tests for each, and name all that fail
//	go run ./internal/mutants -jobs 1    one at a time, instead of as many as there are processors
//	go run ./internal/mutants -apart     each in a program of its own: to find the one with which they do not build
//
// Nothing in the tree is touched: the compiler reads the broken files in place of the others (go help build, -overlay). One program has all mutants in it,
// and the tests choose one of them when they start, but for those that change something else than what a function does, which are built apart. Of
// many, that takes a tenth of the time.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// few mutants are built apart: what all of them are built into has all packages' tests, which are run once as they are.
const few = 8

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
	apart := f.Bool("apart", false, "build each by itself")
	timeout := f.Duration("timeout", 3*time.Minute, "of the tests, for each: who waits for ever is noticed, too")
	if err := f.Parse(args); err != nil {
		return err
	}
	only, err := regexp.Compile(*name)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	var chosen []mutation
	for _, m := range mutations {
		if only.MatchString(m.name) {
			chosen = append(chosen, m)
		}
	}
	if len(chosen) == 0 {
		return fmt.Errorf("-run: nothing matches %q", *name)
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "kvstore-mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	t := tester{root: root, dir: dir, all: *all, timeout: *timeout}
	if t.packages, err = tested(ctx, root); err != nil {
		return err
	}
	var one *program
	if !*apart && len(chosen) >= few {
		if one, err = t.build(ctx, chosen); err != nil {
			return err
		}
	}
	var mu sync.Mutex // guards out and what is counted
	survivors, void := 0, 0
	var tries errgroup.Group
	tries.SetLimit(max(*jobs, 1))
	for i, m := range chosen {
		n := i + 1
		tries.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			test := t.apart(ctx, n, m)
			if one != nil && one.in[n] {
				test = one.with(ctx, n)
			}
			killers, err := t.try(m, test)
			if ctx.Err() != nil {
				return context.Cause(ctx)
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
	err = tries.Wait()
	switch {
	case err != nil:
		return err
	case survivors+void > 0:
		return fmt.Errorf("of %d mutants %d survived, and %d could not be tried", len(chosen), survivors, void)
	}
	fmt.Fprintf(out, "%d mutants, none survived\n", len(chosen))
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
