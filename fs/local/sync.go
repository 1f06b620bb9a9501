//go:build linux

package local

import (
	"context"
	"errors"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast/fs"
)

// A flusher lets concurrent requests for the same fsync share it: one that comes while an fsync runs
// waits for the next, which covers what all of them wrote. On one flusher no two fsyncs run at a time,
// so that an error, which the kernel reports to one of them only, reaches all whom it concerns.
type flusher struct {
	mu   sync.Mutex
	busy bool   // guarded by mu
	next *flush // guarded by mu; the one that has not begun
}

type flush struct {
	done chan struct{}
	full bool  // fsync, not only fdatasync
	err  error // before done is closed
}

// do returns when an fsync that began after the call has ended, or ctx. run makes it.
func (f *flusher) do(ctx context.Context, full bool, run func(full bool) error) error {
	f.mu.Lock()
	if f.next == nil {
		f.next = &flush{done: make(chan struct{})}
	}
	mine := f.next
	mine.full = mine.full || full
	lead := !f.busy
	if lead {
		f.busy, f.next = true, nil
	}
	f.mu.Unlock()
	if lead {
		f.lead(mine, run)
	}
	select {
	case <-mine.done:
		return mine.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lead runs the flush, and has the one that gathered meanwhile run by a goroutine.
func (f *flusher) lead(now *flush, run func(full bool) error) {
	now.err = run(now.full)
	close(now.done)
	f.mu.Lock()
	next := f.next
	f.next = nil
	f.busy = next != nil
	f.mu.Unlock()
	if next != nil {
		go f.lead(next, run)
	}
}

// dirSync makes entries of directories durable, as far as the export is not Async.
type dirSync struct {
	mu sync.Mutex
	m  map[fs.Handle]*dirFlusher // guarded by mu
}

type dirFlusher struct {
	flusher
	users int // guarded by dirSync.mu
}

// syncDirs returns when the entries of the directories are on disk.
func (b *Backend) syncDirs(ctx context.Context, dirs ...fs.Handle) error {
	if b.cfg.Async {
		return nil
	}
	for _, h := range dirs {
		d := &b.dirs
		d.mu.Lock()
		f := d.m[h]
		if f == nil {
			f = new(dirFlusher)
			d.m[h] = f
		}
		f.users++
		d.mu.Unlock()
		err := f.do(ctx, true, func(bool) error { return b.syncDirNow(h) })
		d.mu.Lock()
		if f.users--; f.users == 0 {
			delete(d.m, h)
		}
		d.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *Backend) syncDirNow(h fs.Handle) error {
	// It may run after the caller left.
	if err := b.enter(); err != nil {
		return err
	}
	defer b.leave()
	n, err := b.node(h)
	if fs.CodeOf(failure("", err)) == fs.Stale {
		return nil // removed meanwhile, and that was synced by who did it
	}
	if err != nil {
		return err
	}
	defer n.close()
	fd, err := openat(n.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer closeFD(fd)
	return unix.Fsync(fd)
}
