package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/postgres"
)

// engine is a kind of store.
type engine struct {
	schemes []string
	form    string // of its URLs

	// open opens a part of the store of its own, named by space: letters, digits and low lines.
	open func(ctx context.Context, url, space string) (store.Store, error)

	// drop removes such a part, when nobody uses it any more.
	drop func(ctx context.Context, url, space string) error
}

// embedded stands for a store that the demo runs itself.
const embedded = "embedded"

const defaultStore = embedded

// engines are the kinds of stores.
var engines = []engine{
	{
		schemes: []string{"postgres", "postgresql"},
		form:    "postgres://user:password@host/database",
		open: func(ctx context.Context, url, space string) (store.Store, error) {
			return opened(postgres.Open(ctx, url, &postgres.Options{Schema: space}))
		},
		drop: dropPostgres,
	},
}

// opened keeps a nil store from becoming a store that is not nil.
func opened[S store.Store](s S, err error) (store.Store, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// engineOf returns what a URL names.
func engineOf(url string) (engine, bool) {
	scheme, _, ok := strings.Cut(url, "://")
	for _, e := range engines {
		for _, s := range e.schemes {
			if ok && s == scheme {
				return e, true
			}
		}
	}
	return engine{}, false
}

// storeForms names the URLs that are understood.
func storeForms() string {
	var forms []string
	for _, e := range engines {
		forms = append(forms, e.form)
	}
	return fmt.Sprintf("%s, or %s", strings.Join(forms, ", "), embedded)
}

func dropPostgres(ctx context.Context, url, space string) error {
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	_, err = c.Exec(ctx, "DROP SCHEMA IF EXISTS "+pgx.Identifier{space}.Sanitize()+" CASCADE")
	return err
}
