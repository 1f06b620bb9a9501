package rpc

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrRecord is wrapped by all errors about a stream that is not one of records as we accept them.
var ErrRecord = errors.New("rpc: bad record")

const (
	lastFragment = 1 << 31

	// maxFragments bounds the fragments of a record: empty ones would make it endless.
	maxFragments = 4096

	// firstRead is how much of a record is read before room is made for all of it: a peer that
	// announces a megabyte and sends nothing costs no megabyte.
	firstRead = 72 << 10

	readBuffer = 32 << 10
)

// A recordReader takes records off a stream: RFC 5531 section 11.
type recordReader struct {
	br  *bufio.Reader
	max int // bytes of a record

	// idle is called before waiting for a record to begin, begun when one has and is not there whole.
	idle, begun func() error
}

// next returns the next record. io.EOF means the end of the stream between two records.
func (r *recordReader) next() (*Buffer, error) {
	if r.br.Buffered() == 0 {
		if err := r.idle(); err != nil {
			return nil, err
		}
		if _, err := r.br.Peek(1); err != nil {
			return nil, err
		}
	}
	if !r.complete() {
		if err := r.begun(); err != nil {
			return nil, err
		}
	}
	rec, err := r.read(nil)
	if err != nil {
		rec.Free()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return rec, nil
}

// complete tells whether the record is one fragment that is in the buffer.
func (r *recordReader) complete() bool {
	n := r.br.Buffered()
	if n < 4 {
		return false
	}
	head, _ := r.br.Peek(4) // cannot fail: they are there
	mark := binary.BigEndian.Uint32(head)
	return mark&lastFragment != 0 && uint64(mark&^lastFragment) <= uint64(n-4)
}

// read appends the fragments of a record to rec and returns what became of it, on error too.
func (r *recordReader) read(rec *Buffer) (*Buffer, error) {
	for range maxFragments {
		var head [4]byte
		if _, err := io.ReadFull(r.br, head[:]); err != nil {
			return rec, err
		}
		mark := binary.BigEndian.Uint32(head[:])
		n := int64(mark &^ lastFragment)
		if n > int64(r.max-rec.len()) {
			return rec, fmt.Errorf("%w: a fragment of %d bytes makes it longer than %d", ErrRecord, n, r.max)
		}
		for left := int(n); left > 0; {
			// After the first read sixteen times what is there, which is a megabyte.
			step := min(left, max(firstRead, 16*rec.len()))
			from := rec.len()
			rec = rec.grow(from + step)
			if _, err := io.ReadFull(r.br, rec.B[from:]); err != nil {
				return rec, err
			}
			left -= step
		}
		if mark&lastFragment != 0 {
			return rec.grow(rec.len()), nil
		}
	}
	return rec, fmt.Errorf("%w: more than %d fragments", ErrRecord, maxFragments)
}
