package remote

import (
	"slices"

	"holdfast/fs"
	"holdfast/fs/remote/diskcache"
)

// ownWrites is a row of own writes of a file that overlap in time. It is known to be alone if the origin
// counts changes (change_attr_type, RFC 7862 12.2.3) and has counted just these: then the cached data goes
// along to the new change attribute. Else all of it is of an old version, and is fetched again.
type ownWrites struct {
	running int
	ok      bool
	base    uint64 // the change attribute before
	count   uint64
	after   uint64
	size    uint64
	spans   []extent // that are under way or done
	obj     *diskcache.Object
}

type extent struct{ start, stop uint64 }

// An ownWrite is one of them.
type ownWrite struct {
	f   *dataFile
	off uint64
}

// beginWrite says that data is about to be written, or n is 0 for another change of the data.
func (r *Remote) beginWrite(h fs.Handle, off uint64, n int) *ownWrite {
	d := r.data
	if d == nil {
		return nil
	}
	d.mu.Lock()
	f := d.files[h]
	if f != nil {
		f.users++
	}
	d.mu.Unlock()
	if f == nil {
		return nil // nothing of it was read
	}
	f.writes.Add(1)
	attr := r.cache.lastAttr(h)
	f.mu.Lock()
	defer f.mu.Unlock()
	w := &f.own
	if w.running == 0 {
		*w = ownWrites{}
		if attr != nil && n > 0 && r.countsChanges(attr) {
			if obj, err := d.store.Get(f.id, diskcache.Version{Change: attr.Change, Size: attr.Size}, nil); err == nil {
				*w = ownWrites{ok: true, base: attr.Change, obj: obj}
			}
		}
	}
	w.running++
	span := extent{off, off + uint64(n)}
	// Two of them at one place: nobody knows which came first.
	if n == 0 || len(w.spans) > 256 || slices.ContainsFunc(w.spans, func(e extent) bool { return e.start < span.stop && span.start < e.stop }) {
		w.ok = false
	}
	w.spans = append(w.spans, span)
	return &ownWrite{f, off}
}

func (r *Remote) countsChanges(a *fs.Attr) bool {
	caps := r.caps.get(a.FSID)
	return caps != nil && caps.counter
}

// endWrite says what became of it: data was written, and attr came after it; nil if that is not known.
func (r *Remote) endWrite(o *ownWrite, data []byte, attr *fs.Attr) {
	if o == nil {
		return
	}
	d, f := r.data, o.f
	defer d.unuse(f)
	w := &f.own
	f.mu.Lock()
	obj, ok := w.obj, w.ok && attr != nil
	f.mu.Unlock()
	if ok {
		f.storing.Lock()
		ok = obj.Overwrite(data, int64(o.off)) == nil
		f.storing.Unlock()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	w.running--
	w.ok = w.ok && ok
	if attr != nil {
		w.count++
		if attr.Change > w.after {
			w.after, w.size = attr.Change, attr.Size
		}
	}
	if w.running > 0 {
		return
	}
	last := *w
	*w = ownWrites{}
	if last.obj == nil {
		return
	}
	defer last.obj.Release()
	// The mutex is held over a write of one page to the local disk: no reader may come between.
	if last.ok && last.after == last.base+last.count && last.obj.Advance(diskcache.Version{Change: last.after, Size: last.size}) == nil {
		f.unsettled.Store(true)
		d.c.ownKept.Add(1)
		return
	}
	d.c.ownDropped.Add(1)
	d.store.Drop(f.id)
}

// settleWrites makes kept own writes usable after a restart, once the origin has them on disk.
func (r *Remote) settleWrites(h fs.Handle) {
	d := r.data
	attr := r.cache.lastAttr(h)
	if d == nil || attr == nil || !r.countsChanges(attr) {
		return
	}
	d.mu.Lock()
	f := d.files[h]
	d.mu.Unlock()
	if f == nil {
		return
	}
	obj, err := d.store.Get(f.id, diskcache.Version{Change: attr.Change, Size: attr.Size}, nil)
	if err != nil {
		return
	}
	f.unsettled.Store(false)
	r.fetching.Add(1)
	go func() {
		defer r.fetching.Done()
		defer obj.Release()
		if err := obj.Settle(); err != nil {
			r.log.Debug("own writes are not kept over a restart", "err", err)
		}
	}()
}

// dropUnsettled forgets own writes that the origin has not confirmed to have on disk. It has restarted: it
// may have lost them, and come to the same change attribute again by other ones.
func (d *dataCache) dropUnsettled() {
	d.mu.Lock()
	var list []diskcache.ID
	for _, f := range d.files {
		if f.unsettled.Swap(false) {
			list = append(list, f.id)
		}
	}
	d.mu.Unlock()
	for _, id := range list {
		d.store.Drop(id)
	}
}
