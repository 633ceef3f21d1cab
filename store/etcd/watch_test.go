package etcd

import (
	"errors"
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed-6f1f505d/kvstore/store"
)

// A watch whose client is closed by whom it belongs to ends, and says so.
func TestWatchOfAClosedClient(t *testing.T) {
	c := start(t, 1, member{NoFsync: true})
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{fmt.Sprint("http://127.0.0.1:", c.members[0].Client)}})
	if err != nil {
		t.Fatal(err)
	}
	st, err := New(t.Context(), client, fresh())
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	stands, ended := make(chan struct{}, 1), make(chan error)
	go func() { ended <- st.WatchNodes(t.Context(), func() { stands <- struct{}{} }) }()
	<-stands
	client.Close()
	if err := <-ended; err == nil || errors.Is(err, store.ErrClosed) {
		t.Errorf("the watch ends with %v, want that the client is closed", err)
	}
}
