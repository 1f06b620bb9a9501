package diskcache

import (
	"errors"
	"io"
	"sync"

	"github.com/cespare/xxhash/v2"
)

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

var scratch = sync.Pool{New: func() any { return new([BlockSize]byte) }}

// ReadAt reads from off as far as data is there without a gap, and returns the number of bytes. What
// was put in as young counts only if it was fetched at seq or later. It ends at the version's size.
func (o *Object) ReadAt(dst []byte, off int64, seq uint64) int {
	size := int64(o.Version().Size)
	f := o.files.Load()
	if f == nil || off < 0 || off >= size || len(dst) == 0 || o.dead.Load() {
		return 0
	}
	dst = dst[:min(int64(len(dst)), size-off)]
	o.Touch()
	end := off + int64(len(dst))
	for i := off / part; i <= (end-1)/part; i++ {
		o.warm.mark(i)
	}
	first := off / BlockSize
	stop := first
	for stop*BlockSize < end && o.has(stop, seq) {
		stop++
	}
	n := 0
	for b := first; b < stop; {
		from := max(b*BlockSize, off)
		if from != b*BlockSize || from+BlockSize > end {
			// Part of a block: all of it has to be read for its checksum.
			to := min((b+1)*BlockSize, end)
			buf := scratch.Get().(*[BlockSize]byte)
			ok := o.block(f, b, buf[:], false)
			if ok {
				n += copy(dst[from-off:to-off], buf[from-b*BlockSize:])
			}
			scratch.Put(buf)
			if !ok {
				return n
			}
			b++
			continue
		}
		whole := min(stop, end/BlockSize) // blocks from b up to here are whole
		good := o.blocks(f, b, dst[from-off:whole*BlockSize-off])
		n += int(good * BlockSize)
		if b += good; b < whole {
			return n
		}
	}
	return n
}

// has tells whether a block is there and young enough, without looking at its data.
func (o *Object) has(b int64, seq uint64) bool {
	if o.sum(b) == 0 {
		return false
	}
	if o.youngCount.Load() == 0 {
		return true
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	at, young := o.young[b]
	return !young || at >= seq
}

// blocks reads whole blocks, and returns how many of them, from the first, are good.
func (o *Object) blocks(f *files, first int64, dst []byte) (good int64) {
	n, err := f.data.ReadAt(dst, first*BlockSize)
	if err != nil && !isEOF(err) {
		o.s.c.failed.Add(1)
		n = 0
	}
	clear(dst[n:])
	nonce := o.head.nonce
	for i := int64(0); i*BlockSize < int64(len(dst)); i++ {
		p := dst[i*BlockSize : (i+1)*BlockSize]
		b := first + i
		if o.matches(b, nonce, p) {
			continue
		}
		if !o.block(f, b, p, true) {
			return i
		}
	}
	return int64(len(dst)) / BlockSize
}

// matches compares a block with its checksum. A hole has no data, so it is made here.
func (o *Object) matches(b int64, nonce uint64, p []byte) bool {
	sum := o.sum(b)
	switch sum {
	case 0:
		return false
	case mix(holeSum, nonce, b):
		clear(p)
		return true
	}
	return sum == mix(xxhash.Sum64(p), nonce, b)
}

// block reads one block; again says that it was read before and did not match. Then either somebody
// changes it right now, or it is rotten, and is forgotten.
func (o *Object) block(f *files, b int64, p []byte, again bool) bool {
	if !again {
		o.fill(f, b, p)
		if o.matches(b, o.head.nonce, p) {
			return true
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.blockLocked(f, b, p)
}

// +checklocks:o.mu
func (o *Object) blockLocked(f *files, b int64, p []byte) bool {
	if o.dead.Load() || o.sum(b) == 0 {
		return false
	}
	o.fill(f, b, p)
	if o.matches(b, o.head.nonce, p) {
		return true
	}
	o.s.c.rotten.Add(1)
	o.s.log.Warn("cache: a block does not match its checksum; it is read again from the origin", "object", o.head.id.key().String(), "offset", b*BlockSize)
	o.forget(f, b, b+1)
	return false
}

// fill reads a block from disk, with zeros for what is beyond the end.
func (o *Object) fill(f *files, b int64, p []byte) {
	n, err := f.data.ReadAt(p[:BlockSize], b*BlockSize)
	if err != nil && !isEOF(err) {
		o.s.c.failed.Add(1)
		n = 0
	}
	clear(p[n:])
}

// NextMissing returns the first run of bytes in [off, end) that is not there, in whole blocks except at the
// end of the file; start == stop if nothing is missing.
func (o *Object) NextMissing(off, end int64, seq uint64) (start, stop int64) {
	size := int64(o.Version().Size)
	end = min(end, size)
	b := off / BlockSize
	for b*BlockSize < end && o.has(b, seq) {
		b++
	}
	if b*BlockSize >= end {
		return end, end
	}
	start = b * BlockSize
	for b*BlockSize < end && !o.has(b, seq) {
		b++
	}
	return start, min(b*BlockSize, size)
}

// Complete tells whether the whole file is there.
func (o *Object) Complete() bool {
	size := int64(o.Version().Size)
	start, stop := o.NextMissing(0, size, 1<<63)
	return start == stop
}
