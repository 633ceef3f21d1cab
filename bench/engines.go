//go:build peers

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// This file has what the fence costs on each engine for many machines in the one run: a store's flushes beside the same bytes written in the engine's own best
// way. The adapters' own benchmarks measure that, with a server that they start (see internal/flushbench). They are run in their modules, as make bench-engines
// does it, so that bench need not know how each engine is asked.

func init() { groups = append(groups, group{engineRows, runEngines}) }

// engineBench is a row that a benchmark of an adapter measures.
type engineBench struct {
	name   string // of the row, after "engine/"
	module string // in store
	bench  string // the path of the benchmark
	about  string
	target float64 // 0: none
}

var engineBenches = []engineBench{
	{"redis", "redis", "BenchmarkFlush/server/appendfsync=everysec/20000/1×256", "one entry of 256 B; bare: pipelined HSET", 0.7},
	{"redis/always", "redis", "BenchmarkFlush/server/appendfsync=always/20000/1×256", "likewise, with an fsync for each batch", 0},
	{"redis/entries", "redis", "BenchmarkFlush/server/appendfsync=everysec/20000/4×128", "likewise, four entries of 128 B", 0},
	{"postgres", "postgres", "BenchmarkFlush/relaxed=false", "one entry of 256 B; bare: an upsert in one statement", 0.7},
	{"postgres/relaxed", "postgres", "BenchmarkFlush/relaxed=true", "likewise, neither waits for the disk", 0},
	{"nats", "nats", "BenchmarkFlush/R1/20000/1×256/cached", "one entry of 256 B; bare: asynchronous publishing", 0.7},
	{"nats/R3", "nats", "BenchmarkFlush/R3/20000/1×256/cached", "likewise, on three servers", 0},
	{"etcd", "etcd", "BenchmarkFlush/20000/1×256", "one entry of 256 B; bare: puts in as few transactions as the server takes, all at the same time", 0.7},
	{"etcd/entries", "etcd", "BenchmarkFlush/20000/4×64", "likewise, four entries of 64 B", 0},
}

func engineRows(*config) (rows []spec) {
	for _, b := range engineBenches {
		s := spec{name: "engine/" + b.name, about: "flushes of 256 sessions at a time into store/" + b.module + ", " + b.about, unit: "× rate"}
		if b.target > 0 {
			s.want, s.target = "≥", b.target
		}
		rows = append(rows, s)
	}
	return rows
}

func runEngines(r *runner) error {
	for _, b := range engineBenches {
		name := "engine/" + b.name
		if !r.wants(name) {
			continue
		}
		if err := r.engine(name, b); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// engine runs a benchmark once for each round, of which each is made of many by turns; so a few are enough.
func (r *runner) engine(name string, b engineBench) error {
	flushes := r.pick(300, 1)
	cmd := exec.Command("go", "test", "-v", "-run", "-", "-bench", exactly(b.bench), "-benchtime", fmt.Sprint(flushes, "x"), "-count", fmt.Sprint(min(r.rounds, 3)), "-timeout", "30m", ".")
	cmd.Dir = filepath.Join("..", "store", b.module)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("go test in %s: %w\n%s", cmd.Dir, err, out)
	}
	var pairs []pair
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		if _, why, skipped := strings.Cut(s.Text(), "NOT TESTED: "); skipped {
			return r.skip(name, fmt.Errorf("%w: %s", errMissing, why))
		}
		m := reported(s.Text())
		if m["fenced/s"] > 0 && m["bare/s"] > 0 {
			pairs = append(pairs, pair{ours: 1e9 / m["fenced/s"], bare: 1e9 / m["bare/s"]})
		}
	}
	if len(pairs) == 0 {
		return fmt.Errorf("%s says nothing of its rates:\n%s", b.bench, out)
	}
	r.reportPairs(name, pairs, fmt.Sprintf("for a session; each round is the median of %d flushes", flushes))
	return nil
}

// exactly returns what -bench matches with one benchmark alone: it matches level by level.
func exactly(path string) string {
	levels := strings.Split(path, "/")
	for i, l := range levels {
		levels[i] = "^" + regexp.QuoteMeta(l) + "$"
	}
	return strings.Join(levels, "/")
}

// reported returns what a line of a benchmark's output reports, by unit: its name and count, and then a number before each unit.
func reported(line string) map[string]float64 {
	fields := strings.Fields(line)
	if len(fields) < 4 || !strings.HasPrefix(line, "Benchmark") {
		return nil
	}
	m := map[string]float64{}
	for i := 2; i+1 < len(fields); i += 2 {
		if x, err := strconv.ParseFloat(fields[i], 64); err == nil {
			m[fields[i+1]] = x
		}
	}
	return m
}
