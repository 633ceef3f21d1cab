package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"text/tabwriter"
	"time"
)

// print prints what was measured in the way that was asked for. That a row is worse than it was is an error.
func (r *runner) print(w io.Writer) error {
	if r.json {
		return r.printJSON(w)
	}
	if err := r.printTable(w); err != nil || r.table == nil {
		return err
	}
	fmt.Fprintln(w)
	return r.check(w, r.table, r.tolerance, r.again)
}

func (r *runner) printJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r.results)
}

func (r *runner) printTable(w io.Writer) error {
	fmt.Fprintf(w, "%s; %d sessions, %d rounds\n\n", machine(), r.sessions, r.rounds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "row\tresult\ttarget\tmin–max\tok\tours\tbare\tnote")
	for _, name := range r.measured() {
		res := r.results[name]
		target, ok := "", ""
		if res.Target != nil {
			target, ok = res.Want+" "+number(*res.Target), "yes"
			if !res.OK {
				ok = "NO"
			}
		}
		fmt.Fprintf(t, "%s\t%s %s\t%s\t%s–%s\t%s\t%s\t%s\t%s\n", name, number(res.Ratio), res.Unit, target,
			number(res.Noise[0]), number(res.Noise[1]), ok, res.Ours, res.Bare, res.Note)
	}
	return t.Flush()
}

// number prints three digits or so.
func number(x float64) string {
	switch a := math.Abs(x); {
	case x == math.Trunc(x):
		return fmt.Sprintf("%.0f", x)
	case a >= 100:
		return fmt.Sprintf("%.0f", x)
	case a >= 10:
		return fmt.Sprintf("%.1f", x)
	case a >= 0.01:
		return fmt.Sprintf("%.2f", x)
	}
	return fmt.Sprintf("%.2g", x)
}

func duration(ns float64) string {
	if ns < 1000 {
		return number(ns) + "ns"
	}
	d := time.Duration(ns)
	unit := time.Nanosecond
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit).String()
}
