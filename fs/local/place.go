//go:build linux

package local

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A place is the digest of what the kernel's handles depend on: which file system it is, and which directory of
// it is exported. A handle of the kernel is little more than an inode number and a generation, and some file
// systems number both in the same order each time they are made (btrfs), or take a generation of 0 for any
// (ext4): on a file system that took the place of another it may lead to a file that its holder was never shown.
// So the key of the handles, and the fsid, are of one place, and handles of another are Stale.
//
// Everything in it outlives restarts of the host, as device numbers do not.
type place [sha256.Size]byte

// maxPlaces bounds how many earlier places are remembered. Handles of older ones are BadHandle.
const maxPlaces = 16

// placeOf looks at the root of the export.
func placeOf(root int) (place, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(root, &st); err != nil {
		return place{}, fmt.Errorf("statfs: %w", err)
	}
	sx, err := raw(root)
	if err != nil {
		return place{}, err
	}
	var b bytes.Buffer
	id := identOf(&sx)
	for _, v := range []any{int64(st.Type), id.ino, id.birth, uuidOf(root)} {
		if err := binary.Write(&b, binary.BigEndian, v); err != nil {
			return place{}, err
		}
	}
	switch int64(st.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC:
		// Made from the UUID, also where the kernel is too old to tell that; of others it may be a device number.
		if err := binary.Write(&b, binary.BigEndian, st.Fsid.Val); err != nil {
			return place{}, err
		}
	}
	return sha256.Sum256(b.Bytes()), nil
}

// uuidOf is the file system's UUID, or zero where there is none, or the kernel does not tell (Linux before 6.9).
func uuidOf(fd int) (uuid [16]byte) {
	const getfsuuid = 0x80111500 // FS_IOC_GETFSUUID: _IOR(0x15, 0, struct fsuuid2)
	var u struct {
		len  uint8
		uuid [16]byte
	}
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), getfsuuid, uintptr(unsafe.Pointer(&u))); e == 0 && int(u.len) <= len(u.uuid) {
		copy(uuid[:u.len], u.uuid[:])
	}
	return uuid
}

// loadPlaces reads the places that were exported with this state directory and appends now if it is not the last of
// them, durably. before is all others.
func loadPlaces(path string, now place) (before []place, err error) {
	p, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if len(p)%len(now) != 0 {
		return nil, fmt.Errorf("%s has %d bytes: it is damaged", path, len(p))
	}
	last := false
	for ; len(p) > 0; p = p[len(now):] {
		if x := place(p[:len(now)]); x != now {
			before, last = append(before, x), false
		} else {
			last = true
		}
	}
	if last {
		return before, nil
	}
	before = before[max(len(before)-maxPlaces, 0):]
	var all []byte
	for _, x := range append(before[:len(before):len(before)], now) {
		all = append(all, x[:]...)
	}
	return before, writeDurably(path, all)
}

// keyAt is the key of the handles at a place.
func keyAt(secret []byte, at place) macKey {
	h := sha256.New()
	h.Write(secret)
	h.Write(at[:])
	s := h.Sum(nil)
	return macKey{binary.BigEndian.Uint64(s), binary.BigEndian.Uint64(s[8:])}
}
