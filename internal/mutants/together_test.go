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

// A program that has all mutants in it does with each what the one does that is made of it alone.
func TestTogether(t *testing.T) {
	const none = "and [1 2 3] 10 20\ntrue 4\n"
	rows := []struct{ old, new, prints string }{ // printed by the one alone; nothing of those that are not in the program
		{"l.items = append(l.items, i)", "l.items = append(l.items, i, i)", "and [1 1 2 2 3 3] 10 20\ntrue 4\n"},
		{"for _, i := range items {\n\t\tl.items", "for n, items := range items {\n\t\ti := items; if n == 1 { return }\n\t\tl.items", "and [1] 10 20\ntrue 4\n"},
		{"const limit = 3", "const limit = 1", ""},
		{"break outer", "even += 5\n\t\t\tbreak outer", "and [1 2 3] 10 70\ntrue 4\n"},
		{"even *= 10", "even *= 11 // as none\n", "and [1 2 3] 11 22\ntrue 4\n"},
		{"count(n int) (even int) {", "count(n int) (even int) { n++", "and [1 2 3] 20 20\ntrue 4\n"},
		{"count(n int) (even int) {", "count(n, _ int) (even int) {", ""},
		{"return even\n}\n", "even, m := 7, even\nreturn even + m\n}\n", "and [1 2 3] 80 90\ntrue 4\n"},
		{"func init()", "func init() { fmt.Println() }\n\nfunc init()", ""},
		{"return true", "return false", "and [1 2 3] 10 20\nfalse 4\n"},
		{"return of[0]", "return of[len(of)-1]", "and [1 2 3] 10 20\ntrue 5\n"},
		{`"and "`, `"or "`, "or [1 2 3] 10 20\ntrue 4\n"},
		{
			"even++\n\t}\n\treturn even\n}\n\nfunc (*list[T]) is(int, string) bool { return true",
			"}\n\treturn even\n}\n\nfunc (*list[T]) is(int, string) bool { return false",
			"and [1 2 3] 0 0\nfalse 4\n",
		},
	}
	var mutants []numbered
	for n, r := range rows {
		if strings.Count(sample, r.old) != 1 {
			t.Fatalf("%q stands there %d times", r.old, strings.Count(sample, r.old))
		}
		mutants = append(mutants, numbered{n + 1, []byte(strings.Replace(sample, r.old, r.new, 1))})
		if _, in, err := together([]byte(sample), mutants[n:], "example/chosen"); err != nil || slices.Contains(in, n+1) != (r.prints != "") {
			t.Errorf("%q for %q: in the program are %v, %v", r.new, r.old, in, err)
		}
	}
	all, in, err := together([]byte(sample), mutants, "example/chosen")
	if err != nil {
		t.Fatal(err)
	}
	prints := printer(t, all)
	if got := prints(0); got != none {
		t.Errorf("with no mutant chosen it prints %q, want %q", got, none)
	}
	for _, n := range in {
		if got, want := prints(n), rows[n-1].prints; got != want {
			t.Errorf("with %q for %q it prints %q, want %q", rows[n-1].new, rows[n-1].old, got, want)
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
