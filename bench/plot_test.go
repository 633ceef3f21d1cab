package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// growthTable is a table as a run would print it: every row of a config, with times made up.
func growthTable(t *testing.T) map[string]*result {
	t.Helper()
	c, err := parse([]string{"-run", "^growth/"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	table := map[string]*result{"get/uniform/1": {Ratio: 1, Noise: [2]float64{1, 1}, Unit: "×"}} // no matter of the figures
	for i, name := range c.names() {
		ns := 100 * math.Pow(1.7, float64(i%8))
		table[name] = &result{Ratio: 1.25, Noise: [2]float64{1, 2}, Unit: "×", Rounds: 3 + i%2, On: "go0 <&>/x, 2 processors",
			OursNS: times{ns, ns * 1.25, ns * 1.5}, BareNS: times{ns * 0.9, ns, ns * 2}}
	}
	return table
}

func writeTable(t *testing.T, table map[string]*result) (path string) {
	t.Helper()
	b, err := json.Marshal(table)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "table.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPlot draws a table twice: well-formed XML, a point on each side for each row, all within the page, and the same bytes.
func TestPlot(t *testing.T) {
	table := growthTable(t)
	path := writeTable(t, table)
	var dirs [2]string
	for i := range dirs {
		dirs[i] = filepath.Join(t.TempDir(), "made", "by it")
		if err := run([]string{"-plot", dirs[i], "-from", path}, io.Discard, io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range figures {
		svg, err := os.ReadFile(filepath.Join(dirs[0], f.file()))
		if err != nil {
			t.Fatal(err)
		}
		if again, err := os.ReadFile(filepath.Join(dirs[1], f.file())); err != nil || !bytes.Equal(svg, again) {
			t.Errorf("%s is another one the second time (%v)", f.file(), err)
		}
		rows := 0
		for name := range table {
			if strings.HasPrefix(name, "growth/"+f.name+"/") {
				rows++
			}
		}
		legends := 2 * len(f.panels)
		texts, circles := inspect(t, f.file(), svg)
		if circles != 2*rows+legends {
			t.Errorf("%s has %d points besides those of the legends, for %d rows", f.file(), circles-legends, rows)
		}
		for _, want := range []string{f.title, f.x, "go0 <&>/x, 2 processors; median, least and greatest of 3 to 4 rounds", "1.25 ×"} {
			if !strings.Contains(texts, want) {
				t.Errorf("%s does not say %q", f.file(), want)
			}
		}
	}
	if files, err := os.ReadDir(dirs[0]); err != nil || len(files) != len(figures) {
		t.Errorf("%d files were written, want %d (%v)", len(files), len(figures), err)
	}
}

// inspect reads an SVG, sees that nothing lies outside the page, and returns what it says, and its circles.
func inspect(t *testing.T, name string, svg []byte) (texts string, circles int) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(svg))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return texts, circles
		}
		if err != nil {
			t.Fatalf("%s is not XML: %v", name, err)
		}
		switch token := token.(type) {
		case xml.CharData:
			texts += string(token)
		case xml.StartElement:
			if token.Name.Local == "circle" {
				circles++
			}
			for _, a := range token.Attr {
				limit := map[string]float64{"x": pageWidth, "x1": pageWidth, "x2": pageWidth, "cx": pageWidth,
					"y": pageHeight, "y1": pageHeight, "y2": pageHeight, "cy": pageHeight}[a.Name.Local]
				if limit == 0 {
					continue
				}
				if at, err := strconv.ParseFloat(a.Value, 64); err != nil || !(at >= 0 && at <= limit) {
					t.Errorf("%s: <%s %s=%q> lies outside the page", name, token.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
	}
}

// TestPlotOfWhatWasMeasured: one row makes one figure, beside the table.
func TestPlotOfWhatWasMeasured(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	err := run([]string{"-quick", "-sessions", "1000", "-rounds", "1", "-run", "^growth/entries/get/4$", "-json", "-dir", t.TempDir(), "-plot", dir}, &out, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var rows map[string]*result
	if err := json.Unmarshal(out.Bytes(), &rows); err != nil || len(rows) != 1 {
		t.Errorf("%v: %s", err, out.String())
	}
	svg, err := os.ReadFile(filepath.Join(dir, "growth-entries.svg"))
	if err != nil {
		t.Fatal(err)
	}
	if _, circles := inspect(t, "growth-entries.svg", svg); circles != 2+2 {
		t.Errorf("%d circles, want a point and a legend on each side", circles)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("%d files (%v), want one", len(files), err)
	}
}

func TestPlotRefuses(t *testing.T) {
	const row = "growth/sessions/get/1000000"
	for _, c := range []struct {
		want  string
		spoil func(table map[string]*result)
	}{
		{"has no rows growth/", func(table map[string]*result) {
			for name := range table {
				if isGrowth(name) {
					delete(table, name)
				}
			}
		}},
		{row + " has no ours_ns", func(table map[string]*result) { table[row].OursNS = times{} }},
		{row + ": [2 1 3]", func(table map[string]*result) { table[row].BareNS = times{2, 1, 3} }},
		{row + ": [-1 1 3]", func(table map[string]*result) { table[row].BareNS = times{-1, 1, 3} }},
		{row + ": [1 1 1e+300]", func(table map[string]*result) { table[row].BareNS = times{1, 1, 1e300} }},
		{"growth-sessions.svg: its rows were measured on", func(table map[string]*result) { table[row].On = "another" }},
		{"growth/sessions/get/many belongs to no figure", func(table map[string]*result) { table["growth/sessions/get/many"] = table[row] }},
		{"growth/sessions/get/0 belongs", func(table map[string]*result) { table["growth/sessions/get/0"] = table[row] }},
		{"growth/sessions/get/+1 belongs", func(table map[string]*result) { table["growth/sessions/get/+1"] = table[row] }},
		{"growth/sessions/flush/1 belongs", func(table map[string]*result) { table["growth/sessions/flush/1"] = table[row] }},
		{"growth/sessions belongs", func(table map[string]*result) { table["growth/sessions"] = table[row] }},
	} {
		table := growthTable(t)
		c.spoil(table)
		err := run([]string{"-plot", t.TempDir(), "-from", writeTable(t, table)}, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("the error is %v, want %q in it", err, c.want)
		}
	}
}

// TestScale: an axis holds all that is drawn on it, and has a few labels, whatever the times are.
func TestScale(t *testing.T) {
	for _, all := range [][]times{
		{{1, 1, 1}},
		{{0.001, 0.001, 0.001}},
		{{1e15, 2e15, 5e15}},
		{{30, 33, 36}, {200, 210, 900}},
		{{10, 1000, 1000}, {1000, 20_000, 20_001}},
		{{1000, 1000, 1000}, {1e9, 1e9, 1e9}},
		{{0.001, 1, 1}, {1, 1000, 5e15}},
		{{999, 1000, 1001}, {50, 50, 50}},
		{{999, 1001, 1001}, {50, 50, 50}},
	} {
		lowest, highest, ticks, log := scale(all)
		name := fmt.Sprintf("of %v: from %v to %v, %v, logarithmic: %v", all, lowest, highest, ticks, log)
		for _, tm := range all {
			if tm[0] < lowest || tm[2] > highest {
				t.Errorf("%s: %v lies outside", name, tm)
			}
		}
		if !log && lowest != 0 || log && lowest <= 0 || highest <= lowest {
			t.Errorf("%s: it is no axis", name)
		}
		if len(ticks) < 2 || len(ticks) > 20 || ticks[0] < lowest || ticks[len(ticks)-1] > highest {
			t.Errorf("%s: it is labelled badly", name)
		}
	}
}
