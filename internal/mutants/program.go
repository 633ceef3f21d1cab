package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
)

// program is the tests of packages, with mutants in them: they are built once, which takes longer than most mutants take to be noticed.
type program struct {
	t     *tester
	built map[pkg]string
	in    map[int]bool
}

// chooser is the package that says which mutant is the one.
const chooser = `package chosen

import (
	"os"
	"strconv"
)

var n, _ = strconv.Atoi(os.Getenv("KVSTORE_MUTANT"))

func Is(mutant int) bool { return n == mutant }
`

// build builds the tests with all of ms in them that can be, the first one as number 1.
func (t *tester) build(ctx context.Context, ms []mutation) (*program, error) {
	p := &program{t: t, built: make(map[pkg]string), in: make(map[int]bool)}
	files := make(map[string][]numbered)
	for i := range ms {
		src, err := ms[i].broken(t.root)
		if err != nil {
			continue // and is an error when it is tried
		}
		files[ms[i].file] = append(files[ms[i].file], numbered{i + 1, src})
	}
	const own = "internal/mutants/chosen"
	module := t.packages[0].path // of the root
	o := overlay{}
	if err := o.put(filepath.Join(t.root, filepath.FromSlash(own), "chosen.go"), filepath.Join(t.dir, "chosen.go"), []byte(chooser)); err != nil {
		return nil, err
	}
	for file, mutants := range files {
		at := filepath.Join(t.root, filepath.FromSlash(file))
		src, err := os.ReadFile(at)
		if err != nil {
			return nil, err
		}
		src, in, err := together(src, mutants, path.Join(module, own))
		if err != nil {
			return nil, fmt.Errorf("%s with its mutants: %w", file, err)
		}
		for _, n := range in {
			p.in[n] = true
		}
		if err := o.put(at, filepath.Join(t.dir, fmt.Sprint(len(o), "-", path.Base(file))), src); err != nil {
			return nil, err
		}
	}
	flag, err := o.flag(filepath.Join(t.dir, "all.json"))
	if err != nil {
		return nil, err
	}
	for i, q := range t.packages {
		p.built[q] = filepath.Join(t.dir, fmt.Sprint("all-", i, ".test"))
		cmd := exec.CommandContext(ctx, "go", "test", "-c", flag, "-vet=off", "-o", p.built[q], q.path)
		cmd.Dir = t.root
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("the mutants do not build together (-apart tells which): %w\n%s", err, out)
		}
	}
	// Else they would notice everything.
	failed, err := p.with(ctx, 0)("", t.packages)
	if err == nil && len(failed) > 0 {
		err = fmt.Errorf("of the program as it is these fail: %v", failed)
	}
	return p, err
}

// with returns what runs the tests with a mutant chosen.
func (p *program) with(ctx context.Context, n int) tests {
	return func(run string, ps []pkg) (killers []string, err error) {
		for _, q := range ps {
			cmd := exec.CommandContext(ctx, p.built[q], "-test.paniconexit0", "-test.run", run, "-test.timeout", p.t.limit(run), fmt.Sprint("-test.failfast=", !p.t.all))
			cmd.Dir = filepath.Join(p.t.root, filepath.FromSlash(q.dir))
			cmd.Env = append(os.Environ(), fmt.Sprint("KVSTORE_MUTANT=", n))
			more, err := noticed(ctx, cmd)
			killers = append(killers, more...)
			if err != nil || len(killers) > 0 && !p.t.all {
				return killers, err
			}
		}
		return killers, nil
	}
}

// overlay says what the go command is to read in place of files.
type overlay map[string]string

// put writes src to a file at is, for the compiler to read in place of the one at path.
func (o overlay) put(path, is string, src []byte) error {
	o[path] = is
	return os.WriteFile(is, src, 0o600)
}

// flag writes the overlay to a file, and returns what tells the go command of it.
func (o overlay) flag(file string) (string, error) {
	b, err := json.Marshal(map[string]overlay{"Replace": o})
	if err != nil {
		return "", err
	}
	return "-overlay=" + file, os.WriteFile(file, b, 0o600)
}
