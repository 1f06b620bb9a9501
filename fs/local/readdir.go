//go:build linux

package local

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast/fs"
)

// A cookie is where the file system says that the entry after this one is (d_off), plus cookieBase:
// file systems use 0 to 2 as well, we may not. They keep such places good while the directory
// changes; tmpfs does since Linux 6.6.
const cookieBase = 3

// How much is read of a directory at a time, in bytes of getdents64. With attributes less, since all
// of it is looked up, and the caller may take less.
const (
	dirBuffer     = 32 << 10
	dirBufferAttr = 8 << 10
)

// ReadDir is of fs.Backend.
func (b *Backend) ReadDir(ctx context.Context, cred *fs.Cred, dir fs.Handle, cookie uint64, wantAttr bool, emit func(*fs.DirEntry) bool) (bool, error) {
	const op = "READDIR"
	if err := b.begin(ctx); err != nil {
		return false, failure(op, err)
	}
	defer b.leave()
	if cookie != 0 && (cookie < cookieBase || cookie-cookieBase > math.MaxInt64) {
		return false, fs.E(op, fs.BadCookie, fmt.Errorf("cookie %d", cookie))
	}
	d, err := b.directory(dir)
	if err != nil {
		return false, failure(op, err)
	}
	defer d.close()
	fd := -1
	err = b.id.as(cred, false, func() (err error) {
		// Not by "." below it: that would ask for search permission, which reading does not need.
		fd, err = b.reopen(d.fd, unix.O_RDONLY|unix.O_DIRECTORY)
		return err
	})
	if err != nil {
		return false, failure(op, gone(d, err))
	}
	defer closeFD(fd)
	if cookie != 0 {
		if _, err := unix.Seek(fd, int64(cookie-cookieBase), unix.SEEK_SET); err != nil {
			return false, fs.E(op, fs.BadCookie, err)
		}
	}
	size := dirBuffer
	if wantAttr {
		size = dirBufferAttr
	}
	buf := make([]byte, size)
	for {
		if err := ctx.Err(); err != nil {
			return false, failure(op, err)
		}
		n, err := unix.Getdents(fd, buf)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return false, failure(op, gone(d, err))
		}
		if n == 0 {
			return true, nil
		}
		entries, err := parseDirents(buf[:n])
		if err != nil {
			return false, failure(op, err)
		}
		if wantAttr {
			if err := b.fillEntries(ctx, cred, d, entries); err != nil {
				return false, failure(op, err)
			}
		}
		for i := range entries {
			if !emit(&entries[i]) {
				return false, nil
			}
		}
	}
}

var errDirent = errors.New("the kernel's directory entries make no sense")

// parseDirents reads struct linux_dirent64: d_ino (8), d_off (8), d_reclen (2), d_type (1), name, NUL.
func parseDirents(p []byte) ([]fs.DirEntry, error) {
	const head = 19
	var out []fs.DirEntry
	for len(p) > 0 {
		if len(p) < head {
			return nil, errDirent
		}
		size := int(binary.NativeEndian.Uint16(p[16:]))
		if size <= head || size > len(p) {
			return nil, errDirent
		}
		name, _, ok := bytes.Cut(p[head:size], []byte{0})
		if !ok {
			return nil, errDirent
		}
		if s := string(name); s != "." && s != ".." {
			out = append(out, fs.DirEntry{
				Cookie: binary.NativeEndian.Uint64(p[8:]) + cookieBase, Name: s,
				FileID: binary.NativeEndian.Uint64(p), Type: typeOfDirent(p[18]),
			})
		}
		p = p[size:]
	}
	return out, nil
}

// fillEntries adds handles and attributes, of entries that are still there and that the user may
// look up.
func (b *Backend) fillEntries(ctx context.Context, cred *fs.Cred, d node, entries []fs.DirEntry) error {
	anyFresh := false
	err := b.id.as(cred, false, func() error {
		for i := range entries {
			e := &entries[i]
			fd, err := find(d.fd, e.Name)
			if err != nil {
				continue // without attributes: the caller may ask, and is told why
			}
			h, fresh, err := b.handleOf(fd, nil, d.h, e.Name)
			if err == nil {
				e.Attr, err = b.stat(fd)
			}
			closeFD(fd)
			if err != nil {
				e.Attr = nil
				continue
			}
			anyFresh = anyFresh || fresh
			e.Handle, e.FileID, e.Type = h, e.Attr.FileID, e.Attr.Type
		}
		return nil
	})
	if err != nil {
		return err
	}
	return b.flushTable(ctx, anyFresh)
}
