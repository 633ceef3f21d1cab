package main

import (
	"bytes"
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
)

// numbered is a mutant of a file.
type numbered struct {
	n   int // by which it is chosen
	src []byte
}

// together returns the source of a file with the functions of mutants in it, one of which is chosen when the program starts, by the package at path; none
// is chosen by 0. Which are in it the second result tells: not those that change anything but what is between the braces of functions.
//
// (Untch, Offutt and Harrold, "Mutation analysis using mutant schemata", 1993.)
func together(src []byte, mutants []numbered, path string) (out []byte, in []int, err error) {
	whole, err := parse(src)
	if err != nil {
		return nil, nil, err
	}
	var es edits
	es.insert(whole.offset(whole.file.Name.End()), fmt.Sprintf("; import mutant__ %q", path))
	calls := make(map[int]*call)
	for _, m := range mutants {
		broken, err := parse(m.src)
		if err != nil {
			return nil, nil, err
		}
		fs, ok := whole.changed(broken)
		if !ok {
			continue
		}
		in = append(in, m.n)
		for _, i := range fs {
			f, mutant := whole.file.Decls[i].(*ast.FuncDecl), broken.file.Decls[i].(*ast.FuncDecl)
			if calls[i] == nil {
				calls[i] = whole.call(f, &es)
			}
			name := fmt.Sprintf("mutant__%d_%s", m.n, f.Name.Name)
			es.insert(whole.offset(f.Body.Lbrace)+1, fmt.Sprintf("\nif mutant__.Is(%d) { %s }\n", m.n, calls[i].of(name)))
			es.insert(len(src), fmt.Sprintf("\n%s%s%s\n", broken.text(mutant.Pos(), mutant.Name.Pos()), name, broken.text(mutant.Name.End(), mutant.End())))
		}
	}
	if in == nil {
		return src, nil, nil
	}
	out = es.apply(src)
	_, err = parse(out)
	return out, in, err
}

// edit puts text in place of what is between from and to.
type edit struct {
	from, to int
	text     string
}

// edits are what is to be done to a source; of those at one place the first comes first.
type edits []edit

func (es *edits) insert(at int, text string) { es.replace(at, at, text) }

func (es *edits) replace(from, to int, text string) { *es = append(*es, edit{from, to, text}) }

func (es edits) apply(src []byte) []byte {
	slices.SortStableFunc(es, func(a, b edit) int { return cmp.Compare(a.from, b.from) })
	var b bytes.Buffer
	at := 0
	for _, e := range es {
		b.Write(src[at:e.from])
		b.WriteString(e.text)
		at = e.to
	}
	b.Write(src[at:])
	return b.Bytes()
}

// call is how a function calls another one that takes and returns the same.
type call struct {
	receiver string // with its dot
	types    []string
	args     []string
	returns  bool
}

func (c *call) of(name string) string {
	s := c.receiver + name
	if len(c.types) > 0 {
		s += "[" + strings.Join(c.types, ", ") + "]"
	}
	s += "(" + strings.Join(c.args, ", ") + ")"
	if c.returns {
		return "return " + s
	}
	return s + "; return"
}

// call returns how f does, for which each of its parameters is given a name that has none.
func (p *parsed) call(f *ast.FuncDecl, es *edits) *call {
	c := &call{returns: f.Type.Results != nil}
	n := 0
	named := func(l *ast.FieldList) (names []string) {
		for _, field := range l.List {
			if len(field.Names) == 0 {
				n++
				names = append(names, fmt.Sprint("mutant__p", n))
				es.insert(p.offset(field.Type.Pos()), names[len(names)-1]+" ")
			}
			for _, id := range field.Names {
				name := id.Name
				if name == "_" {
					n++
					name = fmt.Sprint("mutant__p", n)
					es.replace(p.offset(id.Pos()), p.offset(id.End()), name)
				}
				names = append(names, name)
			}
			if _, ok := field.Type.(*ast.Ellipsis); ok {
				names[len(names)-1] += "..."
			}
		}
		return names
	}
	if f.Recv != nil {
		c.receiver = named(f.Recv)[0] + "."
	}
	if f.Type.TypeParams != nil {
		c.types = named(f.Type.TypeParams)
	}
	c.args = named(f.Type.Params)
	return c
}

// parsed is a file's source, and what it says.
type parsed struct {
	src  []byte
	fset *token.FileSet
	file *ast.File
}

func parse(src []byte) (*parsed, error) {
	p := &parsed{src: src, fset: token.NewFileSet()}
	var err error
	p.file, err = parser.ParseFile(p.fset, "", src, parser.SkipObjectResolution)
	return p, err
}

func (p *parsed) offset(at token.Pos) int { return p.fset.Position(at).Offset }

func (p *parsed) text(from, to token.Pos) string { return string(p.src[p.offset(from):p.offset(to)]) }

// changed returns which declarations are functions that have another body there. It reports false if anything else differs.
func (p *parsed) changed(other *parsed) (fs []int, ok bool) {
	if len(p.file.Decls) != len(other.file.Decls) {
		return nil, false
	}
	for i, d := range p.file.Decls {
		o := other.file.Decls[i]
		if p.text(d.Pos(), d.End()) == other.text(o.Pos(), o.End()) {
			continue
		}
		f, isFunc := d.(*ast.FuncDecl)
		g, stillFunc := o.(*ast.FuncDecl)
		if !isFunc || !stillFunc || f.Body == nil || g.Body == nil || p.text(f.Pos(), f.Body.Lbrace) != other.text(g.Pos(), g.Body.Lbrace) {
			return nil, false
		}
		fs = append(fs, i)
	}
	return fs, len(fs) > 0
}
