package torture

import (
	"sync"

	"holdfast/internal/torture/judge"
)

// A history collects what clients saw. It may be added to from anywhere.
type history struct {
	mu  sync.Mutex
	ops []judge.Op
}

func (h *history) add(ops ...judge.Op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, ops...)
}

// take gives what there is and begins anew.
func (h *history) take() []judge.Op {
	h.mu.Lock()
	defer h.mu.Unlock()
	ops := h.ops
	h.ops = nil
	return ops
}
