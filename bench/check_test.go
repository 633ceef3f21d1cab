package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCheck: what is worse than in the table is named, and nothing else.
func TestCheck(t *testing.T) {
	table := map[string]*result{
		"get/uniform/1":     {Ratio: 1.1, Noise: [2]float64{1, 1.2}, Unit: "×", Want: "≤"},
		"get/zipf/1":        {Ratio: 1.1, Noise: [2]float64{0.9, 1.9}, Unit: "×", Want: "≤"}, // it was noisy
		"flush/insert/sync": {Ratio: 4, Noise: [2]float64{3.8, 4.4}, Unit: "× rate", Want: "≥"},
		"preload/nosync":    {Ratio: 0.4, Noise: [2]float64{0.39, 0.41}, Unit: "× rate"},
		"memory/bare":       {Ratio: 58, Noise: [2]float64{58, 58}, Unit: "B"},
		"get-allocs":        {Ratio: 0, Noise: [2]float64{0, 0}, Unit: "allocs/op", Want: "≤"},
	}
	b, err := json.Marshal(table)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "table.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	const rows = "^(get/(uniform|zipf)/1|flush/insert/sync|preload/nosync|memory/bare|get-allocs)$"
	for _, c := range []struct {
		row  string
		now  float64
		fine bool
	}{
		{"", 0, true},
		{"get/uniform/1", 1.37, true}, // within a quarter
		{"get/uniform/1", 1.4, false},
		{"get/uniform/1", 0.2, true},
		{"get/zipf/1", 1.8, true},
		{"get/zipf/1", 2, false},
		{"flush/insert/sync", 3.3, true},
		{"flush/insert/sync", 3.1, false},
		{"flush/insert/sync", 9, true},
		{"preload/nosync", 0.3, false}, // more is better, also without a target
		{"memory/bare", 80, false},
		{"get-allocs", 0.01, false},
	} {
		for _, lasts := range []bool{true, false} { // the second time it is measured
			cfg, err := parse([]string{"-cpus", "1", "-run", rows, "-check", path}, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			r := &runner{config: cfg, results: map[string]*result{}}
			for name, old := range cfg.table {
				now := *old
				r.results[name] = &now
			}
			if c.row != "" {
				r.results[c.row].Ratio = c.now
			}
			asked := false
			again := func(rows []string) (*runner, error) {
				asked = true
				cfg, err := parse([]string{"-cpus", "1", "-run", "^" + c.row + "$"}, io.Discard)
				now := *r.results[c.row]
				if !lasts {
					now.Ratio = table[c.row].Ratio
				}
				if len(rows) != 1 || rows[0] != c.row {
					t.Errorf("%q are measured again, want %s", rows, c.row)
				}
				return &runner{config: cfg, results: map[string]*result{c.row: &now}}, err
			}
			var out strings.Builder
			err = r.check(&out, cfg.table, cfg.tolerance, again)
			fine := c.fine || !lasts
			if asked == c.fine || (err == nil) != fine || err != nil && (!errors.Is(err, errWorse) || !strings.HasSuffix(err.Error(), ": "+c.row)) {
				t.Errorf("%s at %v: measured again %v; %v\n%s", c.row, c.now, asked, err, out.String())
			}
		}
	}

	// A row of the table that is gone, and one that is new.
	cfg, err := parse([]string{"-cpus", "1", "-run", "^get/", "-check", path}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{config: cfg, results: map[string]*result{}}
	for _, name := range cfg.names() {
		r.results[name] = &result{Ratio: 1, Unit: "×"}
	}
	cfg.table["get/gone"] = &result{Ratio: 1, Noise: [2]float64{1, 1}}
	delete(cfg.table, "get/zipf/1")
	var out strings.Builder
	if err := r.check(&out, cfg.table, 0, r.again); !errors.Is(err, errWorse) || !strings.Contains(out.String(), "get/gone") || !strings.Contains(out.String(), "get/zipf/1") {
		t.Errorf("%v\n%s", err, out.String())
	}
	for _, args := range [][]string{{"-check", path + "x"}, {"-check", path, "-json"}, {"-tolerance", "-1"}} {
		if _, err := parse(args, io.Discard); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
	if err := os.WriteFile(path, []byte(`{"get/zipf/1": {"ratio": 2, "noise": [3, 4]}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := parse([]string{"-check", path}, io.Discard); err == nil || !strings.Contains(err.Error(), "get/zipf/1") {
		t.Errorf("a table that is none: %v", err)
	}
}
