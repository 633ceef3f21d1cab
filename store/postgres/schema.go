package postgres

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// format is the version of the schema.
const format = 2

//go:embed schema.sql
var schemaSQL string

// Schema returns the statements that make everything that a store needs in a schema of that name; empty is "kvstore". Run them in
// one transaction, once, by a role that may. A store's own role then needs USAGE on the schema, SELECT, INSERT, UPDATE and
// DELETE on its tables, and EXECUTE on its functions.
func Schema(name string) string {
	if name == "" {
		name = "kvstore"
	}
	return strings.ReplaceAll(schemaSQL, "{schema}", quoted(name))
}

// prepare makes sure of the schema, and that the server is one that a store can be on.
func (s *Store) prepare(ctx context.Context) error {
	var version int
	var standby, readOnly bool
	err := s.pool.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), current_setting('default_transaction_read_only')::bool`).
		Scan(&version, &standby, &readOnly)
	switch {
	case err != nil:
		return fmt.Errorf("store/postgres: open: %w", err)
	case version < 12_00_00:
		return fmt.Errorf("store/postgres: open: the server is PostgreSQL %d.%d, and 12 is the oldest that can be used", version/10000, version%10000)
	case standby:
		return errors.New("store/postgres: open: the server is a standby, which takes no writes: connect to the primary (target_session_attrs=primary)")
	case readOnly:
		return errors.New("store/postgres: open: the database is read-only (default_transaction_read_only)")
	}
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		found, err := s.found(ctx, tx)
		if err != nil || found {
			return err
		}
		// One node at a time, for whoever came first may make it.
		h := fnv.New64a()
		h.Write([]byte("kvstore schema " + s.opt.Schema))
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(h.Sum64())); err != nil {
			return fmt.Errorf("store/postgres: open: %w", err)
		}
		if found, err := s.found(ctx, tx); err != nil || found {
			return err
		}
		_, err = tx.Exec(ctx, Schema(s.opt.Schema), pgx.QueryExecModeSimpleProtocol)
		var perr *pgconn.PgError
		if errors.As(err, &perr) && perr.Code == "42501" {
			return fmt.Errorf("store/postgres: open: the schema %q is not there, and this role may not make it: "+
				"grant it CREATE on the database, or run what postgres.Schema returns: %w", s.opt.Schema, err)
		}
		if err != nil {
			return fmt.Errorf("store/postgres: open: making the schema %q: %w", s.opt.Schema, err)
		}
		return nil
	})
}

// found reports whether the schema is there, and refuses one that is not ours, or of a format that we do not know.
func (s *Store) found(ctx context.Context, tx pgx.Tx) (bool, error) {
	var objects int
	var ours bool
	err := tx.QueryRow(ctx, `SELECT count(*), coalesce(bool_or(relname = 'format'), false)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1`, s.opt.Schema).Scan(&objects, &ours)
	switch {
	case err != nil:
		return false, fmt.Errorf("store/postgres: open: %w", err)
	case objects == 0:
		return false, nil
	case !ours:
		return false, fmt.Errorf("store/postgres: open: the schema %q is not kvstore's: it has other tables in it. Name another one in Options.Schema", s.opt.Schema)
	}
	var version int
	err = tx.QueryRow(ctx, strings.ReplaceAll(`SELECT version FROM {schema}.format`, "{schema}", quoted(s.opt.Schema))).Scan(&version)
	switch {
	case err != nil:
		return false, fmt.Errorf("store/postgres: open: the schema %q does not tell its format: %w", s.opt.Schema, err)
	case version != format:
		return false, fmt.Errorf("store/postgres: open: the schema %q has format %d, and this program knows %d only", s.opt.Schema, version, format)
	}
	return true, nil
}
