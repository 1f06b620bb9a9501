package diskcache

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"
)

// ErrNoRoom says that data was not kept because there is no room yet. Eviction is under way.
var ErrNoRoom = errors.New("no room in the cache yet")

var zeros [BlockSize]byte

// WriteAt puts data in that belongs to the object's version: whole blocks, except that the last may end at
// the version's size. young, if it is not zero, is when the data was fetched: it is then kept in memory
// only, for readers that ReadAt with the same or a smaller number. Zeros take no room on disk.
//
// An error, ErrNoRoom and a dead object included, means only that the data is not kept.
func (o *Object) WriteAt(data []byte, off int64, young uint64) error {
	size := int64(o.Version().Size)
	end := off + int64(len(data))
	if off < 0 || off%BlockSize != 0 || end > size || (end%BlockSize != 0 && end != size) {
		return fmt.Errorf("cache: %d bytes at %d of %d are not whole blocks", len(data), off, size)
	}
	if len(data) == 0 {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	f, err := o.writable()
	if err != nil {
		return err
	}
	return o.put(f, data, off, young)
}

// writable makes the files if need be.
//
// +checklocks:o.mu
func (o *Object) writable() (*files, error) {
	if o.dead.Load() {
		return nil, ErrNoRoom
	}
	if o.s.full.Load() {
		o.s.c.noRoom.Add(1)
		o.s.wake()
		return nil, ErrNoRoom
	}
	f, err := o.create()
	if err != nil {
		o.s.c.failed.Add(1)
		o.s.wake()
	}
	return f, err
}

// put writes blocks: first the data, then the checksums.
//
// +checklocks:o.mu
func (o *Object) put(f *files, data []byte, off int64, young uint64) error {
	first := off / BlockSize
	n := (int64(len(data)) + BlockSize - 1) / BlockSize
	sums := make([]uint32, n)
	nonce := o.head.nonce
	fresh := int64(0)
	run := int64(-1) // where data that is not zero begins
	flush := func(to int64) error {
		if run < 0 {
			return nil
		}
		p := data[run*BlockSize : min(to*BlockSize, int64(len(data)))]
		_, err := f.data.WriteAt(p, off+run*BlockSize)
		run = -1
		return err
	}
	for i := range n {
		p := data[i*BlockSize : min((i+1)*BlockSize, int64(len(data)))]
		if isZero(p) {
			sums[i] = mix(holeSum, nonce, first+i)
			if err := flush(i); err != nil {
				return o.failed(err)
			}
			continue
		}
		if o.sum(first+i) == 0 {
			fresh++
		}
		sums[i] = mix(sumOf(p), nonce, first+i)
		if run < 0 {
			run = i
		}
	}
	if err := flush(n); err != nil {
		return o.failed(err)
	}
	pointData.Hit()
	err := o.setSums(f, first, sums, young)
	pointSums.Hit()
	o.charge(fresh * BlockSize)
	o.s.c.stored.Add(uint64(fresh * BlockSize))
	if o.s.over() {
		o.s.wake()
	}
	if err != nil {
		return o.failed(err)
	}
	return nil
}

// sumOf is the checksum of a block, with zeros for what is beyond the end of the file.
func sumOf(p []byte) uint64 {
	if len(p) == BlockSize {
		return xxhash.Sum64(p)
	}
	var b [BlockSize]byte
	copy(b[:], p)
	return xxhash.Sum64(b[:])
}

func isZero(p []byte) bool {
	if len(p) >= 8 && binary.LittleEndian.Uint64(p) != 0 {
		return false
	}
	return string(p) == string(zeros[:len(p)])
}

func (o *Object) failed(err error) error {
	o.s.c.failed.Add(1)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		o.s.full.Store(true)
		o.s.wake()
	}
	return fmt.Errorf("cache: %w", err)
}

// setSums changes checksums in memory and, but for young ones, on disk.
//
// +checklocks:o.mu
func (o *Object) setSums(f *files, first int64, sums []uint32, young uint64) error {
	o.grow((first + int64(len(sums))) * BlockSize)
	for i, s := range sums {
		b := first + int64(i)
		p := o.page(b / sumsPerPage)
		if p == nil {
			return errors.New("checksums cannot be read")
		}
		if young != 0 {
			if o.young == nil {
				o.young = make(map[int64]uint64)
			}
			o.young[b] = young
		} else if o.young != nil {
			delete(o.young, b)
		}
		o.youngCount.Store(int64(len(o.young)))
		p[b%sumsPerPage].Store(s)
	}
	if young != 0 {
		return nil
	}
	b := make([]byte, 4*len(sums))
	for i, s := range sums {
		binary.LittleEndian.PutUint32(b[4*i:], s)
	}
	_, err := f.meta.WriteAt(b, headerSize+4*first)
	return err
}

// grow makes the table large enough for a file of so many bytes.
//
// +checklocks:o.mu
func (o *Object) grow(size int64) {
	t := o.sums.Load()
	if t == nil {
		t = newTable(max(size, int64(o.head.version.Size)))
		o.sums.Store(t)
	}
	need := (size + pageSpan - 1) / pageSpan
	if need <= int64(len(t.pages)) {
		return
	}
	n := newTable(size)
	for i := range t.pages {
		n.pages[i].Store(t.pages[i].Load())
	}
	o.sums.Store(n)
}

// forget makes blocks missing, on disk too.
//
// +checklocks:o.mu
func (o *Object) forget(f *files, first, stop int64) (had int64) {
	t := o.sums.Load()
	if t == nil {
		return 0
	}
	stop = min(stop, int64(len(t.pages))*sumsPerPage)
	if first >= stop {
		return 0
	}
	for b := first; b < stop; b++ {
		p := o.page(b / sumsPerPage)
		if p == nil {
			continue
		}
		if p[b%sumsPerPage].Swap(0) != 0 {
			had++
		}
		delete(o.young, b)
	}
	o.youngCount.Store(int64(len(o.young)))
	if _, err := f.meta.WriteAt(make([]byte, 4*(stop-first)), headerSize+4*first); err != nil {
		o.s.c.failed.Add(1)
		o.s.log.Warn("cache: a checksum cannot be removed", "err", err)
	}
	return had
}
