package postgres

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-6f1f505d/kvstore/internal/outage"
	"github.com/seed-6f1f505d/kvstore/internal/pgserver"
)

// A server that wants TLS and a password gets both, and a wrong one of either is an error that tells which.
func TestTLSAndPassword(t *testing.T) {
	srv := pgserver.Start(t, "fsync=off")
	good := certify(t, srv)
	other := certify(t, srv)
	admin := connect(t, srv.URL())
	exec(t, admin, `ALTER ROLE postgres PASSWORD 'secret'`)
	exec(t, admin, fmt.Sprintf(`ALTER SYSTEM SET ssl_cert_file = '%s.crt'`, good))
	exec(t, admin, fmt.Sprintf(`ALTER SYSTEM SET ssl_key_file = '%s.key'`, good))
	exec(t, admin, `ALTER SYSTEM SET ssl = on`)
	if err := os.WriteFile(filepath.Join(srv.Dir, "pg_hba.conf"), []byte("hostssl all all 127.0.0.1/32 scram-sha-256\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	exec(t, admin, `SELECT pg_reload_conf()`)
	url := func(user, sslmode, ca string) string {
		return fmt.Sprintf("postgres://%s@127.0.0.1:%d/postgres?sslmode=%s&sslrootcert=%s.crt", user, srv.Port, sslmode, ca)
	}
	outage.Until(t, "the server has TLS", func() bool {
		st, err := Open(t.Context(), url("postgres:secret", "verify-full", good), nil)
		if err == nil {
			st.Close()
		}
		return err == nil
	})
	for _, c := range []struct{ url, says string }{
		{url("postgres:wrong", "verify-full", good), "password"},
		{url("postgres:secret", "disable", good), "no encryption"},
		{url("postgres:secret", "verify-full", other), "certificate"},
	} {
		st, err := Open(t.Context(), c.url, nil)
		if err == nil {
			st.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("Open(%s) gives %v; want an error that says %q, and no password", c.url, err, c.says)
		}
	}
}

// certify makes a certificate that the server can read, and returns its path without .crt and .key.
func certify(t *testing.T, srv *pgserver.Server) string {
	t.Helper()
	path := outage.Certify(t)
	srv.Own(t, path+".crt")
	srv.Own(t, path+".key")
	for d := filepath.Dir(path); d != os.TempDir() && len(d) > 1; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return path
}
