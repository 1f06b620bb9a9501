// Package xdr encodes and decodes XDR (RFC 4506) with one description for both directions.
//
// A type of the protocol describes its layout once, in a method
//
//	func (a *LookupArgs) XDR(c *xdr.Codec) { c.String(&a.Name, 65535) }
//
// and the [Codec] either writes the fields out or fills them in. The two directions cannot drift
// apart, and a decode-encode-decode test of any type is a test of its only description.
//
// Decoding never allocates what a peer merely announces: a length is checked against the bytes
// that are there before anything is made. Opaques and payloads alias the record that is decoded;
// whoever keeps one longer than the record copies it.
//
// Encoding only reads: several goroutines may encode one value at once.
//
// The first error sticks, and [Codec.Err] tells it: decoding then does nothing any more, and what is
// encoded is not to be sent.
package xdr

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrShort says that the record ended before the value did.
var ErrShort = errors.New("xdr: record too short")

// A Codec encodes to a growing buffer or decodes from a record. The zero value encodes.
// It is not safe for concurrent use.
type Codec struct {
	buf      []byte
	pos      int // decoding: the next byte
	decoding bool
	err      error

	// Encoding: payloads that are sent from where they lie. cuts[i] is the offset in buf before
	// which payload i is inserted.
	cuts     []int
	payloads [][]byte
	outside  int // bytes in payloads
}

// zeros is the padding of up to three bytes, RFC 4506 section 3.
var zeros [4]byte

// payloadCut is the size from which a payload is referenced, not copied: below it a copy is
// cheaper than one more element of the write vector.
const payloadCut = 4096

// NewEncoder returns a Codec that appends to buf, which may be nil.
func NewEncoder(buf []byte) *Codec { return &Codec{buf: buf} }

// NewDecoder returns a Codec that reads record. Decoded opaques alias it.
func NewDecoder(record []byte) *Codec { return &Codec{buf: record, decoding: true} }

// ResetEncoder makes c an encoder that appends to buf.
func (c *Codec) ResetEncoder(buf []byte) {
	clear(c.payloads)
	*c = Codec{buf: buf, cuts: c.cuts[:0], payloads: c.payloads[:0]}
}

// Reuse makes c an encoder that overwrites its own buffer, which it drops first if it has grown over
// max bytes. What [Codec.Bytes] and [Codec.Buffers] returned before is no longer valid. Not for decoders.
func (c *Codec) Reuse(max int) {
	if cap(c.buf) > max {
		c.buf = nil
	}
	c.ResetEncoder(c.buf[:0])
}

// ResetDecoder makes c a decoder of record.
func (c *Codec) ResetDecoder(record []byte) { *c = Codec{buf: record, decoding: true} }

// Decoding tells the direction, for the few types whose layout depends on it.
func (c *Codec) Decoding() bool { return c.decoding }

// Err returns the first error, or nil.
func (c *Codec) Err() error { return c.err }

// Fail sets the error unless there is one already.
func (c *Codec) Fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// Failf is Fail with a format.
func (c *Codec) Failf(format string, a ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("xdr: "+format, a...)
	}
}

// Len is the number of bytes encoded so far, or left to decode.
func (c *Codec) Len() int {
	if c.decoding {
		return len(c.buf) - c.pos
	}
	return len(c.buf) + c.outside
}

// Pos is the offset of the next byte in the record, when decoding.
func (c *Codec) Pos() int { return c.pos }

// Rest returns what is left to decode, without consuming it.
func (c *Codec) Rest() []byte { return c.buf[c.pos:] }

// Bytes returns the encoded bytes. It must not be used when payloads were cut out; see Buffers.
func (c *Codec) Bytes() []byte {
	if len(c.cuts) > 0 {
		return c.join()
	}
	return c.buf
}

func (c *Codec) join() []byte {
	out := make([]byte, 0, c.Len())
	for _, b := range c.Buffers(nil) {
		out = append(out, b...)
	}
	return out
}

// Buffers appends the encoded bytes to list as slices to be written in order, payloads uncopied.
func (c *Codec) Buffers(list [][]byte) [][]byte {
	from := 0
	for i, cut := range c.cuts {
		if cut > from {
			list = append(list, c.buf[from:cut])
		}
		list = append(list, c.payloads[i])
		from = cut
	}
	if from < len(c.buf) {
		list = append(list, c.buf[from:])
	}
	return list
}

// Mark returns the place of the next encoded byte, for PatchUint32 and Truncate.
// Neither may reach over a payload that was cut out after the mark, but Truncate drops them.
func (c *Codec) Mark() int { return len(c.buf) }

// PatchUint32 overwrites the word at a mark.
func (c *Codec) PatchUint32(mark int, v uint32) { binary.BigEndian.PutUint32(c.buf[mark:], v) }

// Truncate drops what was encoded since the mark.
func (c *Codec) Truncate(mark int) {
	for n := len(c.cuts); n > 0 && c.cuts[n-1] > mark; n-- {
		c.outside -= len(c.payloads[n-1])
		c.cuts, c.payloads = c.cuts[:n-1], c.payloads[:n-1]
	}
	c.buf = c.buf[:mark]
}

// take returns the next n bytes of the record, or nil and an error.
func (c *Codec) take(n int) []byte {
	if c.err != nil {
		return nil
	}
	if n < 0 || n > len(c.buf)-c.pos {
		c.err = ErrShort
		return nil
	}
	b := c.buf[c.pos : c.pos+n : c.pos+n]
	c.pos += n
	return b
}

// Uint32 is an unsigned integer, or an enum.
func (c *Codec) Uint32(v *uint32) {
	if c.decoding {
		if b := c.take(4); b != nil {
			*v = binary.BigEndian.Uint32(b)
		}
		return
	}
	c.buf = binary.BigEndian.AppendUint32(c.buf, *v)
}

// Int32 is an integer.
func (c *Codec) Int32(v *int32) {
	u := uint32(*v)
	c.Uint32(&u)
	if c.decoding {
		*v = int32(u)
	}
}

// Uint64 is an unsigned hyper.
func (c *Codec) Uint64(v *uint64) {
	if c.decoding {
		if b := c.take(8); b != nil {
			*v = binary.BigEndian.Uint64(b)
		}
		return
	}
	c.buf = binary.BigEndian.AppendUint64(c.buf, *v)
}

// Int64 is a hyper.
func (c *Codec) Int64(v *int64) {
	u := uint64(*v)
	c.Uint64(&u)
	if c.decoding {
		*v = int64(u)
	}
}

// Bool is a boolean; another word than 0 and 1 is an error.
func (c *Codec) Bool(v *bool) {
	var u uint32
	if *v {
		u = 1
	}
	c.Uint32(&u)
	if !c.decoding {
		return
	}
	if u > 1 {
		c.Failf("boolean is %d", u)
	}
	*v = u == 1
}

// Fixed is a fixed-length opaque.
func (c *Codec) Fixed(v []byte) {
	if c.decoding {
		copy(v, c.take(len(v)))
	} else {
		c.buf = append(c.buf, v...)
	}
	c.pad(len(v))
}

// pad is the zero to three bytes after n bytes. Their value is not checked: RFC 4506 asks senders
// for zeros, and real ones do not always comply.
func (c *Codec) pad(n int) {
	n = -n & 3
	if n == 0 {
		return
	}
	if c.decoding {
		c.take(n)
	} else {
		c.buf = append(c.buf, zeros[:n]...)
	}
}

// size is a length word of at most max. When decoding it is checked against what is there.
func (c *Codec) size(n, max int) int {
	if !c.decoding && n > max {
		c.Failf("length %d is over %d", n, max)
		return 0
	}
	u := uint32(n)
	c.Uint32(&u)
	if c.err != nil {
		return 0
	}
	if c.decoding {
		if uint64(u) > uint64(max) {
			c.Failf("length %d is over %d", u, max)
			return 0
		}
		if int(u) > len(c.buf)-c.pos {
			c.err = ErrShort
			return 0
		}
	}
	return int(u)
}

// Opaque is a variable-length opaque of at most max bytes. A decoded one aliases the record.
func (c *Codec) Opaque(v *[]byte, max int) {
	n := c.size(len(*v), max)
	if c.err != nil {
		return
	}
	if c.decoding {
		*v = c.take(n)
	} else {
		c.buf = append(c.buf, *v...)
	}
	c.pad(n)
}

// String is a variable-length opaque or string of at most max bytes, kept as a Go string of
// arbitrary bytes: names are bytes here, whatever their encoding.
func (c *Codec) String(v *string, max int) {
	n := c.size(len(*v), max)
	if c.err != nil {
		return
	}
	if c.decoding {
		*v = string(c.take(n))
	} else {
		c.buf = append(c.buf, *v...)
	}
	c.pad(n)
}

// Payload is an opaque that may be large: encoded, it is referenced until the reply or call is
// written, and must not change before; decoded, it aliases the record.
func (c *Codec) Payload(v *[]byte, max int) {
	if c.decoding || len(*v) < payloadCut {
		c.Opaque(v, max)
		return
	}
	n := c.size(len(*v), max)
	if c.err != nil {
		return
	}
	c.cuts = append(c.cuts, len(c.buf))
	c.payloads = append(c.payloads, *v)
	c.outside += n
	c.pad(n)
}

// Raw appends bytes that are encoded already, or decodes all that is left.
func (c *Codec) Raw(v *[]byte) {
	if c.decoding {
		*v = c.take(len(c.buf) - c.pos)
		return
	}
	c.buf = append(c.buf, *v...)
}

// Optional is XDR's optional-data (a pointer): a boolean, then f if it is true.
func Optional[T any](c *Codec, v **T, f func(*Codec, *T)) {
	there := *v != nil
	c.Bool(&there)
	if c.err != nil || !there {
		if c.decoding {
			*v = nil
		}
		return
	}
	if c.decoding {
		*v = new(T)
	}
	f(c, *v)
}

// A Type is a pointer to a T that describes its own layout.
type Type[T any] interface {
	*T
	XDR(*Codec)
}

// Opt is Optional for a type that describes itself. An array of at most one element looks the same.
func Opt[T any, P Type[T]](c *Codec, v **T) {
	Optional(c, v, func(c *Codec, t *T) { P(t).XDR(c) })
}

// List is Slice for a type that describes itself.
func List[T any, P Type[T]](c *Codec, v *[]T, max int) {
	Slice(c, v, max, func(c *Codec, t *T) { P(t).XDR(c) })
}

// firstElements is how many elements of an array are made room for before any is decoded.
const firstElements = 64

// Slice is a variable-length array of at most max elements, each of at least 4 bytes. A decoded
// array of none is nil. Room is made as elements come, so a false length costs nothing.
func Slice[T any](c *Codec, v *[]T, max int, f func(*Codec, *T)) {
	n := len(*v)
	if !c.decoding && n > max {
		c.Failf("array of %d is over %d", n, max)
		return
	}
	u := uint32(n)
	c.Uint32(&u)
	if !c.decoding {
		for i := range *v {
			f(c, &(*v)[i])
		}
		return
	}
	*v = nil
	if c.err != nil || u == 0 {
		return
	}
	if uint64(u) > uint64(max) || uint64(u)*4 > uint64(len(c.buf)-c.pos) {
		c.Failf("array of %d elements in %d bytes, at most %d", u, len(c.buf)-c.pos, max)
		return
	}
	list := make([]T, 0, min(u, firstElements))
	for range u {
		var zero T
		list = append(list, zero)
		f(c, &list[len(list)-1])
		if c.err != nil {
			return
		}
	}
	*v = list
}
