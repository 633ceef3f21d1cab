package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What the README says of speed is what the table says that is kept here.
func TestREADME(t *testing.T) {
	table, err := readTable("-from", "table.json")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("..", "README.md")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text, err := readme(string(b), table)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(b) {
		t.Errorf("README.md does not say what bench/table.json says: make bench-plot writes it anew")
	}

	// And it would be noticed.
	table["mix/otter"].Ratio += 0.5
	table["mix/otter"].OK = false
	if other, err := readme(text, table); err != nil || other == text || !strings.Contains(other, "**"+number(table["mix/otter"].Ratio)+"**") {
		t.Errorf("with another figure of otter the README is the same, or does not say that the target is missed: %v", err)
	}
	delete(table, "mix/otter")
	if _, err := readme(text, table); err == nil || !strings.Contains(err.Error(), "mix/otter") {
		t.Errorf("with a row that is missing: %v", err)
	}
	if _, err := readme(strings.Replace(text, "| against |", "| beside |", 1), table); err == nil {
		t.Error("a README without the table is taken")
	}
}
