package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
)

// This file compares what was measured with a table from before.

// readTable reads what printJSON has printed. flag is who asked for it.
func readTable(flag, path string) (map[string]*result, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	table := map[string]*result{}
	if err := json.Unmarshal(b, &table); err != nil {
		return nil, fmt.Errorf("%s: %s is not what -json prints: %w", flag, path, err)
	}
	for name, old := range table {
		if old == nil || old.Ratio <= 0 && old.Noise[1] > 0 || old.Noise[0] > old.Ratio || old.Ratio > old.Noise[1] {
			return nil, fmt.Errorf("%s: row %s of %s is not a result", flag, name, path)
		}
	}
	return table, nil
}

// greater reports whether more is better in a row.
func (res *result) greater() bool {
	return res.Want == "≥" || res.Want == "" && strings.Contains(res.Unit, "rate")
}

// worst is what a row may become before it counts as worse than it was: its median may move within all that its rounds were, and by
// tolerance, a part of it, in any case.
func (res *result) worst(tolerance float64) float64 {
	if res.greater() {
		return min(res.Noise[0], res.Ratio/(1+tolerance))
	}
	return max(res.Noise[1], res.Ratio*(1+tolerance))
}

// errWorse: rows are worse than they were.
var errWorse = errors.New("worse than the table says")

// compare names the rows that are worse than in the table, and those of it that are no more.
func (r *runner) compare(w io.Writer, table map[string]*result, tolerance float64) (worse, missing []string) {
	for _, name := range r.measured() {
		now, old := r.results[name], table[name]
		if old == nil {
			fmt.Fprintf(w, "%-34s is not in the table: %s %s\n", name, number(now.Ratio), now.Unit)
			continue
		}
		limit := old.worst(tolerance)
		if old.greater() && now.Ratio < limit || !old.greater() && now.Ratio > limit {
			worse = append(worse, name)
			fmt.Fprintf(w, "%-34s WORSE: %s %s, was %s (%s–%s), may be %s\n", name, number(now.Ratio), now.Unit, number(old.Ratio), number(old.Noise[0]), number(old.Noise[1]), number(limit))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(table)) {
		if _, measured := r.results[name]; !measured && r.wants(name) && !r.skipped[name] { // of what is skipped, skip has told
			missing = append(missing, name)
			fmt.Fprintf(w, "%-34s is in the table, and there is no such row\n", name)
		}
	}
	return worse, missing
}

// check compares what was measured with a table, and what is worse once more: others who use the machine for some minutes make rows worse, too, but
// seldom the same ones twice. again measures rows anew.
func (r *runner) check(w io.Writer, table map[string]*result, tolerance float64, again func(rows []string) (*runner, error)) error {
	worse, missing := r.compare(w, table, tolerance)
	if len(worse) > 0 {
		fmt.Fprintf(w, "\nonce more, those that are worse:\n")
		next, err := again(worse)
		if err != nil {
			return err
		}
		worse, _ = next.compare(w, table, tolerance)
	}
	if n := len(worse) + len(missing); n > 0 {
		return fmt.Errorf("%w: %s", errWorse, strings.Join(append(worse, missing...), ", "))
	}
	fmt.Fprintf(w, "%d rows, none is worse than the table says\n", len(r.measured()))
	return nil
}

// again measures rows anew.
func (r *runner) again(rows []string) (*runner, error) {
	c := *r.config
	c.only = regexp.MustCompile("^(" + strings.Join(quoted(rows), "|") + ")$")
	next := &runner{config: &c}
	return next, next.runAll()
}

func quoted(names []string) (qs []string) {
	for _, n := range names {
		qs = append(qs, regexp.QuoteMeta(n))
	}
	return qs
}
