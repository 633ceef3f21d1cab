package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const sample = `// Package main is what mutants are made of.
package main

import "fmt"

const limit = 3

type list[T any] struct{ items []T }

func (l *list[T]) add(items ...T) {
	for _, i := range items {
		l.items = append(l.items, i)
	}
}

func count(n int) (even int) {
	defer func() { even *= 10 }()
outer:
	for i := range n {
		switch {
		case i%2 == 1:
			continue outer
		case i > limit:
			break outer
		}
		even++
	}
	return even
}

func (*list[T]) is(int, string) bool { return true }

func first[T, _ any](_ int, of ...T) T { return of[0] }

func init() { fmt.Print("and ") }

func main() {
	var l list[int]
	l.add(1, 2, 3)
	fmt.Println(l.items, count(2), count(9)) // 2 and 4
	fmt.Println(l.is(1, "x"), first[int, bool](3, 4, 5))
}
`

// A program that has all mutants in it does with each what the one does that is built from it alone.
func TestTogether(t *testing.T) {
	var mutants []numbered
	for _, m := range []struct {
		old, new string
		apart    bool
	}{
		{old: "l.items = append(l.items, i)", new: "l.items = append(l.items, i, i)"},
		{old: "for _, i := range items {\n\t\tl.items", new: "for n, items := range items {\n\t\ti := items; if n == 1 { return }\n\t\tl.items"},
		{old: "const limit = 3", new: "const limit = 1", apart: true},
		{old: "break outer", new: "continue outer"},
		{old: "even *= 10", new: "even *= 11 // as none\n"},
		{old: "count(n int) (even int) {", new: "count(n int) (even int) { n++"},
		{old: "count(n int) (even int) {", new: "count(n, _ int) (even int) {", apart: true},
		{old: "return even\n}\n", new: "even, m := 7, even\nreturn even + m\n}\n"},
		{old: "func init()", new: "func init() { fmt.Println() }\n\nfunc init()", apart: true},
		{old: "return true", new: "return false"},
		{old: "return of[0]", new: "return of[len(of)-1]"},
		{old: `"and "`, new: `"or "`},
		{old: "even++\n\t}\n\treturn even\n}\n\nfunc (*list[T]) is(int, string) bool { return true", new: "}\n\treturn even\n}\n\nfunc (*list[T]) is(int, string) bool { return false"},
	} {
		if strings.Count(sample, m.old) != 1 {
			t.Fatalf("%q stands there %d times", m.old, strings.Count(sample, m.old))
		}
		n := len(mutants) + 1
		mutants = append(mutants, numbered{n, []byte(strings.Replace(sample, m.old, m.new, 1))})
		_, in, err := together([]byte(sample), mutants[n-1:], "example/chosen")
		if err != nil || slices.Contains(in, n) == m.apart {
			t.Errorf("%q for %q: in the program are %v, %v", m.new, m.old, in, err)
		}
	}
	all, in, err := together([]byte(sample), mutants, "example/chosen")
	if err != nil {
		t.Fatal(err)
	}
	whole := printer(t, all)
	if got, want := whole(0), printer(t, []byte(sample))(0); got != want {
		t.Errorf("with no mutant chosen it prints %q, want %q", got, want)
	}
	for _, n := range in {
		if got, want := whole(n), printer(t, mutants[n-1].src)(0); got != want {
			t.Errorf("with mutant %d chosen it prints %q, want %q", n, got, want)
		}
	}
}

// printer builds a program, and returns what it prints with a mutant chosen.
func printer(t *testing.T, src []byte) func(n int) string {
	dir := t.TempDir()
	for name, content := range map[string]string{"go.mod": "module example\n\ngo 1.26\n", "main.go": string(src), "chosen/chosen.go": chooser} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", "program", ".")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s\n%s", err, out, src)
	}
	return func(n int) string {
		cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "program"))
		cmd.Env = append(os.Environ(), fmt.Sprint("KVSTORE_MUTANT=", n))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
}
