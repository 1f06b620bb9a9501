//go:build linux

package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/fs"
	"holdfast/internal/clock"
)

// openFDs counts descriptors of this process that lead to a name below dir, unlinked ones included.
func openFDs(t testing.TB, name string) (n int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.Contains(to, name) {
			n++
		}
	}
	return n
}

func TestIdleFilesAreClosed(t *testing.T) {
	now := clock.NewFake(time.Unix(1e9, 0))
	b := start(t, Config{Clock: now})
	mustWrite(t, b.cfg.Dir+"/idlefile", "x")
	f := lookup(t, b, b.rootHandle, "idlefile")
	if _, err := b.Write(t.Context(), rootCred, fs.IORef{Handle: f}, 0, []byte("y"), fs.Unstable); err != nil {
		t.Fatal(err)
	}
	if openFDs(t, "idlefile") != 1 {
		t.Fatal("anonymous I/O keeps no descriptor")
	}
	now.Advance(idleTime)
	if n := openFDs(t, "idlefile"); n != 0 {
		t.Errorf("%d descriptors after the idle time", n)
	}
	// Under an open it stays, and goes with it.
	if _, err := b.Open(t.Context(), rootCred, &fs.OpenRequest{Owner: owner("o"), Access: fs.ShareBoth, File: f}); err != nil {
		t.Fatal(err)
	}
	now.Advance(10 * idleTime)
	if n := openFDs(t, "idlefile"); n != 1 {
		t.Errorf("%d descriptors under an open", n)
	}
	if err := b.CloseFile(t.Context(), owner("o"), f); err != nil {
		t.Fatal(err)
	}
	if n := openFDs(t, "idlefile"); n != 0 {
		t.Errorf("%d descriptors after the close", n)
	}
	// A removed file is not kept on disk by our cache.
	if _, _, err := b.Read(t.Context(), rootCred, fs.IORef{Handle: f}, 0, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Remove(t.Context(), rootCred, b.rootHandle, "idlefile", fs.RemoveAny); err != nil {
		t.Fatal(err)
	}
	if n := openFDs(t, "idlefile"); n != 0 {
		t.Errorf("%d descriptors of a removed file", n)
	}
}

// There may be more opens than descriptors: files are opened again when they are needed.
func TestMoreOpensThanDescriptors(t *testing.T) {
	b := start(t, Config{MaxFiles: 8, Async: true})
	needRoot(t)
	const n = 50
	files := make([]fs.Handle, n)
	ctx := t.Context()
	for i := range n {
		r, err := b.Open(ctx, rootCred, &fs.OpenRequest{Owner: owner("o"), Access: fs.ShareBoth, Dir: b.rootHandle, Name: fmt.Sprintf("pressed%d", i), Create: fs.Guarded})
		if err != nil {
			t.Fatal(err)
		}
		files[i] = r.File
		if _, err := b.Write(ctx, rootCred, fs.IORef{Handle: r.File, Open: owner("o")}, 0, []byte{byte(i)}, fs.Unstable); err != nil {
			t.Fatal(err)
		}
		if i == 0 { // it has no name any more, so its descriptor is all there is
			if _, err := b.Remove(ctx, rootCred, b.rootHandle, "pressed0", fs.RemoveAny); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := openFDs(t, "pressed"); got > 10 {
		t.Errorf("%d descriptors", got)
	}
	for i, h := range files {
		buf := make([]byte, 2)
		k, _, err := b.Read(ctx, rootCred, fs.IORef{Handle: h, Open: owner("o")}, 0, buf)
		if err != nil || k != 1 || buf[0] != byte(i) {
			t.Errorf("file %d: %v %v", i, buf[:k], err)
		}
	}
	for _, h := range files {
		if err := b.CloseFile(ctx, owner("o"), h); err != nil {
			t.Error(err)
		}
	}
}

func TestFlusherShares(t *testing.T) {
	var f flusher
	var runs, inside atomic.Int64
	gate := make(chan struct{})
	run := func(bool) error {
		if inside.Add(1) != 1 {
			t.Error("two fsyncs at a time")
		}
		runs.Add(1)
		<-gate
		inside.Add(-1)
		return nil
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = f.do(t.Context(), false, run) })
	for runs.Load() == 0 { // the first runs and waits at the gate
		yield()
	}
	const waiters = 50
	var joined atomic.Int64
	for range waiters {
		wg.Go(func() {
			joined.Add(1)
			if err := f.do(t.Context(), true, run); err != nil {
				t.Error(err)
			}
		})
	}
	for joined.Load() < waiters {
		yield()
	}
	ended, stop := context.WithCancel(t.Context())
	stop()
	if err := f.do(ended, true, run); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: %v", err)
	}
	close(gate)
	wg.Wait()
	if n := runs.Load(); n < 2 || n > waiters/2 {
		t.Errorf("%d fsyncs for %d requests", n, waiters+2)
	}
}

// An error reaches all who waited for that fsync, and nobody else.
func TestFlusherErrors(t *testing.T) {
	var f flusher
	bad := errors.New("bad")
	if err := f.do(t.Context(), false, func(bool) error { return bad }); err != bad {
		t.Error(err)
	}
	if err := f.do(t.Context(), false, func(bool) error { return nil }); err != nil {
		t.Error(err)
	}
}

func TestCloseWaitsAndRefuses(t *testing.T) {
	b := start(t, Config{})
	if err := b.enter(); err != nil { // a call that runs
		t.Fatal(err)
	}
	ended, stop := context.WithCancel(t.Context())
	stop()
	if err := b.Close(ended); fs.CodeOf(err) != fs.Interrupted {
		t.Errorf("close while a call runs: %v", err)
	}
	if _, err := b.GetAttr(t.Context(), rootCred, b.rootHandle); fs.CodeOf(err) != fs.Delay {
		t.Errorf("a new call: %v", err)
	}
	b.leave()
	for range 2 {
		if err := b.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// Everything that a backend opens, it closes.
func TestNoDescriptorIsLost(t *testing.T) {
	both(t, func(t *testing.T, cfg Config) {
		cfg.Dir, cfg.StateDir, cfg.Logger = t.TempDir(), t.TempDir(), quiet()
		before := openFDs(t, "")
		l, err := New(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		b := l.(*Backend)
		ctx := t.Context()
		for i := range 5 {
			name := fmt.Sprint(i)
			r, err := b.Open(ctx, rootCred, &fs.OpenRequest{Owner: owner("o"), Access: fs.ShareBoth, Dir: b.rootHandle, Name: name, Create: fs.Guarded})
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Lock(ctx, rootCred, &fs.LockRequest{File: r.File, OpenOwner: owner("o"), LockOwner: owner("l"), Range: fs.Range{First: 0, Last: 1}, Type: fs.WriteLock}); err != nil {
				t.Fatal(err)
			}
			_, _, _ = b.Lookup(ctx, rootCred, r.File, "x")
			_, _, _ = b.Lookup(ctx, rootCred, b.rootHandle, "absent")
			_, _, _ = b.LookupParent(ctx, rootCred, r.File)
			_, _ = b.ReadDir(ctx, rootCred, b.rootHandle, 0, true, func(*fs.DirEntry) bool { return false })
			_, _, _ = b.Rename(ctx, rootCred, b.rootHandle, name, b.rootHandle, "r"+name)
			_, _ = b.Link(ctx, rootCred, r.File, b.rootHandle, name)
			_, _ = b.Remove(ctx, rootCred, b.rootHandle, name, fs.RemoveDir)
			_, _ = b.GetXattr(ctx, rootCred, r.File, "x")
			_, _ = b.Access(ctx, rootCred, r.File, 0x3f)
			_ = b.TestLock(ctx, rootCred, owner("m"), r.File, fs.Range{First: 0, Last: 1}, fs.ReadLock)
		}
		if err := b.Close(ctx); err != nil {
			t.Fatal(err)
		}
		if after := openFDs(t, ""); after != before {
			t.Errorf("%d descriptors, %d before", after, before)
		}
	})
}

// After the identity of a user was taken on, the thread is the daemon again: what it creates
// belongs to it.
func TestIdentityIsRestored(t *testing.T) {
	needRoot(t)
	id, err := newIdentity()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "identity") // not below a directory that others may not search
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 50 {
				cred := &fs.Cred{UID: uint32(1000 + w), GID: uint32(2000 + w), Groups: []uint32{5, 6}}
				name := fmt.Sprintf("%s/%d.%d", dir, w, i)
				err := id.as(cred, i%2 == 0, func() error { return os.Mkdir(name, 0o755) })
				if err != nil {
					t.Error(err)
					return
				}
				if err := os.Mkdir(name+".own", 0o755); err != nil {
					t.Error(err)
				}
				for path, want := range map[string]uint32{name: cred.UID, name + ".own": 0} {
					if got, err := uidOf(path); err != nil || got != want {
						t.Errorf("%s belongs to %d, want %d (%v)", path, got, want, err)
					}
				}
			}
		})
	}
	wg.Wait()
	if err := id.as(nil, false, func() error { return nil }); fs.CodeOf(err) != fs.Access {
		t.Errorf("without a credential: %v", err)
	}
	if err := id.as(&fs.Cred{UID: ^uint32(0)}, false, func() error { t.Error("run"); return nil }); err == nil {
		t.Error("uid -1 was taken on")
	}
	ran := false
	func() {
		defer func() { ran = recover() != nil }()
		_ = id.as(&fs.Cred{UID: 1000, GID: 1000}, true, func() error { panic("x") })
	}()
	if err := os.Mkdir(dir+"/after panic", 0o755); err != nil || !ran {
		t.Fatal(err, ran)
	}
	if got, _ := uidOf(dir + "/after panic"); got != 0 {
		t.Errorf("after a panic the thread is %d", got)
	}
}

// I7: what could not be made durable is said to be lost, by another verifier.
func TestFailedSyncChangesVerifier(t *testing.T) {
	b := start(t, Config{})
	r, w, err := os.Pipe() // which cannot be synced
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	before := b.writeVerifier()
	f := &file{fd: int(w.Fd())}
	f.dirty.Store(true)
	if err := b.fsync(t.Context(), f, true); err == nil {
		t.Fatal("a pipe was synced")
	}
	if b.writeVerifier() == before {
		t.Error("the verifier is the same")
	}
	if !f.dirty.Load() {
		t.Error("the data counts as safe")
	}
}

// RFC 8275 5: the umask bends the mode, unless the directory has a default ACL.
func TestUmaskAndDefaultACL(t *testing.T) {
	b := start(t, Config{})
	mustMkdir(t, b.cfg.Dir+"/acl")
	// user::rwx, group::rwx, other::rwx in the kernel's form: version, then tag, permissions, id.
	acl := []byte{2, 0, 0, 0}
	for _, tag := range []byte{1, 4, 0x20} {
		acl = append(acl, tag, 0, 7, 0, 0xff, 0xff, 0xff, 0xff)
	}
	if err := unix.Setxattr(b.cfg.Dir+"/acl", "system.posix_acl_default", acl, 0); err != nil {
		t.Skip("run on a file system with ACLs:", err)
	}
	for dir, want := range map[fs.Handle]uint32{b.rootHandle: 0o640, lookup(t, b, b.rootHandle, "acl"): 0o666} {
		set := fs.SetAttr{Mode: ptr(uint32(0o666)), Umask: ptr(uint32(0o027))}
		r, err := b.Open(t.Context(), rootCred, &fs.OpenRequest{Owner: owner("o"), Access: 1, Dir: dir, Name: "f", Create: fs.Guarded, Attr: set})
		if err != nil {
			t.Fatal(err)
		}
		if r.Attr.Mode != want {
			t.Errorf("mode %o, want %o", r.Attr.Mode, want)
		}
		_, a, _, err := b.Create(t.Context(), rootCred, dir, "fifo", &fs.CreateRequest{Type: fs.FIFO, Attr: set})
		if err != nil {
			t.Fatal(err)
		}
		if a.Mode != want {
			t.Errorf("fifo: mode %o, want %o", a.Mode, want)
		}
	}
}

// A directory that all may search by its mode, and one user may not by its ACL.
func TestSearchByACL(t *testing.T) {
	needRoot(t)
	b := start(t, Config{})
	mustMkdir(t, b.cfg.Dir+"/d")
	mustWrite(t, b.cfg.Dir+"/d/f", "")
	// user::rwx, user:4242:---, group::r-x, mask::r-x, other::r-x.
	acl := []byte{2, 0, 0, 0}
	for _, e := range [][]byte{{1, 0, 7, 0, 255, 255, 255, 255}, {2, 0, 0, 0, 0x92, 0x10, 0, 0}, {4, 0, 5, 0, 255, 255, 255, 255}, {0x10, 0, 5, 0, 255, 255, 255, 255}, {0x20, 0, 5, 0, 255, 255, 255, 255}} {
		acl = append(acl, e...)
	}
	if err := unix.Setxattr(b.cfg.Dir+"/d", "system.posix_acl_access", acl, 0); err != nil {
		t.Skip("run on a file system with ACLs:", err)
	}
	d := lookup(t, b, b.rootHandle, "d")
	if _, _, err := b.Lookup(t.Context(), &fs.Cred{UID: 4243, GID: 4243}, d, "f"); err != nil {
		t.Error(err)
	}
	if _, _, err := b.Lookup(t.Context(), &fs.Cred{UID: 4242, GID: 4242}, d, "f"); fs.CodeOf(err) != fs.Access {
		t.Errorf("the user whom the ACL keeps out: %v", err)
	}
}
