package diskcache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// scan counts what is on disk, and removes what a crash left half made. Objects are usable meanwhile.
func (s *Store) scan() {
	defer close(s.ready)
	type found struct {
		k     key
		bytes int64
		last  int64
	}
	var list []found
	err := func() error {
		dirs, err := os.ReadDir(s.dir)
		if err != nil {
			return err
		}
		for _, d := range dirs {
			names, err := readNames(filepath.Join(s.dir, d.Name()))
			if err != nil {
				return err
			}
			for name, isMeta := range names {
				select {
				case <-s.quit:
					return context.Canceled
				default:
				}
				k, ok := parseKey(name)
				if !ok {
					continue
				}
				var m, dt unix.Stat_t
				if !isMeta {
					s.mu.Lock()
					// Data without a header: a crash came between. Whoever makes the object now may be
					// between the same two steps, and then it has an entry.
					lost := s.index[k] == nil && s.loading[k] == nil
					if lost && unix.Stat(s.path(k, ".m"), &m) != nil {
						_ = os.Remove(s.path(k, ".d"))
					}
					s.mu.Unlock()
					continue
				}
				if unix.Stat(s.path(k, ".m"), &m) != nil {
					continue
				}
				if unix.Stat(s.path(k, ".d"), &dt) != nil {
					dt.Blocks = 0
				}
				list = append(list, found{k, (m.Blocks + dt.Blocks) * 512, m.Mtim.Sec})
			}
		}
		return nil
	}()
	slices.SortFunc(list, func(a, b found) int { return int(min(max(b.last-a.last, -1), 1)) })
	s.mu.Lock()
	for _, f := range list {
		if s.index[f.k] != nil || s.loading[f.k] != nil {
			continue
		}
		e := &entry{key: f.k, last: f.last}
		s.index[f.k] = e
		// Older than all that is there.
		e.next, e.prev = &s.lru, s.lru.prev
		e.next.prev, e.prev.next = e, e
		s.charge(e, f.bytes)
	}
	s.scanErr = err
	s.scanned = err == nil
	s.mu.Unlock()
	if err != nil && !errors.Is(err, context.Canceled) {
		s.log.Error("cache: the directory cannot be read; what is there is used, and not counted", "err", err)
	}
	s.wake()
}

// readPins reads the list of pinned objects. It is one of its own, so that not each header has to be read.
func (s *Store) readPins() error {
	text, err := os.ReadFile(filepath.Join(s.cfg.Dir, "PINNED"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, line := range strings.Fields(string(text)) {
		if k, ok := parseKey(line); ok {
			s.pins[k] = true
		}
	}
	return err
}

// readNames lists the objects in a directory; the value tells whether there is a header.
func readNames(dir string) (map[string]bool, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	names := make(map[string]bool, len(all)/2)
	for _, n := range all {
		if base, ok := strings.CutSuffix(n, ".m"); ok {
			names[base] = true
		} else if base, ok := strings.CutSuffix(n, ".d"); ok && !names[base] {
			names[base] = false
		}
	}
	return names, nil
}

// Usage is how full the store is, and what happened since it was opened.
type Usage struct {
	Dir      string `json:"dir"`
	Ready    bool   `json:"ready"` // all objects are counted
	Objects  int    `json:"objects"`
	Open     int    `json:"open"` // idle, with descriptors
	Bytes    int64  `json:"bytes"`
	Pinned   int64  `json:"pinned_bytes"`
	Limit    int64  `json:"limit_bytes"` // 0: none
	Floor    int64  `json:"floor_bytes"`
	Free     int64  `json:"free_bytes"` // of the file system
	Full     bool   `json:"full"`       // nothing is stored at the moment
	Oldest   int64  `json:"oldest_seconds"`
	Stored   uint64 `json:"stored_bytes"`
	Evicted  uint64 `json:"evicted_objects"`
	Freed    uint64 `json:"evicted_bytes"`
	Rotten   uint64 `json:"rotten_blocks"`
	NoRoom   uint64 `json:"not_stored"` // because there was no room
	Failed   uint64 `json:"disk_errors"`
	Dropped  uint64 `json:"dropped_objects"`
	Replaced uint64 `json:"replaced_objects"` // by another version
}

// Usage tells how full the store is.
func (s *Store) Usage() Usage {
	free, whole, err := s.cfg.Free(s.cfg.Dir)
	if err != nil {
		free = -1
	}
	u := Usage{
		Dir: s.cfg.Dir, Bytes: s.used.Load(), Limit: max(s.limit.Load(), 0), Floor: max(s.floor.Load(), whole/100*s.percent.Load()),
		Free: free, Full: s.full.Load(),
		Stored: s.c.stored.Load(), Evicted: s.c.evicted.Load(), Freed: s.c.evictedBytes.Load(), Rotten: s.c.rotten.Load(),
		NoRoom: s.c.noRoom.Load(), Failed: s.c.failed.Load(), Dropped: s.c.dropped.Load(), Replaced: s.c.replaced.Load(),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u.Ready, u.Objects, u.Open = s.scanned, len(s.index), s.idle.n
	if old := s.lru.prev; old != &s.lru {
		u.Oldest = max(s.cfg.Clock.Now().Unix()-old.last, 0)
	}
	for k := range s.pins {
		if e := s.index[k]; e != nil {
			u.Pinned += e.bytes.Load()
		}
	}
	return u
}

// Info is an object as `cache ls` shows it.
type Info struct {
	Key      string    `json:"key"`
	ID       ID        `json:"-"`
	FileID   uint64    `json:"fileid"`
	Name     string    `json:"name,omitempty"`
	Size     uint64    `json:"size"`
	Bytes    int64     `json:"bytes"` // on disk
	Change   uint64    `json:"change"`
	LastUsed time.Time `json:"last_used"`
	Pinned   bool      `json:"pinned"`
	Dirty    bool      `json:"dirty"` // own writes that the origin may not have on disk yet
}

// List calls f with each object, the most recently used first, until it returns false.
func (s *Store) List(ctx context.Context, f func(Info) bool) error {
	type item struct {
		k      key
		bytes  int64
		last   int64
		pinned bool
	}
	var list []item
	s.mu.Lock()
	for e := s.lru.next; e != &s.lru; e = e.next {
		list = append(list, item{e.key, e.bytes.Load(), e.last, s.pins[e.key]})
	}
	s.mu.Unlock()
	for _, it := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		var h header
		if s.readHeader(it.k, &h) != nil {
			continue
		}
		if !f(Info{it.k.String(), h.id, h.id.FileID, h.name, h.version.Size, it.bytes, h.version.Change, time.Unix(it.last, 0).UTC(), it.pinned, h.dirty}) {
			return nil
		}
	}
	return nil
}

func (s *Store) readHeader(k key, h *header) error {
	f, err := os.Open(s.path(k, ".m"))
	if err != nil {
		return err
	}
	defer f.Close()
	page := make([]byte, headerSize)
	if _, err := f.ReadAt(page, 0); err != nil {
		return err
	}
	return h.decode(page)
}

// Drop throws an object away, and tells whether there was one.
func (s *Store) Drop(id ID) bool { return s.drop(id.key()) }

func (s *Store) drop(k key) bool {
	for {
		s.mu.Lock()
		if wait := s.loading[k]; wait != nil {
			s.mu.Unlock()
			<-wait
			continue
		}
		e := s.index[k]
		if e == nil && s.scanned {
			s.mu.Unlock()
			return false
		}
		if e == nil {
			e = &entry{key: k}
			s.add(e)
		}
		had := e.bytes.Load() > 0
		s.remove(e)
		s.c.dropped.Add(1)
		return had
	}
}

// DropAll throws everything away, and returns the number of objects.
func (s *Store) DropAll() (n int) {
	s.mu.Lock()
	keys := make([]key, 0, len(s.index))
	for k := range s.index {
		keys = append(keys, k)
	}
	s.mu.Unlock()
	for _, k := range keys {
		if s.drop(k) {
			n++
		}
	}
	return n
}

// Pin keeps objects from being evicted, also over versions and restarts and before there is data; or
// gives them free again.
func (s *Store) Pin(on bool, ids ...ID) error {
	s.pinMu.Lock()
	defer s.pinMu.Unlock()
	s.mu.Lock()
	for _, id := range ids {
		if on {
			s.pins[id.key()] = true
		} else {
			delete(s.pins, id.key())
		}
	}
	lines := make([]string, 0, len(s.pins))
	for p := range s.pins {
		lines = append(lines, p.String())
	}
	s.mu.Unlock()
	slices.Sort(lines)
	path := filepath.Join(s.cfg.Dir, "PINNED")
	if err := os.WriteFile(path+".new", []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Checked is what Verify found.
type Checked struct {
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"` // that were there
	Rotten  int64 `json:"rotten_blocks"`
	Broken  int   `json:"broken_objects"` // whose header was not good; they are removed
}

// Verify reads everything and compares it with its checksums; what does not match is forgotten. progress
// is called after each object.
func (s *Store) Verify(ctx context.Context, progress func(Checked)) (Checked, error) {
	var c Checked
	s.mu.Lock()
	keys := make([]key, 0, len(s.index))
	for k, e := range s.index {
		if e.bytes.Load() > 0 {
			keys = append(keys, k)
		}
	}
	s.mu.Unlock()
	buf := make([]byte, 256*BlockSize)
	for _, k := range keys {
		if err := ctx.Err(); err != nil {
			return c, err
		}
		o := s.peek(k)
		if o == nil {
			var h header
			if err := s.readHeader(k, &h); err != nil && !errors.Is(err, os.ErrNotExist) {
				c.Broken++
				s.drop(k)
			}
			continue // evicted meanwhile, or not usable: dirty
		}
		before := s.c.rotten.Load()
		size := int64(o.Version().Size)
		for off := int64(0); off < size; {
			n := int64(o.ReadAt(buf[:min(int64(len(buf)), size-off)], off, 0))
			c.Bytes += n
			if off += n; off >= size {
				break
			}
			start, stop := o.NextMissing(off, size, 0)
			if start == off {
				off = stop
			}
		}
		o.Release()
		c.Objects++
		c.Rotten += int64(s.c.rotten.Load() - before)
		if progress != nil {
			progress(c)
		}
	}
	return c, nil
}
