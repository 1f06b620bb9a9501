package remote_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/fs"
	"holdfast/fs/remote"
	"holdfast/journal"
)

// Tests against a real server, which must let us be root. They make a directory of their own there.

// originAddr is where HOLDFAST_ORIGIN points to.
func originAddr(t *testing.T) (server, path string) {
	t.Helper()
	s := os.Getenv("HOLDFAST_ORIGIN")
	if s == "" {
		t.Skip("set HOLDFAST_ORIGIN=host:port:/export to run against a real NFSv4.1 server that grants us root")
	}
	server, path, ok := strings.Cut(s, ":/")
	if !ok {
		t.Fatalf("HOLDFAST_ORIGIN=%q is not host:port:/export", s)
	}
	return server, "/" + path
}

// site is an origin, real or in this process, and a directory there.
type site struct {
	server, path string
}

// mounted is a mount and its journal.
type mounted struct {
	*remote.Remote
	j    *journal.Journal
	root fs.Handle
}

func testLog(t *testing.T) *slog.Logger {
	if !testing.Verbose() {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// mount mounts with the journal in dir, and is a reboot if there is one already.
func (s site) mount(t *testing.T, dir string, change func(*remote.Config)) *mounted {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	j, _, err := journal.Open(dir, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cfg := remote.Config{Name: "filer", Server: s.server, Path: s.path, NConnect: 2, Journal: j, Reexport: true, Retain: true, Logger: testLog(t)}
	if change != nil {
		change(&cfg)
	}
	r, err := remote.Mount(ctx, cfg)
	for errors.Is(err, syscall.ECONNREFUSED) && ctx.Err() == nil { // a server that has just been started
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
		}
		r, err = remote.Mount(ctx, cfg)
	}
	if err != nil {
		j.Close()
		t.Fatal(err)
	}
	m := &mounted{Remote: r, j: j}
	m.root, _ = r.Root(ctx)
	t.Cleanup(func() { m.crash() })
	return m
}

// crash ends the mount as kill -9 would.
func (m *mounted) crash() {
	m.Abandon()
	m.j.Close()
}

var root = fs.Root

func owner(s string) fs.Owner { return fs.Owner{Client: "end client", Owner: s} }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wants(t *testing.T, err error, codes ...fs.Code) {
	t.Helper()
	if !slices.Contains(codes, fs.CodeOf(err)) {
		t.Fatalf("got %v, want %v", err, codes)
	}
}

// workdir is a fresh directory; opens in it wait out the origin's grace period.
func (m *mounted) workdir(t *testing.T) fs.Handle {
	t.Helper()
	ctx := t.Context()
	name := fmt.Sprintf("remote-%d", time.Now().UnixNano())
	mode := uint32(0o777)
	d, _, _, err := m.Create(ctx, root, m.root, name, &fs.CreateRequest{Type: fs.Directory, Attr: fs.SetAttr{Mode: &mode}})
	must(t, err)
	return d
}

func (m *mounted) create(t *testing.T, dir fs.Handle, name string, o fs.Owner) fs.Handle {
	t.Helper()
	mode := uint32(0o666)
	for {
		res, err := m.Open(t.Context(), root, &fs.OpenRequest{Owner: o, Access: fs.ShareBoth, Dir: dir, Name: name, Create: fs.Unchecked, Attr: fs.SetAttr{Mode: &mode}})
		if c := fs.CodeOf(err); c == fs.Grace || c == fs.Delay {
			select {
			case <-time.After(500 * time.Millisecond):
				continue
			case <-t.Context().Done():
			}
		}
		must(t, err)
		return res.File
	}
}

func (m *mounted) lock(t *testing.T, f fs.Handle, o, l fs.Owner, first, last uint64, reclaim bool) error {
	t.Helper()
	return m.Lock(t.Context(), root, &fs.LockRequest{File: f, OpenOwner: o, LockOwner: l, Range: fs.Range{First: first, Last: last}, Type: fs.WriteLock, Reclaim: reclaim})
}

func TestRealOrigin(t *testing.T) {
	server, path := originAddr(t)
	testOrigin(t, site{server, path})
}

// testOrigin is what holds on every origin, friendly or not.
func testOrigin(t *testing.T, s site) {
	ctx := t.Context()
	m := s.mount(t, t.TempDir(), nil)
	must(t, m.ReclaimComplete(ctx))
	d := m.workdir(t)

	t.Run("files", func(t *testing.T) {
		f := m.create(t, d, "file", owner("o"))
		io := fs.IORef{Handle: f, Open: owner("o")}
		data := bytes.Repeat([]byte("holdfast"), 400_000) // several WRITEs
		res, err := m.Write(ctx, root, io, 0, data, fs.Unstable)
		must(t, err)
		if res.N != len(data) {
			t.Fatalf("wrote %d of %d", res.N, len(data))
		}
		_, err = m.Commit(ctx, root, f, 0, 0)
		must(t, err)
		got := make([]byte, len(data)+10)
		n, eof, err := m.Read(ctx, root, io, 0, got)
		must(t, err)
		if n != len(data) || !eof || !bytes.Equal(got[:n], data) {
			t.Fatalf("read %d bytes, eof %v", n, eof)
		}
		size, mtime := uint64(5), time.Unix(1_000_000_000, 123_000)
		a, err := m.SetAttr(ctx, root, io, &fs.SetAttr{Size: &size, MtimeSet: fs.TimeClient, Mtime: mtime})
		must(t, err)
		if a.Size != 5 || !a.Mtime.Equal(mtime) || a.Type != fs.Regular {
			t.Errorf("after SETATTR: %+v", a)
		}
		if _, err = m.Open(ctx, root, &fs.OpenRequest{Owner: owner("o2"), Access: fs.ShareRead, Dir: d, Name: "file", Create: fs.Guarded}); fs.CodeOf(err) != fs.Exist {
			t.Errorf("a guarded create of what is there: %v", err)
		}
		ex := &fs.OpenRequest{Owner: owner("ex"), Access: fs.ShareBoth, Dir: d, Name: "excl", Create: fs.Exclusive, Verifier: [8]byte{1, 2, 3}, Attr: fs.SetAttr{Mode: ptr(uint32(0o640))}}
		made, err := m.Open(ctx, root, ex)
		must(t, err)
		if made.Attr.Mode != 0o640 || !made.Created {
			t.Errorf("exclusive create: %v, mode %o", made.Created, made.Attr.Mode)
		}
		ex.Verifier = [8]byte{9}
		_, err = m.Open(ctx, root, ex)
		wants(t, err, fs.Exist)
		must(t, m.CloseFile(ctx, owner("ex"), made.File))
		must(t, m.CloseFile(ctx, owner("o"), f))
	})
	t.Run("names", func(t *testing.T) { testNames(t, m, d) })
	t.Run("permission", func(t *testing.T) {
		sec, _, _, err := m.Create(ctx, root, d, "secret", &fs.CreateRequest{Type: fs.Directory, Attr: fs.SetAttr{Mode: ptr(uint32(0o700))}})
		must(t, err)
		_, _, _, err = m.Create(ctx, root, sec, "x", &fs.CreateRequest{Type: fs.Directory, Attr: fs.SetAttr{Mode: ptr(uint32(0o700))}})
		must(t, err)
		_, _, err = m.Lookup(ctx, root, sec, "x")
		must(t, err)
		other := &fs.Cred{UID: 12345, GID: 12345}
		_, _, err = m.Lookup(ctx, other, sec, "x") // root's hit is not the other's
		wants(t, err, fs.Access, fs.Perm)
		g, err := m.Access(ctx, other, sec, fs.AccessRead|fs.AccessLookup)
		must(t, err)
		if g != 0 {
			t.Errorf("granted %x to another user", g)
		}
	})
	t.Run("a large directory", func(t *testing.T) {
		big, _, _, err := m.Create(ctx, root, d, "big", &fs.CreateRequest{Type: fs.Directory, Attr: fs.SetAttr{Mode: ptr(uint32(0o755))}})
		must(t, err)
		for i := range 1000 {
			_, _, _, err := m.Create(ctx, root, big, fmt.Sprint("link", i), &fs.CreateRequest{Type: fs.Symlink, Target: "t"})
			must(t, err)
		}
		for _, attrs := range []bool{true, false} {
			seen := map[string]bool{}
			var cookie uint64
			for eof := false; !eof; {
				n := 0
				eof, err = m.ReadDir(ctx, root, big, cookie, attrs, func(e *fs.DirEntry) bool {
					if n++; n > 100 {
						return false
					}
					if cookie = e.Cookie; seen[e.Name] {
						t.Errorf("%s twice", e.Name)
					}
					seen[e.Name] = true
					if attrs && (e.Attr == nil || e.Attr.Type != fs.Symlink) {
						t.Errorf("%s: %+v", e.Name, e.Attr)
					}
					return true
				})
				must(t, err)
			}
			if len(seen) != 1000 {
				t.Errorf("attrs %v: %d entries", attrs, len(seen))
			}
		}
	})
	t.Run("optional abilities", func(t *testing.T) { testOptional(t, m, d) })
	t.Run("contention", func(t *testing.T) { testContention(t, s) })
	t.Run("two mounts", func(t *testing.T) { testTwoMounts(t, s, m, d) })
	t.Logf("%+v", m.Status())
	must(t, m.Close(ctx))
}

func ptr[T any](v T) *T { return &v }

func testNames(t *testing.T, m *mounted, d fs.Handle) {
	ctx := t.Context()
	link, a, _, err := m.Create(ctx, root, d, "sym", &fs.CreateRequest{Type: fs.Symlink, Target: "some/where"})
	must(t, err)
	if target, err := m.Readlink(ctx, root, link); err != nil || target != "some/where" || a.Type != fs.Symlink {
		t.Errorf("%q, %v", target, err)
	}
	_, a, _, err = m.Create(ctx, root, d, "fifo", &fs.CreateRequest{Type: fs.FIFO, Attr: fs.SetAttr{Mode: ptr(uint32(0o600))}})
	must(t, err)
	if a.Type != fs.FIFO || a.Mode != 0o600 {
		t.Errorf("%+v", a)
	}
	sub, _, _, err := m.Create(ctx, root, d, "sub", &fs.CreateRequest{Type: fs.Directory, Attr: fs.SetAttr{Mode: ptr(uint32(0o755))}})
	must(t, err)
	if up, _, err := m.LookupParent(ctx, root, sub); err != nil || up != d {
		t.Errorf("the parent is %x, %v", up, err)
	}
	_, err = m.Link(ctx, root, link, sub, "hard")
	if fs.CodeOf(err) != fs.NotSupp {
		must(t, err)
	}
	_, _, err = m.Rename(ctx, root, d, "fifo", sub, "moved")
	must(t, err)
	_, _, err = m.Lookup(ctx, root, d, "fifo")
	wants(t, err, fs.NoEnt)
	_, _, err = m.Lookup(ctx, root, sub, "moved")
	must(t, err)
	_, err = m.Remove(ctx, root, d, "sub", fs.RemoveFile)
	wants(t, err, fs.IsDir)
	_, err = m.Remove(ctx, root, d, "sub", fs.RemoveDir)
	wants(t, err, fs.NotEmpty, fs.Exist)
	_, err = m.Remove(ctx, root, sub, "moved", fs.RemoveDir)
	wants(t, err, fs.NotDir)
	_, err = m.Remove(ctx, root, sub, "moved", fs.RemoveFile)
	must(t, err)
	_, _, err = m.Lookup(ctx, root, sub, "moved")
	wants(t, err, fs.NoEnt)
	_, err = m.Remove(ctx, root, sub, "none", fs.RemoveAny)
	wants(t, err, fs.NoEnt)
	st, err := m.FSStat(ctx, root, d)
	must(t, err)
	info, err := m.FSInfo(ctx, d)
	must(t, err)
	if st.TotalBytes == 0 || info.MaxRead == 0 || info.MaxName == 0 {
		t.Errorf("%+v %+v", st, info)
	}
}

func testOptional(t *testing.T, m *mounted, d fs.Handle) {
	ctx := t.Context()
	f := m.create(t, d, "sparse", owner("s"))
	g := m.create(t, d, "copy", owner("c"))
	io, to := fs.IORef{Handle: f, Open: owner("s")}, fs.IORef{Handle: g, Open: owner("c")}
	try := func(what string, err error) bool {
		t.Helper()
		switch fs.CodeOf(err) {
		case fs.OK:
			return true
		case fs.NotSupp, fs.UnionNotSupp, fs.Inval:
			t.Logf("the origin has no %s: %v", what, err)
			return false
		}
		t.Errorf("%s: %v", what, err)
		return false
	}
	_, err := m.Write(ctx, root, io, 1<<20, []byte("data"), fs.FileSync)
	must(t, err)
	if pos, _, err := m.Seek(ctx, root, io, 0, false); try("SEEK", err) && pos > 1<<20 {
		t.Errorf("data at %d", pos)
	}
	try("ALLOCATE", m.Allocate(ctx, root, io, 0, 4096))
	try("DEALLOCATE", m.Deallocate(ctx, root, io, 0, 4096))
	if res, err := m.Copy(ctx, root, io, to, 1<<20, 0, 4); try("COPY", err) {
		b := make([]byte, 4)
		_, _, err := m.Read(ctx, root, to, 0, b)
		must(t, err)
		if res.N != 4 || string(b) != "data" {
			t.Errorf("copied %d: %q", res.N, b)
		}
	}
	try("CLONE", m.Clone(ctx, root, io, to, 0, 0, 4096))
	if _, err := m.SetXattr(ctx, root, f, "name", []byte("value"), fs.XattrCreate); try("SETXATTR", err) {
		v, err := m.GetXattr(ctx, root, f, "name")
		must(t, err)
		l, err := m.ListXattrs(ctx, root, f)
		must(t, err)
		if string(v) != "value" || !slices.Contains(l, "name") {
			t.Errorf("%q in %q", v, l)
		}
		_, err = m.SetXattr(ctx, root, f, "name", nil, fs.XattrCreate)
		wants(t, err, fs.Exist)
		_, err = m.RemoveXattr(ctx, root, f, "name")
		must(t, err)
		_, err = m.GetXattr(ctx, root, f, "name")
		wants(t, err, fs.NoXattr)
	}
	must(t, m.CloseFile(ctx, owner("s"), f))
	must(t, m.CloseFile(ctx, owner("c"), g))
}

// testTwoMounts has two mounts in front of one origin: their locks conflict (I1).
func testTwoMounts(t *testing.T, s site, m *mounted, d fs.Handle) {
	ctx := t.Context()
	other := s.mount(t, t.TempDir(), nil)
	must(t, other.ReclaimComplete(ctx))
	f := m.create(t, d, "shared", owner("a"))
	_, attr, err := m.Lookup(ctx, root, d, "shared")
	must(t, err)
	od := other.find(t, m, d)
	g := other.create(t, od, "shared", owner("b"))
	if a, err := other.GetAttr(ctx, root, g); err != nil || a.FileID != attr.FileID {
		t.Fatalf("not the same file: %+v, %v", a, err)
	}
	must(t, m.lock(t, f, owner("a"), owner("la"), 0, 99, false))
	err = other.lock(t, g, owner("b"), owner("lb"), 50, 149, false)
	var den *fs.DeniedError
	if !errors.As(err, &den) || !strings.HasPrefix(den.Owner.Client, "upstream:") || den.Type != fs.WriteLock {
		t.Fatalf("the second mount got %v", err)
	}
	must(t, m.Unlock(ctx, root, owner("la"), f, fs.Range{First: 0, Last: 49}))
	must(t, other.lock(t, g, owner("b"), owner("lb"), 0, 49, false))
	wants(t, other.TestLock(ctx, root, owner("lb"), g, fs.Range{First: 50, Last: 50}, fs.WriteLock), fs.Denied)

	// A denied lock is announced.
	l := &hears{free: make(chan fs.Owner, 10)}
	other.Subscribe(l)
	wants(t, other.Lock(ctx, root, &fs.LockRequest{File: g, OpenOwner: owner("b"), LockOwner: owner("lb"), Range: fs.Range{First: 50, Last: 99}, Type: fs.WriteLock, Wait: true}), fs.Denied)
	must(t, m.Unlock(ctx, root, owner("la"), f, fs.Range{First: 0, Last: 99}))
	select {
	case o := <-l.free:
		if o != owner("lb") {
			t.Errorf("announced to %v", o)
		}
	case <-time.After(40 * time.Second):
		t.Error("a lock that got free was not announced")
	}
	must(t, other.lock(t, g, owner("b"), owner("lb"), 50, 99, false))

	// Deny modes go upstream.
	_, err = m.Open(ctx, root, &fs.OpenRequest{Owner: owner("deny"), Access: fs.ShareRead, Deny: fs.ShareWrite, File: f})
	wants(t, err, fs.ShareDenied)

	// What one closed, the other sees at its next open.
	_, err = m.Write(ctx, root, fs.IORef{Handle: f, Open: owner("a")}, 0, []byte("news"), fs.FileSync)
	must(t, err)
	must(t, m.CloseFile(ctx, owner("a"), f))
	res, err := other.Open(ctx, root, &fs.OpenRequest{Owner: owner("b2"), Access: fs.ShareRead, File: g})
	must(t, err)
	if res.Attr.Size != 4 {
		t.Errorf("size %d after open", res.Attr.Size)
	}
	must(t, other.Close(ctx))
}

// find is d of another mount, by its number.
func (m *mounted) find(t *testing.T, other *mounted, d fs.Handle) fs.Handle {
	t.Helper()
	a, err := other.GetAttr(t.Context(), root, d)
	must(t, err)
	var found fs.Handle
	var cookie uint64
	for eof := false; !eof && found == ""; {
		eof, err = m.ReadDir(t.Context(), root, m.root, cookie, true, func(e *fs.DirEntry) bool {
			cookie = e.Cookie
			if e.Attr != nil && e.Attr.FileID == a.FileID {
				found = e.Handle
			}
			return true
		})
		must(t, err)
	}
	if found == "" {
		t.Fatal("the directory is not there for the other mount")
	}
	return found
}

type hears struct {
	free    chan fs.Owner
	revoked chan fs.Owner
}

func (h *hears) LockAvailable(_ fs.Handle, o fs.Owner, _ fs.Range) { h.free <- o }
func (h *hears) Changed(fs.Handle)                                 {}
func (h *hears) Revoked(o fs.Owner, _ fs.Handle, _ fs.RangeSet, _ error) {
	if h.revoked != nil {
		h.revoked <- o
	}
}

// TestRealOriginUnfriendly reboots in front of an origin that does not keep our state: every reclaim is
// refused, and none becomes an ordinary lock (DESIGN 3.8).
func TestRealOriginUnfriendly(t *testing.T) {
	server, path := originAddr(t)
	s := site{server, path}
	dir := t.TempDir()
	m := s.mount(t, dir, reclaim)
	must(t, m.ReclaimComplete(t.Context()))
	d := m.workdir(t)
	f := m.create(t, d, "f", owner("o"))
	must(t, m.lock(t, f, owner("o"), owner("l"), 0, 9, false))
	m.crash()

	m = s.mount(t, dir, reclaim)
	if _, err := m.GetAttr(t.Context(), root, f); err != nil {
		t.Fatalf("a handle did not survive the reboot: %v", err)
	}
	if m.Status().Retain {
		t.Skip("this origin keeps our state")
	}
	_, err := m.Open(t.Context(), root, &fs.OpenRequest{Owner: owner("o"), Access: fs.ShareBoth, File: f, Reclaim: true})
	wants(t, err, fs.NoGrace, fs.ReclaimBad)
	wants(t, m.lock(t, f, owner("o"), owner("l"), 0, 9, true), fs.NoGrace, fs.ReclaimBad, fs.BadStateid)
	must(t, m.ReclaimComplete(t.Context()))
	_, err = m.Open(t.Context(), root, &fs.OpenRequest{Owner: owner("o"), Access: fs.ShareBoth, File: f, Reclaim: true})
	wants(t, err, fs.NoGrace)
	f2 := m.create(t, d, "f", owner("o"))
	must(t, m.lock(t, f2, owner("o"), owner("l"), 0, 9, false)) // what was lost is free
	must(t, m.Close(t.Context()))
}

// TestRealOriginRestarts kills and restarts the origin while a lock is held: it is still held.
func TestRealOriginRestarts(t *testing.T) {
	server, path := originAddr(t)
	cmd := os.Getenv("HOLDFAST_ORIGIN_RESTART")
	if cmd == "" {
		t.Skip("set HOLDFAST_ORIGIN_RESTART to a command that kills and restarts the server")
	}
	s := site{server, path}
	ctx := t.Context()
	m := s.mount(t, t.TempDir(), nil)
	must(t, m.ReclaimComplete(ctx))
	d := m.workdir(t)
	f := m.create(t, d, "f", owner("o"))
	must(t, m.lock(t, f, owner("o"), owner("l"), 0, 9, false))
	other := s.mount(t, t.TempDir(), nil)
	must(t, other.ReclaimComplete(ctx))
	if out, err := exec.Command("sh", "-c", cmd).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	// I/O under the open waits until the origin is back and has given the open again.
	io := fs.IORef{Handle: f, Open: owner("o"), Lock: owner("l")}
	for {
		_, err := m.Write(ctx, root, io, 0, []byte("still mine"), fs.FileSync)
		if c := fs.CodeOf(err); c != fs.Grace && c != fs.Delay {
			must(t, err)
			break
		}
	}
	od := other.find(t, m, d)
	g := other.create(t, od, "f", owner("x"))
	for {
		err := other.lock(t, g, owner("x"), owner("lx"), 0, 9, false)
		if c := fs.CodeOf(err); c != fs.Grace && c != fs.Delay {
			wants(t, err, fs.Denied) // I1
			break
		}
	}
	if st := m.Status(); st.OriginBoots != 1 || st.Reclaims.RevokedLocks != 0 {
		t.Errorf("%+v", st)
	}
	must(t, m.Close(ctx))
	must(t, other.Close(ctx))
}

// testContention has owners of two mounts take one lock in turns, each waiting for the announcement: never
// do two hold it (I1), and nobody waits for ever.
func testContention(t *testing.T, s site) {
	ctx := t.Context()
	var holders, granted atomic.Int64
	var g errgroup.Group
	first := s.mount(t, t.TempDir(), nil)
	must(t, first.ReclaimComplete(ctx))
	d := first.workdir(t)
	for i := range 2 {
		m := first
		if i == 1 {
			m = s.mount(t, t.TempDir(), nil)
			must(t, m.ReclaimComplete(ctx))
			d = m.find(t, first, d)
		}
		free := newFree()
		m.Subscribe(free)
		for k := range 4 {
			o := owner(fmt.Sprintf("c%d-%d", i, k))
			f := m.create(t, d, "contended", o)
			g.Go(func() error {
				r := fs.Range{First: 10, Last: 19}
				wake := free.of(o)
				for range 10 {
					for {
						err := m.Lock(ctx, root, &fs.LockRequest{File: f, OpenOwner: o, LockOwner: o, Range: r, Type: fs.WriteLock, Wait: true})
						if err == nil {
							break
						}
						if fs.CodeOf(err) != fs.Denied {
							return fmt.Errorf("%v: %w", o, err)
						}
						select {
						case <-wake:
						case <-ctx.Done():
							return ctx.Err()
						}
					}
					if n := holders.Add(1); n != 1 {
						return fmt.Errorf("%d hold the lock", n)
					}
					granted.Add(1)
					runtime.Gosched()
					holders.Add(-1)
					if err := m.Unlock(ctx, root, o, f, r); err != nil {
						return err
					}
				}
				return m.CloseFile(ctx, o, f)
			})
		}
	}
	must(t, g.Wait())
	if granted.Load() != 80 {
		t.Errorf("granted %d times", granted.Load())
	}
}

// free passes LockAvailable on to the owner that it is for.
type free struct {
	mu sync.Mutex
	by map[fs.Owner]chan struct{}
}

func newFree() *free { return &free{by: map[fs.Owner]chan struct{}{}} }

func (f *free) of(o fs.Owner) chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.by[o] == nil {
		f.by[o] = make(chan struct{}, 1)
	}
	return f.by[o]
}

func (f *free) LockAvailable(_ fs.Handle, o fs.Owner, _ fs.Range) {
	select {
	case f.of(o) <- struct{}{}:
	default:
	}
}
func (f *free) Changed(fs.Handle)                               {}
func (f *free) Revoked(fs.Owner, fs.Handle, fs.RangeSet, error) {}

// TestRealOriginBothRestart: the origin's own grace period takes our reclaims (DESIGN 4), from a process
// that has nothing but its journal and the end client's owners.
func TestRealOriginBothRestart(t *testing.T) {
	server, path := originAddr(t)
	cmd := os.Getenv("HOLDFAST_ORIGIN_RESTART")
	if cmd == "" {
		t.Skip("set HOLDFAST_ORIGIN_RESTART to a command that kills and restarts the server")
	}
	s := site{server, path}
	ctx := t.Context()
	dir := t.TempDir()
	m := s.mount(t, dir, nil)
	must(t, m.ReclaimComplete(ctx))
	d := m.workdir(t)
	f := m.create(t, d, "f", owner("o"))
	for {
		err := m.lock(t, f, owner("o"), owner("l"), 0, 9, false)
		if c := fs.CodeOf(err); c != fs.Grace && c != fs.Delay {
			must(t, err)
			break
		}
	}
	m.crash()
	if out, err := exec.Command("sh", "-c", cmd).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	m = s.mount(t, dir, nil)
	_, err := m.Open(ctx, root, &fs.OpenRequest{Owner: owner("o"), Access: fs.ShareBoth, File: f, Reclaim: true})
	must(t, err)
	must(t, m.lock(t, f, owner("o"), owner("l"), 0, 9, true))
	must(t, m.ReclaimComplete(ctx))
	other := s.mount(t, t.TempDir(), nil)
	must(t, other.ReclaimComplete(ctx))
	g := other.create(t, other.find(t, m, d), "f", owner("x"))
	for {
		err := other.lock(t, g, owner("x"), owner("lx"), 0, 9, false)
		if c := fs.CodeOf(err); c != fs.Grace && c != fs.Delay {
			wants(t, err, fs.Denied)
			break
		}
	}
	must(t, m.Close(ctx))
	must(t, other.Close(ctx))
}
