package state

import (
	"context"
	"sync"
)

// A turn lets the operations of one owner on one file run one after another, over their calls of
// the backend: a mutex whose waiting ends with a context. It can be shared: LOCK and LOCKU of
// several lock-owners under one open run side by side, OPEN, OPEN_DOWNGRADE and CLOSE alone.
//
// A sharer joins other sharers even if somebody waits to be alone. Otherwise an eviction that a
// LOCK has to wait for, and which shares the turn that the LOCK has, could wait for the LOCK.
type turn struct {
	mu     sync.Mutex
	shared int           // guarded by mu
	alone  bool          // guarded by mu
	freed  chan struct{} // guarded by mu; closed when it is worth trying again; nil if nobody waits
}

// take waits for the turn. The error is the context's.
func (t *turn) take(ctx context.Context, alone bool) error {
	for {
		t.mu.Lock()
		if !t.alone && (!alone || t.shared == 0) {
			if alone {
				t.alone = true
			} else {
				t.shared++
			}
			t.mu.Unlock()
			return nil
		}
		if t.freed == nil {
			t.freed = make(chan struct{})
		}
		freed := t.freed
		t.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// give ends what take began.
func (t *turn) give(alone bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if alone {
		t.alone = false
	} else {
		t.shared--
	}
	if t.freed != nil && t.shared == 0 {
		close(t.freed)
		t.freed = nil
	}
}
