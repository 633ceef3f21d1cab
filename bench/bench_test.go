package main

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestQuick measures every row, small. It asserts what does not depend on the machine: nothing about speed.
func TestQuick(t *testing.T) {
	var out, notes bytes.Buffer
	if err := run([]string{"-quick", "-sessions", "2000", "-rounds", "1", "-json", "-dir", t.TempDir()}, &out, &notes); err != nil {
		t.Fatal(err)
	}
	var rows map[string]result
	d := json.NewDecoder(&out)
	d.DisallowUnknownFields()
	if err := d.Decode(&rows); err != nil {
		t.Fatalf("the output is not one JSON object of rows: %v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		t.Error("there is something behind the JSON object")
	}
	c, err := parse([]string{"-quick", "-sessions", "2000"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	names := slices.DeleteFunc(c.names(), func(name string) bool { return strings.Contains(notes.String(), "NOT MEASURED: "+name+":") })
	if len(rows) != len(names) {
		t.Errorf("%d rows were printed, want %d", len(rows), len(names))
	}
	for _, name := range names {
		r, ok := rows[name]
		if !ok {
			t.Errorf("row %s is missing", name)
			continue
		}
		if (r.OursNS == times{}) != (r.Ours == "") || (r.BareNS == times{}) != (r.Bare == "") || r.OursNS[0] > r.OursNS[1] || r.OursNS[1] > r.OursNS[2] || r.On == "" {
			t.Errorf("row %s does not say its times in numbers: %+v", name, r)
		}
		if math.IsNaN(r.Ratio) || r.Ratio < r.Noise[0] || r.Ratio > r.Noise[1] || r.Unit == "" || r.About == "" || r.Rounds < 1 {
			t.Errorf("row %s is not whole: %+v", name, r)
		}
		if r.Target != nil && r.OK != (r.Want == "≤" && r.Ratio <= *r.Target || r.Want == "≥" && r.Ratio >= *r.Target) {
			t.Errorf("row %s: ok is %v, with %v %s %v", name, r.OK, r.Ratio, r.Want, *r.Target)
		}
	}
	if n := rows["get-allocs"].Ratio; n != 0 {
		t.Errorf("a resident Get allocates %v times", n)
	}
	if n := rows["coalesce/exact"].Ratio; n != 1 {
		t.Errorf("the store was given %v entries for each that had changed in a window, want exactly 1", n)
	}
	if r := rows["coalesce/timed"]; r.Noise[1] > 1 {
		t.Errorf("up to %v entries were written for each key and window: %s", r.Noise[1], r.Note)
	}
}

func TestFlags(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"-sessions 999", "-sessions is 999: from 1000"},
		{"-rounds 0", "-rounds is 0: from 1"},
		{"-cpus x", `-cpus: "x" is not a number`},
		{"-cpus 0", "-cpus: 0: from 1 to"},
		{"-cpus 1,1", "-cpus: 1 stands there twice"},
		{"-run (", "-run: error parsing regexp"},
		{"-run nothing", `-run: no row matches "nothing"; the rows are`},
		{"-dir /does/not/exist", "-dir: "},
		{"quick", `unexpected argument "quick"`},
		{"-plot x -run ^get/", `-plot draws the rows growth/, and -run "^get/" matches none`},
		{"-plot=", "-plot is empty"},
		{"-from x", "-from without -plot"},
		{"-plot x -from /does/not/exist", "-from: open /does/not/exist"},
		{"-plot x -from y -json", "-from measures nothing: there is no use for -json"},
	} {
		if _, err := parse(strings.Fields(tt.args), io.Discard); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: the error is %v, want %q in it", tt.args, err, tt.want)
		}
	}
}

func TestNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range (&config{cpus: []int{1, 2}, only: regexp.MustCompile("")}).names() {
		if seen[name] {
			t.Errorf("two rows are called %s", name)
		}
		seen[name] = true
	}
}

// TestHistogram compares it with the durations themselves.
func TestHistogram(t *testing.T) {
	rng := newRand(1)
	h := new(histogram)
	for _, x := range []uint64{0, 1, 63, 64, 65, 127, 128, 1 << 40, math.MaxInt64} {
		one := new(histogram)
		one.add(time.Duration(x))
		if got := one.quantile(0.5); got < float64(x) || got > float64(x)*(1+1.0/64)+1 {
			t.Errorf("of %d alone the median is %v", x, got)
		}
	}
	for range 100_000 {
		h.add(time.Duration(rng.IntN(1_000_000)))
	}
	for _, q := range []float64{0.5, 0.99, 0.999} {
		if got, want := h.quantile(q), q*1_000_000; math.Abs(got-want) > want*0.03 {
			t.Errorf("quantile %v is %v, want about %v", q, got, want)
		}
	}
}
