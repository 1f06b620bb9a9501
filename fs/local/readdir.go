//go:build linux

package local

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"

	"golang.org/x/sys/unix"

	"holdfast/fs"
)

// firstCookie is added to the kernel's offsets, since 0, 1 and 2 are never cookies of entries.
const firstCookie = 3

// ReadDir is of fs.Backend. The cookie is the kernel's own offset behind the entry, which stays good
// while the directory changes.
func (b *Backend) ReadDir(ctx context.Context, cred *fs.Cred, dir fs.Handle, cookie uint64, wantAttr bool, emit func(*fs.DirEntry) bool) (bool, error) {
	const op = "READDIR"
	if err := b.begin(ctx); err != nil {
		return false, failure(op, err)
	}
	defer b.leave()
	d, err := b.dirNode(dir)
	if err != nil {
		return false, failure(op, err)
	}
	defer d.close()
	fd := -1
	err = b.id.as(cred, false, func() (err error) {
		fd, err = openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		return err
	})
	if err != nil {
		return false, failure(op, gone(d, err))
	}
	defer closeFD(fd)
	// Attributes are for those who may search the directory.
	if wantAttr && b.id.as(cred, false, func() error { return mayAccess(d.fd, unix.X_OK) }) != nil {
		wantAttr = false
	}
	if cookie != 0 {
		if cookie < firstCookie || cookie-firstCookie > math.MaxInt64 {
			return false, fs.E(op, fs.BadCookie, nil)
		}
		if _, err := unix.Seek(fd, int64(cookie-firstCookie), 0); err != nil {
			return false, fs.E(op, fs.BadCookie, err)
		}
	}
	buf := make([]byte, 32<<10)
	stale := false // the table has handles that are not durable
	for {
		if err := ctx.Err(); err != nil {
			return false, failure(op, err)
		}
		n, err := unix.Getdents(fd, buf)
		if err != nil {
			return false, failure(op, gone(d, err))
		}
		if n == 0 {
			return true, failure(op, b.flushTable(ctx, stale))
		}
		for p := buf[:n]; len(p) > 0; {
			e, size := dirent(p)
			p = p[size:]
			if e.Name == "." || e.Name == ".." {
				continue
			}
			if wantAttr {
				fresh, err := b.fillEntry(d, &e)
				if err != nil {
					return false, failure(op, err)
				}
				stale = stale || fresh
			}
			if !emit(&e) {
				return false, failure(op, b.flushTable(ctx, stale))
			}
		}
	}
}

// dirent is one struct linux_dirent64, and its size.
func dirent(p []byte) (fs.DirEntry, int) {
	size := int(binary.NativeEndian.Uint16(p[16:]))
	name := p[19:size]
	if i := bytes.IndexByte(name, 0); i >= 0 {
		name = name[:i]
	}
	return fs.DirEntry{
		FileID: binary.NativeEndian.Uint64(p),
		Cookie: binary.NativeEndian.Uint64(p[8:]) + firstCookie,
		Type:   typeOfDirent(p[18]),
		Name:   string(name),
	}, size
}

// fillEntry adds handle and attributes; an entry that vanished, or that a mount covers, stays without.
func (b *Backend) fillEntry(d node, e *fs.DirEntry) (fresh bool, err error) {
	fd, err := find(d.fd, e.Name)
	if err != nil {
		return false, nil
	}
	defer closeFD(fd)
	h, fresh, err := b.handleOf(fd, nil, d.h, e.Name)
	if err != nil {
		return false, err
	}
	a, err := b.stat(fd)
	if err != nil {
		return false, err
	}
	e.Handle, e.Attr, e.FileID, e.Type = h, a, a.FileID, a.Type
	return fresh, nil
}
