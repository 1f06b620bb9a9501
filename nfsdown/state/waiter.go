package state

import (
	"time"

	"holdfast/fs"
)

// waiter is a denied request of a blocking type, RFC 8881 9.6: a place in the file's queue. The
// client must ask again; when it is its turn it is told by CB_NOTIFY_LOCK, and the range is kept
// for it for WaiterHold.
type waiter struct {
	client   *Client
	owner    fs.Owner
	open     fs.Owner // the open-owner: the waiter goes with the open
	r        fs.Range
	t        fs.LockType
	since    time.Time
	asked    time.Time // when it asked last
	notified time.Time // zero: not its turn yet
	upstream bool      // the backend denied it, and tells when to try again
	queued   bool      // it has, or had, a place in the backend's queue
}

// patience is how long a waiter is remembered that does not ask again.
func (s *Server) patience() time.Duration { return max(2*s.cfg.Lease, 90*time.Second) }

// enqueue gives a denied request its place; one that asks again keeps it. f.mu is held.
func (s *Server) enqueue(f *file, c *Client, l *lock, r fs.Range, t fs.LockType, upstream bool) {
	now, owner := s.now(), l.owner
	for _, w := range f.waiters {
		if w.owner == owner && w.r == r {
			w.client, w.open, w.t, w.asked, w.notified, w.upstream = c, l.open.owner, t, now, time.Time{}, upstream
			w.queued = w.queued || upstream
			return
		}
	}
	f.waiters = append(f.waiters, &waiter{client: c, owner: owner, open: l.open.owner, queued: upstream, r: r, t: t, since: now, asked: now, upstream: upstream})
	s.waitMu.Lock()
	s.waiting[f] = struct{}{}
	s.waitMu.Unlock()
}

// ahead is a waiter of another owner for whom the range is kept: it was told after since. f.mu is held.
func (f *file) ahead(owner fs.Owner, r fs.Range, t fs.LockType, since time.Time) *waiter {
	for _, w := range f.waiters {
		if w.owner != owner && !w.notified.IsZero() && w.notified.After(since) && w.r.Overlaps(r) && w.t.Conflicts(t) {
			return w
		}
	}
	return nil
}

// wake tells those whose turn it is, in their order. f.mu is held.
func (s *Server) wake(f *file, eff *Effects) {
	now := s.now()
	for i, w := range f.waiters {
		if w.upstream || !w.notified.IsZero() || f.blocked(w, f.waiters[:i]) {
			continue
		}
		if w.client.v40 != nil && now.After(w.asked.Add(s.cfg.Lease)) {
			continue // it cannot be told, and asks no more: RFC 7530 9.4
		}
		w.notified = now
		eff.Notify = append(eff.Notify, LockNotice{w.client, w.owner.Owner, f.handle})
	}
}

// blocked tells whether something stands in w's way, or somebody who came before. f.mu is held.
func (f *file) blocked(w *waiter, before []*waiter) bool {
	for _, b := range before {
		if b.owner != w.owner && b.r.Overlaps(w.r) && b.t.Conflicts(w.t) {
			return true
		}
	}
	for _, l := range f.locks {
		if l.owner == w.owner {
			continue
		}
		for _, set := range []fs.RangeSet{l.live, l.gone} {
			if _, ok := set.Conflict(w.r, w.t); ok {
				return true
			}
		}
		for _, h := range l.held {
			if _, ok := h.set.Conflict(w.r, w.t); ok {
				return true
			}
		}
		if l.pend != nil && l.pend.r.Overlaps(w.r) && l.pend.t.Conflicts(w.t) {
			return true
		}
	}
	return false
}

// dropWaiters takes waiters out of the queue. f.mu is held.
func (s *Server) dropWaiters(f *file, gone func(*waiter) bool, eff *Effects) {
	kept := f.waiters[:0]
	for _, w := range f.waiters {
		if !gone(w) {
			kept = append(kept, w)
			continue
		}
		if w.queued {
			eff.Cancel = append(eff.Cancel, WaitCancel{w.owner, f.handle, w.r})
		}
	}
	clear(f.waiters[len(kept):])
	f.waiters = kept
	if len(kept) == 0 {
		s.waitMu.Lock()
		delete(s.waiting, f)
		s.waitMu.Unlock()
	}
}

// LockAvailable is the backend's news that a denied lock may be free now (fs.Listener).
func (s *Server) LockAvailable(file fs.Handle, owner fs.Owner, r fs.Range) *Effects {
	eff := &Effects{}
	f := s.files.peek(file)
	if f == nil {
		return eff
	}
	defer s.files.put(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.waiters {
		if w.upstream && w.owner == owner && w.r.Overlaps(r) {
			w.notified = s.now()
			eff.Notify = append(eff.Notify, LockNotice{w.client, owner.Owner, file})
		}
	}
	return eff
}

// expireWaiters drops those who were told and did not come, and those who ask no more; whoever is
// next is told.
func (s *Server) expireWaiters(eff *Effects) {
	s.waitMu.Lock()
	list := make([]*file, 0, len(s.waiting))
	for f := range s.waiting {
		list = append(list, f)
	}
	s.waitMu.Unlock()
	now := s.now()
	for _, f := range list {
		f.mu.Lock()
		s.dropWaiters(f, func(w *waiter) bool {
			told := !w.notified.IsZero() && !w.upstream && now.After(w.notified.Add(s.cfg.WaiterHold))
			return told || now.After(w.asked.Add(s.patience()))
		}, eff)
		s.wake(f, eff)
		f.mu.Unlock()
		s.files.drop(f)
	}
}
