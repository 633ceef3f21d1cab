package redis

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"testing"

	client "github.com/redis/go-redis/v9"

	"github.com/seed-6f1f505d/kvstore/internal/outage"
	"github.com/seed-6f1f505d/kvstore/internal/proc"
	"github.com/seed-6f1f505d/kvstore/internal/redisserver"
)

// A server that wants TLS and a password gets both, and a wrong one of either is an error that tells which.
func TestTLSAndPassword(t *testing.T) {
	good, other := outage.Certify(t), outage.Certify(t)
	port, err := proc.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	redisserver.Start(t, fmt.Sprint("tls-port ", port), "tls-cert-file "+good+".crt", "tls-key-file "+good+".key", "tls-auth-clients no", "requirepass secret")
	trust := func(ca string) *tls.Config {
		pem, err := os.ReadFile(ca + ".crt")
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	for _, c := range []struct {
		password string
		tls      *tls.Config
		says     string
	}{
		{"secret", trust(good), ""},
		{"wrong", trust(good), "WRONGPASS"},
		{"", trust(good), "NOAUTH"},
		{"secret", trust(other), "certificate"},
		{"secret", nil, ""},
	} {
		cl := client.NewClient(&client.Options{Addr: fmt.Sprint("127.0.0.1:", port), Password: c.password, TLSConfig: c.tls, ContextTimeoutEnabled: true, DialerRetries: 1, MaxRetries: -1})
		st, err := New(t.Context(), cl, nil)
		switch {
		case err == nil && c.says == "" && c.tls != nil:
			st.Close()
		case err == nil:
			t.Errorf("password %q, TLS %t: no error; want one that says %q", c.password, c.tls != nil, c.says)
		case !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "secret") || c.says == "" && c.tls != nil:
			t.Errorf("password %q, TLS %t gives %v; want an error that says %q, and no password", c.password, c.tls != nil, err, c.says)
		}
		cl.Close()
	}
	// By URL, with the system's authorities, which ours is not of.
	_, err = Open(t.Context(), fmt.Sprintf("rediss://:secret@127.0.0.1:%d", port), nil)
	if err == nil || !strings.Contains(err.Error(), "certificate") || strings.Contains(err.Error(), "secret") {
		t.Errorf("Open gives %v; want an error that says that the certificate is not known, and no password", err)
	}
	st, err := Open(t.Context(), fmt.Sprintf("rediss://:secret@127.0.0.1:%d?skip_verify=true", port), nil)
	if err != nil {
		t.Fatal(err)
	}
	st.Close()
}
