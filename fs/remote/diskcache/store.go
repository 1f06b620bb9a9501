package diskcache

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"holdfast/internal/clock"
)

// Config says where the store is and how much it may take.
type Config struct {
	Dir string
	// Limit is how many bytes the store may take on disk; at most 0 means as many as Floor allows.
	Limit int64
	// Floor is how many bytes of the file system stay free for others, and FloorPercent the same in parts
	// of the whole; the larger of both counts.
	Floor        int64
	FloorPercent int
	// MaxOpen is how many objects keep their descriptors, two each, though nobody uses them; default 512.
	MaxOpen int

	Clock  clock.Clock  // default: clock.Real
	Logger *slog.Logger // default: none

	// Free tells the free and the whole bytes of the file system; default: statfs(2).
	Free func(dir string) (free, whole int64, err error)
}

// A Store is a directory of objects. Its methods may be called at once from many goroutines.
type Store struct {
	cfg  Config
	dir  string // of the objects
	lock *os.File
	log  *slog.Logger

	limit, floor atomic.Int64
	percent      atomic.Int64

	mu sync.Mutex
	// +checklocks:mu
	index map[key]*entry
	// +checklocks:mu
	lru entry // the list's ring: next is the most recently used
	// +checklocks:mu
	loading map[key]chan struct{} // closed when whoever opens the object is done
	// +checklocks:mu
	idle entryList // open, not used, oldest last
	// +checklocks:mu
	scanned bool
	// +checklocks:mu
	scanErr error
	// +checklocks:mu
	closed bool
	// +checklocks:mu
	pins map[key]bool // what is not evicted, there or not

	used  atomic.Int64 // bytes on disk
	pinMu sync.Mutex   // guards the writing of PINNED
	full  atomic.Bool  // nothing is stored until there is room again

	kick    chan struct{} // wakes the evictor
	quit    chan struct{}
	workers sync.WaitGroup
	ready   chan struct{} // closed when the directory has been read

	c counters
}

type counters struct {
	stored, evicted, evictedBytes, rotten, noRoom, failed, dropped, replaced atomic.Uint64
}

// An entry is what is known of each object. Store.mu guards it.
type entry struct {
	next, prev *entry
	key        key
	bytes      atomic.Int64
	last       int64   // Unix time in seconds
	obj        *Object // if it is open
}

const versionText = "holdfast disk cache 1\n"

// ErrInUse says that another process has the directory.
var ErrInUse = errors.New("the cache directory is used by another instance")

// Open opens the store in cfg.Dir, or makes it. The objects there are usable at once; that they are
// counted and can be evicted takes as long as reading the directories, in the background.
func Open(cfg Config) (*Store, error) {
	if cfg.Clock == nil {
		cfg.Clock = clock.Real
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxOpen <= 0 {
		cfg.MaxOpen = 512
	}
	if cfg.Free == nil {
		cfg.Free = statfs
	}
	s := &Store{
		cfg: cfg, dir: filepath.Join(cfg.Dir, "objects"), log: cfg.Logger,
		index: make(map[key]*entry), loading: make(map[key]chan struct{}), pins: make(map[key]bool),
		kick: make(chan struct{}, 1), quit: make(chan struct{}), ready: make(chan struct{}),
	}
	s.SetLimits(cfg.Limit, cfg.Floor, cfg.FloorPercent)
	s.lru.next, s.lru.prev = &s.lru, &s.lru
	if err := s.claim(); err != nil {
		return nil, fmt.Errorf("cache %s: %w", cfg.Dir, err)
	}
	if err := s.readPins(); err != nil {
		return nil, errors.Join(fmt.Errorf("cache %s: %w", cfg.Dir, err), s.lock.Close())
	}
	s.workers.Go(s.scan)
	s.workers.Go(s.evictor)
	return s, nil
}

// claim takes the directory, which is empty, new or ours, and is on a file system that can do what is needed.
func (s *Store) claim() error {
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return err
	}
	mark := filepath.Join(s.cfg.Dir, "VERSION")
	f, err := os.OpenFile(mark, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return errors.Join(ErrInUse, f.Close())
	}
	s.lock = f
	text, err := os.ReadFile(mark)
	if err == nil && len(text) == 0 {
		var list []os.DirEntry
		if list, err = os.ReadDir(s.cfg.Dir); err == nil && len(list) > 1 {
			err = errors.Join(errors.New("the directory has files that are not of a cache; give it one of its own"), os.Remove(mark))
		} else if err == nil {
			_, err = f.WriteString(versionText)
		}
	} else if err == nil && string(text) != versionText {
		err = fmt.Errorf("the directory has another format (%q); remove it if nothing else uses it", string(text[:min(len(text), 40)]))
	}
	if err == nil {
		err = os.MkdirAll(s.dir, 0o700)
	}
	if err == nil {
		// What is not there now would only show at the first object.
		var t *os.File
		if t, err = s.tmpfile(); err == nil {
			err = t.Close()
		}
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	return nil
}

// tmpfile makes a file without a name.
func (s *Store) tmpfile() (*os.File, error) {
	fd, err := unix.Open(s.dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("O_TMPFILE in %s: %w", s.dir, err)
	}
	return os.NewFile(uintptr(fd), "cache object"), nil
}

// SetLimits changes the limits; see Config.
func (s *Store) SetLimits(limit, floor int64, percent int) {
	s.limit.Store(limit)
	s.floor.Store(floor)
	s.percent.Store(int64(percent))
	s.wake()
}

// Close ends the store. Objects must have been released.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	close(s.quit)
	s.workers.Wait()
	var errs []error
	for {
		s.mu.Lock()
		e := s.idle.pop()
		var o *Object
		if e != nil {
			o, e.obj = e.obj, nil
		}
		s.mu.Unlock()
		if o == nil {
			break
		}
		errs = append(errs, o.close(true))
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

// Ready is closed when all objects are counted.
func (s *Store) Ready() <-chan struct{} { return s.ready }

func (s *Store) path(k key, kind string) string {
	name := k.String()
	return filepath.Join(s.dir, name[:2], name+kind)
}

// ErrClosed says that the store was closed.
var ErrClosed = errors.New("the cache is closed")

// Get gives the object of a file at a version, and throws an older version away. name, which may be nil, tells
// the name of a new object, for people. Nothing is made on disk before the first data comes. Each Get is followed by one Release.
func (s *Store) Get(id ID, v Version, name func() string) (*Object, error) {
	if v.Size > maxSize {
		return nil, fmt.Errorf("a file of %d bytes is too large for the cache", v.Size)
	}
	k := id.key()
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return nil, ErrClosed
		}
		if wait := s.loading[k]; wait != nil {
			s.mu.Unlock()
			<-wait
			continue
		}
		e := s.index[k]
		if e != nil && e.obj != nil && e.obj.Version() == v {
			o := e.obj
			s.take(e, o)
			s.mu.Unlock()
			return o, nil
		}
		if e == nil && s.scanned {
			// Nothing is on disk.
			o := s.newObject(id, v, name)
			e = &entry{key: k}
			s.add(e)
			s.take(e, o)
			s.mu.Unlock()
			return o, nil
		}
		var old *Object
		if e != nil && e.obj != nil {
			old = s.detach(e)
		}
		done := make(chan struct{})
		s.loading[k] = done
		s.mu.Unlock()

		o := s.load(k, id, v, name, old)

		s.mu.Lock()
		delete(s.loading, k)
		close(done)
		if e = s.index[k]; e == nil {
			e = &entry{key: k}
			s.add(e)
		}
		s.account(e, o.bytes.Load())
		s.take(e, o)
		s.mu.Unlock()
		return o, nil
	}
}

// take makes o the open object of e, used by one more, and the most recently used.
//
// +checklocks:s.mu
func (s *Store) take(e *entry, o *Object) {
	if e.obj == nil {
		e.obj, o.entry = o, e
	}
	if o.refs++; o.refs == 1 {
		s.idle.remove(o)
	}
	s.touch(e)
}

// +checklocks:s.mu
func (s *Store) touch(e *entry) {
	e.last = s.cfg.Clock.Now().Unix()
	e.prev.next, e.next.prev = e.next, e.prev
	s.push(e)
}

// +checklocks:s.mu
func (s *Store) push(e *entry) {
	e.next, e.prev = s.lru.next, &s.lru
	e.next.prev, e.prev.next = e, e
}

// +checklocks:s.mu
func (s *Store) add(e *entry) {
	s.index[e.key] = e
	s.push(e)
	e.last = s.cfg.Clock.Now().Unix()
}

// forget takes an entry out; its object, if it is open, is dead from now on and is returned.
//
// +checklocks:s.mu
func (s *Store) forget(e *entry) *Object {
	e.prev.next, e.next.prev = e.next, e.prev
	delete(s.index, e.key)
	s.account(e, 0)
	return s.detach(e)
}

// detach makes the open object of e dead.
//
// +checklocks:s.mu
func (s *Store) detach(e *entry) *Object {
	o := e.obj
	if o == nil {
		return nil
	}
	if o.refs == 0 {
		s.idle.remove(o)
	}
	e.obj = nil
	o.dead.Store(true)
	return o
}

// account says that the object of e takes n bytes.
//
// +checklocks:s.mu
func (s *Store) account(e *entry, n int64) {
	s.charge(e, n-e.bytes.Load())
}

// charge adds to what an object takes.
func (s *Store) charge(e *entry, delta int64) {
	e.bytes.Add(delta)
	s.used.Add(delta)
}

// load opens what is on disk, if it is of this version, or makes a new object. old is the open object of
// another version.
func (s *Store) load(k key, id ID, v Version, name func() string, old *Object) *Object {
	if old != nil {
		old.wipe()
		s.c.replaced.Add(1)
	} else if o, err := s.openFiles(k); err == nil {
		if o.head.id == id && o.head.version == v && !o.head.dirty {
			return o
		}
		o.dead.Store(true)
		if err := o.close(false); err != nil {
			s.log.Warn("cache: close", "err", err)
		}
		s.c.replaced.Add(1)
	} else if !errors.Is(err, os.ErrNotExist) {
		s.log.Warn("cache: an object cannot be used", "object", k.String(), "err", err)
		s.c.rotten.Add(1)
	}
	s.unlink(k)
	return s.newObject(id, v, name)
}

// Find gives the object of a file if it is there at this version, else nil. Each Find that gives one is followed by
// one Release.
func (s *Store) Find(id ID, v Version) *Object {
	o := s.peek(id.key())
	if o != nil && (o.ID() != id || o.Version() != v) {
		o.Release()
		return nil
	}
	return o
}

// peek gives the object of whatever version is there, or nil.
func (s *Store) peek(k key) *Object {
	for {
		s.mu.Lock()
		if wait := s.loading[k]; wait != nil {
			s.mu.Unlock()
			<-wait
			continue
		}
		e := s.index[k]
		if e == nil || s.closed {
			s.mu.Unlock()
			return nil
		}
		if o := e.obj; o != nil {
			s.take(e, o)
			s.mu.Unlock()
			return o
		}
		done := make(chan struct{})
		s.loading[k] = done
		s.mu.Unlock()
		o, err := s.openFiles(k)
		s.mu.Lock()
		delete(s.loading, k)
		close(done)
		if err != nil || o.head.dirty {
			s.mu.Unlock()
			if err == nil {
				err = o.close(false)
			}
			s.log.Debug("cache: an object cannot be opened", "object", k.String(), "err", err)
			return nil
		}
		if s.index[k] == e {
			s.account(e, o.bytes.Load())
			s.take(e, o)
		}
		s.mu.Unlock()
		return o
	}
}

// unlink removes the files of an object, the header first: what has a header has its data.
func (s *Store) unlink(k key) {
	for _, kind := range []string{".m", ".d"} {
		if err := os.Remove(s.path(k, kind)); err != nil && !errors.Is(err, os.ErrNotExist) {
			s.c.failed.Add(1)
			s.log.Warn("cache: cannot remove", "err", err)
		}
		pointUnlink.Hit()
	}
}

func (s *Store) newObject(id ID, v Version, name func() string) *Object {
	var n [8]byte
	_, _ = rand.Read(n[:]) // never fails
	o := &Object{s: s, head: header{id: id, version: v, nonce: binary.LittleEndian.Uint64(n[:]), made: s.cfg.Clock.Now().Unix()}}
	o.name = name
	o.prepare()
	return o
}

// prepare makes what depends on the header.
func (o *Object) prepare() {
	v := o.head.version
	o.version.Store(&v)
	o.sums.Store(newTable(int64(v.Size)))
	o.warm.size((int64(v.Size) + part - 1) / part)
}

// openFiles opens the files of an object.
func (s *Store) openFiles(k key) (*Object, error) {
	meta, err := os.OpenFile(s.path(k, ".m"), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	page := make([]byte, headerSize)
	o := &Object{s: s}
	if _, err = meta.ReadAt(page, 0); err != nil {
		return nil, errors.Join(errHeader, meta.Close())
	}
	if err = o.head.decode(page); err == nil && o.head.id.key() != k {
		err = errHeader // it was copied here
	}
	var data *os.File
	if err == nil {
		data, err = os.OpenFile(s.path(k, ".d"), os.O_RDWR, 0)
		if errors.Is(err, os.ErrNotExist) {
			err = errHeader
		}
	}
	if err != nil {
		return nil, errors.Join(err, meta.Close())
	}
	o.files.Store(&files{meta, data})
	o.bytes.Store(diskBytes(meta) + diskBytes(data))
	o.prepare()
	return o, nil
}

// diskBytes is what a file takes on disk; 0 if that cannot be known.
func diskBytes(f *os.File) int64 {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return 0
	}
	return st.Blocks * 512
}

// Release gives an object back that Get gave.
func (o *Object) Release() {
	s := o.s
	s.mu.Lock()
	o.refs--
	last, dead := o.refs == 0, o.dead.Load()
	var shut []*Object
	if last && !dead {
		s.idle.push(o.entry)
		for s.idle.n > s.cfg.MaxOpen {
			e := s.idle.pop()
			x := e.obj
			e.obj = nil
			shut = append(shut, x)
			if x.files.Load() == nil { // nothing was ever stored
				s.forget(e)
			}
		}
	}
	if last && dead && o.wiped { // else wipe closes it
		shut = append(shut, o)
	}
	s.mu.Unlock()
	for _, x := range shut {
		if err := x.close(!x.dead.Load()); err != nil {
			s.log.Warn("cache: close", "err", err)
		}
	}
}

// entryList is a list of entries whose objects are open and idle; the order is that of becoming idle.
type entryList struct {
	head, tail *Object
	n          int
}

func (l *entryList) push(e *entry) {
	o := e.obj
	o.idleNext, o.idlePrev = l.head, nil
	if l.head != nil {
		l.head.idlePrev = o
	} else {
		l.tail = o
	}
	l.head = o
	o.isIdle = true
	l.n++
}

func (l *entryList) remove(o *Object) {
	if !o.isIdle {
		return
	}
	if o.idlePrev != nil {
		o.idlePrev.idleNext = o.idleNext
	} else {
		l.head = o.idleNext
	}
	if o.idleNext != nil {
		o.idleNext.idlePrev = o.idlePrev
	} else {
		l.tail = o.idlePrev
	}
	o.idleNext, o.idlePrev, o.isIdle = nil, nil, false
	l.n--
}

func (l *entryList) pop() *entry {
	o := l.tail
	if o == nil {
		return nil
	}
	l.remove(o)
	return o.entry
}

func statfs(dir string) (free, whole int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize, nil
}
