package etcd

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"testing"
)

// trusting is what a client trusts that knows a certificate.
func trusting(t testing.TB, path string) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(path + ".crt")
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatal("the certificate is none")
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}
