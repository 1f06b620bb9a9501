package fuse

import (
	"context"
	"sync"
	"sync/atomic"
	"syscall"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"holdfast/fs"
)

// FenceMode says what a request meets at a closed fence.
type FenceMode uint8

// The modes of a Fence.
const (
	// FenceBlock lets requests wait until the fence opens. They can be interrupted.
	FenceBlock FenceMode = iota
	// FenceEAGAIN refuses them with EAGAIN.
	FenceEAGAIN
)

// A Fence keeps local applications out until re-export has begun (invariant I4): before that an
// application could see files whose locks the end clients have not reclaimed yet. It begins closed
// and opens once. Through a closed fence pass: GETATTR of the root and STATFS, both with invented
// answers so that df does not hang; what carries no question (FORGET, INTERRUPT, FLUSH and RELEASE
// of what cannot exist); and the names of attributes that no file has. A nil Fence is open.
type Fence struct {
	mode    FenceMode
	open    chan struct{} // closed when the fence opens
	once    sync.Once
	waiting atomic.Int64
}

// NewFence returns a closed fence.
func NewFence(mode FenceMode) *Fence {
	return &Fence{mode: mode, open: make(chan struct{})}
}

// Open lets everything through, from now on. It may be called again.
func (f *Fence) Open() { f.once.Do(func() { close(f.open) }) }

// Closed tells whether the fence is still closed.
func (f *Fence) Closed() bool {
	if f == nil {
		return false
	}
	select {
	case <-f.open:
		return false
	default:
		return true
	}
}

// Waiting is the number of requests that wait at the fence now.
func (f *Fence) Waiting() int {
	if f == nil {
		return 0
	}
	return int(f.waiting.Load())
}

// Wait returns when the fence is open, or with Interrupted when ctx has ended.
func (f *Fence) Wait(ctx context.Context) error {
	if !f.Closed() {
		return nil
	}
	f.waiting.Add(1)
	defer f.waiting.Add(-1)
	select {
	case <-f.open:
		return nil
	case <-ctx.Done():
		return fs.E("FENCE", fs.Interrupted, context.Cause(ctx))
	}
}

// pass lets a request of the kernel through, or says with what to refuse it: EINTR if the caller
// got a signal, ENOTCONN if the mount ends.
func (f *Fence) pass(interrupt, quit <-chan struct{}) gofuse.Status {
	if !f.Closed() {
		return gofuse.OK
	}
	if f.mode == FenceEAGAIN {
		return gofuse.EAGAIN
	}
	f.waiting.Add(1)
	defer f.waiting.Add(-1)
	select {
	case <-f.open:
		return gofuse.OK
	case <-interrupt:
		return gofuse.EINTR
	case <-quit:
		return gofuse.Status(syscall.ENOTCONN)
	}
}
