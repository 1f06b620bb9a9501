//go:build linux

package local

import (
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/fs"
)

// statMask is what is asked of statx.
const statMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME

// errLongTick is a clock that stands still.
var errLongTick = errors.New("the clock that files are stamped with does not move")

// stat gives the attributes of an open file, or of an O_PATH descriptor.
func (b *Backend) stat(fd int) (*fs.Attr, error) {
	for range 4000 {
		before := b.change.before()
		var st unix.Statx_t
		if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, statMask, &st); err != nil {
			return nil, err
		}
		change, again, err := b.change.value(before, nanos(st.Ctime))
		if err != nil {
			return nil, err
		}
		if !again {
			return b.attr(&st, change), nil
		}
		time.Sleep(time.Duration(b.change.gran / 8))
	}
	return nil, fs.E("", fs.ServerFault, errLongTick)
}

// raw gives what the kernel says, for decisions that need no change attribute.
func raw(fd int) (st unix.Statx_t, err error) {
	err = unix.Statx(fd, "", unix.AT_EMPTY_PATH, statMask, &st)
	return st, err
}

func (b *Backend) attr(st *unix.Statx_t, change uint64) *fs.Attr {
	a := &fs.Attr{
		Type: typeOf(uint32(st.Mode)), Mode: uint32(st.Mode) & 0o7777, Nlink: st.Nlink, UID: st.Uid, GID: st.Gid,
		Size: st.Size, Used: st.Blocks * 512, FSID: b.fsid, FileID: st.Ino, MountedOn: st.Ino, Change: change,
		Rdev:  fs.Rdev{Major: st.Rdev_major, Minor: st.Rdev_minor},
		Atime: timeOf(st.Atime), Mtime: timeOf(st.Mtime), Ctime: timeOf(st.Ctime),
	}
	if st.Mask&unix.STATX_BTIME != 0 {
		a.Btime = timeOf(st.Btime)
	}
	return a
}

func nanos(t unix.StatxTimestamp) int64 { return t.Sec*1e9 + int64(t.Nsec) }

func timeOf(t unix.StatxTimestamp) time.Time { return time.Unix(t.Sec, int64(t.Nsec)) }

func isType(st *unix.Statx_t, format uint32) bool { return uint32(st.Mode)&unix.S_IFMT == format }

// typeOf is the type in st_mode.
func typeOf(mode uint32) fs.FileType {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return fs.Directory
	case unix.S_IFLNK:
		return fs.Symlink
	case unix.S_IFBLK:
		return fs.Block
	case unix.S_IFCHR:
		return fs.Char
	case unix.S_IFSOCK:
		return fs.Socket
	case unix.S_IFIFO:
		return fs.FIFO
	}
	return fs.Regular
}

// typeOfDirent is the type in a directory entry, or 0 if the file system does not say.
func typeOfDirent(t uint8) fs.FileType {
	if t == unix.DT_UNKNOWN {
		return 0
	}
	return typeOf(uint32(t) << 12)
}

// regular is the error for I/O on what is not a regular file: RFC 8881 18.22 and 18.32. A FIFO or a
// device is never opened.
func regular(st *unix.Statx_t) error {
	switch typeOf(uint32(st.Mode)) {
	case fs.Regular:
		return nil
	case fs.Directory:
		return syscall.EISDIR
	case fs.Symlink:
		return fs.E("", fs.IsSymlink, nil)
	}
	return fs.E("", fs.WrongType, errors.New("not a regular file"))
}
