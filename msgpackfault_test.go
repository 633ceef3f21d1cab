package kvstore

import (
	"bytes"
	"container/list"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// Which types Msgpack refuses, since it would lose something of their values, and which it does not.

type (
	faultCall struct {
		ID   string
		Legs []faultLeg
	}
	faultLeg struct {
		Name string
		Done chan struct{}
	}
	faultTree struct {
		Kids map[string]*faultTree
		Up   *faultTree
		Done func()
	}
	faultKeys struct{ By map[faultKey]int }
	faultKey  struct{ N atomic.Int64 }
	faultDone chan struct{}
	faultOpen struct{ A, B int }
	faultTick struct{ faultStamp }
	faultNode struct {
		*faultNode //lint:ignore U1000 that is the point
		A          int
	}
	faultHides      struct{ a, b int } //lint:ignore U1000 that is the point
	faultBox[T any] struct {
		V T
	}
	FaultHides struct{ a int } //lint:ignore U1000 that is the point
	faultEmpty struct{ a int } //lint:ignore U1000 that is the point

	// Binary methods that are promoted.
	faultStamp struct {
		time.Time
		N int
	}
	faultStampPtr struct {
		N int
		*time.Time
	}
	faultPtr    struct{ *time.Time }
	faultUUID   [4]byte
	faultWithID struct {
		faultUUID
		N int `codec:"n"`
	}
	faultBoth interface {
		MarshalBinary() ([]byte, error)
		UnmarshalBinary([]byte) error
	}
	faultInterface struct{ faultBoth }
	faultSelfer    struct {
		codecSilent
		N int
	}
	faultHalf struct { // writes what it does not read
		time.Time
		N int
	}
	faultOtherHalf struct { // and the other way round
		time.Time
		N int
	}
	faultGenericStamp[T any] struct {
		time.Time
		V T
	}

	// Binary methods of their own.
	faultOwn struct {
		time.Time
		N int
	}
	faultOwnPtr struct {
		*time.Time
		N int
	}
	faultOwnBox[T any] struct {
		time.Time
		V T
	}
	faultOwnOuter struct{ faultOwn }
	faultMade     struct{ *faultUUID } // reads with a method of its own
	faultOnly     struct {             // promoted, and all that there is
		time.Time
		_ [2]int
		n int      //lint:ignore U1000 that is the point
		F func()   `codec:"-"`
		X struct{} // a marker
		M sync.Mutex
	}
	faultComplex complex64
)

func (u faultUUID) MarshalBinary() ([]byte, error)    { return u[:], nil }
func (u *faultUUID) UnmarshalBinary(b []byte) error   { copy(u[:], b); return nil }
func (faultHalf) MarshalBinary() ([]byte, error)      { return []byte{1}, nil }
func (*faultOtherHalf) UnmarshalBinary([]byte) error  { return nil }
func (c faultComplex) MarshalBinary() ([]byte, error) { return []byte{byte(real(c))}, nil }
func (c *faultComplex) UnmarshalBinary(b []byte) error {
	*c = faultComplex(complex(float32(b[0]), 0))
	return nil
}

func (m *faultMade) UnmarshalBinary(b []byte) error {
	m.faultUUID = new(faultUUID)
	return m.faultUUID.UnmarshalBinary(b)
}

func (o faultOwn) MarshalBinary() ([]byte, error) {
	return fmt.Appendf(nil, "%d %d", o.UnixNano(), o.N), nil
}

func (o *faultOwn) UnmarshalBinary(b []byte) error {
	var nano int64
	_, err := fmt.Sscan(string(b), &nano, &o.N)
	o.Time = time.Unix(0, nano).UTC()
	return err
}

func (o *faultOwnPtr) MarshalBinary() ([]byte, error) { return []byte{byte(o.N)}, nil }
func (o *faultOwnPtr) UnmarshalBinary(b []byte) error { o.N = int(b[0]); return nil }

func (o faultOwnBox[T]) MarshalBinary() ([]byte, error) { return json.Marshal([]any{o.Time, o.V}) }

func (o *faultOwnBox[T]) UnmarshalBinary(b []byte) error {
	return json.Unmarshal(b, &[]any{&o.Time, &o.V})
}

func TestMsgpackRefused(t *testing.T) {
	const none = ": none of its fields would be encoded, and it has no MarshalBinary and UnmarshalBinary"
	for _, tc := range []struct {
		typ  reflect.Type
		want string
	}{
		// Not encodable, wherever it is.
		{reflect.TypeFor[faultCall](), "faultCall.Legs[].Done is a chan struct {}"},
		{reflect.TypeFor[*faultCall](), "faultCall.Legs[].Done is a chan struct {}"},
		{reflect.TypeFor[[2]map[string]*faultCall](), "[][].Legs[].Done is a chan struct {}"},
		{reflect.TypeFor[faultTree](), "faultTree.Done is a func()"},
		{reflect.TypeFor[struct{ T *faultTree }](), "T.Done is a func()"},
		{reflect.TypeFor[faultKeys](), "faultKeys.By[key].N is of type atomic.Int64" + none},
		{reflect.TypeFor[faultBox[faultKey]](), "faultBox.V.N is of type atomic.Int64" + none},
		{reflect.TypeFor[faultBox[complex64]](), "faultBox.V is a complex64"},
		{reflect.TypeFor[struct{ D faultDone }](), "D is of type kvstore.faultDone, which is of kind chan"},
		{reflect.TypeFor[complex128](), "it is a complex128"},
		{reflect.TypeFor[[]func()](), "[] is a func()"},
		{reflect.TypeFor[*func()](), "it is a func()"},
		{reflect.TypeFor[map[string]complex64](), "[] is a complex64"},
		{reflect.TypeFor[map[complex64]string](), "[key] is a complex64"},
		{reflect.TypeFor[struct{ P unsafe.Pointer }](), "P is of type unsafe.Pointer, which is of kind unsafe.Pointer"},
		{reflect.TypeFor[struct{ C faultComplex }](), "C is of type kvstore.faultComplex, which is of kind complex64"},
		{reflect.TypeFor[struct{ R []codec.Raw }](), "R[] is of type codec.Raw, which cannot be encoded"},
		{reflect.TypeFor[time.Timer](), "Timer.C is a <-chan time.Time"},

		// Nothing of it is encoded.
		{reflect.TypeFor[faultHides](), "it is of type kvstore.faultHides" + none},
		{reflect.TypeFor[struct{ a, b int }](), "it is of type struct { a int; b int }" + none},
		{reflect.TypeFor[struct {
			A int `codec:"-"`
			b int
		}](), "it is of type struct { A int \"codec:\\\"-\\\"\"; b int }" + none},
		{reflect.TypeFor[atomic.Int64](), "it is of type atomic.Int64" + none},
		{reflect.TypeFor[*list.List](), "it is of type list.List" + none},
		{reflect.TypeFor[time.Location](), "it is of type time.Location" + none},
		{reflect.TypeFor[struct{ Z *time.Location }](), "Z is of type time.Location" + none},
		{reflect.TypeFor[struct{ N *big.Int }](), "N is of type big.Int" + none},
		{reflect.TypeFor[struct{ U *url.Userinfo }](), "U is of type url.Userinfo" + none},
		{reflect.TypeFor[struct{ R regexp.Regexp }](), "R is of type regexp.Regexp" + none},
		{reflect.TypeFor[struct{ B bytes.Buffer }](), "B is of type bytes.Buffer" + none},
		{reflect.TypeFor[struct{ M sync.Map }](), "M is of type sync.Map" + none},
		{reflect.TypeFor[struct{ V reflect.Value }](), "V is of type reflect.Value" + none},
		{reflect.TypeFor[struct {
			big.Int
			N int
		}](), "Int is of type big.Int" + none},
		{reflect.TypeFor[struct {
			*FaultHides
			N int
		}](), "FaultHides is of type kvstore.FaultHides" + none},

		// Methods that an embedded field brings along.
		{reflect.TypeFor[faultStamp](), "faultStamp.N would be lost: UnmarshalBinary of the embedded time.Time is the whole struct's"},
		{reflect.TypeFor[[]faultTick](), "[].faultStamp.N would be lost: UnmarshalBinary of the embedded time.Time is the whole struct's"},
		{reflect.TypeFor[struct {
			time.Time
			N int
		}](), "N would be lost: UnmarshalBinary of the embedded time.Time is the whole struct's"},
		{reflect.TypeFor[struct {
			time.Time `codec:"at"`
			N         int
		}](), "N would be lost: UnmarshalBinary of the embedded time.Time is the whole struct's"},
		{reflect.TypeFor[faultGenericStamp[int]](), "faultGenericStamp.V would be lost: UnmarshalBinary of the embedded time.Time is the whole struct's"},
		{reflect.TypeFor[faultHalf](), "faultHalf.N would be lost: UnmarshalBinary of the embedded time.Time is the whole struct's"},
		{reflect.TypeFor[faultOtherHalf](), "faultOtherHalf.N would be lost: MarshalBinary of the embedded time.Time is the whole struct's"},
		{reflect.TypeFor[faultWithID](), "faultWithID.N would be lost: UnmarshalBinary of the embedded kvstore.faultUUID is the whole struct's"},
		{reflect.TypeFor[faultSelfer](), "faultSelfer.N would be lost: CodecDecodeSelf of the embedded kvstore.codecSilent is the whole struct's"},
		{reflect.TypeFor[struct {
			time.Time
			F func()
		}](), "F is a func()"},
		{reflect.TypeFor[struct {
			At         time.Time
			netip.Addr `codec:"-"`
		}](), "At would be lost: UnmarshalBinary of the embedded netip.Addr is the whole struct's"},
		{reflect.TypeFor[faultStampPtr](), "faultStampPtr.Time is embedded, and its UnmarshalBinary is the whole struct's: it is nil when that is decoded"},
		{reflect.TypeFor[faultPtr](), "faultPtr.Time is embedded, and its UnmarshalBinary is the whole struct's: it is nil when that is decoded"},
		{reflect.TypeFor[faultInterface](), "faultInterface.faultBoth is embedded, and its UnmarshalBinary is the whole struct's: it is nil when that is decoded"},
		{reflect.TypeFor[struct { // of two, neither is promoted
			time.Time
			netip.Addr
		}](), "Time is embedded, and the methods that encode a time.Time would not be used"},
		{reflect.TypeFor[struct {
			Stamp faultOwn
			faultOwnOuter
			netip.Addr
			N int
		}](), "faultOwnOuter and Addr are embedded, and UnmarshalBinary of one of them is the whole struct's"},

		// What encoding/json would encode.
		{reflect.TypeFor[struct {
			*faultOpen
			C int
		}](), "faultOpen is an embedded pointer to an unexported struct, whose exported fields would not be encoded"},
		{reflect.TypeFor[faultNode](), "faultNode.faultNode is an embedded pointer to an unexported struct, whose exported fields would not be encoded"},
		{reflect.TypeFor[struct {
			faultOpen `json:"open"`
			C         int
		}](), "faultOpen is an embedded unexported struct with a name in its tag, and its exported fields would not be encoded"},

		// Names that occur twice.
		{reflect.TypeFor[struct {
			A int `codec:"x"`
			B int `json:"x"`
		}](), `B would be encoded as "x", as A is`},
		{reflect.TypeFor[struct {
			CodecExtra
			FaultNamed
		}](), `FaultNamed.Name would be encoded as "Name", as CodecExtra.Name is`},
		{reflect.TypeFor[struct { // the library drops only one of the two that are hidden
			CodecExtra
			FaultNamed
			Name string
		}](), `Name would be encoded as "Name", as FaultNamed.Name is`},

		// As a part it may be nil.
		{reflect.TypeFor[fmt.Stringer](), "it is an interface with methods, into which nothing can be decoded"},
		{reflect.TypeFor[error](), "it is an interface with methods, into which nothing can be decoded"},
	} {
		_, err := Options{}.resolve(tc.typ, nil)
		want := fmt.Sprintf("kvstore: invalid: values of type %s cannot be stored by Msgpack: %s", msgpackName(tc.typ), tc.want)
		if err == nil || err.Error() != want || !errors.Is(err, ErrInvalid) {
			t.Errorf("%v: error\n%v, want\n%v", tc.typ, err, want)
		}
		if _, err := (Options{Codec: codecFunc{}}).resolve(tc.typ, nil); err != nil {
			t.Errorf("%v, with another codec: %v", tc.typ, err)
		}
	}

	// What resolve says is Open's answer. (Each type that Open is called with is all of the library compiled once more.)
	if _, err := (Options{Codec: &Msgpack{}}).resolve(reflect.TypeFor[faultCall](), nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("a type in which there is a channel: %v", err)
	}
	for _, of := range []reflect.Type{reflect.TypeFor[func()](), reflect.TypeFor[chan int]()} {
		if _, err := (Options{Codec: codecFunc{}}).resolve(of, nil); !errors.Is(err, ErrInvalid) {
			t.Errorf("%v, with another codec: %v", of, err)
		}
	}
	// Behind an interface the type is not known before there is a value.
	_, err := Msgpack{}.Append(nil, &[]any{1, faultCall{}})
	if want := "values of type kvstore.faultCall cannot be stored by Msgpack: faultCall.Legs[].Done is a chan struct {}"; err == nil || err.Error() != want {
		t.Errorf("in an interface: %v", err)
	}
}

// FaultNamed has a field that CodecExtra has, too.
type FaultNamed struct{ Name string }

// accepted checks that Open takes V, and that v comes back.
func accepted[V any](t *testing.T, v V) {
	t.Helper()
	if _, err := (Options{}).resolve(reflect.TypeFor[V](), nil); err != nil {
		t.Errorf("%T: %v", v, err)
	}
	comesBack(t, v)
}

func TestMsgpackAccepted(t *testing.T) {
	at := time.Unix(5, 6).UTC()
	addr := netip.MustParseAddr("10.0.0.1")
	one := 1

	// Types of the standard library.
	accepted(t, at)
	accepted(t, time.Second)
	accepted(t, time.May)
	accepted(t, struct{ D *time.Duration }{new(time.Second)})
	accepted(t, addr)
	accepted(t, netip.MustParsePrefix("10.0.0.0/8"))
	accepted(t, map[netip.AddrPort]string{netip.MustParseAddrPort("10.0.0.1:53"): "dns"})
	accepted(t, net.IPv4(1, 2, 3, 4))
	accepted(t, &net.UDPAddr{IP: net.IPv4(1, 2, 3, 4), Port: 5, Zone: "z"})
	accepted(t, net.IPNet{IP: net.IPv4(1, 2, 3, 4), Mask: net.CIDRMask(8, 32)})
	accepted(t, net.HardwareAddr{1, 2, 3})
	accepted(t, url.URL{Scheme: "sips", Host: "x", User: url.UserPassword("a", "b")})
	accepted(t, url.Values{"k": {"a", "b"}})
	accepted(t, struct {
		R json.RawMessage
		N json.Number
	}{json.RawMessage(`{"a":1}`), "1.5"})
	accepted(t, sql.NullString{String: "s", Valid: true})
	accepted(t, sql.Null[time.Time]{V: at, Valid: true})
	accepted(t, [16]byte{1, 15: 2})
	accepted(t, map[[16]byte]faultUUID{{1}: {2}})
	accepted(t, struct{ R *codec.RawExt }{&codec.RawExt{Tag: 5, Data: []byte("ext")}})

	// Nothing to lose.
	accepted(t, struct{}{})
	accepted(t, struct {
		A struct{}
		B [0]int
		C map[string]struct{}
	}{C: map[string]struct{}{"k": {}}})
	accepted(t, struct {
		_ [4]byte
		A struct{ _ [2]int32 }
		B struct {
			C int `codec:"-"`
		}
	}{})
	type locked struct { // by pointer, as locks must be
		sync.Mutex
		RW   sync.RWMutex
		Once sync.Once
		Wait sync.WaitGroup
		Two  [2]sync.Mutex
		Own  struct{ mu sync.Mutex }
		N    int
	}
	accepted(t, &locked{N: 1})

	// What is said to be left out, or is not exported beside what is.
	accepted(t, struct {
		C chan int          `codec:"-"`
		F func()            `json:"-"`
		X complex128        `codec:"-"`
		P unsafe.Pointer    `codec:"-"`
		L list.List         `codec:"-"`
		E *faultOpen        `codec:"-"`
		f func()            //lint:ignore U1000 that is the point
		c chan int          //lint:ignore U1000 that is the point
		b big.Int           //lint:ignore U1000 that is the point
		n map[int]faultTree //lint:ignore U1000 that is the point
		N int
	}{N: 1})
	accepted(t, struct {
		faultHides // unexported, and with it what is in it
		*faultEmpty
		N int
	}{N: 1})

	// Embedded.
	accepted(t, struct {
		faultOpen
		*CodecExtra
		C int
	}{faultOpen{1, 2}, &CodecExtra{Name: "n"}, 3})
	accepted(t, struct {
		Name string // before those that it hides
		CodecExtra
		FaultNamed
	}{Name: "n"})
	accepted(t, struct {
		io.Reader
		error
		N int
	}{N: 1})
	accepted(t, faultOnly{Time: at})
	accepted(t, struct{ time.Time }{at})

	// Methods of their own.
	accepted(t, faultOwn{at, 7})
	accepted(t, &faultOwn{at, 7})
	accepted(t, map[string]faultOwn{"a": {at, 7}, "b": {at, 8}})
	accepted(t, faultOwnPtr{N: 7})
	accepted(t, []*faultOwnPtr{{N: 7}, nil})
	accepted(t, faultOwnBox[int]{at, 7})
	accepted(t, faultOwnBox[string]{at, "seven"})
	accepted(t, faultOwnOuter{faultOwn{at, 7}})
	accepted(t, struct{ A faultOwnOuter }{faultOwnOuter{faultOwn{at, 7}}})
	accepted(t, faultMade{&faultUUID{1, 2}})
	accepted(t, []faultComplex{3})

	// Interfaces that hold nothing.
	accepted(t, struct {
		E error
		S []fmt.Stringer
		C context.Context
		A any
	}{S: []fmt.Stringer{nil}, A: "a"})

	accepted(t, &one)
	accepted(t, codecSession{CodecExtra: &CodecExtra{}})
	accepted(t, codecTuple{A: 1})
	accepted(t, codecNumbers{A: 1})
}
