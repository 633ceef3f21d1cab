package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// This file writes the table of speeds in the README, from a table that was printed before: the one that is kept beside it. So what
// the README says of speed was measured (TestREADME).

// line is a row of the README's table: what it is about, against what, and the rows of bench that are its figures.
type line struct {
	what, against string
	rows          []string
}

var lines = []line{
	{"`Get`, 1 M resident sessions, uniform, 1 / 2 cores", "bare `xsync/v4` Load", []string{"get/uniform/1", "get/uniform/2"}},
	{"the same, zipf", "", []string{"get/zipf/1", "get/zipf/2"}},
	{"allocations of a resident `Get`", "", []string{"get-allocs"}},
	{"`Put` on a dirty session, uniform, 1 / 2 cores", "bare Store", []string{"put-dirty/uniform/1", "put-dirty/uniform/2"}},
	{"the same, zipf", "", []string{"put-dirty/zipf/1", "put-dirty/zipf/2"}},
	{"`Put` on a clean session, 1 / 2 cores", "bare Store", []string{"put-clean/shuffled/1", "put-clean/shuffled/2"}},
	{"90 % `Get`, 10 % `Put`, zipf, flushing to bbolt, beside caches that store nothing", "go-cache / otter v2", []string{"mix/go-cache", "mix/otter"}},
	{"the same", "ristretto / Olric, embedded", []string{"mix/ristretto", "mix/olric"}},
	{"updates/s, 64 goroutines, zipf, with at most 100 ms of lag", "bbolt, an `Update` each", []string{"updates/bbolt"}},
	{"the same, in Redis", "go-redis, a `SET` each / scs with its Redis store", []string{"updates/go-redis", "updates/scs"}},
	{"`Put` and `Sync`, 64 goroutines", "bbolt, an `Update` each", []string{"sync/bbolt"}},
	{"flush of 200,000 sessions into bbolt, fsync on, inserts / updates", "bbolt's best: all sorted beforehand, and cut into as many transactions", []string{"flush/insert/sync/whole", "flush/update/sync/whole"}},
	{"the same", "bbolt: the same batches as they arrive, each sorted", []string{"flush/insert/sync", "flush/update/sync"}},
	{"a flushed batch of 256: Redis / PostgreSQL", "the engine's best batch of the same bytes, without a fence", []string{"engine/redis", "engine/postgres"}},
	{"the same: NATS / etcd", "", []string{"engine/nats", "engine/etcd"}},
	{"p99.9 of `Put` while flushing flat out, fsync on / off", "idle", []string{"put-p999/flushing", "put-p999/flushing/nosync"}},
	{"`Adopt`, one at a time / 32 at once", "one bbolt read-modify-write", []string{"adopt/1/sync", "adopt/32/sync"}},
	{"failover of 1 M sessions: from the death to the first answer", "the lease of 1 s", []string{"failover/first"}},
	{"the same: to the last one adopted", "a bare scan that decodes / that also writes who owns each", []string{"failover/all", "failover/all/owned"}},
	{"memory of a clean one-entry session, above ID and value; after `Flush`", "– (xsync: 58 B)", []string{"memory/put", "memory/flush"}},
	{"processor time of a garbage collection at 5 M sessions; after `Flush`", "bare map", []string{"gc/put", "gc/flush"}},
	{"entries written to the store, a hot set of 1 % with 90 % of the updates", "distinct keys × windows", []string{"coalesce/exact"}},
	{"`CompareAndSwap` / `Add`", "a `Put`", []string{"cas", "counter"}},
	{"a queue's push and pop / in a queue of a million", "a `Put`", []string{"queue", "queue/long"}},
	{"a `Put` with two indexes whose terms stay / change", "one without", []string{"terms/put", "terms/put/changed"}},
	{"`Merged`, the first page of 1 M sessions by an index", "a bare page of bbolt", []string{"query/merged"}},
	{"1 M armed expiries: memory / a core's time when nothing is due", "–", []string{"expiry/armed", "expiry/waiting"}},
}

// Between these two the README has the table.
const (
	tableBegins = "| | against | target | measured |\n|---|---|---|---|\n"
	tableEnds   = "\nBold is missed."
)

// readme returns the README with the table that follows from what was measured.
func readme(text string, table map[string]*result) (string, error) {
	before, rest, begins := strings.Cut(text, tableBegins)
	_, after, ends := strings.Cut(rest, tableEnds)
	if !begins || !ends {
		return "", fmt.Errorf("it has no table between %q and %q", tableBegins, tableEnds)
	}
	var b strings.Builder
	b.WriteString(before + tableBegins)
	for _, l := range lines {
		var targets, measured []string
		for _, name := range l.rows {
			res := table[name]
			if res == nil {
				return "", fmt.Errorf("row %s was not measured", name)
			}
			targets, measured = append(targets, res.asked()), append(measured, res.told())
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", l.what, l.against, strings.Join(slices.Compact(targets), " / "), strings.Join(measured, " / "))
	}
	b.WriteString(tableEnds + after)
	return b.String(), nil
}

// asked is the target in words.
func (res *result) asked() string {
	if res.Target == nil {
		return "–"
	}
	return strings.TrimSpace(res.Want + " " + number(*res.Target) + res.suffix())
}

// told is the median, bold if it misses its target, and the least and greatest of the rounds if they differ from it.
func (res *result) told() string {
	s := number(res.Ratio)
	if unit := res.suffix(); unit != " ×" {
		s += unit
	}
	if !res.OK {
		s = "**" + s + "**"
	}
	if low, high := number(res.Noise[0]), number(res.Noise[1]); low != high {
		s += " (" + low + "–" + high + ")"
	}
	return s
}

// suffix is the unit as it stands behind a number.
func (res *result) suffix() string {
	if strings.HasPrefix(res.Unit, "×") {
		return " ×"
	}
	if res.Ratio == 0 {
		return ""
	}
	return " " + res.Unit
}

// writeREADME replaces the table in the file.
func writeREADME(path string, table map[string]*result) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("-readme: %w", err)
	}
	text, err := readme(string(old), table)
	if err != nil {
		return fmt.Errorf("-readme: %s: %w", path, err)
	}
	if text == string(old) {
		return nil
	}
	return os.WriteFile(path, []byte(text), 0o666)
}
