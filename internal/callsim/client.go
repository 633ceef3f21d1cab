package callsim

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Client talks to nodes. It follows no redirect by itself: its user decides.
type Client struct{ http http.Client }

// NewClient returns a client that keeps up to conns connections to each node open.
func NewClient(conns int) *Client {
	t := &http.Transport{MaxIdleConnsPerHost: conns, DisableCompression: true}
	return &Client{http.Client{
		Transport:     t,
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close closes the connections that are idle.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Feed sends an event to the node at addr. An error means that it is not known what became of it.
func (c *Client) Feed(ctx context.Context, addr, id string, ev Event, sync bool) (status int, re Reply, err error) {
	body, err := json.Marshal(ev)
	if err != nil {
		return 0, re, err
	}
	target := "http://" + addr + "/calls/" + url.PathEscape(id) + "/events"
	if sync {
		target += "?sync=1"
	}
	status, err = c.do(ctx, http.MethodPost, target, body, &re)
	return status, re, err
}

// Call asks the node at addr for a call.
func (c *Client) Call(ctx context.Context, addr, id string) (status int, re Reply, err error) {
	status, err = c.do(ctx, http.MethodGet, "http://"+addr+"/calls/"+url.PathEscape(id), nil, &re)
	return status, re, err
}

// Stats asks the node at addr for its numbers.
func (c *Client) Stats(ctx context.Context, addr string) (st NodeStats, err error) {
	_, err = c.do(ctx, http.MethodGet, "http://"+addr+"/stats", nil, &st)
	return st, err
}

func (c *Client) do(ctx context.Context, method, target string, body []byte, v any) (int, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body) // to its end, so that the connection can be used again
	if err != nil {
		return 0, err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return 0, fmt.Errorf("%s answered %s with %.100q: %w", target, resp.Status, data, err)
	}
	return resp.StatusCode, nil
}

// Watch asks a node for its numbers again and again, and keeps the last: those of a
// node that is killed die with it.
type Watch struct {
	c    *Client
	addr string
	stop context.CancelFunc
	done chan struct{}

	mu   sync.Mutex
	last NodeStats
}

// Watch begins to ask the node at addr.
func (c *Client) Watch(ctx context.Context, addr string, every time.Duration) *Watch {
	ctx, stop := context.WithCancel(ctx)
	w := &Watch{c: c, addr: addr, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				w.Ask(ctx)
			}
		}
	}()
	return w
}

// Ask asks now. If there is no answer, it returns the last one.
func (w *Watch) Ask(ctx context.Context) NodeStats {
	st, err := w.c.Stats(ctx, w.addr)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil && st.Serving {
		w.last = st
	}
	return w.last
}

// Last returns the last answer.
func (w *Watch) Last() NodeStats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// Stop ends the asking.
func (w *Watch) Stop() {
	w.stop()
	<-w.done
}
