package nfsup

import (
	"context"
	"errors"
	"math/bits"
	"slices"
	"sync"
)

// errSessionDead says that a request needs a new session. It never leaves the package.
var errSessionDead = errors.New("nfsup: session is dead")

// A slotTable is the fore channel's slots, RFC 8881 2.10.6.1. The lowest free slot is taken, and
// waiting for one is first come, first served.
type slotTable struct {
	mu      sync.Mutex
	seq     []uint32      // last sequence number that the server has answered; +checklocks:mu
	busy    []uint64      // a bit for each slot; +checklocks:mu
	limit   int           // slots from here on are not taken; +checklocks:mu
	inUse   int           // +checklocks:mu
	waiters []*slotWait   // +checklocks:mu
	dead    bool          // +checklocks:mu
	drained chan struct{} // closed when dead and nothing is in use
}

type slotWait struct{ got chan int } // of one; -1: dead

func newSlotTable(n int) *slotTable {
	return &slotTable{
		seq:     make([]uint32, n),
		busy:    make([]uint64, (n+63)/64),
		limit:   n,
		drained: make(chan struct{}),
	}
}

// A slotRef is a slot that is taken, and the sequence number to use.
type slotRef struct {
	id  int
	seq uint32
}

// acquire waits for a slot. The error is errSessionDead or the cause of ctx.
func (t *slotTable) acquire(ctx context.Context) (slotRef, error) {
	t.mu.Lock()
	if t.dead {
		t.mu.Unlock()
		return slotRef{}, errSessionDead
	}
	if len(t.waiters) == 0 {
		if id := t.lowest(); id >= 0 {
			t.take(id)
			s := slotRef{id, t.seq[id] + 1}
			t.mu.Unlock()
			return s, nil
		}
	}
	w := &slotWait{make(chan int, 1)}
	t.waiters = append(t.waiters, w)
	t.mu.Unlock()

	var id int
	select {
	case id = <-w.got:
	case <-ctx.Done():
		t.mu.Lock()
		if i := slices.Index(t.waiters, w); i >= 0 {
			t.waiters = slices.Delete(t.waiters, i, i+1)
			t.mu.Unlock()
			return slotRef{}, context.Cause(ctx)
		}
		t.mu.Unlock()
		id = <-w.got // it came just now; use it, or give it back
		if id >= 0 {
			t.release(slotRef{id: id}, false)
		}
		return slotRef{}, context.Cause(ctx)
	}
	if id < 0 {
		return slotRef{}, errSessionDead
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return slotRef{id, t.seq[id] + 1}, nil
}

// release gives a slot back. used says that the server has answered the request with s.seq: if not,
// that number is used again.
func (t *slotTable) release(s slotRef, used bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if used {
		t.seq[s.id] = s.seq
	}
	t.busy[s.id/64] &^= 1 << (s.id % 64)
	t.inUse--
	t.grant()
	if t.dead && t.inUse == 0 {
		close(t.drained)
	}
}

// lowest is the lowest free slot, or -1.
//
// +checklocks:t.mu
func (t *slotTable) lowest() int {
	for i, w := range t.busy {
		if w != ^uint64(0) {
			if id := i*64 + bits.TrailingZeros64(^w); id < t.limit {
				return id
			}
			return -1
		}
	}
	return -1
}

// +checklocks:t.mu
func (t *slotTable) take(id int) {
	t.busy[id/64] |= 1 << (id % 64)
	t.inUse++
}

// +checklocks:t.mu
func (t *slotTable) grant() {
	for len(t.waiters) > 0 && !t.dead {
		id := t.lowest()
		if id < 0 {
			return
		}
		t.take(id)
		w := t.waiters[0]
		t.waiters = t.waiters[1:]
		w.got <- id
	}
}

// highest is sa_highest_slotid: the highest slot in use.
func (t *slotTable) highest() uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := len(t.busy) - 1; i >= 0; i-- {
		if w := t.busy[i]; w != 0 {
			return uint32(i*64 + bits.Len64(w) - 1)
		}
	}
	return 0
}

// setTarget obeys sr_target_highest_slotid: slots above are not taken again, those in use stay.
func (t *slotTable) setTarget(highest uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limit = int(min(uint64(highest)+1, uint64(len(t.seq))))
	t.grant()
}

// kill ends the table: nobody gets a slot any more. drained closes when the last one is back.
func (t *slotTable) kill() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dead {
		return
	}
	t.dead = true
	for _, w := range t.waiters {
		w.got <- -1
	}
	t.waiters = nil
	if t.inUse == 0 {
		close(t.drained)
	}
}

// use tells how many slots there are, are taken, and are waited for.
func (t *slotTable) use() (limit, inUse, waiting int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.limit, t.inUse, len(t.waiters)
}
