package diskcache

import (
	"time"

	"golang.org/x/sys/unix"
)

// Eviction begins at 95 % of the limit and ends at 90 %; the same above the floor.
const (
	beginPart = 95
	endPart   = 90
	// largeObject is from where an object in use loses parts and not all, in bytes.
	largeObject = 64 << 20
	part        = 16 << 20
)

func (s *Store) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// over tells that eviction should begin.
func (s *Store) over() bool {
	limit := s.limit.Load()
	used := s.used.Load()
	if limit > 0 && used >= limit {
		s.full.Store(true)
	}
	return limit > 0 && used > limit/100*beginPart
}

// excess is how many bytes have to go; hard says that nothing may be stored before.
func (s *Store) excess() (n int64, hard bool) {
	used := s.used.Load()
	if limit := s.limit.Load(); limit > 0 && used > limit/100*beginPart {
		n, hard = used-limit/100*endPart, used >= limit
	}
	free, whole, err := s.cfg.Free(s.cfg.Dir)
	if err != nil {
		s.c.failed.Add(1)
		s.log.Warn("cache: free space is not known", "err", err)
		return n, hard
	}
	floor := max(s.floor.Load(), whole/100*s.percent.Load())
	slack := min(floor/20, 1<<30)
	if floor > 0 && free < floor+slack {
		n = max(n, min(floor+2*slack-free, used))
		hard = hard || free < floor
	}
	return n, hard
}

// evictor keeps the store within its limits.
func (s *Store) evictor() {
	tick := time.NewTicker(2 * time.Second) // others fill the file system too
	defer tick.Stop()
	for {
		select {
		case <-s.quit:
			return
		case <-s.kick:
		case <-tick.C:
		}
		s.GC()
	}
}

// GC evicts what is above the limits now, and returns how many bytes went.
func (s *Store) GC() (freed int64) {
	for {
		n, hard := s.excess()
		if n <= 0 {
			s.full.Store(hard)
			return freed
		}
		got := s.evictOne()
		if got < 0 {
			// All that is left is pinned, or the space is taken by others.
			s.full.Store(hard)
			return freed
		}
		freed += got
	}
}

// evictOne evicts what was used least lately; -1 if there is nothing.
func (s *Store) evictOne() int64 {
	s.mu.Lock()
	var e *entry
	for x := s.lru.prev; x != &s.lru; x = x.prev {
		if !s.pins[x.key] && x.bytes.Load() > 0 && s.loading[x.key] == nil {
			e = x
			break
		}
	}
	if e == nil {
		s.mu.Unlock()
		return -1
	}
	if o := e.obj; o != nil && o.refs > 0 && e.bytes.Load() > largeObject {
		o.refs++
		s.mu.Unlock()
		n := o.evictPart()
		o.Release()
		if n > 0 {
			s.c.evictedBytes.Add(uint64(n))
			return n
		}
		s.mu.Lock()
		if s.index[e.key] != e || s.loading[e.key] != nil {
			s.mu.Unlock()
			return 0
		}
	}
	n := e.bytes.Load()
	s.remove(e)
	s.c.evicted.Add(1)
	s.c.evictedBytes.Add(uint64(n))
	return n
}

// remove takes an object out, on disk too. It is called with Store.mu held, and releases it.
//
// +checklocksrelease:s.mu
func (s *Store) remove(e *entry) {
	done := make(chan struct{})
	s.loading[e.key] = done
	o := s.forget(e)
	s.mu.Unlock()
	if o != nil {
		o.wipe()
	}
	s.unlink(e.key)
	s.mu.Lock()
	delete(s.loading, e.key)
	close(done)
	s.mu.Unlock()
}

// evictPart takes away the part of a large object that was read least lately, as far as that is known: the
// hand goes round and spares what was read since it last came by.
func (o *Object) evictPart() (freed int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f, t := o.files.Load(), o.sums.Load()
	if f == nil || o.dead.Load() {
		return 0
	}
	if t == nil {
		o.grow(int64(o.head.version.Size))
		t = o.sums.Load()
	}
	parts := (int64(len(t.pages))*pageSpan + part - 1) / part
	for range 2 * parts {
		i := o.hand % parts
		o.hand++
		if o.warm.spare(i) {
			continue
		}
		first := i * part / BlockSize
		had := o.forget(f, first, first+part/BlockSize)
		if had == 0 {
			continue
		}
		pointPunch.Hit()
		if err := unix.Fallocate(int(f.data.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, i*part, part); err != nil {
			o.s.c.failed.Add(1)
			o.s.log.Warn("cache: punch a hole", "err", err)
		}
		o.charge(-had * BlockSize)
		return had * BlockSize
	}
	return 0
}
