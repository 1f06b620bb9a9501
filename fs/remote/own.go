package remote

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"holdfast/fs"
	"holdfast/fs/remote/diskcache"
	"holdfast/internal/nfs4"
	"holdfast/nfsup"
)

// Own changes and the data cache. What the answer to a WRITE says is not enough to tell which version the
// data is of now: somebody else may have written between the WRITE and the GETATTR beside it. Two things are:
//
//   - The origin counts changes (change_attr_type, RFC 7862 12.2.3), and has counted just ours.
//   - We held one write delegation of the file from before the first of them was sent until after the last was
//     answered (RFC 8881 10.4), so nobody else could write; and no later change can have the change attribute that
//     ours led to, because the origin says that it grows with each.
//
// Then what was written is put into the cache, and what was there goes along to the new change attribute. Else
// all of it is of an old version, and is fetched again.

// ownWrites is a row of own changes of a file that overlap in time.
type ownWrites struct {
	running int
	ok      bool
	counts  bool   // the origin counts changes
	alone   uint64 // the write delegation that was held when the row began, 0 for none
	epoch   int64  // dataCache.rewrites when it began
	base    uint64 // the change attribute before
	count   uint64
	after   uint64
	size    uint64
	spans   []extent // that are under way
	obj     *diskcache.Object
}

type extent struct{ start, stop uint64 }

func (e extent) overlaps(x extent) bool { return e.start < x.stop && x.start < e.stop }

// An ownVersion is the version that own changes have led to. While the write delegation is held the file has no
// other data.
type ownVersion struct {
	version diskcache.Version
	alone   uint64 // 0: not known
}

// looseWrites are own writes that the origin may not have on disk. The mutex is the innermost of all.
type looseWrites struct {
	mu sync.Mutex
	// How many were answered, and how many of them a COMMIT has confirmed.
	// +checklocks:mu
	done, synced uint64
	// +checklocks:mu
	verf fs.WriteVerifier
}

// add counts a write that is about to be kept. false: those before may be lost (RFC 8881 18.32.3).
func (l *looseWrites) add(verf fs.WriteVerifier) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	same := l.done == l.synced || l.verf == verf
	if !same {
		l.synced = l.done // nothing of them will be kept
	}
	l.done, l.verf = l.done+1, verf
	return same
}

// confirm takes in that a COMMIT has confirmed the first n; false likewise.
func (l *looseWrites) confirm(n uint64, verf fs.WriteVerifier) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done != l.synced && l.verf != verf {
		l.synced = l.done
		return false
	}
	l.synced = max(l.synced, n)
	return true
}

func (l *looseWrites) answered() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.done
}

// durable tells that the origin has all on disk.
func (l *looseWrites) durable() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.done == l.synced
}

// written is what a WRITE has written, and how.
type written struct {
	data  []byte
	loose bool // the origin may not have it on disk
	verf  fs.WriteVerifier
}

// An ownWrite is one change of a row.
type ownWrite struct {
	f    *dataFile // nil: nobody knows which file it is, so that it may be any
	span extent
	data bool // it changes data
}

// beginWrite says that n bytes are about to be written at off.
func (r *Remote) beginWrite(h fs.Handle, fh nfs4.FH, off uint64, n int) *ownWrite {
	return r.beginOwn(h, fh, extent{off, off + uint64(n)}, true)
}

// beginTouch says that attributes are about to be changed, and no data.
func (r *Remote) beginTouch(h fs.Handle, fh nfs4.FH) *ownWrite {
	return r.beginOwn(h, fh, extent{}, false)
}

func (r *Remote) beginOwn(h fs.Handle, fh nfs4.FH, span extent, data bool) *ownWrite {
	if r.data == nil {
		return nil
	}
	a := r.cache.lastAttr(h)
	if a == nil || a.Type != fs.Regular {
		if data {
			return r.beginRewrite(h, fh)
		}
		return nil
	}
	alone, counts := r.ownOnly(h, fh, a)
	f := r.data.useIf(h, a, fh, data && (alone != 0 || counts))
	if f == nil {
		return nil // nothing of it was read
	}
	f.writes.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	w := &f.own
	if w.running == 0 {
		r.beginRow(f, a, alone, counts)
	}
	w.running++
	// Two of them at one place: nobody knows which came first.
	if data && span.start == span.stop || slices.ContainsFunc(w.spans, span.overlaps) {
		w.ok = false
	}
	if data {
		w.spans = append(w.spans, span)
	}
	return &ownWrite{f: f, span: span, data: data}
}

// ownOnly tells what can show that a file had own changes only.
func (r *Remote) ownOnly(h fs.Handle, fh nfs4.FH, a *fs.Attr) (alone uint64, counts bool) {
	if caps := r.caps.get(a.FSID); caps != nil && caps.info.Monotonic {
		alone, counts = r.alone(h, fh), caps.counter
	}
	return alone, counts
}

// beginRow begins a row of changes.
//
// +checklocks:f.mu
func (r *Remote) beginRow(f *dataFile, a *fs.Attr, alone uint64, counts bool) {
	kept := f.kept
	f.own, f.kept = ownWrites{}, ownVersion{}
	switch {
	case alone == 0 || f.torn:
		alone = 0
	case kept.alone == alone:
		// What the cache of attributes has may be older: answers come in another order than they were made in.
		a = &fs.Attr{Change: kept.version.Change, Size: kept.version.Size}
	default:
		if exact := r.cache.undoubted(f.handle); exact != nil {
			a = exact
		} else {
			alone = 0
		}
	}
	epoch := r.data.rewrites.Load()
	if alone == 0 && !counts || r.data.rewriting.Load() > 0 {
		return
	}
	v := diskcache.Version{Change: a.Change, Size: a.Size}
	if obj, err := r.data.store.Get(f.id, v, r.namer(f.handle)); err == nil {
		f.own = ownWrites{ok: true, counts: counts, alone: alone, epoch: epoch, base: v.Change, after: v.Change, size: v.Size, obj: obj}
	}
}

// beginRewrite says that the data of a file is about to be changed otherwise than by WRITE.
func (r *Remote) beginRewrite(h fs.Handle, fh nfs4.FH) *ownWrite {
	if r.data == nil {
		return nil
	}
	a := r.cache.lastAttr(h)
	if a == nil {
		return r.data.beginAny()
	}
	f := r.data.use(h, a, fh)
	f.writes.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.own.running++
	f.own.ok, f.kept = false, ownVersion{}
	return &ownWrite{f: f, data: true}
}

// beginAny says that the data of some file is about to be changed.
func (d *dataCache) beginAny() *ownWrite {
	d.rewriting.Add(1)
	d.rewrites.Add(1)
	return &ownWrite{}
}

// beginTruncate says that an OPEN is about to be sent that may cut what a name leads to. done is told which
// file it was, empty if that is not known.
func (r *Remote) beginTruncate(ctx context.Context, req *fs.OpenRequest) (done func(file fs.Handle, fh nfs4.FH, err error)) {
	if r.data == nil || req.Create != fs.Unchecked || req.Attr.Size == nil {
		return func(fs.Handle, nfs4.FH, error) {}
	}
	var own *ownWrite
	child, known := r.cache.hintOf(req.Dir, req.Name)
	if known && child != "" {
		if fh, err := r.resolve(ctx, child); err == nil {
			own = r.beginRewrite(child, fh)
		} else {
			known = false
		}
	}
	if !known {
		own = r.data.beginAny()
	}
	return func(file fs.Handle, fh nfs4.FH, err error) {
		if file != "" && (file != child || !known) {
			r.endWrite(r.beginRewrite(file, fh), nil, nil, err)
		}
		r.endWrite(own, nil, nil, err)
	}
}

// endWrite says what became of a change: data was written, if it was a WRITE, and attr came after it; nil if
// that is not known. err is that of the request.
func (r *Remote) endWrite(o *ownWrite, out *written, attr *fs.Attr, err error) {
	if o == nil {
		return
	}
	d, f := r.data, o.f
	if f == nil {
		d.rewriting.Add(-1)
		return
	}
	defer d.unuse(f)
	f.mu.Lock()
	obj, ok := f.own.obj, f.own.ok && attr != nil
	f.mu.Unlock()
	if ok && out != nil && out.loose {
		ok = f.loose.add(out.verf)
	}
	if ok && out != nil {
		f.storing.Lock()
		ok = obj.Overwrite(out.data, int64(o.span.start)) == nil
		f.storing.Unlock()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	w := &f.own
	w.running--
	if i := slices.Index(w.spans, o.span); i >= 0 {
		w.spans = slices.Delete(w.spans, i, i+1) // what is sent from now on comes after it
	}
	w.ok = w.ok && (ok || refused(err) && errOp(err) <= 2) // or it was not done at all
	if o.data && err != nil && !refused(err) && !errors.Is(err, nfsup.ErrNoState) {
		f.torn = true // it may still be done, nobody knows when
	}
	if attr != nil {
		w.count++
		if attr.Change > w.after || attr.Change == w.after && attr.Size > w.size {
			w.after, w.size = attr.Change, attr.Size
		}
	}
	if w.running == 0 {
		r.endRow(f)
	}
}

// endRow ends a row of changes.
//
// +checklocks:f.mu
func (r *Remote) endRow(f *dataFile) {
	d, last := r.data, f.own
	f.own = ownWrites{}
	if last.obj == nil {
		return
	}
	defer last.obj.Release()
	alone := last.alone
	if f.torn || alone != 0 && r.deleg.WriteDelegation(f.fh) != alone {
		alone = 0
	}
	ours := alone != 0 || last.counts && last.after == last.base+last.count
	v := diskcache.Version{Change: last.after, Size: last.size}
	// The mutex is held over a write of one page to the local disk: no reader may come between.
	if last.ok && ours && d.rewrites.Load() == last.epoch && last.obj.Advance(v) == nil {
		f.kept = ownVersion{v, alone}
		f.unsettled.Store(true)
		d.c.ownKept.Add(1)
		return
	}
	d.c.ownDropped.Add(1)
	d.store.Drop(f.id)
}

// carry takes what own changes have led to along to the version of a reader, if the change attribute has moved
// without the data, as it does where an origin does not know yet whether a change follows within the same tick of
// its clock.
func (r *Remote) carry(f *dataFile, v *validity) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := &f.kept
	to := v.version()
	if k.alone == 0 || f.own.running > 0 || f.torn || to.Change <= k.version.Change || to.Size != k.version.Size || r.deleg.WriteDelegation(f.fh) != k.alone {
		return
	}
	obj := r.data.store.Find(f.id, k.version)
	if obj == nil {
		return
	}
	defer obj.Release()
	if err := obj.Advance(to); err != nil {
		r.log.Debug("own writes are not kept", "err", err)
		return
	}
	k.version = to
	f.unsettled.Store(true)
}

// looseBefore is how many own writes a COMMIT that is about to be sent will confirm.
func (r *Remote) looseBefore(h fs.Handle) uint64 {
	if r.data == nil {
		return 0
	}
	f := r.data.find(h)
	if f == nil {
		return 0
	}
	return f.loose.answered()
}

// committed says that the origin has confirmed to have so many own writes on disk, and with which verifier.
func (r *Remote) committed(h fs.Handle, n uint64, verf fs.WriteVerifier) {
	if r.data == nil {
		return
	}
	f := r.data.find(h)
	if f == nil {
		return
	}
	if !f.loose.confirm(n, verf) {
		// Its clients see that too, and write again; until then the origin may give back what was there before.
		r.data.forget(f)
		return
	}
	r.settleWrites(h)
}

// settleWrites makes kept own writes usable after a restart, once the origin has all of them on disk.
func (r *Remote) settleWrites(h fs.Handle) {
	d := r.data
	if d == nil {
		return
	}
	f := d.find(h)
	if f == nil || !f.unsettled.Load() || !f.loose.durable() {
		return
	}
	f.mu.Lock()
	v := f.kept.version
	f.unsettled.Store(false)
	f.mu.Unlock()
	obj := d.store.Find(f.id, v)
	if obj == nil {
		return
	}
	r.fetching.Add(1)
	go func() {
		defer r.fetching.Done()
		defer obj.Release()
		if err := obj.Settle(f.loose.durable); err != nil {
			r.log.Debug("own writes are not kept over a restart", "err", err)
		}
	}()
}

// forget takes everything of a file out of the cache.
func (d *dataCache) forget(f *dataFile) {
	f.mu.Lock()
	f.own.ok, f.kept = false, ownVersion{}
	f.mu.Unlock()
	f.unsettled.Store(false)
	d.store.Drop(f.id)
}

// dropUnsettled forgets own writes that the origin has not confirmed to have on disk. It has restarted: it
// may have lost them, and come to the same change attribute again by other ones.
func (d *dataCache) dropUnsettled() {
	d.mu.Lock()
	list := slices.Collect(maps.Values(d.files))
	d.mu.Unlock()
	for _, f := range list {
		f.mu.Lock()
		loose := f.unsettled.Load() || f.own.running > 0
		f.mu.Unlock()
		if loose {
			d.forget(f)
		}
	}
}
