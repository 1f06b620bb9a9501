package fuse

import (
	"context"
	"sync"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
)

// What the kernel is to forget of a node.
const (
	invalAttr  uint8 = 1 << iota
	invalData        // includes the attributes
	invalNames       // the entries of a directory
)

// maxInvalid bounds the queue. If more nodes change than this before the kernel was told, it is told
// to forget all.
const maxInvalid = 8192

// notifiers is how many notifications may be under way. One may wait for a request on its inode, so
// one alone would let a slow file hold up the news of all.
const notifiers = 4

// kernelNotifier is the part of go-fuse's Server that is used here.
type kernelNotifier interface {
	InodeNotify(node uint64, off, length int64) gofuse.Status
	EntryNotify(parent uint64, name string) gofuse.Status
}

// invalidator tells the kernel what is old, in goroutines of its own: a notification can wait for a
// request on the same inode, so inside such a request it would wait for itself.
type invalidator struct {
	s *server

	mu      sync.Mutex
	pending map[uint64]job // guarded by mu
	order   []uint64       // the keys of pending, oldest first; guarded by mu
	all     bool           // the queue was full; guarded by mu
	sent    uint64         // guarded by mu
	kernel  kernelNotifier // set when the mount is up; guarded by mu

	wake chan struct{} // has room for one
}

type job struct {
	node *node
	what uint8
}

func newInvalidator(s *server) *invalidator {
	return &invalidator{s: s, pending: make(map[uint64]job), wake: make(chan struct{}, 1)}
}

// add queues news. It never blocks.
func (i *invalidator) add(n *node, what uint8) {
	i.mu.Lock()
	defer i.mu.Unlock()
	old, queued := i.pending[n.id]
	switch {
	case queued:
		what |= old.what
	case len(i.pending) >= maxInvalid:
		i.all = true
		i.signal()
		return
	default:
		i.order = append(i.order, n.id)
	}
	i.pending[n.id] = job{n, what}
	i.signal()
}

func (i *invalidator) signal() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

// take returns the next piece of work.
func (i *invalidator) take() (j job, all, ok bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.all {
		i.all = false
		clear(i.pending)
		i.order = nil
		return job{}, true, true
	}
	if len(i.order) == 0 {
		return job{}, false, false
	}
	id := i.order[0]
	i.order = i.order[1:]
	j = i.pending[id]
	delete(i.pending, id)
	if len(i.order) > 0 {
		i.signal() // the next worker
	}
	return j, false, true
}

// run works until ctx ends.
func (i *invalidator) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-i.wake:
		}
		for ctx.Err() == nil {
			j, all, ok := i.take()
			if !ok {
				break
			}
			if !all {
				i.tell(j.node, j.what)
				continue
			}
			for _, id := range i.s.table.all() {
				if n := i.s.table.get(id); n != nil {
					n.pages.drop()
					i.tell(n, invalAttr|invalData|invalNames)
				}
			}
		}
	}
}

// now tells the kernel at once; the channel is closed when it has obeyed.
func (i *invalidator) now(n *node) <-chan struct{} {
	done := make(chan struct{})
	i.s.background.Add(1)
	go func() {
		defer i.s.background.Done()
		defer close(done)
		i.tell(n, invalAttr|invalData)
	}()
	return done
}

// tell sends the notifications. ENOENT means that the kernel does not know it (any more).
func (i *invalidator) tell(n *node, what uint8) {
	i.mu.Lock()
	kernel := i.kernel
	i.sent++
	i.mu.Unlock()
	if kernel == nil {
		return
	}
	note := func(st gofuse.Status) {
		if !st.Ok() && st != gofuse.ENOENT {
			i.s.log.Debug("notification failed", "node", n.id, "status", st.String())
		}
	}
	if what&invalNames != 0 {
		for _, name := range i.s.table.takeNames(n) {
			note(kernel.EntryNotify(n.id, name))
		}
	}
	switch {
	case what&invalData != 0:
		note(kernel.InodeNotify(n.id, 0, 0))
	case what&invalAttr != 0:
		note(kernel.InodeNotify(n.id, -1, 0))
	}
}
