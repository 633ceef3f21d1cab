package pack

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/seed-6f1f505d/kvstore"
)

// session is a value as programs have them: names that are always the same, and contents of which some are drawn from few.
type session struct {
	ID        string
	User      string
	State     string
	Node      string
	Created   int64
	Updated   int64
	Version   uint32
	Locale    string
	Secure    bool
	Remote    string
	Agent     string
	Roles     []string
	Legs      []leg
	Variables map[string]string
}

type leg struct {
	CallID   string
	From, To string
	State    string
	CSeq     uint32
	Codecs   []string
	Started  int64
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func hex(r *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = "0123456789abcdef"[r.IntN(16)]
	}
	return string(b)
}

// sessionOf makes the value of about so many bytes.
func sessionOf(t testing.TB, r *rand.Rand, size int) []byte {
	t.Helper()
	now := 1_790_000_000_000 + r.Int64N(1e9)
	s := session{
		ID: hex(r, 24), User: fmt.Sprintf("u%d@%s", r.IntN(1e6), pick(r, "example.org", "example.com", "sip.example.net")),
		State: pick(r, "idle", "ringing", "established", "held", "closing"), Node: fmt.Sprintf("node-%d", r.IntN(12)),
		Created: now, Updated: now + r.Int64N(1e6), Version: uint32(r.IntN(40)),
	}
	encode := func() []byte {
		b, err := kvstore.Msgpack{}.Append(nil, &s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := encode()
	for i := 0; len(b) < size-24; i++ {
		switch {
		case i == 0 && size > 300:
			s.Locale, s.Secure = pick(r, "de-DE", "en-GB", "fr-FR", "ja-JP"), r.IntN(4) > 0
			s.Remote = fmt.Sprintf("10.%d.%d.%d:%d", r.IntN(4), r.IntN(256), r.IntN(256), 1024+r.IntN(60000))
			s.Agent = fmt.Sprintf("softphone/%d.%d.%d (%s)", r.IntN(4), r.IntN(10), r.IntN(20), pick(r, "linux", "android", "ios"))
			s.Roles = []string{"user", pick(r, "agent", "supervisor", "guest")}
		case size > 300 && i%2 == 1:
			s.Legs = append(s.Legs, leg{
				CallID: hex(r, 32) + "@10.0.0." + fmt.Sprint(r.IntN(256)), From: fmt.Sprintf("sip:%d@example.org", r.IntN(1e6)),
				To: fmt.Sprintf("sip:+49%d@gateway.example.net", r.Int64N(1e10)), State: pick(r, "trying", "early", "confirmed", "terminated"),
				CSeq: r.Uint32N(1e5), Codecs: []string{"opus/48000", "PCMA/8000"}, Started: now + r.Int64N(1e5),
			})
		default:
			if s.Variables == nil {
				s.Variables = map[string]string{}
			}
			s.Variables[fmt.Sprintf("%s_%d", pick(r, "queue", "skill", "campaign", "note"), i)] = pick(r, "sales", "support", "billing", hex(r, 8))
		}
		b = encode()
	}
	return b
}

func sessions(t testing.TB, seed uint64, n, size int) [][]byte {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	vs := make([][]byte, n)
	for i := range vs {
		vs[i] = sessionOf(t, r, size)
	}
	return vs
}
