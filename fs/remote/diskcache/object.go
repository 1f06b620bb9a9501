package diskcache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/crash"
)

// The places at which a kill -9 would hurt most. Between any two of them the store must be good.
var (
	pointData     = crash.Register("diskcache.data")      // data is written, its checksums are not
	pointSums     = crash.Register("diskcache.sums")      // both are
	pointLinkData = crash.Register("diskcache.link.data") // KEY.d has its name, KEY.m has not
	pointLinkMeta = crash.Register("diskcache.link.meta") // both have
	pointUnlink   = crash.Register("diskcache.unlink")    // one of them is removed
	pointDirty    = crash.Register("diskcache.dirty")     // an object is marked dirty
	pointSynced   = crash.Register("diskcache.synced")    // own writes are synced, the version is the old one
	pointSettled  = crash.Register("diskcache.settled")   // the new version is written
	pointPunch    = crash.Register("diskcache.punch")     // checksums are gone, data is not
)

// An Object is the cached data of a file at one version.
//
// Lock order: Object.mu, then Store.mu. Object.mu makes changes one after the other; it is held over
// writes to the local disk, and a read takes it only when a checksum does not match.
type Object struct {
	s *Store

	// Guarded by Store.mu.
	entry              *entry
	refs               int
	idleNext, idlePrev *Object
	isIdle             bool
	wiped              bool // dead, and the data is taken away

	dead    atomic.Bool // nothing is read or written any more
	version atomic.Pointer[Version]
	bytes   atomic.Int64
	used    atomic.Int64 // when it was last said to be used, Unix time in ns

	files atomic.Pointer[files] // nil until the first data comes
	sums  atomic.Pointer[table]

	youngCount atomic.Int64
	warm       warmth
	name       func() string // until the files are made

	mu sync.Mutex
	// +checklocks:mu
	head header // version is in the field above as well
	// +checklocks:mu
	extent int64 // where own writes have come to, at least the size
	// +checklocks:mu
	gen uint64 // counts changes of own writes
	// +checklocks:mu
	young map[int64]uint64 // blocks in memory only, with the moment of their fetch
	// +checklocks:mu
	hand int64 // where evictPart looks next
}

type files struct{ meta, data *os.File }

// A table is the checksums of blocks, in pages of 4 KiB that are read at their first use.
type table struct{ pages []atomic.Pointer[sumPage] }

const (
	sumsPerPage = 1024
	pageSpan    = sumsPerPage * BlockSize // bytes of data that a page is about
)

type sumPage [sumsPerPage]atomic.Uint32

func newTable(size int64) *table {
	return &table{make([]atomic.Pointer[sumPage], (size+pageSpan-1)/pageSpan)}
}

// ID names the object.
func (o *Object) ID() ID { return o.head.id }

// Version is the version that the data is of.
func (o *Object) Version() Version { return *o.version.Load() }

// Dead tells that the object was evicted, dropped or replaced: it has no data and takes none.
func (o *Object) Dead() bool { return o.dead.Load() }

// Touch says that the object is being used.
func (o *Object) Touch() {
	now := o.s.cfg.Clock.Now().UnixNano()
	if last := o.used.Load(); now-last < int64(time.Second) || !o.used.CompareAndSwap(last, now) {
		return
	}
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	if !o.dead.Load() && o.entry != nil {
		o.s.touch(o.entry)
	}
}

// sum is the checksum of a block; 0 if it is missing.
func (o *Object) sum(b int64) uint32 {
	if p := o.page(b / sumsPerPage); p != nil {
		return p[b%sumsPerPage].Load()
	}
	return 0
}

// page is a page of the table; nil if it is beyond the end or cannot be read.
func (o *Object) page(i int64) *sumPage {
	t := o.sums.Load()
	if t == nil || i >= int64(len(t.pages)) {
		return nil
	}
	if p := t.pages[i].Load(); p != nil {
		return p
	}
	p := new(sumPage)
	if f := o.files.Load(); f != nil {
		var b [4 * sumsPerPage]byte
		n, err := f.meta.ReadAt(b[:], headerSize+i*int64(len(b)))
		if n == 0 && err != nil && !isEOF(err) {
			o.s.c.failed.Add(1)
			return nil
		}
		for j := range n / 4 {
			p[j].Store(binary.LittleEndian.Uint32(b[4*j:]))
		}
	}
	// Who changes checksums has the page first; so if somebody was faster, his is the newer.
	if !t.pages[i].CompareAndSwap(nil, p) {
		p = t.pages[i].Load()
	}
	return p
}

// create makes the files. They get their names when they are whole, and only while the object is alive.
//
// +checklocks:o.mu
func (o *Object) create() (*files, error) {
	if f := o.files.Load(); f != nil {
		return f, nil
	}
	s := o.s
	k := o.head.id.key()
	data, err := s.tmpfile()
	if err != nil {
		return nil, err
	}
	meta, err := s.tmpfile()
	if err != nil {
		return nil, errors.Join(err, data.Close())
	}
	if o.name != nil {
		o.head.name, o.name = o.name(), nil
	}
	f := &files{meta, data}
	if err = data.Truncate(int64(o.head.version.Size)); err == nil {
		_, err = meta.WriteAt(o.head.encode(), 0)
	}
	if err == nil {
		err = os.MkdirAll(filepath.Dir(s.path(k, "")), 0o700)
	}
	if err == nil {
		err = s.link(data, s.path(k, ".d"))
	}
	pointLinkData.Hit()
	if err == nil {
		err = s.link(meta, s.path(k, ".m"))
	}
	pointLinkMeta.Hit()
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	o.files.Store(f)
	o.charge(2 * BlockSize)
	return f, nil
}

// link names a file, in place of one that has the name.
func (s *Store) link(f *os.File, path string) error {
	from := "/proc/self/fd/" + strconv.Itoa(int(f.Fd()))
	err := unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	if errors.Is(err, unix.EEXIST) {
		if err = os.Remove(path); err == nil || errors.Is(err, os.ErrNotExist) {
			err = unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
		}
	}
	if err != nil {
		return fmt.Errorf("link %s: %w", path, err)
	}
	return nil
}

func (f *files) close() error { return errors.Join(f.meta.Close(), f.data.Close()) }

// charge says that the object takes so much more.
func (o *Object) charge(delta int64) {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	o.bytes.Add(delta)
	if !o.dead.Load() && o.entry != nil {
		o.s.charge(o.entry, delta)
	}
}

// wipe takes the data away. The object must be dead. It closes the files if nobody uses them.
func (o *Object) wipe() {
	o.mu.Lock()
	o.sums.Store(nil)
	o.young = nil
	f := o.files.Load()
	var err error
	if f != nil {
		// Readers that are under way see that the data does not match.
		err = errors.Join(f.meta.Truncate(0), f.data.Truncate(0))
	}
	o.mu.Unlock()
	o.s.mu.Lock()
	o.wiped = true
	unused := o.refs == 0
	o.s.mu.Unlock()
	if unused {
		err = errors.Join(err, o.close(false))
	}
	if err != nil {
		o.s.c.failed.Add(1)
		o.s.log.Warn("cache: wipe", "err", err)
	}
}

// close closes the files of an object that nobody uses; used sets the time of the last use on disk.
func (o *Object) close(used bool) error {
	f := o.files.Load()
	if f == nil {
		return nil
	}
	if used {
		// Only the order of eviction after a restart depends on it.
		_ = unix.Futimes(int(f.meta.Fd()), []unix.Timeval{{}, unix.NsecToTimeval(o.s.cfg.Clock.Now().UnixNano())})
	}
	return f.close()
}

// writeHeader puts the header on disk.
//
// +checklocks:o.mu
func (o *Object) writeHeader() error {
	f := o.files.Load()
	if f == nil {
		return nil
	}
	_, err := f.meta.WriteAt(o.head.encode(), 0)
	return err
}
