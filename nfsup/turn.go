package nfsup

import (
	"context"
	"slices"
	"sync"
)

// A turn puts operations on one piece of state one after another, first come, first served. Several
// shared ones may have their turn at once, an exclusive one is alone. It may be held across a round
// trip: unlike a mutex, waiting for it ends with a context. The zero value is free.
type turn struct {
	mu        sync.Mutex
	shared    int           // +checklocks:mu
	exclusive bool          // +checklocks:mu
	queue     []*turnWaiter // +checklocks:mu
}

type turnWaiter struct {
	exclusive bool
	ready     chan struct{}
}

// take waits for its turn. The error is the cause of ctx.
func (t *turn) take(ctx context.Context, exclusive bool) error {
	t.mu.Lock()
	if len(t.queue) == 0 && t.free(exclusive) {
		t.enter(exclusive)
		t.mu.Unlock()
		return nil
	}
	w := &turnWaiter{exclusive, make(chan struct{})}
	t.queue = append(t.queue, w)
	t.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.queue, w); i >= 0 {
		t.queue = slices.Delete(t.queue, i, i+1)
	} else {
		t.leave(exclusive) // it had come just now
	}
	t.next()
	return context.Cause(ctx)
}

// give ends a turn.
func (t *turn) give(exclusive bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leave(exclusive)
	t.next()
}

// +checklocks:t.mu
func (t *turn) free(exclusive bool) bool {
	return !t.exclusive && (t.shared == 0 || !exclusive)
}

// +checklocks:t.mu
func (t *turn) enter(exclusive bool) {
	if exclusive {
		t.exclusive = true
	} else {
		t.shared++
	}
}

// +checklocks:t.mu
func (t *turn) leave(exclusive bool) {
	if exclusive {
		t.exclusive = false
	} else {
		t.shared--
	}
}

// next lets in whoever may come in.
//
// +checklocks:t.mu
func (t *turn) next() {
	for len(t.queue) > 0 && t.free(t.queue[0].exclusive) {
		w := t.queue[0]
		t.queue = t.queue[1:]
		t.enter(w.exclusive)
		close(w.ready)
	}
}
