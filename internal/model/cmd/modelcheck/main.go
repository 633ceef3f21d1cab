// Command modelcheck explores the protocol of ownership and flushes, and tells the story of what it finds.
//
//	go run ./internal/model/cmd/modelcheck                    the shapes of the test; exit status 1 if an invariant does not hold
//	go run ./internal/model/cmd/modelcheck -deep              larger ones, too: minutes
//	go run ./internal/model/cmd/modelcheck -bug no-tombstone  with a mistake in the protocol: the shortest way to what comes of it
//	go run ./internal/model/cmd/modelcheck -list              shapes, bugs and invariants
//	go run ./internal/model/cmd/modelcheck -shape pair -claims 3   one shape, with some bounds of its own
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/seed-6f1f505d/kvstore/internal/model"
)

func main() {
	sound, err := run(os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "modelcheck:", err)
		os.Exit(2)
	case !sound:
		os.Exit(1)
	}
}

// run reports whether all that was looked for holds.
func run(args []string, out io.Writer) (sound bool, err error) {
	f := flag.NewFlagSet("modelcheck", flag.ContinueOnError)
	list := f.Bool("list", false, "list shapes, bugs and invariants")
	deep := f.Bool("deep", false, "explore the deep shapes, too")
	bugs := f.Bool("bugs", false, "list the names of the bugs alone")
	bugName := f.String("bug", "none", "make this mistake, in the shape that shows it, unless told otherwise")
	shapeName := f.String("shape", "", "explore this shape only")
	only := f.Int("invariant", 0, "look only for this one, by its number in the list; 0: for the one that the bug is about, or all")
	bounds := map[string]*int{}
	for _, b := range new(model.Bounds).Each() {
		bounds[b.Name] = f.Int(b.Name, -1, "instead of the shape's own bound")
	}
	if err := f.Parse(args); err != nil {
		return false, err
	}
	if *list {
		listAll(out)
		return true, nil
	}
	if *bugs {
		for _, b := range model.Bugs() {
			fmt.Fprintln(out, b)
		}
		return true, nil
	}
	bug := model.Bug(0)
	for _, b := range model.Bugs() {
		if b.String() == *bugName {
			bug = b
		}
	}
	if bug.String() != *bugName {
		return false, fmt.Errorf("there is no bug %q", *bugName)
	}
	if *only < 0 || *only > len(model.Invariants()) {
		return false, fmt.Errorf("there is no invariant %d", *only)
	}
	if bug != 0 && *shapeName == "" {
		*shapeName = bug.Shape()
	}
	if *only == 0 {
		*only = int(bug.Breaks())
	}
	sound, found := true, false
	for _, s := range model.Shapes() {
		if *shapeName != s.Name && (*shapeName != "" || s.Deep && !*deep) {
			continue
		}
		found = true
		for _, b := range s.Each() {
			if n := *bounds[b.Name]; n >= 0 {
				*b.Value = n
			}
		}
		if err := s.Check(); err != nil {
			return false, err
		}
		sound = explore(out, s, bug, model.Invariant(*only)) && sound
	}
	if !found {
		return false, fmt.Errorf("there is no shape %q", *shapeName)
	}
	return sound, nil
}

// explore explores one shape and prints what it found.
func explore(out io.Writer, s model.Shape, bug model.Bug, only model.Invariant) (sound bool) {
	start := time.Now()
	r := model.Explore(s.Bounds, bug, only)
	fmt.Fprintf(out, "%-12s %9d states %10d transitions  depth %2d  %6.1f s  ", s.Name, r.States, r.Transitions, r.Depth, time.Since(start).Seconds())
	if r.Violated == 0 {
		fmt.Fprintln(out, "all invariants hold")
		return true
	}
	fmt.Fprintf(out, "violated: %s\n", r.Violated)
	for i, line := range r.Story {
		if i < len(r.Story)-1 {
			fmt.Fprintf(out, "%4d  %s\n", i+1, line)
		} else {
			fmt.Fprintf(out, "      %s\n", line)
		}
	}
	return false
}

// listAll prints what there is to choose from.
func listAll(out io.Writer) {
	fmt.Fprintln(out, "shapes:")
	for _, s := range model.Shapes() {
		fmt.Fprintf(out, "  %-20s", s.Name)
		for _, b := range s.Each() {
			fmt.Fprintf(out, " %s %d", b.Name, *b.Value)
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintln(out, "bugs:")
	for _, b := range model.Bugs() {
		fmt.Fprintf(out, "  %-20s in %-10q breaks %q\n", b, b.Shape(), b.Breaks())
	}
	fmt.Fprintln(out, "invariants:")
	for _, i := range model.Invariants() {
		fmt.Fprintf(out, "  %d  %s\n", i, i)
	}
}
