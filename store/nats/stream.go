package nats

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-6f1f505d/kvstore/store"
)

// metadataKey is how a stream says that it is ours, and its format.
const metadataKey = "kvstore-format"

// oldest is the oldest server that can be used. Older ones ignore settings that they do not know, and do not say so.
var oldest = [2]int{2, 12}

// streamInfo is what the leader of the stream says of it.
type streamInfo struct {
	Error  *jetstream.APIError    `json:"error"`
	Config jetstream.StreamConfig `json:"config"`
	State  struct {
		Subjects map[string]uint64 `json:"subjects"`
		Count    uint64            `json:"num_subjects"`
	} `json:"state"`
	Cluster *struct {
		Leader   string `json:"leader"`
		Replicas []struct {
			Current bool `json:"current"`
			Offline bool `json:"offline"`
		} `json:"replicas"`
	} `json:"cluster"`
	Time  time.Time `json:"ts"`
	Total int       `json:"total"`
}

var errPart = errors.New("the server does not list all subjects at once, as there are too many")

// info asks the leader of the stream what it knows, with the subjects that match filter, unless it is empty. It sets the clock.
func (s *Store) info(ctx context.Context, filter string) (*streamInfo, error) {
	is, err := s.infos(ctx, []string{filter})
	if err != nil {
		return nil, err
	}
	return is[0], nil
}

func (s *Store) infos(ctx context.Context, filters []string) ([]*streamInfo, error) {
	for attempt := 0; ; attempt++ {
		asks := make([]*ask, len(filters))
		for i, f := range filters {
			asks[i] = s.query("STREAM.INFO", struct {
				Filter string `json:"subjects_filter,omitempty"`
			}{f})
		}
		sent := time.Now()
		if err := s.ask(ctx, asks...); err != nil {
			return nil, err
		}
		arrived := time.Now()
		is := make([]*streamInfo, len(asks))
		leaderless := false
		for i, a := range asks {
			is[i] = new(streamInfo)
			if err := a.decode(is[i]); err != nil {
				return nil, err
			}
			in := is[i]
			switch {
			case in.Error != nil:
				return nil, in.Error
			case in.Total > len(in.State.Subjects):
				return nil, errPart
			}
			// In between two leaders each server answers for itself.
			leaderless = leaderless || in.Cluster != nil && in.Cluster.Leader == ""
			s.clock.learn(in.Time, sent, arrived)
		}
		if !leaderless {
			return is, nil
		}
		if pause(ctx, attempt) != nil {
			return nil, s.over(ctx, errNoLeader)
		}
	}
}

// prepare makes sure of the stream, and that the server is one that a store can be on.
func (s *Store) prepare(ctx context.Context) error {
	if err := checkServer(s.nc); err != nil {
		return err
	}
	in, err := s.info(ctx, "")
	switch {
	case code(err) == streamNotFound:
		if in, err = s.create(ctx); err != nil {
			return err
		}
	case errors.Is(err, errNoLeader):
		return fmt.Errorf("store/nats: open: JetStream does not answer for the stream %q: is it switched on, for this account, and may this user ask %s>? %w",
			s.opt.Stream, s.apiPrefix, err)
	case code(err) == notEnabled, code(err) == notEnabledForAccount:
		return fmt.Errorf("store/nats: open: JetStream is not switched on, for the server or for this account: %w", err)
	case err != nil:
		return fmt.Errorf("store/nats: open: the stream %q: %w", s.opt.Stream, err)
	}
	if err := s.checkStream(&in.Config); err != nil {
		return fmt.Errorf("store/nats: open: the stream %q %w", s.opt.Stream, err)
	}
	s.alone = in.Config.Replicas <= 1
	return s.probe(ctx)
}

// probe writes what must be refused, to see whether writes are allowed, and the refusal is kept.
func (s *Store) probe(ctx context.Context) error {
	subject := s.leaseSubject(store.Incarnation{})
	a := publish(subject, nil, math.MaxInt64)
	if err := s.ask(ctx, a); err != nil {
		return fmt.Errorf("store/nats: open: writing to %s: %w", s.prefix, err)
	}
	switch _, err := a.stored(); {
	case moved(err):
		return nil
	case err != nil:
		return fmt.Errorf("store/nats: open: writing to %s>: %w", s.prefix, err)
	}
	s.ask(ctx, s.purge(subject)) // it is refused all the same
	return errors.New("store/nats: open: the server does not compare the sequence that a message names with the last one: it fences nobody")
}

func checkServer(nc *nats.Conn) error {
	version := nc.ConnectedServerVersion()
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d.", &major, &minor); err != nil {
		return fmt.Errorf("store/nats: open: the server's version is %q, which is not understood", version)
	}
	if major < oldest[0] || major == oldest[0] && minor < oldest[1] {
		return fmt.Errorf("store/nats: open: the server is nats-server %s, and %d.%d is the oldest that can be used: "+
			"older ones ignore settings that a store relies on", version, oldest[0], oldest[1])
	}
	if n := nc.MaxPayload(); n < minPayload {
		return fmt.Errorf("store/nats: open: the server takes messages of %d bytes at most (max_payload), and a store needs %d", n, minPayload)
	}
	return nil
}

// config is the stream as Open makes it.
func (s *Store) config() jetstream.StreamConfig {
	replicas := s.opt.Replicas
	if replicas == 0 {
		replicas = 1
		if s.nc.ConnectedClusterName() != "" {
			replicas = 3
		}
	}
	return jetstream.StreamConfig{
		Name: s.opt.Stream, Subjects: []string{s.prefix + ">"}, Replicas: replicas,
		Description:       "sessions of kvstore: see github.com/seed-6f1f505d/kvstore/store/nats",
		Metadata:          map[string]string{metadataKey: strconv.Itoa(format)},
		Storage:           jetstream.FileStorage,
		Retention:         jetstream.LimitsPolicy,
		MaxMsgsPerSubject: 1,
		Discard:           jetstream.DiscardNew, // what has no room is refused, if somebody sets a limit
		AllowMsgTTL:       true,
	}
}

func (s *Store) create(ctx context.Context) (*streamInfo, error) {
	want := s.config()
	a := s.api("STREAM.CREATE", want)
	if err := s.ask(ctx, a); err != nil {
		return nil, fmt.Errorf("store/nats: open: making the stream %q: %w", s.opt.Stream, err)
	}
	in := new(streamInfo)
	err := a.decode(in)
	if err == nil && in.Error != nil {
		err = in.Error
	}
	if code(err) == streamNameInUse { // somebody made it meanwhile
		if in, err = s.info(ctx, ""); err == nil {
			return in, nil
		}
	}
	switch code(err) {
	case noSuitablePeers, insufficientResources, replicasNotSupported:
		return nil, fmt.Errorf("store/nats: open: the stream %q cannot be made with %d replicas: set Options.Replicas to what the cluster has servers for: %w",
			s.opt.Stream, want.Replicas, err)
	case subjectsOverlap:
		return nil, fmt.Errorf("store/nats: open: the subjects %s> belong to another stream: name another one in Options.Stream: %w", s.prefix, err)
	}
	if err != nil {
		return nil, fmt.Errorf("store/nats: open: making the stream %q: %w", s.opt.Stream, err)
	}
	return in, nil
}

const (
	notEnabled            = 10076
	notEnabledForAccount  = 10039
	insufficientResources = 10023
	noSuitablePeers       = 10005
	streamNameInUse       = 10058
	subjectsOverlap       = 10065
	replicasNotSupported  = 10074
)

// checkStream reports what makes the stream one that a store must not be on. The server may have left out what it does not know.
func (s *Store) checkStream(c *jetstream.StreamConfig) error {
	switch v, ours := c.Metadata[metadataKey]; {
	case !ours:
		return errors.New("is not kvstore's: name another one in Options.Stream")
	case v != strconv.Itoa(format):
		return fmt.Errorf("has format %s, and this program knows %d only", v, format)
	}
	for _, bad := range []struct {
		is   bool
		what string
	}{
		{len(c.Subjects) != 1 || c.Subjects[0] != s.prefix+">", fmt.Sprintf("has the subjects %q, and not %s>", c.Subjects, s.prefix)},
		{c.MaxMsgsPerSubject != 1, "keeps more than one message a subject"},
		{c.Retention != jetstream.LimitsPolicy, "removes messages that are read (its retention is " + c.Retention.String() + ")"},
		{c.MaxAge != 0, "removes messages of some age (max_age)"},
		{c.Discard != jetstream.DiscardNew && (c.MaxMsgs > 0 || c.MaxBytes > 0), "discards old messages when it is full (discard, with max_msgs or max_bytes)"},
		{c.MaxMsgSize > 0 && int64(c.MaxMsgSize) < minPayload, fmt.Sprintf("takes messages of %d bytes only (max_msg_size)", c.MaxMsgSize)},
		{c.Storage != jetstream.FileStorage, "is in memory, and ends with the server"},
		{c.NoAck, "acknowledges nothing (no_ack)"},
		{c.Sealed, "takes no writes (sealed)"},
		{c.DenyDelete || c.DenyPurge, "lets nothing be removed (deny_delete, deny_purge)"},
		{!c.AllowMsgTTL, "keeps messages for ever (allow_msg_ttl)"},
		{c.SubjectDeleteMarkerTTL != 0, "leaves marks where messages were (subject_delete_marker_ttl)"},
		{c.Mirror != nil || len(c.Sources) > 0, "takes its messages from another stream"},
		{c.SubjectTransform != nil, "changes subjects"},
		{c.PersistMode != 0, "acknowledges what it has not written (persist_mode)"},
	} {
		if bad.is {
			return errors.New(bad.what + ": a store would lose sessions there, or what fences their former owners")
		}
	}
	return nil
}
