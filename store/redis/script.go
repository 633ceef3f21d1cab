package redis

import (
	"context"
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	client "github.com/redis/go-redis/v9"

	"github.com/seed-6f1f505d/kvstore/internal/redo"
)

var (
	//go:embed scripts/prelude.lua
	prelude string
	//go:embed scripts/apply.lua
	applyLua string
	//go:embed scripts/claim.lua
	claimLua string
	//go:embed scripts/load.lua
	loadLua string
	//go:embed scripts/range.lua
	rangeLua string
	//go:embed scripts/lookup.lua
	lookupLua string
	//go:embed scripts/find.lua
	findLua string
	//go:embed scripts/order.lua
	orderLua string
	//go:embed scripts/walk.lua
	walkLua string
	//go:embed scripts/lease.lua
	leaseLua string
	//go:embed scripts/nodes.lua
	nodesLua string
	//go:embed scripts/rights.lua
	rightsLua string

	claimScript  = newScript(claimLua)
	loadScript   = newScript(loadLua)
	rangeScript  = newScript(rangeLua)
	lookupScript = newScript(lookupLua)
	findScript   = newScript(findLua)
	orderScript  = newScript(orderLua)
	walkScript   = newScript(walkLua)
	leaseScript  = newScript(leaseLua)
	nodesScript  = newScript(nodesLua)
	rightsScript = newScript(rightsLua)
)

// script is one that servers keep, and know by its hash.
type script struct{ source, hash string }

func newScript(source string) *script {
	source = prelude + source
	h := sha1.Sum([]byte(source))
	return &script{source, hex.EncodeToString(h[:])}
}

// call is one run of a script, on keys of one bucket.
type call struct {
	bucket *bucket
	script *script
	keys   int   // how many of args are keys
	args   []any // keys and arguments
	writes bool  // it is to be confirmed by replicas, if that is asked for

	known  bool // servers must have had the script before: it is not sent
	source bool // the server does not know the hash
	cmd    *client.Cmd
	err    error
}

// once is a command that the client does not repeat after an error that leaves open whether it was carried out. For the repetition would
// answer for itself: that a lease ran, for instance, which the first one had found to be over.
type once struct{ *client.Cmd }

func (once) NoRetry() bool { return true }

func (c *call) command(ctx context.Context) client.Cmder {
	args := make([]any, 0, 3+len(c.args))
	if c.source {
		args = append(args, "eval", c.script.source, c.keys)
	} else {
		args = append(args, "evalsha", c.script.hash, c.keys)
	}
	c.cmd = client.NewCmd(ctx, append(args, c.args...)...)
	return once{c.cmd}
}

// list returns the answer of a script that answers with a list.
func (c *call) list() ([]any, error) {
	if c.err != nil {
		return nil, c.err
	}
	list, ok := c.cmd.Val().([]any)
	if !ok {
		return nil, fmt.Errorf("store/redis: the server's answer is a %T, not a list", c.cmd.Val())
	}
	return list, nil
}

// run makes all calls, in one round trip, as far as servers know the scripts and where the buckets are. Those to one bucket are run in their
// order, but if some of them have to be made again. Each call then has its answer or its error.
func (s *Store) run(ctx context.Context, calls ...*call) {
	for attempt := 0; ; attempt++ {
		s.send(ctx, calls)
		var again []*call
		moved := false
		for _, c := range calls {
			switch {
			case c.err == nil:
			case strings.HasPrefix(c.err.Error(), "NOSCRIPT") && c.known:
				c.err = redo.ErrForgot
			case strings.HasPrefix(c.err.Error(), "NOSCRIPT") && !c.source:
				c.source = true
				again = append(again, c)
			case strings.HasPrefix(c.err.Error(), "MOVED") && s.cluster != nil && attempt < 5:
				moved = true
				again = append(again, c)
			default:
				if !isReply(c.err) && s.cluster != nil {
					s.cluster.ReloadState(ctx) // a server that does not answer may have been replaced, which the client alone would see late
				}
				c.err = wrap(c.err)
			}
		}
		if calls = again; len(calls) == 0 {
			return
		}
		if moved { // the client finds out where to while we wait
			s.cluster.ReloadState(ctx)
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond << attempt):
			}
		}
	}
}

// isReply reports whether an error is what a server has said.
func isReply(err error) bool {
	var reply client.Error
	return errors.As(err, &reply)
}

func (s *Store) send(ctx context.Context, calls []*call) {
	if s.opt.Replicas == 0 || !calls[0].writes {
		s.pipe(ctx, s.client, calls)
		return
	}
	if s.cluster == nil {
		s.confirmed(ctx, s.client, calls)
		return
	}
	// The replicas that confirm must be those of the server that wrote, so the way to it is not left to the client.
	masters := map[*client.Client][]*call{}
	for _, c := range calls {
		m, err := s.cluster.MasterForKey(ctx, c.bucket.live)
		if c.err = err; err == nil {
			masters[m] = append(masters[m], c)
		}
	}
	var wg sync.WaitGroup
	for m, calls := range masters {
		wg.Go(func() { s.confirmed(ctx, m, calls) })
	}
	wg.Wait()
}

type pipeliner interface {
	Pipelined(ctx context.Context, fn func(client.Pipeliner) error) ([]client.Cmder, error)
}

func (s *Store) pipe(ctx context.Context, to pipeliner, calls []*call) {
	to.Pipelined(ctx, func(p client.Pipeliner) error { // each command has its error
		for _, c := range calls {
			p.Process(ctx, c.command(ctx))
		}
		return nil
	})
	for _, c := range calls {
		if c.err = c.cmd.Err(); errors.Is(c.err, client.Nil) {
			c.err = nil
		}
	}
}

// confirmed makes calls that one server answers for, and has its replicas confirm that they have all of it. That goes by what was written
// over this connection, and calls may have found everything there already, so something is written in any case. As replicas have
// writes in their order, what they confirm is all that was written before by whomever.
func (s *Store) confirmed(ctx context.Context, to pipeliner, calls []*call) {
	wait := s.opt.ReplicaWait
	if end, ok := ctx.Deadline(); ok {
		wait = max(min(wait, time.Until(end)*3/4), time.Millisecond)
	}
	var mark, count *client.Cmd
	to.Pipelined(ctx, func(p client.Pipeliner) error {
		for _, c := range calls {
			p.Process(ctx, c.command(ctx))
		}
		mark = client.NewCmd(ctx, "set", calls[0].bucket.confirm, "")
		count = client.NewCmd(ctx, "wait", s.opt.Replicas, wait.Milliseconds())
		p.Process(ctx, once{mark})
		p.Process(ctx, once{count})
		return nil
	})
	var missing error
	if err := errors.Join(mark.Err(), count.Err()); err != nil {
		missing = fmt.Errorf("replicas have not confirmed it: %w", err)
	} else if n, _ := count.Int(); n < s.opt.Replicas {
		missing = fmt.Errorf("%d of %d replicas have confirmed it in %v, so a failover might lose it (Options.Replicas)", n, s.opt.Replicas, wait)
	}
	for _, c := range calls {
		if c.err = c.cmd.Err(); c.err == nil || errors.Is(c.err, client.Nil) {
			c.err = missing
		}
	}
}

// text returns what a script answers with where it answers with a string or nothing.
func text(v any) string {
	s, _ := v.(string)
	return s
}

// whole returns a number of a script's answer.
func whole(v any) int64 {
	n, _ := v.(int64)
	return n
}
