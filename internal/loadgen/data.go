package loadgen

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync/atomic"

	"holdfast/internal/nfs4"
)

// dataName is the file that is read, dataName + "-written" the one that is written.
const dataName = "data"

// fill makes the content of a file at off: each 4 KiB begin with their offset, by which check knows
// that it got what it asked for.
func fill(b []byte, off uint64) {
	for i := 0; i+small <= len(b); i += small {
		binary.BigEndian.PutUint64(b[i:], off+uint64(i))
	}
}

func check(b []byte, off uint64, want int) error {
	if len(b) != want {
		return fmt.Errorf("loadgen: read %d bytes of %d at %d", len(b), want, off)
	}
	if got := binary.BigEndian.Uint64(b); got != off {
		return fmt.Errorf("loadgen: what was read at %d is the content of %d", off, got)
	}
	return nil
}

// noise returns n bytes that do not compress.
func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := 0; i+8 <= n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
	return b
}

// offsets hands out the offsets of one pass after the other, to all lanes.
type offsets struct {
	next atomic.Uint64
	size uint64
}

func (o *offsets) take(n int) uint64 { return (o.next.Add(uint64(n)) - uint64(n)) % o.size }

// picker gives a function for each lane that returns where to read next.
func picker(size int64, n int, random bool) func(lane int) func() uint64 {
	if !random {
		o := &offsets{size: uint64(size)}
		return func(int) func() uint64 { return func() uint64 { return o.take(n) } }
	}
	return func(lane int) func() uint64 {
		r := rand.New(rand.NewPCG(uint64(lane), 7))
		return func() uint64 { return uint64(r.Int64N(size/int64(n))) * uint64(n) }
	}
}

// nfsReads reads pieces of n bytes of one file.
func nfsReads(n int, random bool) func(*nfsEnv) (*task, error) {
	return func(e *nfsEnv) (*task, error) {
		f, err := e.data()
		if err != nil {
			return nil, err
		}
		t := &task{clean: func() error { return e.lanes[0].closeFile(e.ctx, f) }}
		pick := picker(e.o.FileSize, n, random)
		for i, l := range e.lanes {
			next := pick(i)
			put, read := &nfs4.PutfhArgs{FH: f.fh}, &nfs4.ReadArgs{Stateid: f.open, Count: uint32(n)}
			use := func(list []nfs4.Res) error { return check(list[1].(*nfs4.ReadRes).Data, read.Offset, n) }
			t.steps = append(t.steps, func() error {
				read.Offset = next()
				return l.Do(e.ctx, use, put, read)
			})
		}
		return t, nil
	}
}

// data opens the file that is read, and writes it first if it is not there.
func (e *nfsEnv) data() (file, error) {
	l := e.lanes[0]
	f, err := l.openFile(e.ctx, e.dir, "reader", dataName)
	if err != nil || f.size >= uint64(e.o.FileSize) {
		return f, err
	}
	b := noise(large)
	put, write := &nfs4.PutfhArgs{FH: f.fh}, &nfs4.WriteArgs{Stateid: f.open, Stable: nfs4.UNSTABLE4, Data: b}
	for off := uint64(0); off < uint64(e.o.FileSize); off += large {
		fill(b, off)
		write.Offset = off
		if err := l.Do(e.ctx, wrote(large), put, write); err != nil {
			return f, err
		}
	}
	return f, l.Do(e.ctx, nil, put, &nfs4.CommitArgs{})
}

func wrote(n uint32) func([]nfs4.Res) error {
	return func(list []nfs4.Res) error {
		if r := list[1].(*nfs4.WriteRes); r.Count != n {
			return fmt.Errorf("loadgen: wrote %d bytes of %d", r.Count, n)
		}
		return nil
	}
}

// nfsWrites overwrites a file from one end to the other.
func nfsWrites(size int) func(*nfsEnv) (*task, error) {
	return func(e *nfsEnv) (*task, error) {
		f, err := e.lanes[0].openFile(e.ctx, e.dir, "writer", dataName+"-written")
		if err != nil {
			return nil, err
		}
		t := &task{}
		t.clean = func() error {
			if err := e.lanes[0].Do(e.ctx, nil, &nfs4.PutfhArgs{FH: f.fh}, &nfs4.CommitArgs{}); err != nil {
				return err
			}
			return e.lanes[0].closeFile(e.ctx, f)
		}
		next := picker(min(e.o.FileSize, writeSize), size, false)(0)
		b := noise(size)
		for _, l := range e.lanes {
			put, write := &nfs4.PutfhArgs{FH: f.fh}, &nfs4.WriteArgs{Stateid: f.open, Stable: nfs4.UNSTABLE4, Data: b}
			use := wrote(uint32(size))
			t.steps = append(t.steps, func() error {
				write.Offset = next()
				return l.Do(e.ctx, use, put, write)
			})
		}
		return t, nil
	}
}

// writeSize is the most bytes of the file that is written: the same pages again and again, so that the
// disk is not what is measured.
const writeSize = 64 << 20
