package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"time"
)

// spec is a row: what is measured, and what is asked of it.
type spec struct {
	name   string
	about  string
	unit   string // of the result; "×" is a ratio
	want   string // "≤" or "≥" target; empty: the row is there to be compared with others
	target float64
}

// group is rows that are measured together because they share what is expensive to make. It
// measures those that runner.wants, and no others.
type group struct {
	rows func(c *config) []spec
	run  func(r *runner) error
}

var groups = []group{
	{hotRows, runHot},
	{flushRows, runFlush},
	{latencyRows, runLatency},
	{memoryRows, runMemory},
	{expiryRows, runExpiry},
	{gcRows, runGC},
	{adoptRows, runAdopt},
	{failoverRows, runFailover},
	{preloadRows, runPreload},
	{insideRows, runInside},
	{queryRows, runQuery},
	{mixRows, runMix},
	{updateRows, runUpdates},
	{coalesceRows, runCoalesce},
	{indexRows, runIndex},
	{growthRows, runGrowth},
}

// result is a row that was measured. Ratio is the median over the rounds, and is what unit says.
type result struct {
	Ratio  float64    `json:"ratio"`
	Unit   string     `json:"unit"`
	Want   string     `json:"want,omitempty"`
	Target *float64   `json:"target"` // null: none
	Noise  [2]float64 `json:"noise"`  // least and greatest of the rounds
	OK     bool       `json:"ok"`
	Rounds int        `json:"rounds"`
	Ours   string     `json:"ours,omitempty"`
	Bare   string     `json:"bare,omitempty"`
	OursNS times      `json:"ours_ns,omitzero"` // what Ours says, in numbers
	BareNS times      `json:"bare_ns,omitzero"`
	About  string     `json:"about"`
	Note   string     `json:"note,omitempty"`
	On     string     `json:"on,omitempty"` // see machine
}

// times are the nanoseconds of one side: the least of the rounds, their median, and the greatest. All zero: the row is no ratio of two times.
type times [3]float64

func timesOf(rounds []float64) times {
	return times{slices.Min(rounds), median(rounds), slices.Max(rounds)}
}

// machine is where a row was measured: its times say nothing about another.
func machine() string {
	return fmt.Sprintf("%s %s/%s, %d processors", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
}

type runner struct {
	*config
	specs   map[string]spec
	results map[string]*result
	skipped map[string]bool
	draws   uint64 // sequences drawn so far: the next one's seed
}

// names are the rows that were asked for, in order.
func (c *config) names() (names []string) {
	for _, g := range groups {
		for _, s := range g.rows(c) {
			if c.only.MatchString(s.name) {
				names = append(names, s.name)
			}
		}
	}
	return names
}

// measured are the rows that were asked for and not skipped, in order.
func (r *runner) measured() []string {
	return slices.DeleteFunc(r.names(), func(name string) bool { return r.skipped[name] })
}

// errMissing: this machine does not have what a row is about.
var errMissing = errors.New("not on this machine")

// skip leaves a row out, loudly; where the environment says CI that is an error.
func (r *runner) skip(name string, why error) error {
	if os.Getenv("CI") != "" {
		return fmt.Errorf("%s: under CI it must be measured: %w", name, why)
	}
	fmt.Fprintf(r.notes, "NOT MEASURED: %s: %v\n", name, why)
	r.skipped[name] = true
	return nil
}

func (r *runner) wants(name string) bool { return r.only.MatchString(name) }

func (r *runner) wantsAny(rows []spec) bool {
	return slices.ContainsFunc(rows, func(s spec) bool { return r.wants(s.name) })
}

func (r *runner) runAll() error {
	r.specs, r.results, r.skipped = map[string]spec{}, map[string]*result{}, map[string]bool{}
	for _, g := range groups {
		rows := g.rows(r.config)
		for _, s := range rows {
			r.specs[s.name] = s
		}
		if !r.wantsAny(rows) {
			continue
		}
		runtime.GOMAXPROCS(r.cores())
		if err := g.run(r); err != nil {
			return err
		}
		debug.FreeOSMemory() // the next group begins with an empty heap
	}
	for _, name := range r.measured() {
		if r.results[name] == nil {
			return fmt.Errorf("row %s was not measured", name)
		}
	}
	return nil
}

// cores is the GOMAXPROCS of the rows that have no number of their own.
func (c *config) cores() int { return slices.Max(c.cpus) }

func (r *runner) logf(format string, args ...any) {
	if r.progress != nil {
		fmt.Fprintf(r.progress, format+"\n", args...)
	}
}

// pick returns quick in quick runs, else full.
func (c *config) pick(full, quick int) int {
	if c.quick {
		return quick
	}
	return full
}

// report stores a row's samples, one for each round.
func (r *runner) report(name string, samples []float64, note string) *result {
	s, ok := r.specs[name]
	if !ok {
		panic("no such row: " + name)
	}
	res := &result{Ratio: median(samples), Unit: s.unit, Want: s.want, Rounds: len(samples), About: s.about, Note: note, On: machine(),
		Noise: [2]float64{slices.Min(samples), slices.Max(samples)}, OK: true}
	if s.want != "" {
		res.Target = &s.target
		res.OK = s.want == "≤" && res.Ratio <= s.target || s.want == "≥" && res.Ratio >= s.target
	}
	if r.wants(name) {
		r.results[name] = res
		r.logf("%-34s %8.3f %s", name, res.Ratio, res.Unit)
	}
	return res
}

// pair is one round: both sides' cost, per operation or for all, in nanoseconds.
type pair struct{ ours, bare float64 }

// reportPairs stores a row whose samples are ratios: of the rates if its unit says so, else of the times.
func (r *runner) reportPairs(name string, pairs []pair, note string) {
	rates := strings.Contains(r.specs[name].unit, "rate")
	var samples, ours, bare []float64
	for _, p := range pairs {
		ours, bare = append(ours, p.ours), append(bare, p.bare)
		if rates {
			samples = append(samples, p.bare/p.ours)
		} else {
			samples = append(samples, p.ours/p.bare)
		}
	}
	res := r.report(name, samples, note)
	res.OursNS, res.BareNS = timesOf(ours), timesOf(bare)
	res.Ours, res.Bare = duration(res.OursNS[1]), duration(res.BareNS[1])
}

// alternate measures a and b by turns, so that what else the machine does meets both. The round
// before the first is for caches and is not counted. prepare, if any, is called before a round, and
// again before its other side; it is not timed.
func (r *runner) alternate(name string, prepare func(round int) error, ours, bare func() (float64, error)) (pairs []pair, err error) {
	return r.alternateFor(r.rounds, name, prepare, ours, bare)
}

// alternateFor is alternate, for what takes so long that it has a number of rounds of its own.
func (r *runner) alternateFor(rounds int, name string, prepare func(round int) error, ours, bare func() (float64, error)) (pairs []pair, err error) {
	for i := range rounds + 1 {
		var p pair
		for _, s := range []struct {
			name string
			run  func() (float64, error)
			ns   *float64
		}{{"ours", ours, &p.ours}, {"bare", bare, &p.bare}} {
			if prepare != nil {
				if err := prepare(i); err != nil {
					return nil, fmt.Errorf("%s: %w", name, err)
				}
			}
			if *s.ns, err = side(name, s.name, s.run); err != nil {
				return nil, err
			}
		}
		if i > 0 {
			pairs = append(pairs, p)
		}
	}
	return pairs, nil
}

// side runs one side of a round, on a heap that was just collected. Profiles tell the sides apart.
func side(name, side string, f func() (float64, error)) (ns float64, err error) {
	runtime.GC()
	pprof.Do(context.Background(), pprof.Labels("row", name, "side", side), func(context.Context) { ns, err = f() })
	if err != nil {
		return 0, fmt.Errorf("%s: %s: %w", name, side, err)
	}
	return ns, nil
}

// parallel divides ops operations among as many goroutines as there are processors, and
// returns the nanoseconds for one operation, by the clock on the wall.
func parallel(cpus, ops int, f func(from, to int) error) (float64, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cpus))
	start := make(chan struct{})
	errs := make([]error, cpus)
	var wg sync.WaitGroup
	for g := range cpus {
		wg.Go(func() {
			<-start
			errs[g] = f(g*ops/cpus, (g+1)*ops/cpus)
		})
	}
	began := time.Now()
	close(start)
	wg.Wait()
	took := time.Since(began)
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return float64(took) / float64(ops), nil
}

func median(xs []float64) float64 {
	xs = slices.Sorted(slices.Values(xs))
	n := len(xs)
	return (xs[(n-1)/2] + xs[n/2]) / 2
}
