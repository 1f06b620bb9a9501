package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"time"

	"holdfast/fs"
)

// recordVersion begins each value. A reader refuses higher ones; fields are only added at the end,
// and a reader of a higher version knows what the lower ones lack.
const recordVersion = 2

const trailerSize = 8 + 4 // group number, CRC

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	errShort    = errors.New("record ends early")
	errLong     = errors.New("bytes after the record")
	errChecksum = errors.New("record checksum does not match")
)

// seal appends the trailer to a value.
func seal(key, value []byte, seq uint64) []byte {
	value = binary.BigEndian.AppendUint64(value, seq)
	return binary.BigEndian.AppendUint32(value, checksum(key, value))
}

// unseal checks the trailer and returns the value without it.
func unseal(key, value []byte) (body []byte, seq uint64, err error) {
	n := len(value) - trailerSize
	if n < 1 {
		return nil, 0, errShort
	}
	if checksum(key, value[:n+8]) != binary.BigEndian.Uint32(value[n+8:]) {
		return nil, 0, errChecksum
	}
	return value[:n], binary.BigEndian.Uint64(value[n:]), nil
}

func checksum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}

// An encoder appends fields.
type encoder struct{ b []byte }

func newEncoder(size int) *encoder {
	e := &encoder{b: make([]byte, 0, size+trailerSize)}
	e.byte(recordVersion)
	return e
}

func (e *encoder) byte(v byte)    { e.b = append(e.b, v) }
func (e *encoder) uint(v uint64)  { e.b = binary.AppendUvarint(e.b, v) }
func (e *encoder) fixed(v []byte) { e.b = append(e.b, v...) }

func (e *encoder) string(v string) {
	e.uint(uint64(len(v)))
	e.b = append(e.b, v...)
}

func (e *encoder) bool(v bool) {
	if v {
		e.byte(1)
	} else {
		e.byte(0)
	}
}

func (e *encoder) uints(v []uint32) {
	e.uint(uint64(len(v)))
	for _, x := range v {
		e.uint(uint64(x))
	}
}

// time writes nanoseconds since 1970, zigzag; the zero Time is the smallest number there is.
func (e *encoder) time(t time.Time) {
	if t.IsZero() {
		e.b = binary.AppendVarint(e.b, math.MinInt64)
		return
	}
	e.b = binary.AppendVarint(e.b, t.UnixNano())
}

// stateid writes a stateid; most records have one.
func (e *encoder) stateid(s *Stateid) {
	if *s == (Stateid{}) {
		e.byte(0)
		return
	}
	e.byte(1)
	e.fixed(s.Other[:])
	e.uint(uint64(s.Seqid))
}

// ranges writes each lock as distance from the last one's end, length - 1, and type.
func (e *encoder) ranges(s fs.RangeSet) {
	e.uint(uint64(len(s)))
	var end uint64
	for _, l := range s {
		e.uint(l.Range.First - end)
		e.uint(l.Range.Last - l.Range.First)
		e.byte(byte(l.Type))
		end = l.Range.Last
	}
}

// A decoder takes fields off. After the first error all calls return zero values.
type decoder struct {
	b       []byte
	err     error
	version byte // of the record
}

func newDecoder(body []byte) *decoder {
	d := &decoder{b: body}
	if d.version = d.byte(); d.err == nil && (d.version == 0 || d.version > recordVersion) {
		d.err = fmt.Errorf("record version %d, known is %d", d.version, recordVersion)
	}
	return d
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.b = nil
}

func (d *decoder) fixed(n int) []byte {
	if n > len(d.b) {
		d.fail(errShort)
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	v := d.fixed(1)
	if v == nil {
		return 0
	}
	return v[0]
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail(errShort)
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uint32() uint32 {
	v := d.uint()
	if v > math.MaxUint32 {
		d.fail(fmt.Errorf("number %d has more than 32 bits", v))
		return 0
	}
	return uint32(v)
}

// count reads how many things follow, each of which takes at least size bytes.
func (d *decoder) count(size int) int {
	v := d.uint()
	if v > uint64(len(d.b)/size) {
		d.fail(errShort)
		return 0
	}
	return int(v)
}

func (d *decoder) string() string { return string(d.fixed(d.count(1))) }

func (d *decoder) bytes() []byte {
	v := d.fixed(d.count(1))
	if len(v) == 0 {
		return nil
	}
	return append([]byte(nil), v...)
}

func (d *decoder) bool() bool {
	switch v := d.byte(); v {
	case 0:
		return false
	case 1:
		return true
	default:
		d.fail(fmt.Errorf("truth value %d", v))
		return false
	}
}

func (d *decoder) uints() []uint32 {
	n := d.count(1)
	if n == 0 {
		return nil
	}
	v := make([]uint32, n)
	for i := range v {
		v[i] = d.uint32()
	}
	return v
}

func (d *decoder) time() time.Time {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail(errShort)
		return time.Time{}
	}
	d.b = d.b[n:]
	if v == math.MinInt64 {
		return time.Time{}
	}
	return time.Unix(0, v).UTC()
}

func (d *decoder) share() fs.Share {
	v := d.byte()
	if v > byte(fs.ShareBoth) {
		d.fail(fmt.Errorf("share bits %#x", v))
		return 0
	}
	return fs.Share(v)
}

func (d *decoder) lockType() fs.LockType {
	v := d.byte()
	if v > byte(fs.WriteLock) {
		d.fail(fmt.Errorf("lock type %d", v))
		return 0
	}
	return fs.LockType(v)
}

func (d *decoder) stateid() (s Stateid) {
	if !d.bool() {
		return s
	}
	copy(s.Other[:], d.fixed(12))
	if s.Seqid = d.uint32(); d.err == nil && s == (Stateid{}) {
		d.fail(errors.New("stateid without content"))
	}
	return s
}

func (d *decoder) ranges() fs.RangeSet {
	n := d.count(3)
	if n == 0 {
		return nil
	}
	s := make(fs.RangeSet, 0, n)
	var end uint64
	for i := range n {
		gap, length, t := d.uint(), d.uint(), d.lockType()
		if d.err != nil {
			return nil
		}
		if gap > math.MaxUint64-end || length > math.MaxUint64-end-gap || i > 0 && gap == 0 || t == fs.NoLock {
			d.fail(errors.New("ranges out of order"))
			return nil
		}
		l := fs.Lock{Range: fs.Range{First: end + gap, Last: end + gap + length}, Type: t}
		s = append(s, l)
		end = l.Range.Last
	}
	return s
}

// done returns the first error, or that there is something left over.
func (d *decoder) done() error {
	if d.err == nil && len(d.b) > 0 {
		return errLong
	}
	return d.err
}
