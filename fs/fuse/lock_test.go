package fuse

import (
	"context"
	"math"
	"sync/atomic"
	"testing"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"holdfast/fs"
)

func TestRangeOf(t *testing.T) {
	for _, c := range []struct {
		name string
		lk   gofuse.FileLock
		want fs.Range
		ok   bool
	}{
		{"both ends are included", gofuse.FileLock{Start: 3, End: 9}, fs.Range{First: 3, Last: 9}, true},
		{"OFFSET_MAX is the end of any file", gofuse.FileLock{Start: 3, End: math.MaxInt64}, fs.Range{First: 3, Last: math.MaxUint64}, true},
		{"one byte", gofuse.FileLock{Start: 3, End: 3}, fs.Range{First: 3, Last: 3}, true},
		{"backwards is refused", gofuse.FileLock{Start: 3, End: 2}, fs.Range{}, false},
	} {
		got, err := rangeOf(&c.lk)
		if (err == nil) != c.ok || got != c.want {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
}

// lockMount is a mount with one file.
func lockMount(t *testing.T) (*memBackend, *memFile, *Mounted, string) {
	b := newMem()
	f := b.make("file", "0123456789", 0666)
	m, dir := mountMem(t, b, nil)
	return b, f, m, dir + "/file"
}

// I1, locally: two processes never hold conflicting locks.
func TestI1ProcessesExcludeEachOther(t *testing.T) {
	b, f, _, path := lockMount(t)
	one, two := newClient(t), newClient(t)
	fd1, fd2 := one.open(path, unix.O_RDWR), two.open(path, unix.O_RDWR)
	one.must(command{Op: "setlk", FD: fd1, Type: unix.F_WRLCK, Off: 2, Len: 4})
	two.fails(unix.EAGAIN, command{Op: "setlk", FD: fd2, Type: unix.F_RDLCK, Off: 5, Len: 1})
	two.must(command{Op: "setlk", FD: fd2, Type: unix.F_WRLCK, Off: 6, Len: 0})
	got := two.must(command{Op: "getlk", FD: fd2, Type: unix.F_WRLCK, Off: 0, Len: 0}).Lock
	if got.Type != unix.F_WRLCK || got.Start != 2 || got.Len != 4 || int(got.Pid) != one.cmd.Process.Pid {
		t.Errorf("F_GETLK: %+v, want 2+4 of %d", got, one.cmd.Process.Pid)
	}
	held := b.held(f)
	if len(held) != 2 {
		t.Fatalf("the backend has %v", held)
	}
	for o := range held {
		if o.Client != fs.LocalClient+"\x01\x02\x03\x04\x05\x06\x07\x08" {
			t.Errorf("client %q", o.Client)
		}
	}
	one.must(command{Op: "setlk", FD: fd1, Type: unix.F_UNLCK, Off: 3, Len: 1})
	two.must(command{Op: "setlk", FD: fd2, Type: unix.F_RDLCK, Off: 3, Len: 1})
	if got := two.must(command{Op: "getlk", FD: fd2, Type: unix.F_WRLCK, Off: 7, Len: 1}).Lock; got.Type != unix.F_UNLCK {
		t.Errorf("own lock is in the way: %+v", got)
	}
}

// fcntl(2): a process loses its locks on a file when it closes any descriptor of it.
func TestCloseDropsPOSIXLocks(t *testing.T) {
	b, f, _, path := lockMount(t)
	one, two := newClient(t), newClient(t)
	fd1, fd2 := one.open(path, unix.O_RDWR), two.open(path, unix.O_RDWR)
	other := one.open(path, unix.O_RDONLY)
	one.must(command{Op: "setlk", FD: fd1, Type: unix.F_WRLCK})
	two.must(command{Op: "close", FD: two.open(path, unix.O_RDONLY)}) // never locked: drops nothing
	if len(b.held(f)) != 1 {
		t.Fatalf("another process's close dropped it: %v", b.held(f))
	}
	one.must(command{Op: "close", FD: other})
	two.must(command{Op: "setlk", FD: fd2, Type: unix.F_WRLCK})
	two.kill()
	// The close is finished before the process is.
	if n := len(b.held(f)); n != 0 {
		t.Errorf("%d locks outlive their process", n)
	}
	one.must(command{Op: "setlk", FD: fd1, Type: unix.F_WRLCK})
}

func TestForkedChildDoesNotDropLocksOfItsParent(t *testing.T) {
	b, f, _, path := lockMount(t)
	one, two := newClient(t), newClient(t)
	fd1, fd2 := one.open(path, unix.O_RDWR), two.open(path, unix.O_RDWR)
	one.must(command{Op: "setlk", FD: fd1, Type: unix.F_WRLCK})
	one.must(command{Op: "child", FD: fd1, Wait: true})
	if len(b.held(f)) != 1 {
		t.Fatalf("the child's close dropped it: %v", b.held(f))
	}
	two.fails(unix.EAGAIN, command{Op: "setlk", FD: fd2, Type: unix.F_RDLCK})
	one.kill()
	two.must(command{Op: "setlk", FD: fd2, Type: unix.F_RDLCK})
}

// flock(2) and OFD locks belong to the open file: they end with the last copy of the descriptor.
func TestOpenFileLocksEndWithTheLastDescriptor(t *testing.T) {
	lock := map[string]command{
		"flock": {Op: "flock", Flags: unix.LOCK_EX | unix.LOCK_NB},
		"OFD":   {Op: "setlk", OFD: true, Type: unix.F_WRLCK},
	}
	for name, cmd := range lock {
		t.Run(name, func(t *testing.T) {
			_, _, _, path := lockMount(t)
			one, two := newClient(t), newClient(t)
			fd1, fd2 := one.open(path, unix.O_RDWR), two.open(path, unix.O_RDWR)
			cmd1, cmd2 := cmd, cmd
			cmd1.FD, cmd2.FD = fd1, fd2
			one.must(cmd1)
			two.fails(unix.EAGAIN, cmd2)
			again := cmd
			again.FD = one.open(path, unix.O_RDWR)
			one.fails(unix.EAGAIN, again) // of the same process, but another open file
			one.must(command{Op: "close", FD: again.FD})
			two.fails(unix.EAGAIN, cmd2) // that close dropped nothing
			child := int(one.must(command{Op: "child", FD: fd1}).N)
			one.must(command{Op: "close", FD: fd1})
			two.fails(unix.EAGAIN, cmd2) // a child has it
			one.kill()                   // and its child with it
			unix.Kill(child, unix.SIGKILL)
			eventually(t, "the last descriptor is closed", func() bool { return two.do(cmd2).Errno == 0 })
		})
	}
}

// A close of the last descriptor is answered before we hear of it; a program that tries right after
// must find the lock free.
func TestFlockRightAfterTheLastClose(t *testing.T) {
	_, _, _, path := lockMount(t)
	one, two := newClient(t), newClient(t)
	fd2 := two.open(path, unix.O_RDWR)
	for range 100 {
		fd1 := one.open(path, unix.O_RDWR)
		one.must(command{Op: "flock", FD: fd1, Flags: unix.LOCK_EX | unix.LOCK_NB})
		one.must(command{Op: "close", FD: fd1})
		two.must(command{Op: "flock", FD: fd2, Flags: unix.LOCK_EX | unix.LOCK_NB})
		two.must(command{Op: "flock", FD: fd2, Flags: unix.LOCK_UN})
	}
}

func TestFlockConversion(t *testing.T) {
	_, _, m, path := lockMount(t)
	one, two := newClient(t), newClient(t)
	fd1, fd2 := one.open(path, unix.O_RDWR), two.open(path, unix.O_RDWR)
	one.must(command{Op: "flock", FD: fd1, Flags: unix.LOCK_SH})
	two.must(command{Op: "flock", FD: fd2, Flags: unix.LOCK_SH})
	up1 := one.start(command{Op: "flock", FD: fd1, Flags: unix.LOCK_EX})
	eventually(t, "one waits", func() bool { return m.Status().BlockedLocks == 1 })
	up2 := two.start(command{Op: "flock", FD: fd2, Flags: unix.LOCK_EX})
	// Both cannot keep the shared lock: one gets through, and the other after it.
	select {
	case r := <-up1:
		if r.Errno != 0 {
			t.Fatal(r.Errno)
		}
		one.must(command{Op: "flock", FD: fd1, Flags: unix.LOCK_UN})
		if r := await(t, "the second", up2); r.Errno != 0 {
			t.Error(r.Errno)
		}
	case r := <-up2:
		if r.Errno != 0 {
			t.Fatal(r.Errno)
		}
		two.must(command{Op: "flock", FD: fd2, Flags: unix.LOCK_UN})
		if r := await(t, "the first", up1); r.Errno != 0 {
			t.Error(r.Errno)
		}
	}
}

func TestBlockedLock(t *testing.T) {
	kinds := map[string][2]command{
		"POSIX": {{Op: "setlk", Type: unix.F_WRLCK, Wait: true}, {Op: "setlk", Type: unix.F_UNLCK}},
		"OFD":   {{Op: "setlk", Type: unix.F_WRLCK, Wait: true, OFD: true}, {Op: "setlk", Type: unix.F_UNLCK, OFD: true}},
		"flock": {{Op: "flock", Flags: unix.LOCK_EX}, {Op: "flock", Flags: unix.LOCK_UN}},
	}
	for name, k := range kinds {
		t.Run(name, func(t *testing.T) {
			b, f, m, path := lockMount(t)
			one, two := newClient(t), newClient(t)
			lock, unlock := k[0], k[1]
			lock.FD = one.open(path, unix.O_RDWR)
			unlock.FD = lock.FD
			fd2 := two.open(path, unix.O_RDWR)
			one.must(lock)
			lock.FD = fd2
			blocked := two.start(lock)
			eventually(t, "it waits", func() bool { return b.queued(f) == 1 })
			stillBlocked(t, "the lock", blocked)

			two.signal()
			if r := await(t, "the interrupted lock", blocked); r.Errno != unix.EINTR {
				t.Fatalf("interrupted: %v", r.Errno)
			}
			if b.count("CancelWait") != 1 {
				t.Error("the place in the queue was not given back")
			}
			if n := m.Status().BlockedLocks; n != 0 {
				t.Errorf("%d still wait", n)
			}

			blocked = two.start(lock)
			eventually(t, "it waits again", func() bool { return m.Status().BlockedLocks == 1 })
			one.must(unlock)
			if r := await(t, "the lock", blocked); r.Errno != 0 {
				t.Fatal(r.Errno)
			}
			if len(b.held(f)) != 1 {
				t.Errorf("held: %v", b.held(f))
			}
		})
	}
}

func TestBlockedLockHearsOfOtherClients(t *testing.T) {
	b := newMem()
	b.mayNotify = true
	f := b.make("file", "x", 0666)
	rival := fs.Owner{Client: "another", Owner: "o"}
	b.lockAs(f, rival, fs.WriteLock)
	m, dir := mountMem(t, b, nil)
	c := newClient(t)
	fd := c.open(dir+"/file", unix.O_RDWR)
	got := c.must(command{Op: "getlk", FD: fd, Type: unix.F_WRLCK}).Lock
	if got.Type != unix.F_WRLCK || got.Pid != 0 || got.Start != 0 || got.Len != 0 {
		t.Errorf("F_GETLK: %+v", got)
	}
	blocked := c.start(command{Op: "setlk", FD: fd, Type: unix.F_WRLCK, Wait: true})
	eventually(t, "it waits", func() bool { return m.Status().BlockedLocks == 1 })
	if err := b.Unlock(t.Context(), fs.Root, rival, b.handle(f.id), fs.Range{First: 0, Last: math.MaxUint64}); err != nil {
		t.Fatal(err)
	}
	if r := await(t, "the lock", blocked); r.Errno != 0 {
		t.Error(r.Errno)
	}
}

func TestKilledWhileBlocked(t *testing.T) {
	b, f, m, path := lockMount(t)
	one, two := newClient(t), newClient(t)
	one.must(command{Op: "setlk", FD: one.open(path, unix.O_RDWR), Type: unix.F_WRLCK})
	fd2 := two.open(path, unix.O_RDWR)
	two.start(command{Op: "setlk", FD: fd2, Type: unix.F_WRLCK, Wait: true})
	eventually(t, "it waits", func() bool { return m.Status().BlockedLocks == 1 })
	two.kill()
	eventually(t, "its open is closed", func() bool { return b.openCount(f) == 1 })
	one.kill()
	eventually(t, "nothing is left", func() bool { return len(b.held(f)) == 0 && m.Status().LockOwners == 0 })
}

// Grace and Delay are not for applications: they wait, and may be interrupted.
func TestGraceIsWaitedOut(t *testing.T) {
	b := newMem()
	f := b.make("file", "x", 0666)
	var in atomic.Int32
	b.hook = func(_ context.Context, op string) error {
		if op == "Lock" && in.Add(-1) >= 0 {
			return fs.Grace
		}
		return nil
	}
	_, dir := mountMem(t, b, nil)
	c := newClient(t)
	fd := c.open(dir+"/file", unix.O_RDWR)
	in.Store(2)
	c.must(command{Op: "setlk", FD: fd, Type: unix.F_WRLCK})
	in.Store(math.MaxInt32)
	blocked := c.start(command{Op: "setlk", FD: fd, Type: unix.F_RDLCK, Off: 1, Len: 1})
	eventually(t, "it is asked", func() bool { return in.Load() < math.MaxInt32 })
	c.signal()
	if r := await(t, "the lock", blocked); r.Errno != unix.EINTR {
		t.Errorf("interrupted in grace: %v", r.Errno)
	}
	if got := b.held(f); len(got) != 1 {
		t.Errorf("held %v", got)
	}
}

func TestLockNeedsTheOpenForIt(t *testing.T) {
	_, _, _, path := lockMount(t)
	c := newClient(t)
	fd := c.open(path, unix.O_RDONLY)
	c.fails(unix.EBADF, command{Op: "flock", FD: fd, Flags: unix.LOCK_EX | unix.LOCK_NB})
	c.must(command{Op: "flock", FD: fd, Flags: unix.LOCK_SH | unix.LOCK_NB})
}

// I2: whoever lost a lock is told.
func TestI2LostLockMeansEIOUntilUnlocked(t *testing.T) {
	b, f, m, path := lockMount(t)
	c, other := newClient(t), newClient(t)
	fd, fd2 := c.open(path, unix.O_RDWR), other.open(path, unix.O_RDWR)
	c.must(command{Op: "setlk", FD: fd, Type: unix.F_WRLCK, Off: 0, Len: 4})
	c.must(command{Op: "read", FD: fd, Len: 4})
	var owner fs.Owner
	var set fs.RangeSet
	for owner, set = range b.held(f) {
	}
	b.mu.Lock()
	clear(f.locks)
	b.mu.Unlock()
	before := m.Status().Invalidations
	listener{m.s}.Revoked(owner, b.handle(f.id), set, fs.Expired)
	eventually(t, "the kernel is told", func() bool { return m.Status().Invalidations > before })
	c.fails(unix.EIO, command{Op: "write", FD: fd, Data: "x"})
	eventually(t, "cached pages are gone too", func() bool { return c.do(command{Op: "read", FD: fd, Len: 4}).Errno == unix.EIO })
	c.fails(unix.EIO, command{Op: "setlk", FD: fd, Type: unix.F_WRLCK, Off: 0, Len: 4})
	c.fails(unix.EIO, command{Op: "fsync", FD: fd})
	other.must(command{Op: "write", FD: fd2, Data: "y"}) // never had it
	c.must(command{Op: "setlk", FD: fd, Type: unix.F_UNLCK, Off: 0, Len: 4})
	c.must(command{Op: "write", FD: fd, Data: "x"})
	c.must(command{Op: "setlk", FD: fd, Type: unix.F_WRLCK, Off: 0, Len: 4})
}

func TestI2LostOpenMeansEIOUntilClosed(t *testing.T) {
	b, f, m, path := lockMount(t)
	c := newClient(t)
	fd := c.open(path, unix.O_RDWR)
	b.mu.Lock()
	var owner fs.Owner
	for owner = range f.opens {
	}
	clear(f.opens)
	b.mu.Unlock()
	listener{m.s}.Revoked(owner, b.handle(f.id), nil, fs.AdminRevoked)
	c.fails(unix.EIO, command{Op: "write", FD: fd, Data: "x"})
	c.fails(unix.EIO, command{Op: "setlk", FD: fd, Type: unix.F_WRLCK})
	c.must(command{Op: "close", FD: fd})
	c.must(command{Op: "write", FD: c.open(path, unix.O_RDWR), Data: "x"})
}

// A lock that is granted must show what its last holder wrote, on whichever host.
func TestLockShowsWhatOthersWrote(t *testing.T) {
	b := newMem()
	f := b.make("file", "old....", 0666)
	_, dir := mountMem(t, b, func(c *Config) { c.AttrTimeout, c.EntryTimeout = 1<<40, 1<<40 })
	c := newClient(t)
	fd := c.open(dir+"/file", unix.O_RDWR|unix.O_APPEND)
	fdr := c.open(dir+"/file", unix.O_RDWR)
	if r := c.must(command{Op: "read", FD: fdr, Len: 100}); r.Data != "old...." {
		t.Fatal(r.Data)
	}
	b.set(f, "new", false) // nobody tells us
	c.must(command{Op: "setlk", FD: fdr, Type: unix.F_WRLCK})
	if r := c.must(command{Op: "read", FD: fdr, Len: 100}); r.Data != "new" {
		t.Errorf("read under the lock: %q", r.Data)
	}
	b.set(f, "newer and longer", false)
	c.must(command{Op: "append", FD: fd, Data: "!"})
	if got := b.content(f); got != "newer and longer!" {
		t.Errorf("after the append: %q", got)
	}
}
