package remote

import (
	"context"
	"errors"
	"sync"
	"time"

	"holdfast/fs"
	"holdfast/internal/clock"
	"holdfast/internal/nfs4"
	"holdfast/nfsup"
)

// How a denied request is watched. With the promise of CB_NOTIFY_LOCK the origin is asked only now and
// then, because a callback is a hint that may be lost (RFC 8881 20.11.4); without it, soon and then
// less and less often. A waiter that nobody cancels is given up after maxWait.
const (
	pollFirst    = 500 * time.Millisecond
	pollMax      = 10 * time.Second
	pollNotified = 30 * time.Second
	maxWait      = time.Hour
	maxPolls     = 8 // under way at one time
)

// waiters are the denied lock requests that somebody waits for. While there are none, nothing runs.
type waiters struct {
	r     *Remote
	slots chan struct{}

	mu sync.Mutex
	// +checklocks:mu
	list map[waitKey]*waiter
}

type waitKey struct {
	owner fs.Owner
	file  fs.Handle
	rng   fs.Range
}

// A waiter is one request. waiters.mu guards what changes.
type waiter struct {
	key   waitKey
	up    UpOwner
	fh    nfs4.FH
	cred  *fs.Cred
	write bool
	since time.Time

	asking   bool // LOCK is under way
	notified bool // the origin called back before its own answer came
	every    time.Duration
	timer    clock.Timer
	gone     bool
}

func (ws *waiters) init(r *Remote) {
	ws.r = r
	ws.slots = make(chan struct{}, maxPolls)
	ws.list = make(map[waitKey]*waiter)
}

// add makes a waiter, before LOCK is sent, so that a callback that overtakes the answer finds it. A
// repeated request takes the place of the earlier one.
func (ws *waiters) add(up UpOwner, req *fs.LockRequest, fh nfs4.FH, cred *fs.Cred) *waiter {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w := &waiter{
		key:    waitKey{req.LockOwner, req.File, req.Range},
		up:     up,
		fh:     fh,
		cred:   cred,
		write:  req.Type == fs.WriteLock,
		since:  ws.r.now(),
		asking: true,
	}
	if old := ws.list[w.key]; old != nil {
		w.since = old.since
		ws.end(old)
	}
	ws.list[w.key] = w
	return w
}

// end takes a waiter out.
//
// +checklocks:ws.mu
func (ws *waiters) end(w *waiter) {
	w.gone = true
	if w.timer != nil {
		w.timer.Stop()
	}
	if ws.list[w.key] == w {
		delete(ws.list, w.key)
	}
}

// denied begins to watch.
func (ws *waiters) denied(w *waiter, promised bool) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if w.gone {
		return
	}
	w.asking = false
	w.every = pollFirst
	switch {
	case w.notified:
		w.every = 0
	case promised:
		w.every = pollNotified
	}
	ws.schedule(w)
}

// +checklocks:ws.mu
func (ws *waiters) schedule(w *waiter) {
	w.timer = ws.r.cfg.Clock.AfterFunc(w.every, func() {
		go ws.poll(w) // a fake clock calls from Advance, which must not block
	})
}

func (ws *waiters) remove(w *waiter) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.end(w)
}

func (ws *waiters) cancel(owner fs.Owner, file fs.Handle, rng fs.Range) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if w := ws.list[waitKey{owner, file, rng}]; w != nil {
		ws.end(w)
	}
}

func (ws *waiters) clear() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range ws.list {
		ws.end(w)
	}
}

func (ws *waiters) count() int {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return len(ws.list)
}

// poll asks whether the lock is free, and says so. It does not take it: the caller does, in its turn.
func (ws *waiters) poll(w *waiter) {
	r := ws.r
	select {
	case ws.slots <- struct{}{}:
		defer func() { <-ws.slots }()
	case <-r.ctx.Done():
		return
	}
	ws.mu.Lock()
	gone := w.gone
	ws.mu.Unlock()
	if gone {
		return
	}
	r.stats.polls.Add(1)
	err := r.up.TestLock(r.ctx, r.upCred(w.cred), w.up, w.fh, nfsup.Range(w.key.rng), w.write)
	var denied *nfsup.DeniedError
	free := err == nil
	if err != nil && !errors.As(err, &denied) {
		if errors.Is(err, context.Canceled) && r.ctx.Err() != nil {
			return
		}
		// Whatever is the matter, the caller's own LOCK tells it best, unless it is only a matter of time.
		code := fs.CodeOf(toFS("LOCKT", err))
		free = code != fs.Grace && code != fs.Delay && code != fs.Unreachable
	}
	ws.mu.Lock()
	if w.gone {
		ws.mu.Unlock()
		return
	}
	if free || r.now().Sub(w.since) > maxWait {
		ws.end(w)
		ws.mu.Unlock()
		ws.announce(w)
		return
	}
	if w.every < pollMax {
		w.every = min(max(w.every*2, pollFirst), pollMax)
	}
	ws.schedule(w)
	ws.mu.Unlock()
}

func (ws *waiters) announce(w *waiter) {
	ws.r.tell(func(l fs.Listener) { l.LockAvailable(w.key.file, w.key.owner, w.key.rng) })
}

// notify is CB_NOTIFY_LOCK. It says nothing of the range, so all waiters of the owner on that file hear
// of it. It does not block.
func (ws *waiters) notify(up UpOwner, fh nfs4.FH) {
	var ready []*waiter
	ws.mu.Lock()
	for _, w := range ws.list {
		if w.up != up || w.fh != fh {
			continue
		}
		if w.asking {
			w.notified = true
			continue
		}
		ws.end(w)
		ready = append(ready, w)
	}
	ws.mu.Unlock()
	ws.r.stats.notified.Add(1)
	for _, w := range ready {
		ws.announce(w)
	}
}
