package fuse

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"holdfast/fs"
)

func TestFence(t *testing.T) {
	t.Run("a nil fence is open", func(t *testing.T) {
		var f *Fence
		if f.Closed() || f.Waiting() != 0 || !f.pass(nil, nil).Ok() || f.Wait(t.Context()) != nil {
			t.Error("it is not")
		}
	})
	t.Run("opening lets all waiters go, and is final", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := NewFence(FenceBlock)
			got := make(chan error, 3)
			for range 3 {
				go func() { got <- f.Wait(context.Background()) }()
			}
			synctest.Wait()
			if f.Waiting() != 3 || !f.Closed() || len(got) != 0 {
				t.Fatalf("waiting %d, closed %v, let through %d", f.Waiting(), f.Closed(), len(got))
			}
			f.Open()
			f.Open()
			for range 3 {
				if err := <-got; err != nil {
					t.Error(err)
				}
			}
			synctest.Wait()
			if f.Waiting() != 0 || f.Closed() {
				t.Errorf("waiting %d, closed %v", f.Waiting(), f.Closed())
			}
		})
	})
	t.Run("a waiter can leave", func(t *testing.T) {
		f := NewFence(FenceBlock)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("enough"))
		if err := f.Wait(ctx); !errors.Is(err, fs.Interrupted) {
			t.Error(err)
		}
		done := make(chan struct{})
		close(done)
		if st := f.pass(done, nil); syscall.Errno(st) != syscall.EINTR {
			t.Error(st)
		}
		if st := f.pass(nil, done); syscall.Errno(st) != syscall.ENOTCONN {
			t.Error(st)
		}
	})
	t.Run("EAGAIN mode refuses at once", func(t *testing.T) {
		f := NewFence(FenceEAGAIN)
		if st := f.pass(nil, nil); syscall.Errno(st) != syscall.EAGAIN {
			t.Error(st)
		}
		f.Open()
		if st := f.pass(nil, nil); !st.Ok() {
			t.Error(st)
		}
	})
}

// I4: a local application sees nothing of the file system before re-export begins.
func TestI4NothingPassesTheClosedFence(t *testing.T) {
	b := newMem()
	b.make("file", "secret", 0644)
	fence := NewFence(FenceBlock)
	m, dir := mountMem(t, b, func(c *Config) { c.Fence = fence })
	look := newClient(t)
	st := look.must(command{Op: "stat", Path: dir})
	if st.Stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		t.Errorf("the root is %o", st.Stat.Mode)
	}
	if st := look.must(command{Op: "statfs", Path: dir}); st.N != 0 {
		t.Errorf("statfs tells of %d blocks", st.N)
	}

	blocked := []command{
		{Op: "stat", Path: dir + "/file"},
		{Op: "open", Path: dir + "/file"},
		{Op: "open", Path: dir + "/new", Flags: unix.O_CREAT | unix.O_RDWR, Mode: 0644},
		{Op: "readdir", Path: dir},
		{Op: "mkdir", Path: dir + "/d", Mode: 0755},
		{Op: "unlink", Path: dir + "/file"},
		{Op: "rename", Path: dir + "/file", To: dir + "/other"},
		{Op: "chmod", Path: dir, Mode: 0700},
		{Op: "access", Path: dir, Mode: unix.R_OK},
	}
	replies := make([]<-chan reply, len(blocked))
	clients := make([]*client, len(blocked))
	for i, cmd := range blocked {
		clients[i] = newClient(t)
		replies[i] = clients[i].start(cmd)
		eventually(t, "waits at the fence: "+cmd.Op, func() bool { return m.Status().Waiting >= 1 })
	}
	// Operations in one directory wait for each other in the kernel, so not all of them are with us.
	for i := range blocked {
		stillBlocked(t, blocked[i].Op, replies[i])
	}
	b.mu.Lock()
	if len(b.calls) != 0 {
		t.Errorf("the backend was asked: %v", b.calls)
	}
	b.mu.Unlock()
	if !m.Status().Fenced {
		t.Error("status does not say that it is fenced")
	}

	fence.Open()
	for i := range blocked {
		r := await(t, blocked[i].Op, replies[i])
		if r.Errno != 0 && r.Errno != unix.ENOENT { // some take each other's file away
			t.Errorf("%s after opening: %v", blocked[i].Op, r.Errno)
		}
	}
	if n := m.Status().Waiting; n != 0 {
		t.Errorf("%d still wait", n)
	}
	if st := look.must(command{Op: "statfs", Path: dir}); st.N == 0 {
		t.Error("statfs is still invented")
	}
}

func TestFencedProcessCanBeKilledOrInterrupted(t *testing.T) {
	fence := NewFence(FenceBlock)
	m, dir := mountMem(t, newMem(), func(c *Config) { c.Fence = fence })
	c := newClient(t)
	r := c.start(command{Op: "open", Path: dir + "/file"})
	eventually(t, "it waits", func() bool { return m.Status().Waiting == 1 })
	c.signal()
	if r := await(t, "the interrupted open", r); r.Errno != unix.EINTR {
		t.Errorf("interrupted: %v", r.Errno)
	}
	c.start(command{Op: "readdir", Path: dir})
	eventually(t, "it waits again", func() bool { return m.Status().Waiting == 1 })
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	dead := make(chan error, 1)
	go func() { dead <- c.cmd.Wait() }()
	await(t, "the death of the process", dead)
	eventually(t, "nobody waits", func() bool { return m.Status().Waiting == 0 })
}

func TestUnmountWhileFenced(t *testing.T) {
	fence := NewFence(FenceBlock)
	m, dir := mountMem(t, newMem(), func(c *Config) { c.Fence = fence })
	c := newClient(t)
	r := c.start(command{Op: "stat", Path: dir + "/file"})
	eventually(t, "it waits", func() bool { return m.Status().Waiting == 1 })
	done := make(chan error, 1)
	go func() { done <- m.Unmount() }()
	if err := await(t, "the unmount", done); err != nil {
		t.Fatal(err)
	}
	if r := await(t, "the stat", r); r.Errno == 0 {
		t.Error("stat of a file behind the fence succeeded")
	}
	if err := m.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestFenceRefuses(t *testing.T) {
	fence := NewFence(FenceEAGAIN)
	_, dir := mountMem(t, newMem(), func(c *Config) { c.Fence = fence })
	c := newClient(t)
	c.fails(unix.EAGAIN, command{Op: "stat", Path: dir + "/file"})
	fence.Open()
	c.fails(unix.ENOENT, command{Op: "stat", Path: dir + "/file"})
}

// I5: with no re-export on the mount RECLAIM_COMPLETE goes before the first open or lock, once.
func TestI5ReclaimCompleteBeforeTheFirstOpen(t *testing.T) {
	for _, fenced := range []bool{false, true} {
		b := newMem()
		b.make("file", "x", 0644)
		var atOpen atomic.Int32
		reclaimed := func() int { b.mu.Lock(); defer b.mu.Unlock(); return b.reclaimed }
		b.hook = func(_ context.Context, op string) error {
			if op == "Open" {
				atOpen.Store(int32(reclaimed()))
			}
			return nil
		}
		_, dir := mountMem(t, b, func(c *Config) {
			if fenced {
				c.Fence = NewFence(FenceBlock)
				c.Fence.Open()
			}
		})
		c := newClient(t)
		c.must(command{Op: "stat", Path: dir + "/file"})
		if reclaimed() != 0 {
			t.Error("sent for a stat")
		}
		c.open(dir+"/file", unix.O_RDONLY)
		c.open(dir+"/file", unix.O_RDONLY)
		want := 1
		if fenced {
			want = 0 // the NFS server sends it
		}
		if int(atOpen.Load()) != want || reclaimed() != want {
			t.Errorf("fenced %v: sent %d times, %d before the open", fenced, reclaimed(), atOpen.Load())
		}
	}
}

func TestBusyMountIsNotTakenAway(t *testing.T) {
	b := newMem()
	b.make("file", "x", 0644)
	m, dir := mountMem(t, b, nil)
	c := newClient(t)
	fd := c.open(dir+"/file", unix.O_RDONLY)
	if err := m.Unmount(); !errors.Is(err, ErrBusy) {
		t.Fatalf("unmount of a mount in use: %v", err)
	}
	c.must(command{Op: "read", FD: fd, Len: 1})
	c.must(command{Op: "close", FD: fd})
	if err := m.Unmount(); err != nil {
		t.Fatal(err)
	}
	if n := b.openCount(b.find("file")); n != 0 {
		t.Errorf("%d opens left at the backend", n)
	}
	if _, err := os.Stat(dir); err != nil { // the directory below
		t.Error(err)
	}
}

func TestForcedUnmountGivesStateBack(t *testing.T) {
	b := newMem()
	f := b.make("file", "x", 0644)
	m, dir := mountMem(t, b, nil)
	c := newClient(t)
	fd := c.open(dir+"/file", unix.O_RDWR)
	c.must(command{Op: "setlk", FD: fd, Type: unix.F_WRLCK})
	if len(b.held(f)) != 1 {
		t.Fatal("no lock at the backend")
	}
	if err := m.ForceUnmount(); err != nil {
		t.Fatal(err)
	}
	if b.openCount(f) != 0 || len(b.held(f)) != 0 {
		t.Errorf("left at the backend: %d opens, locks %v", b.openCount(f), b.held(f))
	}
}
