// Command bench measures kvstore against what it stands on: a bare xsync map in memory, a bare bbolt
// file on disk. Every number is a ratio of two measurements taken by turns in one run, on the same
// keys and values, so that it means the same on another machine, and on a busy one.
//
//	go run .                     a table of all rows
//	go run . -json               one object: name → {ratio, target, noise, ok, …}
//	go run . -run '^(get|put)/'  some of them
//	go run . -check table.json   likewise all, and names those that are worse, twice, than in a table that -json has printed
//	go run . -quick              everything small: whether it works, not how fast
//	go run . -plot dir           likewise all, and draws the rows growth/ as curves, a file for each figure
//	go run . -plot dir -from table.json
//	                             draws those of a table that -json has printed, and measures nothing
//	go run -tags peers .         also the rows that need more modules, servers, or the adapters' benchmarks: what make bench does
//
// It exits with 0 also if a target is not reached; the column and the field "ok" tell. A row that could
// not be measured is an error, and so is, with -check, one that is worse than it was. Rows whose server this machine does not have
// are left out, loudly; where the environment says CI that is an error, too.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	err := run(os.Args[1:], os.Stdout, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// config is what the flags say.
type config struct {
	sessions int   // resident sessions
	rounds   int   // turns of each side
	cpus     []int // GOMAXPROCS of the rows that end with it
	quick    bool
	dir      string // where files are made
	only     *regexp.Regexp
	progress io.Writer // nil: none
	notes    io.Writer // told what could not be measured

	json      bool
	profile   string
	plot      string             // directory of the figures; empty: none
	readme    string             // to write the table into; empty: none
	from      map[string]*result // to draw and write instead of measuring; nil: what is measured
	table     map[string]*result // to compare with; nil: nothing is compared
	tolerance float64
}

func run(args []string, stdout, stderr io.Writer) (err error) {
	c, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if c.plot != "" {
		// Before an hour is spent on what nobody could look at then.
		if err := os.MkdirAll(c.plot, 0o777); err != nil {
			return fmt.Errorf("-plot: %w", err)
		}
	}
	if c.from != nil {
		if c.plot != "" {
			err = plot(c.plot, c.from)
		}
		if c.readme != "" {
			err = errors.Join(err, writeREADME(c.readme, c.from))
		}
		return err
	}
	if f, ok := stderr.(*os.File); ok {
		// Nobody reads progress in a log.
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			c.progress = f
		}
	}
	if c.dir, err = os.MkdirTemp(c.dir, "kvstore-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(c.dir)) }()
	// The files are large: one who loses patience is not to be left with them.
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	go func() {
		if _, ok := <-stop; ok {
			os.RemoveAll(c.dir)
			os.Exit(130)
		}
	}()
	defer func() { signal.Stop(stop); close(stop) }()
	if c.profile != "" {
		f, err := os.Create(c.profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}

	// Rows set what they need; what runs after us finds it as it was.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	r := &runner{config: c}
	if err := r.runAll(); err != nil {
		return err
	}
	err = r.print(stdout)
	if c.plot != "" {
		err = errors.Join(err, plot(c.plot, r.results))
	}
	return err
}

func parse(args []string, stderr io.Writer) (*config, error) {
	c := &config{notes: stderr}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.BoolVar(&c.json, "json", false, "print one JSON object instead of a table")
	check := f.String("check", "", "compare with the `file`, which -json has printed, and name the rows that are worse: an error")
	f.Float64Var(&c.tolerance, "tolerance", 0.25, "by what `part` a median may be worse than that in -check's file, if the rounds there do not lie further apart")
	f.BoolVar(&c.quick, "quick", false, "make everything small; the numbers mean little")
	f.IntVar(&c.sessions, "sessions", 1_000_000, "resident `sessions`; the GC rows have five times as many")
	f.IntVar(&c.rounds, "rounds", 7, "`rounds` of each measurement, by turns with its peer")
	f.StringVar(&c.profile, "cpuprofile", "", "write a CPU profile to `file`; labels \"row\" and \"side\" tell whose a sample is")
	f.StringVar(&c.dir, "dir", "", "`directory` for the bbolt files; its disk's syncs are what is measured (default: the system's for temporary files)")
	f.StringVar(&c.plot, "plot", "", "draw the rows growth/ as curves, into SVG files in `directory`, which is made if there is none")
	f.StringVar(&c.readme, "readme", "", "with -from: write the README's table of speeds into `file`, where it has one")
	from := f.String("from", "", "with -plot or -readme: measure nothing, and draw and write the rows of the `file`, which -json has printed")
	cpus := f.String("cpus", "", "`list` of GOMAXPROCS, separated by commas (default 1,2, as far as there are as many)")
	only := f.String("run", "", "measure only the rows whose name matches this `regexp`")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q: there are only flags", f.Arg(0))
	}
	set := map[string]bool{}
	f.Visit(func(f *flag.Flag) { set[f.Name] = true })
	if set["plot"] && c.plot == "" {
		return nil, errors.New("-plot is empty: it is a directory")
	}
	if set["readme"] && !set["from"] {
		return nil, errors.New("-readme without -from: the README says what the table says that is kept")
	}
	if set["from"] {
		for name := range set {
			if name != "plot" && name != "readme" && name != "from" {
				return nil, fmt.Errorf("-from measures nothing: there is no use for -%s", name)
			}
		}
		if c.plot == "" && c.readme == "" {
			return nil, errors.New("-from without -plot: where are the figures to go?")
		}
		var err error
		c.from, err = readTable("-from", *from)
		return c, err
	}
	if c.quick {
		if !set["sessions"] {
			c.sessions = 10_000
		}
		if !set["rounds"] {
			c.rounds = 2
		}
	}
	var err error
	if c.cpus, err = parseCPUs(*cpus); err != nil {
		return nil, err
	}
	if c.only, err = regexp.Compile(*only); err != nil {
		return nil, fmt.Errorf("-run: %w", err)
	}
	if *check != "" {
		if c.table, err = readTable("-check", *check); err != nil {
			return nil, err
		}
	}
	switch {
	case c.tolerance < 0 || c.tolerance > 10:
		return nil, fmt.Errorf("-tolerance is %v: from 0 to 10", c.tolerance)
	case c.json && c.table != nil:
		return nil, errors.New("-json and -check: one of them")
	case c.sessions < 1000 || c.sessions > 20_000_000:
		return nil, fmt.Errorf("-sessions is %d: from 1000 to 20000000", c.sessions)
	case c.rounds < 1 || c.rounds > 1000:
		return nil, fmt.Errorf("-rounds is %d: from 1 to 1000", c.rounds)
	}
	if c.dir != "" {
		if info, err := os.Stat(c.dir); err != nil {
			return nil, fmt.Errorf("-dir: %w", err)
		} else if !info.IsDir() {
			return nil, fmt.Errorf("-dir: %s is not a directory", c.dir)
		}
	}
	if len(c.names()) == 0 {
		return nil, fmt.Errorf("-run: no row matches %q; the rows are\n\t%s", *only, strings.Join((&config{cpus: c.cpus, only: regexp.MustCompile("")}).names(), "\n\t"))
	}
	if c.plot != "" && !slices.ContainsFunc(c.names(), isGrowth) {
		return nil, fmt.Errorf("-plot draws the rows growth/, and -run %q matches none of them", *only)
	}
	return c, nil
}

func parseCPUs(list string) (cpus []int, err error) {
	if list == "" {
		return []int{1, 2}[:min(2, runtime.NumCPU())], nil
	}
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(s)
		if err != nil {
			return nil, fmt.Errorf("-cpus: %q is not a number", s)
		}
		if n < 1 || n > runtime.NumCPU() {
			return nil, fmt.Errorf("-cpus: %d: from 1 to %d, which this machine has", n, runtime.NumCPU())
		}
		if slices.Contains(cpus, n) {
			return nil, fmt.Errorf("-cpus: %d stands there twice", n)
		}
		cpus = append(cpus, n)
	}
	return cpus, nil
}
