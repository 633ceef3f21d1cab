package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-6f1f505d/kvstore/internal/redo"
	"github.com/seed-6f1f505d/kvstore/store"
)

// This file is for a store that is Relaxed: what its server forgets in a crash is written again.

// Barrier implements [store.Barrier], for a store that is Relaxed. It is one round trip, and one sync of the server's log.
func (s *Store) Barrier(ctx context.Context) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	if !s.opt.Relaxed {
		return nil
	}
	return s.redo.Barrier(ctx)
}

// server is what the log of a Relaxed store needs of its engine.
type server struct{ s *Store }

func (v server) Memory(ctx context.Context) (m redo.Memory, err error) {
	err = again(ctx, func() error {
		return v.s.pool.QueryRow(ctx, v.s.sql.memory, redo.Memory(store.NewIncarnation())).Scan(&m)
	})
	return m, err
}

func (v server) Write(ctx context.Context, of redo.Memory, changes []store.Change) ([]store.Result, error) {
	results := make([]store.Result, len(changes))
	todo := make([]int, len(changes))
	for i := range todo {
		todo[i] = i
	}
	for len(todo) > 0 {
		now, later := portion(changes, todo)
		some := make([]store.Change, len(now))
		for i, place := range now {
			some[i] = changes[place]
		}
		rs, err := v.s.write(ctx, &of, some)
		if err != nil {
			return nil, forgot(err)
		}
		for i, place := range now {
			results[place] = rs[i]
		}
		todo = later
	}
	return results, nil
}

func (v server) Harden(ctx context.Context, of redo.Memory) error {
	return forgot(again(ctx, func() error {
		_, err := v.s.pool.Exec(ctx, v.s.sql.harden, of)
		return err
	}))
}

// forgot returns redo.ErrForgot if that is what the server says.
func forgot(err error) error {
	var perr *pgconn.PgError
	if errors.As(err, &perr) && perr.Code == "KV001" {
		return redo.ErrForgot
	}
	return err
}

var _ store.Barrier = (*Store)(nil)
