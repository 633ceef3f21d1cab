package nats

import (
	"context"
	"errors"
	"fmt"
	neturl "net/url"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Store implements [store.Store]. Use [Open] or [New].
type Store struct {
	nc        *nats.Conn
	owns      bool // the connection is closed with the store
	opt       Options
	prefix    string // of subjects, with its dot
	apiPrefix string
	alone     bool // the stream has one replica
	wire      *wire
	clock     clock
	cache     *cache
	ended     context.Context // over when the store is closed
	end       context.CancelFunc
	chores    sync.WaitGroup

	mu         sync.Mutex
	closed     bool
	calls      sync.WaitGroup                 // under mu while it is 0
	reconnects uint64                         // as the cache knows of
	leases     map[store.Incarnation]*renewal // those that this store renews
	litter     []uint64                       // messages that are to be removed
	suspects   []claimed                      // messages in the index that may have to
	tidying    bool
	sweeping   bool
	swept      time.Time
}

// Open connects to the servers at url, which may be several, with commas between them, and returns a store on the stream that
// [Options] name. ctx bounds Open. Close closes the connection.
func Open(ctx context.Context, url string, o *Options) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	opt, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	opts := append(Connect(), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		opt.Logger.Warn("store/nats: the connection has an error", "error", err)
	}))
	if d, ok := ctx.Deadline(); ok {
		opts = append(opts, nats.Timeout(max(time.Until(d), time.Millisecond)))
	}
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		if bad := (*neturl.Error)(nil); errors.As(err, &bad) {
			err = bad.Err // without the URL, which has a password in it
		}
		return nil, fmt.Errorf("store/nats: open: no connection to %s: %w", redacted(url), err)
	}
	s, err := New(ctx, nc, o)
	if err != nil {
		nc.Close()
		return nil, err
	}
	s.owns = true
	return s, nil
}

// Connect returns the settings of the connections that Open makes, for a program that connects by itself, with credentials, say, or
// certificates, and gives the connection to [New]. A server that hangs is noticed within six seconds, and another one is tried for ever. Nothing
// is kept to be sent later.
func Connect() []nats.Option {
	return []nats.Option{
		nats.Name("kvstore"),
		nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond), nats.ReconnectJitter(50*time.Millisecond, 50*time.Millisecond),
		nats.ReconnectBufSize(-1),
		nats.PingInterval(2 * time.Second), nats.MaxPingsOutstanding(2),
		nats.FlusherTimeout(2 * time.Second), nats.Timeout(2 * time.Second),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // else they are printed; calls tell them
		nats.NoCallbacksAfterClientClose(),
	}
}

// New returns a store on a connection, which stays its caller's: close it after the store. It makes the stream, if it is not there. ctx bounds New.
// The connection should have the settings that [Connect] returns.
func New(ctx context.Context, nc *nats.Conn, o *Options) (*Store, error) {
	opt, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if nc == nil {
		return nil, errors.New("store/nats: the connection is nil")
	}
	s := &Store{
		nc: nc, opt: opt, prefix: opt.Stream + ".", apiPrefix: "$JS.API.",
		cache: newCache(opt.CacheBytes), leases: map[store.Incarnation]*renewal{}, swept: time.Now(),
	}
	if opt.Domain != "" {
		s.apiPrefix = "$JS." + opt.Domain + ".API."
	}
	s.ended, s.end = context.WithCancel(context.Background())
	s.reconnects = nc.Stats().Reconnects
	if s.wire, err = newWire(nc); err != nil {
		return nil, fmt.Errorf("store/nats: open: %w", err)
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.prepare(ctx); err != nil {
		s.wire.close()
		return nil, err
	}
	return s, nil
}

// Close implements [store.Store]. It waits for calls that run.
func (s *Store) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	s.calls.Wait()
	s.end()
	s.chores.Wait()
	if first {
		if s.owns {
			s.nc.Close()
		}
		s.wire.close()
	}
	return nil
}

// enter lets a call begin, which ends with leave.
func (s *Store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	reconnects := s.nc.Stats().Reconnects
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	if s.reconnects != reconnects {
		s.reconnects = reconnects
		s.cache.allOutdated(s.alone)
	}
	s.calls.Add(1)
	return nil
}

func (s *Store) leave() { s.calls.Done() }

// bound gives a call an end.
func (s *Store) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, s.opt.Timeout, fmt.Errorf("no answer within %v (Options.Timeout): %w", s.opt.Timeout, context.DeadlineExceeded))
}

// over returns the error of a call whose context is over, with what kept it waiting, if that is known.
func (s *Store) over(ctx context.Context, why error) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); errors.Is(cause, err) {
		err = cause
	}
	if last := s.nc.LastError(); why == nil && errors.Is(last, nats.ErrPermissionViolation) {
		why = last // a server does not answer what it does not allow
	}
	if why == nil || errors.Is(why, errSilent) {
		return wrap(err)
	}
	return fmt.Errorf("store/nats: %w: %w", err, why)
}

// ask asks all, again and again while the server does nothing for reasons that pass, and returns when each has an answer. An error means that some
// have none.
func (s *Store) ask(ctx context.Context, asks ...*ask) error {
	todo := asks
	for attempt := 0; len(todo) > 0; attempt++ {
		silent, err := s.attempt(ctx, todo, attempt)
		if err != nil {
			return err
		}
		var again []*ask
		var why error
		for _, a := range todo {
			err := a.err
			if err == nil {
				err = refusal(a.answer)
			}
			if passes(err) || silent && errors.Is(err, errSilent) || a.harmless && errors.Is(err, errLost) {
				again, why = append(again, a), err
			}
		}
		if len(again) > 0 && pause(ctx, attempt) != nil {
			for _, a := range again {
				a.err = why
			}
			return s.over(ctx, why)
		}
		todo = again
	}
	return nil
}

// attempt asks once. What changes nothing is not waited for until the end, as it may have gone to a server that has died since: then it is silent.
func (s *Store) attempt(ctx context.Context, asks []*ask, attempt int) (silent bool, err error) {
	for _, a := range asks {
		if !a.harmless {
			if s.wire.all(ctx, asks) != nil {
				return false, s.over(ctx, nil)
			}
			return false, nil
		}
	}
	some, cancel := context.WithTimeout(ctx, 2*time.Second<<min(attempt, 4))
	defer cancel()
	if s.wire.all(some, asks) == nil {
		return false, nil
	}
	if ctx.Err() != nil {
		return false, s.over(ctx, nil)
	}
	return true, nil
}

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("store/nats: %w", err)
}

// redacted returns a URL, or several, without passwords.
func redacted(url string) string {
	parts := strings.Split(url, ",")
	for i, p := range parts {
		if at := strings.LastIndexByte(p, '@'); at >= 0 {
			scheme, _, ok := strings.Cut(p, "://")
			if ok {
				scheme += "://"
			} else {
				scheme = ""
			}
			parts[i] = scheme + "…" + p[at:]
		}
	}
	return strings.Join(parts, ",")
}

var _ store.Store = (*Store)(nil)
