//go:build linux

package local

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"holdfast/fs"
)

// An identity is who the daemon is, and becomes the end user for the length of one call.
//
// Linux keeps credentials per thread, so the goroutine is locked to its thread, the thread takes
// fsuid, fsgid and groups of the user with raw system calls (the Go wrappers would change all
// threads), and gets its own back before the goroutine leaves it. That is six to nine system calls
// of some 150 ns each. Handing the call to a thread that has the identity already would cost a wake-up
// of another thread, which is dearer, so there is no pool.
//
// When fsuid leaves 0 the kernel takes the file capabilities (CAP_DAC_OVERRIDE and its like) out of
// the effective set, and puts them back on the return: so all permission checks, quotas and the
// clearing of set-id bits come out as if the user ran here. A new thread is never cloned from one
// that is locked, the runtime sees to that, so no other goroutine inherits a user.
type identity struct {
	uid, gid int
	groups   []uint32
	caps     [2]unix.CapUserData
	able     bool // may become others; else every call is done as the daemon
}

// fsCaps are the capabilities that the kernel ties to fsuid 0, by their bit.
const fsCaps = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH | 1<<unix.CAP_FOWNER |
	1<<unix.CAP_FSETID | 1<<unix.CAP_LINUX_IMMUTABLE | 1<<unix.CAP_MKNOD

// newIdentity reads who the daemon is. The error names what is missing to act for others.
func newIdentity() (*identity, error) {
	id := &identity{uid: unix.Geteuid(), gid: unix.Getegid()}
	groups, err := unix.Getgroups()
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		id.groups = append(id.groups, uint32(g))
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&hdr, &id.caps[0]); err != nil {
		return nil, err
	}
	const need = fsCaps&^(1<<unix.CAP_LINUX_IMMUTABLE|1<<unix.CAP_MKNOD) | 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID
	id.able = id.uid == 0 && id.caps[0].Effective&need == need
	if !id.able {
		return id, fmt.Errorf("uid %d with capabilities %#x cannot act for other users: run as root with CAP_SETUID, CAP_SETGID, "+
			"CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER and CAP_FSETID", id.uid, id.caps[0].Effective)
	}
	return id, nil
}

var errNobody = errors.New("no credential")

// as runs f as the user of cred. f makes system calls and nothing else: it must not start
// goroutines, call back or wait for others. spends says that f may use disk space: then the
// daemon's privilege to exceed quotas and to use reserved blocks is laid down as well.
func (id *identity) as(cred *fs.Cred, spends bool, f func() error) error {
	if cred == nil {
		return fs.E("", fs.Access, errNobody)
	}
	if !id.able || (cred.UID == 0 && int(cred.GID) == id.gid) {
		return f()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer id.restore(cred, spends)
	if err := id.become(cred, spends); err != nil {
		return err
	}
	return f()
}

// ownGroups tells whether the thread's groups are right already. Groups of the superuser do not
// matter, and may stay.
func (id *identity) ownGroups(cred *fs.Cred) bool {
	return cred.UID == 0 || slices.Equal(cred.Groups, id.groups)
}

func (id *identity) become(cred *fs.Cred, spends bool) error {
	if !id.ownGroups(cred) {
		if err := setgroups(cred.Groups); err != nil {
			return fmt.Errorf("setgroups: %w", err)
		}
	}
	if err := setfsid(unix.SYS_SETFSGID, int(cred.GID)); err != nil {
		return fmt.Errorf("setfsgid %d: %w", cred.GID, err)
	}
	if err := setfsid(unix.SYS_SETFSUID, int(cred.UID)); err != nil {
		return fmt.Errorf("setfsuid %d: %w", cred.UID, err)
	}
	if spends && cred.UID != 0 && id.caps[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0 {
		caps := id.caps
		caps[0].Effective &^= fsCaps | 1<<unix.CAP_SYS_RESOURCE
		caps[1].Effective &^= 1 << (unix.CAP_MAC_OVERRIDE - 32)
		if err := capset(&caps); err != nil {
			return fmt.Errorf("capset: %w", err)
		}
	}
	return nil
}

// restore gives the thread its own identity back. It cannot fail but for want of kernel memory, and
// a thread that goes back to the runtime as somebody else must not be: so it ends the process then.
func (id *identity) restore(cred *fs.Cred, spends bool) {
	var err error
	for range 1000 {
		err = setfsid(unix.SYS_SETFSUID, id.uid)
		if err == nil {
			err = setfsid(unix.SYS_SETFSGID, id.gid)
		}
		if err == nil && !id.ownGroups(cred) {
			err = setgroups(id.groups)
		}
		if err == nil && spends && cred.UID != 0 {
			err = capset(&id.caps)
		}
		if err == nil {
			return
		}
		runtime.Gosched()
	}
	// No panic: somebody may recover, and the thread would live on.
	fmt.Fprintf(os.Stderr, "fs/local: a thread cannot get its own identity back: %v\n", err)
	os.Exit(2)
}

// setfsid sets fsuid or fsgid of this thread and looks whether it did: the calls do not say.
func setfsid(call uintptr, to int) error {
	if uint32(to) == ^uint32(0) {
		return syscall.EINVAL // the kernel takes -1 for a question
	}
	unix.RawSyscall(call, uintptr(to), 0, 0)
	now, _, _ := unix.RawSyscall(call, ^uintptr(0), 0, 0)
	if int(int32(now)) != int(int32(to)) {
		return syscall.EPERM
	}
	return nil
}

func setgroups(groups []uint32) error {
	var p unsafe.Pointer
	if len(groups) > 0 {
		p = unsafe.Pointer(&groups[0])
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(p), 0); e != 0 {
		return e
	}
	return nil
}

func capset(caps *[2]unix.CapUserData) error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if _, _, e := unix.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&caps[0])), 0); e != 0 {
		return e
	}
	return nil
}
