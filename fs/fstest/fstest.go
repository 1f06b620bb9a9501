// Package fstest is the suite that every [fs.Backend] passes. What a backend need not be able to do is
// named in [Options].
package fstest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"holdfast/fs"
)

// Options says what the backend can do beyond the contract, and what is known of it.
type Options struct {
	// Creds: permission is decided for the uid of the credential. Needs a backend that may act for
	// others, and a root directory of mode 0755 that belongs to uid 0.
	Creds bool
	// Special: sockets, FIFOs and devices can be made by uid 0.
	Special bool
	Xattrs  bool
	Sparse  bool
	Copy    bool
	// GrantsReclaims: a reclaim is granted without a record of the state before, as by a local
	// directory. Otherwise it must fail with NoGrace, ReclaimBad or Grace.
	GrantsReclaims bool
	// KeepsCancelled: a freed range may be kept for a while for a request that was cancelled, as NFS
	// has no way to cancel a wait at the origin (RFC 8881 9.6).
	KeepsCancelled bool
	// Restart ends the backend as a crash would, as far as that can be done within a process, and
	// opens it again. Nil: not tried.
	Restart func(t *testing.T, b fs.Backend) fs.Backend
	// Entries is how many entries the large directory has; 0 is 1000.
	Entries int
}

// Run runs the suite; open gives a backend with an empty root directory, and closes it by t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) fs.Backend, o Options) {
	if o.Entries == 0 {
		o.Entries = 1000
	}
	for _, g := range []struct {
		name string
		run  func(*env)
		skip bool
	}{
		{"names", names, false}, {"attrs", attrs, false}, {"data", data, false}, {"open", opens, false},
		{"share", shares, false}, {"locks", locks, false}, {"wait", waits, false}, {"reclaim", reclaims, false},
		{"creds", creds, !o.Creds}, {"special", special, !o.Special}, {"xattrs", xattrs, !o.Xattrs},
		{"sparse", sparse, !o.Sparse}, {"copy", copies, !o.Copy}, {"restart", restart, o.Restart == nil},
		{"concurrent", concurrent, false},
	} {
		t.Run(g.name, func(t *testing.T) {
			if g.skip {
				t.Skip("not claimed in Options")
			}
			g.run(newEnv(t, open(t), o))
		})
	}
}

// env is a backend under test, with calls that must succeed.
type env struct {
	*testing.T
	b    fs.Backend
	o    Options
	root fs.Handle
	cred *fs.Cred
}

func newEnv(t *testing.T, b fs.Backend, o Options) *env {
	e := &env{T: t, b: b, o: o, cred: fs.Root}
	root, err := b.Root(e.Context())
	e.must("Root", err)
	e.root = root
	return e
}

// in runs a named part, in which the env reports to the part's test.
func (e *env) in(name string, f func(e *env)) {
	e.T.Run(name, func(t *testing.T) {
		c := *e
		c.T = t
		f(&c)
	})
}

// as is the env with another credential.
func (e *env) as(c *fs.Cred) *env {
	n := *e
	n.cred = c
	return &n
}

func (e *env) must(what string, err error) {
	e.Helper()
	if err != nil {
		e.Fatalf("%s: %v", what, err)
	}
}

// fails wants one of the codes.
func (e *env) fails(what string, err error, codes ...fs.Code) {
	e.Helper()
	for _, c := range codes {
		if errors.Is(err, c) && fs.CodeOf(err) == c {
			return
		}
	}
	e.Errorf("%s: got %v, want %v", what, err, codes)
}

func owner(n string) fs.Owner { return fs.Owner{Client: "fstest client", Owner: n} }

func ptr[T any](v T) *T { return &v }

func (e *env) mkdir(dir fs.Handle, name string) fs.Handle {
	e.Helper()
	h, a, _, err := e.b.Create(e.Context(), e.cred, dir, name, &fs.CreateRequest{Type: fs.Directory, Attr: fs.SetAttr{Mode: ptr(uint32(0o755))}})
	e.must("mkdir "+name, err)
	if a.Type != fs.Directory {
		e.Errorf("mkdir %s: type %v", name, a.Type)
	}
	return h
}

// open creates or opens a file for both.
func (e *env) open(o fs.Owner, dir fs.Handle, name string, access, deny fs.Share) fs.Handle {
	e.Helper()
	r, err := e.b.Open(e.Context(), e.cred, &fs.OpenRequest{
		Owner: o, Dir: dir, Name: name, Access: access, Deny: deny, Create: fs.Unchecked, Attr: fs.SetAttr{Mode: ptr(uint32(0o644))},
	})
	e.must("open "+name, err)
	return r.File
}

func (e *env) closeFile(o fs.Owner, h fs.Handle) {
	e.Helper()
	e.must("close", e.b.CloseFile(e.Context(), o, h))
}

// file makes a file with content, and leaves it closed.
func (e *env) file(dir fs.Handle, name, content string) fs.Handle {
	e.Helper()
	o := owner("maker of " + name)
	h := e.open(o, dir, name, fs.ShareBoth, 0)
	e.write(fs.IORef{Handle: h, Open: o}, 0, content)
	e.closeFile(o, h)
	return h
}

func (e *env) write(io fs.IORef, off uint64, s string) {
	e.Helper()
	r, err := e.b.Write(e.Context(), e.cred, io, off, []byte(s), fs.FileSync)
	e.must("write", err)
	if r.N != len(s) || r.Committed != fs.FileSync {
		e.Fatalf("write of %d: %+v", len(s), r)
	}
}

func (e *env) read(io fs.IORef) string {
	e.Helper()
	var all []byte
	buf := make([]byte, 1<<16)
	for {
		n, eof, err := e.b.Read(e.Context(), e.cred, io, uint64(len(all)), buf)
		e.must("read", err)
		all = append(all, buf[:n]...)
		if eof {
			return string(all)
		}
		if n == 0 {
			e.Fatal("read: nothing, and not the end")
		}
	}
}

func (e *env) lookup(dir fs.Handle, name string) (fs.Handle, *fs.Attr) {
	e.Helper()
	h, a, err := e.b.Lookup(e.Context(), e.cred, dir, name)
	e.must("lookup "+name, err)
	return h, a
}

func (e *env) attr(h fs.Handle) *fs.Attr {
	e.Helper()
	a, err := e.b.GetAttr(e.Context(), e.cred, h)
	e.must("getattr", err)
	return a
}

// list reads a directory in pieces of at most step entries.
func (e *env) list(dir fs.Handle, step int, wantAttr bool) []fs.DirEntry {
	e.Helper()
	var all []fs.DirEntry
	cookie := uint64(0)
	for {
		n := 0
		eof, err := e.b.ReadDir(e.Context(), e.cred, dir, cookie, wantAttr, func(d *fs.DirEntry) bool {
			if n == step {
				return false
			}
			n++
			all = append(all, *d)
			cookie = d.Cookie
			return true
		})
		e.must("readdir", err)
		if eof {
			return all
		}
		if n == 0 && len(all) > 1<<20 {
			e.Fatal("readdir does not end")
		}
	}
}

// names of entries, and each once.
func (e *env) nameSet(list []fs.DirEntry) map[string]bool {
	e.Helper()
	set := make(map[string]bool)
	for _, d := range list {
		if set[d.Name] {
			e.Errorf("readdir: %q twice", d.Name)
		}
		if d.Cookie <= 2 {
			e.Errorf("readdir: cookie %d of %q, RFC 8881 18.23.3", d.Cookie, d.Name)
		}
		set[d.Name] = true
	}
	return set
}

// listener collects announcements.
type listener struct {
	got chan fs.Owner
}

func newListener() *listener { return &listener{got: make(chan fs.Owner, 100)} }

func (l *listener) LockAvailable(file fs.Handle, o fs.Owner, r fs.Range) {
	select {
	case l.got <- o:
	default:
	}
}
func (l *listener) Changed(fs.Handle)                               {}
func (l *listener) Revoked(fs.Owner, fs.Handle, fs.RangeSet, error) {}

// hears waits for the announcements, in any order; the bound only ends a test that failed.
func (e *env) hears(l *listener, want ...fs.Owner) {
	e.Helper()
	ctx, stop := context.WithTimeout(e.Context(), time.Minute)
	defer stop()
	for len(want) > 0 {
		select {
		case o := <-l.got:
			i := slices.Index(want, o)
			if i < 0 {
				e.Fatalf("LockAvailable for %v, want %v", o, want)
			}
			want = slices.Delete(want, i, i+1)
		case <-ctx.Done():
			e.Fatalf("LockAvailable for %v never came", want)
		}
	}
}

func concurrent(e *env) {
	const workers, rounds = 8, 20
	dir := e.mkdir(e.root, "concurrent")
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range rounds {
				o := owner(fmt.Sprint("worker ", w))
				name := fmt.Sprintf("w%d", w)
				r, err := e.b.Open(e.Context(), e.cred, &fs.OpenRequest{Owner: o, Dir: dir, Name: name, Access: fs.ShareBoth, Create: fs.Unchecked, Attr: fs.SetAttr{Mode: ptr(uint32(0o600))}})
				if err != nil {
					e.Error(err)
					return
				}
				want := fmt.Sprintf("%d.%d", w, i)
				if _, err := e.b.Write(e.Context(), e.cred, fs.IORef{Handle: r.File, Open: o}, 0, []byte(want), fs.Unstable); err != nil {
					e.Error(err)
				}
				buf := make([]byte, len(want))
				if n, _, err := e.b.Read(e.Context(), e.cred, fs.IORef{Handle: r.File, Open: o}, 0, buf); err != nil || string(buf[:n]) != want {
					e.Errorf("read %q %v, want %q", buf[:n], err, want)
				}
				if err := e.b.CloseFile(e.Context(), o, r.File); err != nil {
					e.Error(err)
				}
				to := fmt.Sprintf("w%d.%d", w, i%3)
				if _, _, err := e.b.Rename(e.Context(), e.cred, dir, name, dir, to); err != nil {
					e.Error(err)
				}
				if h, _, err := e.b.Lookup(e.Context(), e.cred, dir, to); err != nil || h != r.File {
					e.Errorf("after rename: %v, the same handle: %v", err, h == r.File)
				}
			}
		})
	}
	wg.Wait()
	if n := len(e.list(dir, 100, true)); n != workers*3 {
		e.Errorf("%d entries, want %d", n, workers*3)
	}
}
