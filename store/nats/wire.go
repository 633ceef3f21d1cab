package nats

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// This file asks the server many things at once: all questions of a call go out on one connection, one after the other, and all answers come to
// one subscription. One deadline is over them all.

// ask is one question, and what came of it.
type ask struct {
	msg      *nats.Msg
	harmless bool // it changes nothing, and may be asked again
	expects  int  // bytes of the answer, if they are many
	answer   []byte
	err      error // errSilent until there is an answer
}

var (
	errSilent   = errors.New("no answer")
	errNoLeader = errors.New("the stream has no leader now, or JetStream is not there")
	errOffline  = errors.New("there is no connection to a server now")
	errLost     = errors.New("the connection was lost before there was an answer")
)

// wire is where answers arrive.
type wire struct {
	nc    *nats.Conn
	inbox string // with its last dot
	sub   *nats.Subscription

	lost    chan nats.Status
	workers sync.WaitGroup
	edit    func(*nats.Msg) // tests break what is sent with it; else nil

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]flight
}

type flight struct {
	ask  *ask
	done chan<- struct{}
}

func newWire(nc *nats.Conn) (*wire, error) {
	w := &wire{nc: nc, inbox: nc.NewInbox() + ".", waiting: map[uint64]flight{}}
	var err error
	if w.sub, err = nc.Subscribe(w.inbox+"*", w.arrive); err != nil {
		return nil, err
	}
	w.lost = nc.StatusChanged(nats.DISCONNECTED, nats.RECONNECTING, nats.CLOSED)
	w.workers.Go(func() {
		for range w.lost {
			w.lose()
		}
	})
	return w, w.sub.SetPendingLimits(-1, -1) // what is asked for is bounded
}

// lose gives up all questions: their answers go to a connection that is no more.
func (w *wire) lose() {
	w.mu.Lock()
	ids := slices.Collect(maps.Keys(w.waiting))
	w.mu.Unlock()
	for _, id := range ids {
		w.settle(id, nil, errLost)
	}
}

func (w *wire) close() {
	w.nc.RemoveStatusListener(w.lost)
	w.workers.Wait()
	w.sub.Unsubscribe() // it fails only if the connection is closed already
}

func (w *wire) arrive(m *nats.Msg) {
	id, err := strconv.ParseUint(m.Subject[len(w.inbox):], 36, 64)
	if err != nil {
		return
	}
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		err = errNoLeader
	}
	w.settle(id, m.Data, err)
}

// settle gives a question its answer, unless it has one, or is not asked any more.
func (w *wire) settle(id uint64, answer []byte, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f, ok := w.waiting[id]; ok {
		delete(w.waiting, id)
		f.ask.answer, f.ask.err = answer, err
		f.done <- struct{}{} // there is room
	}
}

// What is on its way at a time: a server drops all requests that wait if they are too many.
const (
	manyAsks  = 1024
	manyBytes = 8 << 20
)

// all asks, and returns when each has its answer, or the context is over: then it returns why. Whatever was asked may still happen.
func (w *wire) all(ctx context.Context, asks []*ask) error {
	for len(asks) > 0 {
		n, size := 0, 0
		for n < len(asks) && n < manyAsks && (n == 0 || size < manyBytes) {
			size += len(asks[n].msg.Data) + asks[n].expects
			n++
		}
		if err := w.some(ctx, asks[:n]); err != nil {
			for _, a := range asks {
				if a.err == nil && a.answer == nil {
					a.err = errSilent
				}
			}
			return err
		}
		asks = asks[n:]
	}
	return nil
}

func (w *wire) some(ctx context.Context, asks []*ask) error {
	done := make(chan struct{}, len(asks))
	w.mu.Lock()
	first := w.last + 1
	w.last += uint64(len(asks))
	for i, a := range asks {
		a.answer, a.err = nil, errSilent
		w.waiting[first+uint64(i)] = flight{a, done}
	}
	w.mu.Unlock()
	msgs := make([]nats.Msg, len(asks))
	for i, a := range asks {
		msgs[i] = nats.Msg{Subject: a.msg.Subject, Header: a.msg.Header, Data: a.msg.Data, Reply: w.inbox + strconv.FormatUint(first+uint64(i), 36)}
	}
	// A connection that takes nothing must not keep the caller beyond its deadline. The messages are not the caller's.
	w.workers.Go(func() {
		for i := range msgs {
			err := ctx.Err()
			if err == nil {
				if w.edit != nil {
					w.edit(&msgs[i])
				}
				err = w.nc.PublishMsg(&msgs[i])
			}
			if errors.Is(err, nats.ErrReconnectBufExceeded) { // of no bytes: it is not kept, to be sent later
				err = errOffline
			}
			if err != nil {
				w.settle(first+uint64(i), nil, err)
			}
		}
	})
	for range asks {
		select {
		case <-done:
		case <-ctx.Done():
			w.mu.Lock() // from here on no answer touches what was asked
			for i := range asks {
				delete(w.waiting, first+uint64(i))
			}
			w.mu.Unlock()
			return ctx.Err()
		}
	}
	return nil
}

// refusal returns the error that an answer is, if it is one.
func refusal(answer []byte) error {
	if !bytes.Contains(answer[:min(len(answer), 200)], []byte(`"error"`)) {
		return nil // it comes first, or after the type or the stream's name
	}
	var r struct {
		Error *jetstream.APIError `json:"error"`
	}
	if json.Unmarshal(answer, &r) == nil && r.Error != nil {
		return r.Error
	}
	return nil
}

// stored returns the sequence of a message that was published.
func (a *ask) stored() (seq uint64, err error) {
	if a.err != nil {
		return 0, a.err
	}
	// {"stream":"KVSTORE","seq":12}, nearly always
	if i := bytes.Index(a.answer, []byte(`"seq":`)); i > 0 && !bytes.Contains(a.answer, []byte(`"error"`)) {
		for _, c := range a.answer[i+6:] {
			if c < '0' || c > '9' {
				break
			}
			seq = seq*10 + uint64(c-'0')
		}
		if seq > 0 {
			return seq, nil
		}
	}
	var ack struct {
		Error    *jetstream.APIError `json:"error"`
		Sequence uint64              `json:"seq"`
	}
	if err := json.Unmarshal(a.answer, &ack); err != nil {
		return 0, fmt.Errorf("an acknowledgement is not understood: %.100q", a.answer)
	}
	if ack.Error != nil {
		return 0, ack.Error
	}
	if ack.Sequence == 0 {
		return 0, fmt.Errorf("an acknowledgement without a sequence: %.100q", a.answer)
	}
	return ack.Sequence, nil
}

// message is a message as the leader of the stream has it. Its sequence is 0 if there is none.
type message struct {
	Subject string    `json:"subject"`
	Seq     uint64    `json:"seq"`
	Data    []byte    `json:"data"`
	Time    time.Time `json:"time"`
}

const noMessageFound = 10037

// found returns the message that was asked for.
func (a *ask) found() (message, error) {
	var r struct {
		Error   *jetstream.APIError `json:"error"`
		Message message             `json:"message"`
	}
	if err := a.decode(&r); err != nil {
		return message{}, err
	}
	if r.Error != nil {
		if r.Error.ErrorCode == noMessageFound {
			return message{}, nil
		}
		return message{}, r.Error
	}
	if r.Message.Seq == 0 {
		return message{}, fmt.Errorf("an answer is not understood: %.100q", a.answer)
	}
	return r.Message, nil
}

func (a *ask) decode(to any) error {
	if a.err != nil {
		return a.err
	}
	if err := json.Unmarshal(a.answer, to); err != nil {
		return fmt.Errorf("an answer is not understood: %.100q", a.answer)
	}
	return nil
}

// Error codes of the server.
const (
	clusterNotAvail   = 10008
	wrongLastConstant = 10164 // the subject is in process
	wrongLast         = 10071
	tooManyRequests   = 10167
	streamNotFound    = 10059
)

func code(err error) jetstream.ErrorCode {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.ErrorCode
	}
	return 0
}

// moved reports whether a message was refused because its subject was written to meanwhile, or is now.
func moved(err error) bool { return code(err) == wrongLast || code(err) == wrongLastConstant }

// passes reports whether nothing was done for a reason that passes by itself.
func passes(err error) bool {
	c := code(err)
	return errors.Is(err, errNoLeader) || errors.Is(err, errOffline) || c == clusterNotAvail || c == tooManyRequests || c == wrongLastConstant
}

// pause waits a little, longer each time.
func pause(ctx context.Context, attempt int) error {
	t := time.NewTimer(min(time.Millisecond<<min(attempt, 10), 100*time.Millisecond))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// The questions.

// publish is a message for the stream, if the last one on its subject is still that of the sequence, 0 being none.
func publish(subject string, data []byte, last uint64) *ask {
	return &ask{msg: &nats.Msg{Subject: subject, Data: data, Header: nats.Header{
		jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(last, 10)},
	}}}
}

// put is a message for the stream, whatever its subject has.
func put(subject string, data []byte) *ask {
	return &ask{msg: &nats.Msg{Subject: subject, Data: data}}
}

// expire lets the server remove the message after a while.
func (a *ask) expire(after time.Duration) *ask {
	seconds := int64((after + time.Second - 1) / time.Second)
	a.msg.Header[jetstream.MsgTTLHeader] = []string{strconv.FormatInt(min(max(seconds, 1), maxTTL), 10) + "s"}
	return a
}

const maxTTL = 100 * 365 * 24 * 3600 // seconds

func (s *Store) api(what string, request any) *ask {
	b, err := json.Marshal(request)
	if err != nil {
		panic(err) // structs of ours
	}
	return &ask{msg: &nats.Msg{Subject: s.apiPrefix + what + "." + s.opt.Stream, Data: b}}
}

// query is a question that changes nothing.
func (s *Store) query(what string, request any) *ask {
	a := s.api(what, request)
	a.harmless = true
	return a
}

type getRequest struct {
	Seq     uint64 `json:"seq,omitempty"`
	LastFor string `json:"last_by_subj,omitempty"`
}

// last asks for the message that a subject has.
func (s *Store) last(subject string) *ask {
	return s.query("STREAM.MSG.GET", getRequest{LastFor: subject})
}

// at asks for the message of a sequence.
func (s *Store) at(seq uint64) *ask { return s.query("STREAM.MSG.GET", getRequest{Seq: seq}) }

// purge asks for the removal of a subject's message.
func (s *Store) purge(subject string) *ask {
	return s.api("STREAM.PURGE", struct {
		Subject string `json:"filter"`
	}{subject})
}

// drop asks for the removal of the message of a sequence.
func (s *Store) drop(seq uint64) *ask {
	return s.api("STREAM.MSG.DELETE", struct {
		Seq     uint64 `json:"seq"`
		NoErase bool   `json:"no_erase"`
	}{seq, true})
}
