package main

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The list must keep up with the code: each mutation changes one place, and what comes of it is Go.
func TestMutationsApply(t *testing.T) {
	root := filepath.Join("..", "..")
	names := map[string]bool{}
	for _, m := range mutations {
		if names[m.name] {
			t.Errorf("%q stands in the list twice", m.name)
		}
		names[m.name] = true
		if m.old == m.new {
			t.Errorf("%q changes nothing", m.name)
		}
		if _, err := m.broken(root); err != nil {
			t.Errorf("%q: %v", m.name, err)
		}
		if _, err := regexp.Compile(m.by); err != nil || m.by == "" {
			t.Errorf("%q: tests %q: %v", m.name, m.by, err)
		}
	}
	if len(mutations) < 25 {
		t.Errorf("%d mutations", len(mutations))
	}
}

func TestFailures(t *testing.T) {
	for _, c := range []struct{ out, want, err string }{
		{"--- FAIL: TestB (0.1s)\n    --- FAIL: TestB/x (0.1s)\n--- FAIL: TestA (0s)\nFAIL\n", "TestA TestB", ""},
		{"panic: test timed out after 3m0s\n\trunning tests:\n\t\tTestC (3m0s)\n\ngoroutine 1:\n", "TestC (timed out)", ""},
		{"panic: deadlock: all goroutines in bubble are blocked\n", "panic: deadlock: all goroutines in bubble are blocked", ""},
		{"fatal error: all goroutines are asleep - deadlock!\n", "panic: all goroutines are asleep - deadlock!", ""},
		{"./x.go:1:1: undefined: y\nFAIL\tkvstore [build failed]\n", "", "does not compile"},
		{"FAIL\n", "", "do not say which"},
	} {
		names, err := failures(c.out)
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%q: %q, want %q", c.out, got, c.want)
		}
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: error %v, want %q", c.out, err, c.err)
		}
	}
}
