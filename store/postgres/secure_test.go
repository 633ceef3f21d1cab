package postgres

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore/internal/pgserver"
)

// A server that wants TLS and a password gets both, and a wrong one of either is an error that tells which.
func TestTLSAndPassword(t *testing.T) {
	srv := pgserver.Start(t, "fsync=off")
	good := certify(t, srv, "server")
	other := certify(t, srv, "other")
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
	until(t, "the server has TLS", func() bool {
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

// certify makes a certificate for the loopback that is its own authority, and returns its path without .crt and .key.
func certify(t *testing.T, srv *pgserver.Server, name string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	for ext, block := range map[string]*pem.Block{".crt": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path+ext, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		srv.Own(t, path+ext)
	}
	// The server reaches it, and the test reads the certificate as whoever it is.
	for d := filepath.Dir(path); d != os.TempDir() && len(d) > 1; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return path
}
