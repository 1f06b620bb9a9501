//go:build linux

package local

import (
	"sync"
	"time"

	"holdfast/fs"
)

// A wait is a lock that was denied to an owner who would wait. Locks of our own owners say when they
// end. Those of programs on this host do not, and a thread blocked in F_OFD_SETLKW for each of them
// would have no bound: so they are looked at, every pollFirst at first, up to every pollLast.
//
// A wait ends when it was announced; who is denied again waits again.
type wait struct {
	owner fs.Owner
	r     fs.Range
	t     fs.LockType
	poll  stopper       // guarded by fileState.mu; nil if none is set
	delay time.Duration // guarded by fileState.mu
	ended bool          // guarded by fileState.mu
}

const (
	pollFirst = 20 * time.Millisecond
	pollLast  = time.Second
	// maxWaits bounds how many may wait. Others are denied and not told later, which RFC 8881 18.16.3
	// (OPEN4_RESULT_MAY_NOTIFY_LOCK: "may") allows.
	maxWaits = 1 << 16
)

// polls counts waits.
type polls struct {
	mu    sync.Mutex
	n     int  // guarded by mu
	ended bool // guarded by mu
}

func (p *polls) add() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended || p.n >= maxWaits {
		return false
	}
	p.n++
	return true
}

func (p *polls) remove() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n--
}

func (p *polls) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
}

// await puts a denied request into the queue. The file is in our turn, so nothing was unlocked since.
func (b *Backend) await(f *fileState, req *fs.LockRequest, why *fs.DeniedError) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var w *wait
	for _, o := range f.waits {
		if o.owner == req.LockOwner && o.r == req.Range && o.t == req.Type {
			w = o // keeps its place
		}
	}
	if w == nil {
		if !b.polls.add() {
			return
		}
		w = &wait{owner: req.LockOwner, r: req.Range, t: req.Type, delay: pollFirst}
		f.waits = append(f.waits, w)
	}
	if why.Owner.IsZero() {
		b.schedulePoll(f, w)
	}
}

// schedulePoll is called with f.mu held.
func (b *Backend) schedulePoll(f *fileState, w *wait) {
	if w.poll != nil || w.ended {
		return
	}
	w.poll = b.clock.AfterFunc(w.delay, func() { b.pollWait(f.h, w) })
	w.delay = min(2*w.delay, pollLast)
}

// pollWait looks whether the lock is free by now.
func (b *Backend) pollWait(h fs.Handle, w *wait) {
	if b.enter() != nil {
		return
	}
	defer b.leave()
	f := b.states.use(h)
	defer b.states.done(f)
	free, looked := false, false
	select {
	case f.turn <- struct{}{}:
		denied, err := b.test(f, w.owner, w.r, w.t)
		free = err == nil && denied == nil
		looked = denied == nil || denied.Owner.IsZero()
		f.give()
	default: // somebody is at it: next time
		looked = true
	}
	f.mu.Lock()
	w.poll = nil
	var told []*wait
	switch {
	case w.ended:
	case free:
		f.waits = without(f.waits, w)
		f.end(w, &b.polls)
		told = []*wait{w}
	case looked:
		b.schedulePoll(f, w)
	}
	f.mu.Unlock()
	b.announce(h, told)
}

// end marks a wait that was taken out of the queue. f.mu is held.
func (f *fileState) end(w *wait, p *polls) {
	w.ended = true
	if w.poll != nil {
		w.poll.Stop()
		w.poll = nil
	}
	p.remove()
}

// takeWaits takes out all whom a change of r may let in. f.mu is held.
func (f *fileState) takeWaits(r fs.Range, p *polls) []*wait {
	return f.filter(p, func(w *wait) bool { return w.r.Overlaps(r) })
}

// dropWaits takes out what an owner waited for in r. f.mu is held.
func (f *fileState) dropWaits(owner fs.Owner, r fs.Range, p *polls) {
	f.filter(p, func(w *wait) bool { return w.owner == owner && r.Contains(w.r) })
}

func (f *fileState) filter(p *polls, out func(*wait) bool) (taken []*wait) {
	var kept []*wait
	for _, w := range f.waits {
		if out(w) {
			f.end(w, p)
			taken = append(taken, w)
		} else {
			kept = append(kept, w)
		}
	}
	f.waits = kept
	return taken
}

func without(s []*wait, w *wait) []*wait {
	var out []*wait
	for _, o := range s {
		if o != w {
			out = append(out, o)
		}
	}
	return out
}

// CancelWait is of fs.Backend.
func (b *Backend) CancelWait(owner fs.Owner, file fs.Handle, r fs.Range) {
	f := b.states.peek(file)
	if f == nil {
		return
	}
	defer b.states.done(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.filter(&b.polls, func(w *wait) bool { return w.owner == owner && w.r == r })
}
