package redis

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	client "github.com/redis/go-redis/v9"

	"github.com/seed-6f1f505d/kvstore/internal/redo"
	"github.com/seed-6f1f505d/kvstore/store"
)

// This file is about what servers forget: when they are killed and had not synced, when they lose their power, and when a replica takes over that had not
// heard all. A server that begins anew, from its file or as a replica, knows no scripts. So the script that writes has the name of the
// servers' memory in it, is sent when that is named, and never again: who is told that it is not known has to write again
// what may be forgotten, before anything else.

// stays is for how long a change is kept to be written again, whatever was said of it: at appendfsync everysec a server begins to sync each second, and
// is done with that soon unless its disk is slow; and a replica is behind by less than that, or it is not elected.
const stays = 10 * time.Second

// servers is what the log needs of them.
type servers struct {
	s *Store

	mu     sync.Mutex
	of     redo.Memory
	script *script // the one with that name in it
}

// writing returns the script that writes if the servers have a memory.
func (v *servers) writing(of redo.Memory) *script {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.script == nil || v.of != of {
		v.of, v.script = of, newScript("-- The servers' memory: "+hex.EncodeToString(of[:])+"\n"+applyLua)
	}
	return v.script
}

// memoryKey has the name that was given last, for those who come later: servers keep each script, so there are not to be many.
func (s *Store) memoryKey() string { return s.opt.Prefix + ":memory" }

func (v *servers) Memory(ctx context.Context) (redo.Memory, error) {
	var m redo.Memory
	was, err := v.s.client.Get(ctx, v.s.memoryKey()).Result()
	if err != nil && !errors.Is(err, client.Nil) {
		return m, wrap(err)
	}
	name, err := hex.DecodeString(was) // what is no name, somebody else has put there
	if err == nil && len(name) == len(m) {
		m = redo.Memory(name)
		if err := v.know(ctx, v.writing(m), false); !errors.Is(err, redo.ErrForgot) {
			return m, err
		}
	}
	// A name that was lost is never used again, by nobody. If two give one at the same time, both are good.
	m = redo.Memory(store.NewIncarnation())
	if err := v.know(ctx, v.writing(m), true); err != nil {
		return m, err
	}
	return m, wrap(v.s.client.Set(ctx, v.s.memoryKey(), hex.EncodeToString(m[:]), 0).Err())
}

func (v *servers) Write(ctx context.Context, of redo.Memory, changes []store.Change) ([]store.Result, error) {
	return v.s.write(ctx, v.writing(of), changes)
}

func (v *servers) Harden(ctx context.Context, of redo.Memory) error {
	if err := v.s.onDisk(ctx); err != nil {
		return err
	}
	return v.know(ctx, v.writing(of), false) // after that: what was on disk was that memory's
}

// know asks all servers whether they know a script, by running it on no changes, or has them know it.
func (v *servers) know(ctx context.Context, w *script, from bool) error {
	at, err := v.s.masters(ctx)
	if err != nil {
		return err
	}
	var calls []*call
	for _, b := range at {
		calls = append(calls, &call{bucket: b, script: w, known: !from, source: from, keys: 5, args: []any{b.live, b.owned, b.nodes, b.aliases, b.order, 0, len(b.session)}})
	}
	v.s.run(ctx, calls...)
	for _, c := range calls {
		if c.err != nil {
			return c.err
		}
		if _, err := c.list(); err != nil {
			return fmt.Errorf("store/redis: a script that writes nothing: %w", err)
		}
	}
	return nil
}
