package storetest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strings"
	"testing"
)

// TestEverySentenceHasACase compares the rules with the comments they are taken from.
func TestEverySentenceHasACase(t *testing.T) {
	var all strings.Builder
	var items []string
	for _, file := range []string{"../store.go", "../errors.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range f.Comments {
			all.WriteString(plain(c.Text()) + "\n")
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GenDecl:
				items = append(items, listItems(n.Doc.Text())...)
			case *ast.Field:
				items = append(items, listItems(n.Doc.Text())...)
			}
			return true
		})
	}
	if len(items) < 30 {
		t.Fatalf("only %d list items found: %q", len(items), items)
	}
	names := map[string]bool{}
	for _, g := range contract {
		for _, r := range g.rules {
			says := plain(r.says)
			if !strings.Contains(all.String(), says) {
				t.Errorf("package store does not say: %s", says)
			}
			if len(r.cases) == 0 {
				t.Errorf("no case for: %s", says)
			}
			for i := range items {
				items[i] = strings.Replace(items[i], says, "", 1)
			}
			for _, c := range r.cases {
				if path := g.name + "/" + c.name; names[path] {
					t.Errorf("two cases are named %q", path)
				} else {
					names[path] = true
				}
			}
		}
	}
	for _, rest := range items {
		if strings.TrimSpace(rest) != "" {
			t.Errorf("no rule says: %s", rest)
		}
	}
}

// plain joins a comment's lines, and takes the brackets off its links.
func plain(s string) string {
	s = regexp.MustCompile(`\[([*.\w]+)\]`).ReplaceAllString(s, "$1")
	return strings.Join(strings.Fields(s), " ")
}

// listItems returns the items of the lists in a comment.
func listItems(text string) (items []string) {
	in := false
	for line := range strings.Lines(text) {
		switch item, ok := strings.CutPrefix(strings.TrimSpace(line), "- "); {
		case ok:
			items, in = append(items, item), true
		case in && strings.HasPrefix(line, "  "):
			items[len(items)-1] += " " + item
		default:
			in = false
		}
	}
	for i := range items {
		items[i] = plain(items[i])
	}
	return items
}
