package kvstore

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/quick"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// roundTrip returns what comes back of v, and its encoding.
func roundTrip[V any](t testing.TB, v V) (V, []byte) {
	t.Helper()
	b, err := Msgpack{}.Append(nil, &v)
	if err != nil {
		t.Fatalf("%T: Append: %v", v, err)
	}
	var got V
	if err := (Msgpack{}).Decode(b, &got); err != nil {
		t.Fatalf("%T: Decode of % x: %v", v, b, err)
	}
	return got, b
}

func comesBack[V any](t *testing.T, v V) {
	t.Helper()
	got, b := roundTrip(t, v)
	if !reflect.DeepEqual(got, v) {
		t.Errorf("%T: %#v came back as %#v, by % x", v, v, got, b)
	}
}

type (
	codecBytes  []byte
	codecString string
	codecKey    struct {
		A int `codec:",omitempty"`
		B string
	}
	codecLeg struct {
		Name  string `codec:"n,omitempty"`
		Count int    `json:"c,omitempty"`
		Tags  []string
		Peer  *int
		Attrs map[string]int
		Sub   map[string]codecLeg `codec:",omitempty"`
	}
	codecBase struct {
		ID   string
		Legs map[string]codecLeg
	}
	codecSession struct {
		codecBase
		*CodecExtra
		Name    string
		At      time.Time
		Main    codecLeg
		List    []codecLeg
		Pair    [2]codecLeg
		ByKey   map[codecKey]codecLeg
		Deep    map[int]map[string][]map[codecString]*codecLeg
		Next    *codecSession
		Skipped map[string]codecLeg `codec:"-"`
	}
	CodecExtra struct {
		Name  string // hidden by the session's, and not encoded
		Extra map[string]codecLeg
	}
	codecTuple struct {
		_struct bool `codec:",toarray"` //lint:ignore U1000 the library reads its tag
		A       int
		Legs    map[string]codecLeg
		B       string
		More    map[string]codecLeg
	}
	codecNumbers struct {
		_struct bool                `codec:",int"` //lint:ignore U1000 the library reads its tag
		A       int                 `codec:"1"`
		Legs    map[string]codecLeg `codec:"-2"`
	}
)

func TestMsgpackRoundTrip(t *testing.T) {
	one := 1
	leg := codecLeg{Name: "a", Count: 2, Tags: []string{"x", ""}, Peer: &one, Attrs: map[string]int{"k": -1}}

	for _, n := range []int64{0, 1, -1, 127, 128, 255, 256, -32, -33, -128, -129, math.MaxInt16, math.MaxInt32, math.MaxInt64, math.MinInt16, math.MinInt32, math.MinInt64} {
		comesBack(t, n)
		comesBack(t, int(n))
		comesBack(t, int32(n))
		comesBack(t, int8(n))
		comesBack(t, uint64(n))
		comesBack(t, uint16(n))
		comesBack(t, time.Duration(n))
		comesBack(t, any(n))
	}
	comesBack(t, uintptr(7))
	comesBack(t, true)
	comesBack(t, float32(1.1))
	comesBack(t, math.Inf(-1))
	comesBack(t, math.SmallestNonzeroFloat64)
	comesBack(t, "")
	comesBack(t, "a\x00\xff é") // not valid as UTF-8, and yet a Go string
	comesBack(t, strings.Repeat("long", 100_000))
	comesBack(t, codecString("s"))
	comesBack(t, []byte{0, 255})
	comesBack(t, codecBytes("named"))
	comesBack(t, [3]byte{1, 2, 3})
	comesBack(t, [2][]string{{"a"}, nil})
	comesBack(t, []any{nil, true, int64(5), uint64(1) << 63, 1.5, "s", []byte("b"), []any{}, map[string]any{"k": nil}, time.Unix(1, 5).UTC()})
	comesBack(t, map[string]any{"a": map[string]any{"b": []any{int64(1)}}})
	comesBack(t, any(map[any]any{int64(1): "a", "b": int64(2), true: map[any]any{1.5: nil}}))
	comesBack(t, map[any]any{"k": "v", int64(3): nil})
	comesBack(t, map[bool]int8{true: 1, false: -1})
	comesBack(t, map[float64]string{1.5: "a", -2: "b"})
	comesBack(t, map[int]codecBytes{1: []byte("a"), 2: nil, 3: {}})
	comesBack(t, map[[2]byte]string{{1, 2}: "x"})
	comesBack(t, map[time.Time]int{time.Unix(5, 0).UTC(): 1, {}: 2})
	comesBack(t, any(codec.RawExt{Tag: 5, Data: []byte("ext")}))
	comesBack(t, struct{}{})
	comesBack(t, &one)
	comesBack(t, &leg)
	comesBack(t, []*codecLeg{nil, &leg, {}})
	comesBack(t, netip.MustParseAddrPort("[fe80::1%eth0]:5060"))
	comesBack(t, map[string]netip.Addr{"a": netip.MustParseAddr("10.0.0.1"), "b": {}, "c": netip.MustParseAddr("::1")})
	comesBack(t, map[string]url.URL{"a": {Scheme: "sips", Host: "x", User: url.User("u")}, "b": {Path: "/p"}})

	comesBack(t, leg)
	comesBack(t, map[string]codecLeg{"a": leg, "b": {Tags: []string{"y", "z"}}, "c": {}})
	comesBack(t, codecTuple{A: 1, Legs: map[string]codecLeg{"a": leg, "b": {}}, B: "b"})
	comesBack(t, codecTuple{More: map[string]codecLeg{"a": {}}})
	comesBack(t, codecNumbers{A: 1, Legs: map[string]codecLeg{"a": leg, "b": {}}})
	comesBack(t, codecSession{
		codecBase:  codecBase{ID: "id", Legs: map[string]codecLeg{"a": leg, "b": {}}},
		CodecExtra: &CodecExtra{Extra: map[string]codecLeg{"x": leg, "y": {}}},
		Name:       "n", At: time.Unix(1<<33, 999_999_999).UTC(), Main: leg,
		List:  []codecLeg{{Sub: map[string]codecLeg{"a": leg, "b": {Sub: map[string]codecLeg{"c": leg, "d": {}}}}}, {}},
		Pair:  [2]codecLeg{1: leg},
		ByKey: map[codecKey]codecLeg{{1, "a"}: leg, {0, "b"}: {}, {2, ""}: {Name: "n"}},
		Deep:  map[int]map[string][]map[codecString]*codecLeg{1: {"a": {{"p": &leg, "q": nil}, nil}}, 2: nil},
		Next:  &codecSession{CodecExtra: &CodecExtra{}, Name: "next"},
	})
}

// TestMsgpackMapsOfStructs is about the library's fault that msgpackShape is there for.
func TestMsgpackMapsOfStructs(t *testing.T) {
	one, two := 1, 2
	in := map[string]codecLeg{
		"a": {Name: "a", Tags: []string{"1", "2", "3"}, Peer: &one, Attrs: map[string]int{"a": 1}},
		"b": {Count: 2, Tags: []string{"4", "5", "6"}, Peer: &two, Attrs: map[string]int{"b": 2}},
		"c": {},
	}
	got, _ := roundTrip(t, in)
	if !reflect.DeepEqual(got, in) {
		t.Fatalf("%+v came back as %+v", in, got)
	}
	got["a"].Tags[0], *got["a"].Peer, got["a"].Attrs["a"] = "changed", 100, 100
	if !reflect.DeepEqual(got["b"], in["b"]) {
		t.Errorf("entries share memory: %+v", got["b"])
	}
}

func TestMsgpackTime(t *testing.T) {
	for _, at := range []time.Time{
		{},
		time.Unix(0, 0),
		time.Now(),
		time.Date(2024, 2, 29, 23, 59, 59, 1, time.FixedZone("x", 3600)),
		time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC),
		time.Date(1066, 10, 14, 9, 0, 0, 0, time.UTC),
		time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC),
		time.Unix(1<<34, 0),
		time.Unix(1<<34-1, 999_999_999),
	} {
		if got, b := roundTrip(t, at); !got.Equal(at) || got.Location() != time.UTC {
			t.Errorf("%v came back as %v, by % x", at, got, b)
		}
		if got, b := roundTrip(t, map[string]any{"at": at}); !at.IsZero() && !got["at"].(time.Time).Equal(at) {
			t.Errorf("%v in an interface came back as %v, by % x", at, got, b)
		}
	}
}

func TestMsgpackNil(t *testing.T) {
	comesBack(t, (*int)(nil))
	comesBack(t, (**codecLeg)(nil))
	comesBack(t, (*codecSession)(nil))
	comesBack(t, map[string]string(nil))
	comesBack(t, map[string]codecLeg(nil))
	comesBack(t, []string(nil))
	comesBack(t, []byte(nil))
	comesBack(t, codecBytes(nil))
	comesBack(t, []codecSession(nil))
	comesBack(t, any(nil))
	comesBack(t, error(nil))
	comesBack(t, struct {
		P *int
		M map[string]int
		S []int
		B []byte
		I any
		E error
	}{})

	comesBack(t, map[string]string{})
	comesBack(t, map[string]codecLeg{})
	comesBack(t, []string{})
	comesBack(t, []byte{})
	comesBack(t, []codecSession{})
	comesBack(t, map[string]map[string]codecLeg{"a": nil, "b": {}})

	// The documented exception: one level of nil is all that the format has.
	var p *int
	if got, _ := roundTrip(t, &p); got != nil {
		t.Errorf("pointer to a nil pointer came back as %v", got)
	}
	if got, _ := roundTrip(t, &time.Time{}); got != nil {
		t.Errorf("pointer to a zero time came back as %v", got)
	}
}

// TestMsgpackQuick compares with random values, whose maps and embedded pointers have all shapes.
func TestMsgpackQuick(t *testing.T) {
	type tree struct {
		Kids map[string]tree `codec:",omitempty"`
		Vals map[int16]struct {
			A []int8 `codec:",omitempty"`
			B *tree
			C map[[2]bool]codecKey
		}
		Keys map[codecKey][]string
		P    *map[string]codecKey
		L    []map[uint8]codecKey
	}
	check := func(v tree) bool {
		b, err := Msgpack{}.Append(nil, &v)
		if err != nil {
			t.Fatal(err)
		}
		var got tree
		if err := (Msgpack{}).Decode(b, &got); err != nil {
			t.Fatal(err)
		}
		again, err := Msgpack{}.Append(nil, &got)
		if err != nil || !bytes.Equal(b, again) {
			t.Logf("%+v: %x, again %x, %v", v, b, again, err)
			return false
		}
		return true
	}
	if err := quick.Check(check, &quick.Config{MaxCount: 200}); err != nil {
		t.Error(err)
	}
}

func TestMsgpackCanonical(t *testing.T) {
	var want []byte
	for i := range 20 {
		m := map[string]any{}
		for j := range 50 {
			m[fmt.Sprint((i+j)%50)] = map[codecKey]int{{(i + j) % 50, "x"}: 1, {0, "a"}: 2, {0, "b"}: 3}[codecKey{0, "a"}]
		}
		b, err := Msgpack{}.Append(nil, &m)
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = b
		}
		if !bytes.Equal(b, want) {
			t.Fatal("equal maps have different encodings")
		}
	}
}

// TestMsgpackWire fixes what is stored: another release, or another language, must read it.
func TestMsgpackWire(t *testing.T) {
	type wire struct {
		S  string `codec:"s"`
		J  int    `json:"j"`
		B  []byte
		T  time.Time
		O  int `codec:",omitempty"`
		M  map[string]codecKey
		un int
	}
	v := wire{S: "é", J: -1, B: []byte{1}, T: time.Unix(1, 0), M: map[string]codecKey{"k": {A: 300}}, un: 1}
	const want = "86" + "a142" + "c40101" + "a14d" + "81a16b82a141d1012ca142a0" + "a154" + "d6ff00000001" + "a16a" + "ff" + "a173" + "a2c3a9"
	_, b := roundTrip(t, v)
	wantBytes, _ := hex.DecodeString(want)
	// Five fields with values and no "O": the header says so.
	wantBytes[0] = 0x85
	if !bytes.Equal(b, wantBytes) {
		t.Errorf("encoding is\n%x, want\n%x", b, wantBytes)
	}
}

// TestMsgpackEvolution reads with one version of a type what another one wrote.
func TestMsgpackEvolution(t *testing.T) {
	type v2 struct {
		A    int
		New  map[string]codecLeg
		Also []any
	}
	type v1 struct {
		A   int
		Old string
	}
	b, err := Msgpack{}.Append(nil, &v2{1, map[string]codecLeg{"a": {Name: "x"}}, []any{map[string]any{"k": "v"}}})
	if err != nil {
		t.Fatal(err)
	}
	var old v1
	if err := (Msgpack{}).Decode(b, &old); err != nil || old != (v1{A: 1}) {
		t.Errorf("old version reads %+v, %v", old, err)
	}
	b, err = Msgpack{}.Append(nil, &v1{2, "old"})
	if err != nil {
		t.Fatal(err)
	}
	var now v2
	if err := (Msgpack{}).Decode(b, &now); err != nil || !reflect.DeepEqual(now, v2{A: 2}) {
		t.Errorf("new version reads %+v, %v", now, err)
	}
}

// TestMsgpackNoAlias overwrites what was decoded from, and looks whether the value notices.
func TestMsgpackNoAlias(t *testing.T) {
	type all struct {
		S   string
		B   []byte
		N   codecBytes
		A   any
		M   map[string][]byte
		L   map[string]codecLeg
		Arr [2][]byte
		U   url.URL
	}
	v := all{"string", []byte("bytes"), codecBytes("named"), []any{"string in any", []byte("bytes in any")},
		map[string][]byte{"key": []byte("value")}, map[string]codecLeg{"leg": {Name: "name", Tags: []string{"tag"}}},
		[2][]byte{[]byte("one"), nil}, url.URL{Scheme: "http", Host: "host"}}
	b, err := Msgpack{}.Append(nil, &v)
	if err != nil {
		t.Fatal(err)
	}
	var got all
	if err := (Msgpack{}).Decode(b, &got); err != nil {
		t.Fatal(err)
	}
	for i := range b {
		b[i] = 0xc1
	}
	if !reflect.DeepEqual(got, v) {
		t.Errorf("after src was overwritten the value is %+v", got)
	}
}

func TestMsgpackAppend(t *testing.T) {
	for _, v := range []string{"", "short", strings.Repeat("x", 100), strings.Repeat("x", 10_000), strings.Repeat("x", 200_000)} {
		alone, err := Msgpack{}.Append(nil, &v)
		if err != nil {
			t.Fatal(err)
		}
		for _, spare := range []int{0, 1, 63, 64, 65, 200, 20_000, 300_000} {
			for _, prefix := range []string{"", "prefix"} {
				buf := make([]byte, len(prefix)+spare+4)
				guard := buf[len(prefix)+spare:]
				copy(guard, "keep")
				dst := append(buf[:0:len(prefix)+spare], prefix...)
				out, err := Msgpack{}.Append(dst, &v)
				if err != nil || string(out) != prefix+string(alone) {
					t.Fatalf("%d bytes behind %q, %d spare: %d bytes, %v", len(v), prefix, spare, len(out), err)
				}
				if string(guard) != "keep" {
					t.Fatalf("%d bytes behind %q, %d spare: wrote beyond the capacity", len(v), prefix, spare)
				}
				if len(alone) <= spare && spare >= 64 && &out[0] != &buf[0] {
					t.Errorf("%d bytes behind %q, %d spare: copied", len(v), prefix, spare)
				}
			}
		}
	}
}

// TestMsgpackTwice decodes maps that have a key twice, which no Append makes: the last one counts.
func TestMsgpackTwice(t *testing.T) {
	for _, tc := range []struct {
		src  string // in hex
		want any
	}{
		{"82a16101a16102", map[string]int{"a": 2}},
		{"82a1619101a1619102", map[string][1]int{"a": {2}}},
		{"82a16181a16101a16181a16202", map[string]map[string]int{"a": {"b": 2}}},
		{"82a16181a142a178a16181a14105", map[string]codecKey{"a": {A: 5}}},
		{"82a44c65677381a16180a44c65677381a16280", codecBase{Legs: map[string]codecLeg{"b": {}}}},
	} {
		src, err := hex.DecodeString(tc.src)
		if err != nil {
			t.Fatal(err)
		}
		got := reflect.New(reflect.TypeOf(tc.want))
		if err := (Msgpack{}).Decode(src, got.Interface()); err != nil || !reflect.DeepEqual(got.Elem().Interface(), tc.want) {
			t.Errorf("%s is %+v, %v; want %+v", tc.src, got.Elem(), err, tc.want)
		}
	}
}

func TestMsgpackConcurrent(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 0))
			var buf []byte
			for j := range 200 {
				v := codecSession{Name: fmt.Sprint(i, j), CodecExtra: &CodecExtra{}}
				for range rng.IntN(10) {
					v.List = append(v.List, codecLeg{Name: fmt.Sprint(rng.Int()), Sub: map[string]codecLeg{fmt.Sprint(j): {Count: i}}})
				}
				var err error
				if buf, err = (Msgpack{}).Append(buf[:0], &v); err != nil {
					t.Error(err)
				}
				if j%10 == 0 {
					if err := (Msgpack{}).Decode(buf[:len(buf)/2], new(codecSession)); err == nil {
						t.Error("half a value decodes")
					}
				}
				var got codecSession
				if err := (Msgpack{}).Decode(buf, &got); err != nil || !reflect.DeepEqual(got, v) {
					t.Errorf("%+v came back as %+v, %v", v, got, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestMsgpackAllocs(t *testing.T) {
	v := struct {
		A, B, C string
		N       int
	}{"a", "b", "c", 1}
	buf := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() {
		out, err := Msgpack{}.Append(buf, &v)
		if err != nil || len(out) == 0 {
			t.Error(err)
		}
	}); n > 2 {
		t.Errorf("Append allocates %v times", n)
	}
}

func BenchmarkMsgpack(b *testing.B) {
	flat := struct{ A, B, C, D, E string }{"one", "two", "three", "four", "five"}
	b.Run("5 strings", func(b *testing.B) { benchMsgpack(b, &flat) })
	legs := map[string]codecLeg{}
	for i := range 10 {
		legs[fmt.Sprint(i)] = codecLeg{Name: "name", Tags: []string{"a", "b"}}
	}
	b.Run("map of 10 structs", func(b *testing.B) { benchMsgpack(b, &legs) })
	points := map[string]*codecLeg{}
	for k, v := range legs {
		points[k] = &v
	}
	b.Run("map of 10 pointers", func(b *testing.B) { benchMsgpack(b, &points) })
}

func benchMsgpack[V any](b *testing.B, v *V) {
	buf, err := Msgpack{}.Append(nil, v)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("Append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := (Msgpack{}).Append(buf[:0], v); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := (Msgpack{}).Decode(buf, new(V)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
