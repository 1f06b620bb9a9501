package main

import (
	"sync"

	"holdfast/fs"
)

// later is a backend that is not there yet. The FUSE mount comes up with it, fenced, before the
// origin is asked anything, so that no application can see the bare mount point. Nothing but
// Subscribe may be called before set; the fence sees to that, and opens after it.
type later struct {
	fs.Backend
	fs.Xattrs
	fs.Sparse
	fs.Copier
	fs.Cloner

	mu        sync.Mutex
	listeners []fs.Listener
}

// full is a backend with all optional abilities, as fs/remote is.
type full interface {
	fs.Backend
	fs.Xattrs
	fs.Sparse
	fs.Copier
	fs.Cloner
}

func (l *later) Subscribe(n fs.Listener) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Backend != nil {
		l.Backend.Subscribe(n)
		return
	}
	l.listeners = append(l.listeners, n)
}

func (l *later) set(b full) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.Backend, l.Xattrs, l.Sparse, l.Copier, l.Cloner = b, b, b, b, b
	for _, n := range l.listeners {
		b.Subscribe(n)
	}
	l.listeners = nil
}
