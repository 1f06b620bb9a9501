// Package coherence writes down who wrote what to files when, and judges whether what somebody read can be: a
// value that had been overwritten by a write which had ended before the reader began to look must not be seen
// (invariant I6), or not longer than an answer may be old. A file is blocks; each write puts one value, never used
// before, all over the blocks that it covers.
package coherence

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"
)

// Sizes of a file, in blocks, and of a block, in bytes.
const (
	Blocks    = 40
	BlockSize = 4096
)

// A History is what was written, by file name and block.
type History struct {
	start time.Time
	mu    sync.Mutex
	value uint64                         // guarded by mu
	files map[string]*[Blocks][]*writing // guarded by mu
}

// A writing is one value in one block. Moments are ns since the start.
type writing struct {
	value      uint64
	begun, end int64 // end is 0 while it is under way
	own        bool
}

// New is an empty history that begins now.
func New() *History {
	return &History{start: time.Now(), files: make(map[string]*[Blocks][]*writing)}
}

// Now is a moment.
func (h *History) Now() int64 { return int64(time.Since(h.start)) + 1 }

// Next is a value that was not used before.
func (h *History) Next() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.value++
	return h.value
}

// Begin notes that a write of v to blocks [from, to) begins. The function that it gives notes the end; it is not
// called for a write of which nobody knows whether it happened. own is one that came through the cache that is
// judged: it is seen at once there, however old an answer may be.
func (h *History) Begin(name string, from, to int, v uint64, own bool) (done func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.files[name]
	if f == nil {
		f = &[Blocks][]*writing{}
		h.files[name] = f
	}
	w := make([]*writing, 0, to-from)
	now := h.Now()
	for b := from; b < to; b++ {
		x := &writing{value: v, begun: now, own: own}
		f[b] = append(f[b], x)
		w = append(w, x)
	}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		now := h.Now()
		for _, x := range w {
			x.end = now
		}
	}
}

// Judge tells whether v may be seen in a block by who began to look at a moment, if an answer may be slack old.
func (h *History) Judge(name string, block int, v uint64, began int64, slack time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.files[name]
	if f == nil {
		return fmt.Errorf("%s was never written", name)
	}
	var seen *writing
	for _, w := range f[block] {
		if w.value == v {
			seen = w
		}
	}
	if seen == nil {
		return fmt.Errorf("%s, block %d: %d was never written there", name, block, v)
	}
	if seen.end == 0 {
		return nil
	}
	for _, w := range f[block] {
		late := began - int64(slack)
		if w.own {
			late = began
		}
		if w.begun > seen.end && w.end != 0 && w.end < late {
			return fmt.Errorf("%s, block %d: who began to look at %d saw %d, whose write ended at %d; it was overwritten by %d from %d to %d, and an answer may be %v old",
				name, block, began, v, seen.end, w.value, w.begun, w.end, slack)
		}
	}
	return nil
}

// JudgeAll judges what was read from off, a multiple of 8, on.
func (h *History) JudgeAll(name string, off int, b []byte, began int64, slack time.Duration) error {
	for i := 0; i+8 <= len(b); i += 8 {
		if err := h.Judge(name, (off+i)/BlockSize, binary.LittleEndian.Uint64(b[i:]), began, slack); err != nil {
			return err
		}
	}
	return nil
}

// Fill puts v all over b, whose length is a multiple of 8.
func Fill(b []byte, v uint64) []byte {
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], v)
	}
	return b
}
