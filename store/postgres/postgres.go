package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-6f1f505d/kvstore/internal/redo"
	"github.com/seed-6f1f505d/kvstore/store"
)

// Store implements [store.Store]. Use [Open] or [New].
type Store struct {
	pool *pgxpool.Pool
	owns bool // the pool is closed with the store
	opt  Options
	sql  statements
	redo *redo.Log // of what was written relaxed

	mu     sync.Mutex
	closed bool
	calls  sync.WaitGroup // under mu while it is 0
	swept  time.Time      // when tombstones were last looked at
}

// Open connects to the database at url, in any form that [pgxpool.ParseConfig] takes, and returns a store on it. ctx bounds Open.
// Close closes the connections.
func Open(ctx context.Context, url string, o *Options) (*Store, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("store/postgres: the URL is not understood: %w", err) // pgx leaves the password out
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("store/postgres: %w", err)
	}
	s, err := New(ctx, pool, o)
	if err != nil {
		pool.Close()
		return nil, err
	}
	s.owns = true
	return s, nil
}

// New returns a store on a pool of connections, which stays its caller's: close it after the store. It makes the
// schema, if it is not there. ctx bounds New.
func New(ctx context.Context, pool *pgxpool.Pool, o *Options) (*Store, error) {
	opt, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if pool == nil {
		return nil, errors.New("store/postgres: the pool is nil")
	}
	s := &Store{pool: pool, opt: opt, sql: newStatements(opt.Schema)}
	s.redo = redo.New(server{s}, 0)
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Close implements [store.Store]. It waits for calls that run.
func (s *Store) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	s.calls.Wait()
	s.redo.Close()
	if first && s.owns {
		s.pool.Close()
	}
	return nil
}

// enter lets a call begin, which ends with leave.
func (s *Store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	s.calls.Add(1)
	return nil
}

func (s *Store) leave() { s.calls.Done() }

// again runs f, and runs it again if the server undid it for reasons that pass: a deadlock with somebody else's statements, or an
// alias that changed hands meanwhile.
func again(ctx context.Context, f func() error) error {
	for attempt := 0; ; attempt++ {
		err := f()
		var perr *pgconn.PgError
		if attempt == 9 || ctx.Err() != nil || !errors.As(err, &perr) || perr.Code != "40P01" && perr.Code != "40001" {
			return wrap(err)
		}
	}
}

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("store/postgres: %w", err)
}

// statements are the calls of the schema's functions.
type statements struct {
	apply, claim, load, loadRange, lookup, byIndex, find, sessions, owned, harden, memory, keepAlive, nodes, sweep string
}

func newStatements(schema string) statements {
	in := func(sql string) string { return strings.ReplaceAll(sql, "{schema}", quoted(schema)) }
	return statements{
		apply: in(`SELECT * FROM {schema}.apply($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24)`),
		claim: in(`SELECT * FROM {schema}.claim($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`),
		load: in(`SELECT ` + headerColumns + `, NULL::bytea AS key, CASE WHEN $2::bytea[] IS NULL OR '' = ANY ($2) THEN CASE WHEN NOT {schema}.past(main_until) THEN main END END AS value, main_until AS until
			FROM {schema}.session WHERE session = $1
			UNION ALL
			SELECT 0, 0, NULL, NULL, NULL, NULL, 0, 0, NULL, key, value, until
			FROM {schema}.entry WHERE session = $1 AND ($2 IS NULL OR key = ANY ($2)) AND NOT {schema}.past(until)`),
		loadRange: in(`SELECT ` + headerColumns + `, ''::bytea AS key,
				CASE WHEN $2::bytea = '' AND NOT {schema}.past(main_until) THEN CASE WHEN $5::boolean AND main IS NOT NULL THEN '' ELSE main END END AS value, main_until AS until
			FROM {schema}.session WHERE session = $1
			UNION ALL
			(SELECT 0, 0, NULL, NULL, NULL, NULL, 0, 0, NULL, key, CASE WHEN NOT $5 THEN value ELSE '' END, until
			FROM {schema}.entry WHERE session = $1 AND key >= $2 AND key < $3 AND NOT {schema}.past(until) ORDER BY key LIMIT $4)`),
		lookup: in(`SELECT ` + headerColumns + `, session FROM {schema}.session s
			WHERE session = (SELECT session FROM {schema}.alias WHERE alias = $1) AND NOT {schema}.gone(s)`),
		byIndex: `SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true), set_config('jit', 'off', true)`,
		// Rows of aliases are taken before it is known which sessions are gone, so that there is a bound to what is read. OFFSET 0 keeps the planner from making
		// one join of it, for which it might read all sessions.
		find: in(`SELECT ` + headerColumns + `, a.session, a.alias
			FROM (SELECT alias, session FROM {schema}.alias WHERE alias >= $1 AND alias < $2 ORDER BY alias LIMIT $3) a
			LEFT JOIN LATERAL (SELECT ` + headerColumns + ` FROM {schema}.session s WHERE s.session = a.session AND NOT {schema}.gone(s) OFFSET 0) h ON true
			ORDER BY a.alias`),
		sessions: in(`SELECT ` + headerColumns + `, session FROM {schema}.session WHERE session > $1 AND NOT deleted ORDER BY session LIMIT $2`),
		owned: in(`SELECT ` + headerColumns + `, session FROM {schema}.session
			WHERE session > $1 AND NOT deleted AND incarnation = $3 ORDER BY incarnation, session LIMIT $2`),
		harden:    in(`SELECT {schema}.harden($1)`),
		memory:    in(`SELECT {schema}.memory_name($1)`),
		keepAlive: in(`SELECT {schema}.keep_alive($1, $2, $3, $4, $5)`),
		nodes:     in(`SELECT incarnation, name, addr, weight, ceil(extract(epoch FROM ends - clock_timestamp()) * 1000)::bigint FROM {schema}.node`),
		sweep:     in(`SELECT {schema}.sweep($1, $2)`),
	}
}

func quoted(schema string) string { return pgx.Identifier{schema}.Sanitize() }

var (
	_ store.Store     = (*Store)(nil)
	_ store.Directory = (*Store)(nil)
	_ store.Finder    = (*Store)(nil)
)
