//go:build peers

package main

import (
	"context"
	"errors"
	"io"
	"log"
	"time"

	"github.com/olric-data/olric"
	olricconfig "github.com/olric-data/olric/config"
)

func init() {
	peers = append(peers, struct {
		name string
		open func(sessions int) (peer, error)
	}{"olric", newOlric})
}

// olricMap is github.com/olric-data/olric embedded in the process, a cluster of one.
type olricMap struct {
	db   *olric.Olric
	dmap olric.DMap
}

func newOlric(int) (peer, error) {
	c := olricconfig.New("local")
	c.BindAddr, c.BindPort = "127.0.0.1", 0
	c.MemberlistConfig.BindAddr, c.MemberlistConfig.BindPort = "127.0.0.1", 0
	c.LogOutput, c.Logger = io.Discard, log.New(io.Discard, "", 0)
	started := make(chan struct{})
	c.Started = func() { close(started) }
	db, err := olric.New(c)
	if err != nil {
		return nil, err
	}
	failed := make(chan error, 1)
	go func() { failed <- db.Start() }()
	select {
	case <-started:
	case err := <-failed:
		return nil, err
	case <-time.After(time.Minute):
		return nil, errors.New("olric does not start")
	}
	m, err := db.NewEmbeddedClient().NewDMap("sessions")
	return olricMap{db, m}, err
}

func (o olricMap) get(id string) bool {
	r, err := o.dmap.Get(context.Background(), id)
	if err != nil {
		return false
	}
	v, err := r.Byte()
	return err == nil && len(v) == valueSize
}

func (o olricMap) set(id string, v []byte) bool {
	return o.dmap.Put(context.Background(), id, v) == nil
}

func (o olricMap) close() { o.db.Shutdown(context.Background()) }
