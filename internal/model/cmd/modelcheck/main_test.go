package main

import (
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	tests := []struct {
		args  string
		sound bool
		err   string
		out   string
	}{
		{"-shape release -transactions 1", true, "", "all invariants hold"},
		{"-bug same-epoch", false, "", "not so: one tenure in an epoch"},
		{"-bug clear-dirty -invariant 6", false, "", "node a writes v2 to s in memory"},
		{"-list", true, "", "check-then-write"},
		{"-bug none-such", false, "there is no bug", ""},
		{"-shape none-such", false, "there is no shape", ""},
		{"-invariant 99", false, "there is no invariant", ""},
		{"-shape pair -nodes 4", false, "4 nodes: must be from 1 to 3", ""},
		{"-flag", false, "not defined", ""},
	}
	for _, test := range tests {
		t.Run(test.args, func(t *testing.T) {
			var out strings.Builder
			sound, err := run(strings.Fields(test.args), &out)
			if sound != test.sound || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("sound %v, error %v; want %v, %q", sound, err, test.sound, test.err)
			}
			if !strings.Contains(out.String(), test.out) {
				t.Errorf("there is no %q in:\n%s", test.out, &out)
			}
		})
	}
}
