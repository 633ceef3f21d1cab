package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
)

// This file draws the rows growth/ as curves: an SVG file for each figure, with a panel for each operation. It knows nothing but the
// rows, so that a figure can be made of a table that was printed before, and the same table makes the same bytes.

// figure is a file.
type figure struct {
	name   string // its rows are growth/name/op/x
	title  string
	x      string // what grows
	label  func(x int) string
	panels []panel
}

// panel is an operation: two curves, the library's and the bare part's.
type panel struct {
	op, title  string
	y          string // what the times are of
	ours, bare string
}

var figures = []figure{
	{"sessions", "The time of a call, as sessions grow in number", "resident sessions", count, []panel{
		{"get", "Get", "time of a call", "DB.Get", "xsync Load"},
		{"put", "Put, write-behind", "time of a call", "DB.Put", "xsync Store"},
	}},
	{"entries", "The time of a call, as sessions grow in entries", "entries of a session", count, []panel{
		{"get", "Get by a handle", "time of a call", "Session.Get", "xsync Load"},
		{"put", "Put by a handle, write-behind", "time of a call", "Session.Put", "xsync Store"},
	}},
	{"values", "Put and Flush, as values grow", "size of a value", binarySize, []panel{
		{"put", "Put, write-behind", "time of a call", "DB.Put", "xsync Store"},
		{"flush", "Flush into bbolt, synced", "time for each KiB", "DB.Flush", "bbolt, sorted batches"},
	}},
}

func (f *figure) file() string { return "growth-" + f.name + ".svg" }

// point is a row of a panel.
type point struct {
	x int
	*result
}

// plot writes the figures of which there are rows into a directory. Other rows are no matter of it.
func plot(dir string, rows map[string]*result) error {
	points, err := pointsOf(rows)
	if err != nil {
		return fmt.Errorf("-plot: %w", err)
	}
	for i := range figures {
		f := &figures[i]
		if len(points[f.name]) == 0 {
			continue
		}
		svg, err := f.draw(points[f.name])
		if err != nil {
			return fmt.Errorf("-plot: %s: %w", f.file(), err)
		}
		if err := os.WriteFile(file(dir, f.file()), svg, 0o666); err != nil {
			return fmt.Errorf("-plot: %w", err)
		}
	}
	return nil
}

// pointsOf returns the points by figure and operation, from left to right.
func pointsOf(rows map[string]*result) (map[string]map[string][]point, error) {
	points := map[string]map[string][]point{}
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		if !isGrowth(name) {
			continue
		}
		figure, op, x, ok := parseGrowth(name)
		if !ok {
			return nil, fmt.Errorf("row %s belongs to no figure", name)
		}
		res := rows[name]
		for _, t := range []times{res.OursNS, res.BareNS} {
			if t == (times{}) {
				return nil, fmt.Errorf("row %s has no ours_ns and bare_ns: the table is of a version that did not print them", name)
			}
			if t[0] > t[1] || t[1] > t[2] || t[0] < rungs[0] || t[2] > rungs[len(rungs)-1] {
				return nil, fmt.Errorf("row %s: %v are not the least, median and greatest of times in nanoseconds", name, t)
			}
		}
		if points[figure] == nil {
			points[figure] = map[string][]point{}
		}
		points[figure][op] = append(points[figure][op], point{x, res})
	}
	if len(points) == 0 {
		return nil, errors.New("the table has no rows growth/")
	}
	for _, f := range points {
		for _, op := range f {
			slices.SortFunc(op, func(a, b point) int { return a.x - b.x })
		}
	}
	return points, nil
}

func parseGrowth(name string) (figure, op string, x int, ok bool) {
	parts := strings.Split(name, "/")
	if len(parts) != 4 {
		return "", "", 0, false
	}
	x, err := strconv.Atoi(parts[3])
	for _, f := range figures {
		for _, p := range f.panels {
			ok = ok || f.name == parts[1] && p.op == parts[2]
		}
	}
	// One spelling for each, or two rows were one point.
	return parts[1], parts[2], x, ok && err == nil && x > 0 && name == growthRow(parts[1], parts[2], x)
}

// The page, in pixels. A panel is what its axes enclose; its titles are above it, its labels left and below.
const (
	pageWidth, pageHeight   = 960, 412
	panelWidth, panelHeight = 370, 220
	panelTop                = 112
	inset                   = 30 // of the outer points
	beside                  = 3  // how far the two sides of a point are moved apart, so that one sees both
)

const (
	inkText  = "#222222"
	inkFaint = "#666666"
	inkGrid  = "#dddddd"
	inkOurs  = "#0072b2" // these two differ for every eye (Okabe and Ito, 2008)
	inkBare  = "#d55e00"
)

// draw returns the figure as an SVG document. All that it says is true of one machine only: points of several are an error.
func (f *figure) draw(points map[string][]point) ([]byte, error) {
	var on []string
	var rounds []int
	for _, p := range f.panels {
		for _, pt := range points[p.op] {
			on, rounds = append(on, pt.On), append(rounds, pt.Rounds)
		}
	}
	if on = slices.Compact(on); len(on) > 1 {
		return nil, fmt.Errorf("its rows were measured on %q and on %q", on[0], on[1])
	}
	how := fmt.Sprintf("%d", slices.Min(rounds))
	if most := slices.Max(rounds); most > slices.Min(rounds) {
		how += fmt.Sprintf(" to %d", most)
	}
	how = "median, least and greatest of " + how + " rounds; below each place the ratio, kvstore to bare"
	if on[0] != "" {
		how = on[0] + "; " + how
	}

	c := &canvas{}
	c.add(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" role="img">`,
		pageWidth, pageHeight, pageWidth, pageHeight)
	c.add(`<title>%s</title>`, escape(f.title))
	c.add(`<rect width="%d" height="%d" fill="white"/>`, pageWidth, pageHeight)
	c.add(`<text x="20" y="28" font-size="17" font-weight="bold" fill="%s">%s</text>`, inkText, escape(f.title))
	c.text(20, 48, "start", inkFaint, how)
	for i, p := range f.panels {
		if len(points[p.op]) > 0 {
			f.drawPanel(c, float64(84+i*480), p, points[p.op])
		}
	}
	c.add(`</svg>`)
	return c.Bytes(), nil
}

func (f *figure) drawPanel(c *canvas, left float64, p panel, points []point) {
	const top, bottom = panelTop, panelTop + panelHeight
	right := left + panelWidth
	c.add(`<text x="%.1f" y="80" font-size="14" font-weight="bold" fill="%s">%s</text>`, left, inkText, escape(p.title))
	sides := []struct {
		ink, dash, fill, legend string
		beside                  float64
		times                   func(pt point) times
	}{
		{inkOurs, "", inkOurs, "kvstore: " + p.ours, -beside, func(pt point) times { return pt.OursNS }},
		{inkBare, "6 4", "white", "bare: " + p.bare, beside, func(pt point) times { return pt.BareNS }},
	}

	var all []times
	for _, pt := range points {
		all = append(all, pt.OursNS, pt.BareNS)
	}
	lowest, highest, ticks, log := scale(all)
	y := func(ns float64) float64 {
		part := (ns - lowest) / (highest - lowest)
		if log {
			part = math.Log(ns/lowest) / math.Log(highest/lowest)
		}
		return bottom - part*panelHeight
	}
	for _, t := range ticks {
		c.line(left, y(t), right, y(t), inkGrid, "")
		c.text(left-8, y(t)+4, "end", inkText, tick(t))
	}
	c.line(left, top, left, bottom, inkText, "")
	c.line(left, bottom, right, bottom, inkText, "")
	title := p.y
	if log {
		title += ", logarithmic"
	}
	c.add(`<text transform="translate(%.1f %d) rotate(-90)" text-anchor="middle" fill="%s">%s</text>`, left-62, (top+bottom)/2, inkFaint, escape(title))

	least, greatest := points[0].x, points[len(points)-1].x
	x := func(pt point) float64 {
		if least == greatest {
			return (left + right) / 2
		}
		return left + inset + (panelWidth-2*inset)*math.Log(float64(pt.x)/float64(least))/math.Log(float64(greatest)/float64(least))
	}
	for _, pt := range points {
		c.line(x(pt), bottom, x(pt), bottom+5, inkText, "")
		c.text(x(pt), bottom+20, "middle", inkText, f.label(pt.x))
		c.text(x(pt), bottom+36, "middle", inkFaint, number(pt.Ratio)+" ×")
	}
	c.text((left+right)/2, bottom+58, "middle", inkFaint, f.x)

	for i, s := range sides {
		legend := left + float64(i)*panelWidth/2
		c.line(legend, 96, legend+24, 96, s.ink, s.dash)
		c.circle(legend+12, 96, s.ink, s.fill, "")
		c.text(legend+30, 100, "start", inkText, s.legend)

		var path []string
		for _, pt := range points {
			path = append(path, fmt.Sprintf("%.1f,%.1f", x(pt)+s.beside, y(s.times(pt)[1])))
		}
		c.add(`<polyline points="%s" fill="none" stroke="%s" stroke-width="2" stroke-dasharray="%s"/>`, strings.Join(path, " "), s.ink, dashes(s.dash))
		for _, pt := range points {
			at, t := x(pt)+s.beside, s.times(pt)
			c.line(at, y(t[0]), at, y(t[2]), s.ink, "")
			c.line(at-3, y(t[0]), at+3, y(t[0]), s.ink, "")
			c.line(at-3, y(t[2]), at+3, y(t[2]), s.ink, "")
			c.circle(at, y(t[1]), s.ink, s.fill, fmt.Sprintf("%s: %s (%s–%s)", f.label(pt.x), duration(t[1]), duration(t[0]), duration(t[2])))
		}
	}
}

// rungs are the numbers that an axis may end at: 1, 2 and 5 of each power of ten, of nanoseconds.
var rungs = func() (rs []float64) {
	for e := -3; e <= 15; e++ {
		for _, m := range []float64{1, 2, 5} {
			rs = append(rs, m*math.Pow10(e))
		}
	}
	return rs
}()

// scale chooses an axis for times: from zero, which shows ratios as they are, unless medians are so far apart that the low ones would
// lie on the ground.
func scale(all []times) (lowest, highest float64, ticks []float64, log bool) {
	least, greatest := math.Inf(1), 0.0
	low, high := math.Inf(1), 0.0
	for _, t := range all {
		least, greatest = min(least, t[1]), max(greatest, t[1])
		low, high = min(low, t[0]), max(high, t[2])
	}
	above := func(x float64) int { // the first rung that is not less, of as many as there are
		i, _ := slices.BinarySearch(rungs, x)
		return min(i, len(rungs)-1)
	}
	if greatest <= 20*least {
		step := rungs[above(high/6)]
		n := max(math.Ceil(high/step), 1)
		for i := range int(n) + 1 {
			ticks = append(ticks, float64(i)*step)
		}
		return 0, n * step, ticks, false
	}
	from, to := above(low), above(high)
	if rungs[from] > low {
		from-- // pointsOf has seen that there is one
	}
	ticks = slices.Clone(rungs[from : to+1])
	if len(ticks) > 10 {
		ticks = slices.DeleteFunc(ticks, func(t float64) bool { return !strings.HasPrefix(strconv.FormatFloat(t, 'e', -1, 64), "1") })
	}
	return rungs[from], rungs[to], ticks, true
}

// tick labels a time on an axis.
func tick(ns float64) string {
	if ns == 0 {
		return "0"
	}
	return duration(ns)
}

// count labels a number of things.
func count(n int) string {
	switch {
	case n >= 1_000_000:
		return number(float64(n)/1_000_000) + " M"
	case n >= 10_000:
		return number(float64(n)/1000) + " k"
	}
	return strconv.Itoa(n)
}

// binarySize labels a number of bytes.
func binarySize(n int) string {
	if n >= 1024 {
		return number(float64(n)/1024) + " KiB"
	}
	return strconv.Itoa(n) + " B"
}

// canvas is an SVG document that is being written.
type canvas struct{ bytes.Buffer }

func (c *canvas) add(format string, args ...any) { fmt.Fprintf(c, format+"\n", args...) }

func (c *canvas) text(x, y float64, anchor, ink, s string) {
	c.add(`<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`, x, y, anchor, ink, escape(s))
}

func (c *canvas) line(x1, y1, x2, y2 float64, ink, dash string) {
	c.add(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-dasharray="%s"/>`, x1, y1, x2, y2, ink, dashes(dash))
}

// circle is a point; a browser shows what it says when it is pointed at.
func (c *canvas) circle(x, y float64, ink, fill, says string) {
	c.add(`<circle cx="%.1f" cy="%.1f" r="4" stroke="%s" stroke-width="2" fill="%s"><title>%s</title></circle>`, x, y, ink, fill, escape(says))
}

func dashes(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func escape(s string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}
