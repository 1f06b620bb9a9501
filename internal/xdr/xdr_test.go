package xdr

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
)

// all has a field for everything that a Codec codes.
type all struct {
	U32   uint32
	I32   int32
	U64   uint64
	I64   int64
	B     bool
	Fixed [5]byte
	Op    []byte
	Str   string
	Pay   []byte
	Opt   *uint32
	List  []inner
	Rest  []byte
}

type inner struct{ S string }

func (x *inner) XDR(c *Codec) { c.String(&x.S, 100) }

func (x *all) XDR(c *Codec) {
	c.Uint32(&x.U32)
	c.Int32(&x.I32)
	c.Uint64(&x.U64)
	c.Int64(&x.I64)
	c.Bool(&x.B)
	c.Fixed(x.Fixed[:])
	c.Opaque(&x.Op, 1000)
	c.String(&x.Str, 1000)
	c.Payload(&x.Pay, 1<<20)
	Optional(c, &x.Opt, (*Codec).Uint32)
	List(c, &x.List, 1000)
	c.Raw(&x.Rest)
}

func sample(payload int) *all {
	seven := uint32(7)
	return &all{1, -2, 1 << 40, math.MinInt64, true, [5]byte{1, 2, 3, 4, 5}, []byte{9}, "äö\xff\x00",
		bytes.Repeat([]byte{0xab}, payload), &seven, []inner{{"a"}, {""}, {"bcdef"}}, []byte("rest")}
}

func TestRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, payloadCut - 1, payloadCut, payloadCut + 1, 100000} {
		x := sample(n)
		e := NewEncoder(nil)
		x.XDR(e)
		if e.Err() != nil {
			t.Fatal(e.Err())
		}
		flat := e.Bytes()
		if len(flat) != e.Len() {
			t.Errorf("payload %d: Len is %d, encoded are %d bytes", n, e.Len(), len(flat))
		}
		if joined := bytes.Join(e.Buffers(nil), nil); !bytes.Equal(joined, flat) {
			t.Errorf("payload %d: Buffers and Bytes differ", n)
		}
		y := new(all)
		d := NewDecoder(flat)
		y.XDR(d)
		if d.Err() != nil || d.Len() != 0 {
			t.Fatalf("payload %d: %v, %d bytes left", n, d.Err(), d.Len())
		}
		if !reflect.DeepEqual(x, y) {
			t.Errorf("payload %d: got %+v, want %+v", n, y, x)
		}
	}
}

func TestBytesOnTheWire(t *testing.T) {
	for _, tc := range []struct {
		name string
		code func(*Codec)
		want string
	}{
		{"a negative integer is two's complement", func(c *Codec) { v := int32(-2); c.Int32(&v) }, "fffffffe"},
		{"a hyper is big-endian", func(c *Codec) { v := uint64(0x0102030405060708); c.Uint64(&v) }, "0102030405060708"},
		{"an opaque is padded with zeros to four bytes", func(c *Codec) { v := []byte{1, 2, 3, 4, 5}; c.Opaque(&v, 9) }, "000000050102030405000000"},
		{"a fixed opaque has no length", func(c *Codec) { c.Fixed([]byte{1}) }, "01000000"},
		{"an absent optional is false", func(c *Codec) { var p *uint32; Optional(c, &p, (*Codec).Uint32) }, "00000000"},
		{"an array has its length first", func(c *Codec) { v := []uint32{5, 6}; Slice(c, &v, 9, (*Codec).Uint32) }, "000000020000000500000006"},
	} {
		e := NewEncoder(nil)
		tc.code(e)
		if got := hex.EncodeToString(e.Bytes()); got != tc.want || e.Err() != nil {
			t.Errorf("%s: got %s (%v), want %s", tc.name, got, e.Err(), tc.want)
		}
	}
}

func TestPayloadIsNotCopied(t *testing.T) {
	p := make([]byte, payloadCut)
	e := NewEncoder(nil)
	e.Payload(&p, 1<<20)
	p[0] = 7
	if b := e.Buffers(nil); len(b) != 2 || &b[1][0] != &p[0] {
		t.Errorf("payload of %d bytes was copied", payloadCut)
	}
}

func TestMarks(t *testing.T) {
	e := NewEncoder(nil)
	words := func(list ...uint32) {
		for _, w := range list {
			e.Uint32(&w)
		}
	}
	words(1)
	mark := e.Mark()
	words(0)
	big := make([]byte, payloadCut)
	e.Payload(&big, 1<<20)
	cut := e.Mark()
	e.Payload(&big, 1<<20)
	e.Truncate(cut)
	e.PatchUint32(mark, uint32(e.Len()))
	if e.Len() != 12+payloadCut || len(e.Bytes()) != e.Len() {
		t.Errorf("after Truncate Len is %d, bytes are %d", e.Len(), len(e.Bytes()))
	}
	e.Truncate(mark)
	words(2)
	if got := hex.EncodeToString(e.Bytes()); got != "0000000100000002" || e.Len() != 8 {
		t.Errorf("after Truncate over a payload: %s, Len %d", got, e.Len())
	}
}

func TestReuseForgetsTheError(t *testing.T) {
	var e Codec
	s := "too long"
	e.String(&s, 3)
	if e.Err() == nil {
		t.Fatal("a string over its maximum was encoded")
	}
	e.Reuse(1 << 20)
	e.String(&s, 8)
	if e.Err() != nil || e.Len() != 12 {
		t.Errorf("after Reuse: %v, Len %d", e.Err(), e.Len())
	}
}

func TestRefused(t *testing.T) {
	for _, tc := range []struct {
		name, record string
		decode       func(*Codec)
	}{
		{"an integer cut short", "000000", func(c *Codec) { var v uint32; c.Uint32(&v) }},
		{"a boolean of 2", "00000002", func(c *Codec) { var v bool; c.Bool(&v) }},
		{"an opaque longer than the record", "00000009ffffffff", func(c *Codec) { var v []byte; c.Opaque(&v, 100) }},
		{"an opaque longer than its maximum", "0000000401020304", func(c *Codec) { var v []byte; c.Opaque(&v, 3) }},
		{"an opaque without its padding", "0000000101", func(c *Codec) { var v []byte; c.Opaque(&v, 3) }},
		{"a length of 4 GiB", "ffffffff00000000", func(c *Codec) { var v []byte; c.Opaque(&v, math.MaxInt32) }},
		{"an array that the record cannot hold", "0000000300000000", func(c *Codec) { var v []uint32; Slice(c, &v, 100, (*Codec).Uint32) }},
		{"an array over its maximum", "000000020000000000000000", func(c *Codec) { var v []uint32; Slice(c, &v, 1, (*Codec).Uint32) }},
	} {
		b, err := hex.DecodeString(tc.record)
		if err != nil {
			t.Fatal(err)
		}
		c := NewDecoder(b)
		tc.decode(c)
		if c.Err() == nil {
			t.Errorf("%s was decoded", tc.name)
		}
	}
}

func TestFirstErrorSticks(t *testing.T) {
	first := errors.New("first")
	c := NewDecoder([]byte{0, 0, 0, 1})
	c.Fail(first)
	c.Failf("second")
	var v uint32
	c.Uint32(&v)
	if c.Err() != first || v != 0 || c.Len() != 4 {
		t.Errorf("after an error: %v, value %d, %d bytes left", c.Err(), v, c.Len())
	}
}

func FuzzCodec(f *testing.F) {
	e := NewEncoder(nil)
	sample(5000).XDR(e)
	f.Add(e.Bytes())
	f.Add([]byte(strings.Repeat("\x00", 60)))
	f.Fuzz(func(t *testing.T, b []byte) {
		x := new(all)
		d := NewDecoder(b)
		x.XDR(d)
		if d.Err() != nil {
			return
		}
		e := NewEncoder(nil)
		x.XDR(e)
		y := new(all)
		d = NewDecoder(e.Bytes())
		y.XDR(d)
		if e.Err() != nil || d.Err() != nil || !reflect.DeepEqual(x, y) {
			t.Fatalf("%v, %v: %+v became %+v", e.Err(), d.Err(), x, y)
		}
	})
}
