package callsim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/seed-6f1f505d/kvstore"
)

// Reply is what a node answers about a call, whatever the status.
type Reply struct {
	Call    string          `json:"call"`
	Node    string          `json:"node"`
	N       uint64          `json:"n,omitempty"` // the number of the call's last event
	Epoch   uint64          `json:"epoch,omitempty"`
	LagMS   *float64        `json:"lag_ms,omitempty"`  // for how long something of the call has not been stored
	Entries map[string]Part `json:"entries,omitempty"` // GET
	Adopted *Adoption       `json:"adopted,omitempty"` // this request took the call over
	Owner   string          `json:"owner,omitempty"`   // 307: who has it
	Error   string          `json:"error,omitempty"`
}

// Adoption tells how a node found a call that it took over.
type Adoption struct {
	N       uint64          `json:"n"`
	TookMS  float64         `json:"took_ms"`
	Entries map[string]Part `json:"entries,omitempty"` // before the event; in the Reply itself if there was none
}

// about fills in how the call is.
func (re *Reply) about(s *kvstore.Session[Part], n uint64) {
	lag := millis(s.Lag())
	re.N, re.Epoch, re.LagMS = n, s.Epoch(), &lag
}

// tries bounds how often a request is begun again because its call moved away meanwhile.
const tries = 4

func (n *Node) postEvent(w http.ResponseWriter, r *http.Request) {
	var ev Event
	sync := false
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	body.DisallowUnknownFields()
	err := body.Decode(&ev)
	if err != nil {
		err = fmt.Errorf("the body must be an event like {\"kind\":\"invite\"}: %w", err)
	} else if v := r.URL.Query().Get("sync"); v != "" {
		if sync, err = strconv.ParseBool(v); err != nil {
			err = fmt.Errorf("sync=%q: it must be 0 or 1", v)
		}
	}
	if err != nil {
		n.reply(w, r, http.StatusBadRequest, &Reply{Error: err.Error()})
		return
	}
	n.answer(w, r, func(ctx context.Context, e *engine, re *Reply) error {
		return e.feed(ctx, r.PathValue("id"), ev, sync, re)
	})
}

func (n *Node) getCall(w http.ResponseWriter, r *http.Request) {
	n.answer(w, r, func(ctx context.Context, e *engine, re *Reply) error {
		s, adoption, err := e.find(ctx, r.PathValue("id"))
		if err != nil {
			return err
		}
		if adoption != nil {
			re.Adopted = adoption
			re.Entries, adoption.Entries = adoption.Entries, nil
		} else if re.Entries, err = contents(ctx, s); err != nil {
			return err
		}
		re.about(s, re.Entries[Dialog].N)
		return nil
	})
}

func (n *Node) getStats(w http.ResponseWriter, r *http.Request) {
	write(w, http.StatusOK, n.Stats())
}

// answer runs do, and says what came of it.
func (n *Node) answer(w http.ResponseWriter, r *http.Request, do func(context.Context, *engine, *Reply) error) {
	var re Reply
	e := n.engine(r.Context())
	if e == nil {
		re.Error = *n.why.Load()
		n.reply(w, r, http.StatusServiceUnavailable, &re)
		return
	}
	var err error
	for range tries {
		re = Reply{}
		err = do(r.Context(), e, &re)
		// The session left while it was in use, or came while it was being made: look again.
		if !errors.Is(err, kvstore.ErrFenced) && !errors.Is(err, kvstore.ErrReleased) &&
			!errors.Is(err, kvstore.ErrNotResident) && !errors.Is(err, kvstore.ErrExists) {
			break
		}
	}
	status := http.StatusOK
	if err != nil {
		status = explain(err, &re)
		re.Error = err.Error()
	}
	n.reply(w, r, status, &re)
}

// explain returns the status for an error.
func explain(err error, re *Reply) int {
	var owned *kvstore.OwnedError
	var gap gapError
	var gone awayError
	var no refusal
	switch {
	case errors.As(err, &owned) && owned.Addr != "":
		re.Owner = owned.Addr
		return http.StatusTemporaryRedirect
	case errors.As(err, &gap):
		re.N = gap.n
		return http.StatusConflict
	case errors.As(err, &no):
		return http.StatusUnprocessableEntity
	case errors.Is(err, kvstore.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, kvstore.ErrInvalid), errors.Is(err, kvstore.ErrTooLarge):
		return http.StatusBadRequest
	case errors.Is(err, kvstore.ErrOwned), errors.Is(err, kvstore.ErrFenced), errors.Is(err, kvstore.ErrReleased),
		errors.Is(err, kvstore.ErrSuspended), errors.Is(err, kvstore.ErrDraining), errors.Is(err, kvstore.ErrClosed),
		errors.As(err, &gone), errors.Is(err, kvstore.ErrFull), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func (n *Node) reply(w http.ResponseWriter, r *http.Request, status int, re *Reply) {
	re.Call, re.Node = r.PathValue("id"), n.name
	switch status {
	case http.StatusTemporaryRedirect:
		w.Header().Set("Location", "http://"+re.Owner+r.URL.RequestURI())
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1") // whole seconds are all that the header can say; sooner is welcome
	}
	write(w, status, re)
}

func write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // an error here is the connection's: the client sees it
}
