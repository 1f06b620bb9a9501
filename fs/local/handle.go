//go:build linux

package local

import (
	"encoding/binary"
	"errors"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"holdfast/fs"
)

// A handle is
//
//	kind (1)  MAC (8)  type of the kernel's handle (1)  the kernel's handle    kind 1
//	kind (1)  MAC (8)  id in the handle table (8)                              kind 2
//
// that is 18 bytes on ext4, 22 on xfs and tmpfs, 30 on btrfs. The MAC covers all else, so that nobody
// can make a handle of a file that he was not shown: neither of one outside of the exported directory
// on the same file system, nor of one that he may not look up.
//
// A handle names the file, not where it is. One whose file was moved out of the exported directory
// goes on to work, as with no_subtree_check of knfsd. A handle says nothing about permission either.
const (
	kindKernel = 1
	kindTable  = 2

	handleHead = 9
	// maxKernelHandle is MAX_HANDLE_SZ of Linux.
	maxKernelHandle = 128
)

// A node is a file that a handle led to: an O_PATH descriptor, with which nothing can be read or
// written but under another check.
type node struct {
	fd   int
	h    fs.Handle
	mode uint32 // as in st_mode, of a directory; else 0, unknown
}

func (n node) close() { closeFD(n.fd) }

// closeFD closes a descriptor. The error of close(2) is about data that was not written, and we ask
// fsync for that.
func closeFD(fd int) { _ = unix.Close(fd) }

var (
	errForged    = errors.New("the handle was not given out by this export")
	errLongKind  = errors.New("the kernel's handle is too long")
	errReplaced  = errors.New("the handle is of a file system or directory that another one has replaced")
	errNoHandles = errors.New("the file system cannot open by handle")
)

// seal puts the MAC into a handle whose other bytes are there.
func (b *Backend) seal(p []byte) fs.Handle {
	binary.BigEndian.PutUint64(p[1:], 0)
	binary.BigEndian.PutUint64(p[1:], b.key.mac(p))
	return fs.Handle(p)
}

// check tells whether the handle is one of ours, and gives its payload.
func (b *Backend) check(h fs.Handle) ([]byte, error) {
	if len(h) <= handleHead || len(h) > fs.MaxHandle {
		return nil, fs.E("", fs.BadHandle, errForged)
	}
	var buf [fs.MaxHandle]byte
	p := buf[:copy(buf[:], h)]
	mac := binary.BigEndian.Uint64(p[1:])
	binary.BigEndian.PutUint64(p[1:], 0)
	if b.key.mac(p) != mac {
		for _, k := range b.before {
			if k.mac(p) == mac {
				return nil, fs.E("", fs.Stale, errReplaced)
			}
		}
		return nil, fs.E("", fs.BadHandle, errForged)
	}
	if kind := p[0]; (kind == kindTable) != (b.table != nil) || (kind == kindTable && len(p) != handleHead+8) || kind > kindTable {
		// Ours, but from before the export changed between kernel handles and table.
		return nil, fs.E("", fs.Stale, errNoHandles)
	}
	return p[handleHead:], nil
}

// kernelHandle is struct file_handle.
type kernelHandle struct {
	bytes uint32
	typ   int32
	data  [maxKernelHandle]byte
}

func nameToHandle(fd int, kh *kernelHandle) error {
	var mount int32
	empty := [1]byte{}
	kh.bytes = maxKernelHandle
	_, _, e := unix.Syscall6(unix.SYS_NAME_TO_HANDLE_AT, uintptr(fd), uintptr(unsafe.Pointer(&empty[0])),
		uintptr(unsafe.Pointer(kh)), uintptr(unsafe.Pointer(&mount)), unix.AT_EMPTY_PATH, 0)
	if e != 0 {
		return e
	}
	return nil
}

func openByHandle(mount int, kh *kernelHandle, flags int) (int, error) {
	for {
		fd, _, e := unix.Syscall(unix.SYS_OPEN_BY_HANDLE_AT, uintptr(mount), uintptr(unsafe.Pointer(kh)), uintptr(flags))
		switch e {
		case 0:
			return int(fd), nil
		case syscall.EINTR:
			continue
		}
		return -1, e
	}
}

// handleOf gives the handle of what fd, an O_PATH descriptor or an open file, is. dir and name say
// where it was found, for the handle table, as does st if the caller has it; fresh tells that the table
// must be made durable before the handle is given out (flushTable).
func (b *Backend) handleOf(fd int, st *unix.Statx_t, dir fs.Handle, name string) (h fs.Handle, fresh bool, err error) {
	if b.table != nil {
		if st == nil {
			s, err := raw(fd)
			if err != nil {
				return "", false, err
			}
			st = &s
		}
		id, fresh, err := b.table.add(identOf(st), tableID(dir), name)
		return b.tableHandle(id), fresh, err
	}
	var kh kernelHandle
	if err := nameToHandle(fd, &kh); err != nil {
		return "", false, err
	}
	return b.kernelHandle(&kh)
}

func (b *Backend) kernelHandle(kh *kernelHandle) (fs.Handle, bool, error) {
	if kh.typ < 0 || kh.typ > 255 || kh.bytes > fs.MaxHandle-handleHead-1 {
		return "", false, fs.E("", fs.ServerFault, errLongKind)
	}
	var buf [fs.MaxHandle]byte
	buf[0] = kindKernel
	buf[handleHead] = byte(kh.typ)
	n := copy(buf[handleHead+1:], kh.data[:kh.bytes])
	return b.seal(buf[:handleHead+1+n]), false, nil
}

// node opens a handle as a node, which the caller closes.
func (b *Backend) node(h fs.Handle) (node, error) {
	payload, err := b.check(h)
	if err != nil {
		return node{}, err
	}
	if b.table != nil {
		fd, err := b.openTable(h, payload)
		return node{fd: fd, h: h}, err
	}
	var kh kernelHandle
	kh.typ = int32(payload[0])
	kh.bytes = uint32(copy(kh.data[:], payload[1:]))
	fd, err := openByHandle(b.mount, &kh, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOENT) {
		err = syscall.ESTALE // sealed by us, so it was right once
	}
	return node{fd: fd, h: h}, err
}

// gone tells whether err, from an operation in a directory, only means that the directory itself
// was removed.
func gone(dir node, err error) error {
	if errors.Is(err, syscall.ENOENT) {
		if st, e := raw(dir.fd); e == nil && st.Nlink == 0 {
			return syscall.ESTALE
		}
	}
	return err
}

// beneath is how every name is looked up: one component, never through a link, never into another
// mount.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// openat opens name below dir. mode is for O_CREAT.
func openat(dir int, name string, flags int, mode uint32) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Mode: uint64(mode), Resolve: beneath}
	for tries := 0; ; tries++ {
		fd, err := unix.Openat2(dir, name, &how)
		if err == syscall.EINTR || (err == syscall.EAGAIN && tries < 100) {
			continue // EAGAIN: a rename came between, see openat2(2)
		}
		return fd, err
	}
}

// find gives an O_PATH descriptor of an entry.
func find(dir int, name string) (int, error) {
	return openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
}

// reopen opens what an O_PATH descriptor is, for the identity that calls. Callers have made sure that
// it is a regular file or a directory.
func (b *Backend) reopen(fd, flags int) (int, error) {
	for {
		n, err := unix.Openat(b.proc, itoa(fd), flags|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		if err == syscall.EINTR {
			continue
		}
		return n, err
	}
}
