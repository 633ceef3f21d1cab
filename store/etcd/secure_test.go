package etcd

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed-6f1f505d/kvstore/internal/outage"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
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

// A server that wants TLS and a password gets both, and a wrong one of either is an error that tells which. A user who may touch what is
// under the prefix, and nothing else, needs no more.
func TestTLSAndPassword(t *testing.T) {
	cert := outage.Certify(t)
	c := start(t, 1, member{NoFsync: true, Cert: cert})
	admin := c.client(t, c.endpoint(0))
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(admin.UserAdd(t.Context(), "root", "secret"))
	must(admin.UserGrantRole(t.Context(), "root", "root"))
	must(admin.RoleAdd(t.Context(), "calls"))
	must(admin.RoleGrantPermission(t.Context(), "calls", "calls/", "calls0", clientv3.PermissionType(clientv3.PermReadWrite)))
	must(admin.UserAdd(t.Context(), "app", "secret"))
	must(admin.UserGrantRole(t.Context(), "app", "calls"))
	must(admin.AuthEnable(t.Context()))

	at := func(user, scheme string) string {
		return fmt.Sprintf("%s://%s127.0.0.1:%d", scheme, user, c.members[0].Client)
	}
	trusted := trusting(t, cert)
	for _, w := range []struct {
		url  string
		tls  *tls.Config
		says string
	}{
		{at("app:wrong@", "etcds"), trusted, "password is wrong"},
		{at("", "etcds"), trusted, "put them into the URL"},
		{at("app:secret@", "etcds"), trusting(t, outage.Certify(t)), "certificate"},
		{at("", "etcds"), nil, "certificate"},
		{at("", "etcd"), nil, "etcds://"},
	} {
		refused(t, w.url, &Options{TLS: w.tls, Prefix: "calls/"}, w.says)
	}
	refused(t, at("app:secret@", "etcds"), &Options{TLS: trusted}, "permission denied", "Options.Prefix")

	var log bytes.Buffer
	o := &Options{TLS: trusted, Prefix: "calls/", Compact: time.Nanosecond, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	st := open(t, at("app:secret@", "etcds"), o)
	storetest.Compare(t, st, 1, 100)
	for range 3 {
		if _, err := st.KeepAlive(t.Context(), store.Node{Incarnation: store.NewIncarnation()}, time.Hour); err != nil {
			t.Error(err)
		}
	}
	if n := strings.Count(log.String(), "auto-compaction-retention"); n != 1 {
		t.Errorf("that this user may not compact is said %d times: %s", n, log.String())
	}
}
