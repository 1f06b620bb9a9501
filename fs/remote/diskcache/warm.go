package diskcache

import "sync/atomic"

// warmth remembers which parts of a large object were read since they were last looked at.
type warmth struct {
	bits atomic.Pointer[[]atomic.Uint32]
}

func (w *warmth) mark(part int64) {
	if b := w.bits.Load(); b != nil && part < int64(len(*b)) && (*b)[part].Load() == 0 {
		(*b)[part].Store(1)
	}
}

// size makes room for so many parts; what was known is forgotten if it was less.
func (w *warmth) size(parts int64) {
	if b := w.bits.Load(); b == nil || int64(len(*b)) < parts {
		n := make([]atomic.Uint32, parts)
		w.bits.Store(&n)
	}
}

// spare tells that a part was read since, and is not to be spared the next time.
func (w *warmth) spare(part int64) bool {
	b := w.bits.Load()
	return b != nil && part < int64(len(*b)) && (*b)[part].Swap(0) != 0
}
