//go:build linux

package local

import (
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/fs"
)

// both runs a test with the kernel's handles and with the table.
func both(t *testing.T, f func(t *testing.T, cfg Config)) {
	for name, cfg := range map[string]Config{"kernel handles": {}, "handle table": {HandleTable: true}} {
		t.Run(name, func(t *testing.T) { f(t, cfg) })
	}
}

func mustWrite(t testing.TB, path, s string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(s), 0o644); err != nil {
		t.Fatal(err)
	}
}

func mustMkdir(t testing.TB, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func lookup(t testing.TB, b *Backend, dir fs.Handle, name string) fs.Handle {
	t.Helper()
	h, _, err := b.Lookup(t.Context(), rootCred, dir, name)
	if err != nil {
		t.Fatalf("lookup %q: %v", name, err)
	}
	return h
}

// world is an exported directory with something beside it that must not be reached.
func world(t *testing.T, cfg Config) (b *Backend, base string) {
	base = t.TempDir()
	mustMkdir(t, base+"/export/dir")
	mustMkdir(t, base+"/outside")
	mustWrite(t, base+"/outside/secret", "secret")
	cfg.Dir = base + "/export"
	return start(t, cfg), base
}

func TestLinksDoNotLeadOut(t *testing.T) {
	both(t, func(t *testing.T, cfg Config) {
		b, base := world(t, cfg)
		for name, target := range map[string]string{"abs": base + "/outside", "rel": "../outside", "file": "../outside/secret", "proc": "/proc/self/root", "up": ".."} {
			if err := os.Symlink(target, base+"/export/"+name); err != nil {
				t.Fatal(err)
			}
			l := lookup(t, b, b.rootHandle, name)
			if _, _, err := b.Lookup(t.Context(), rootCred, l, "secret"); err == nil {
				t.Errorf("%s: a link was followed in a lookup", name)
			}
			if _, err := b.ReadDir(t.Context(), rootCred, l, 0, true, func(*fs.DirEntry) bool { return true }); err == nil {
				t.Errorf("%s: a link was followed in readdir", name)
			}
			if _, _, err := b.Read(t.Context(), rootCred, fs.IORef{Handle: l}, 0, make([]byte, 9)); err == nil {
				t.Errorf("%s: a link was followed in read", name)
			}
			if _, err := b.Open(t.Context(), rootCred, &fs.OpenRequest{Owner: owner("o"), Access: 1, Dir: b.rootHandle, Name: name, Create: fs.Unchecked}); err == nil {
				t.Errorf("%s: a link was followed in open", name)
			}
			if _, _, _, err := b.Create(t.Context(), rootCred, l, "new", &fs.CreateRequest{Type: fs.Directory}); err == nil {
				t.Errorf("%s: a link was followed in create", name)
			}
			// A change of mode or owner of a link does not reach what it points to.
			_, _ = b.SetAttr(t.Context(), rootCred, fs.IORef{Handle: l}, &fs.SetAttr{Mode: ptr(uint32(0o777)), UID: ptr(uint32(1))})
		}
		for _, p := range []string{"/outside", "/outside/secret", "/export"} {
			st, err := os.Stat(base + p)
			if err != nil {
				t.Fatal(err)
			}
			if st.Mode().Perm() == 0o777 || st.Sys().(*syscall.Stat_t).Uid != 0 {
				t.Errorf("%s was changed through a link: %v", p, st.Mode())
			}
		}
		if list, err := os.ReadDir(base + "/outside"); err != nil || len(list) != 1 {
			t.Errorf("outside: %v %v", list, err)
		}
	})
}

func TestMovedOutDirectoryDoesNotLeadUp(t *testing.T) {
	both(t, func(t *testing.T, cfg Config) {
		b, base := world(t, cfg)
		mustMkdir(t, base+"/export/dir/sub")
		dir := lookup(t, b, b.rootHandle, "dir")
		sub := lookup(t, b, dir, "sub")
		if err := os.Rename(base+"/export/dir", base+"/outside/dir"); err != nil {
			t.Fatal(err)
		}
		for _, h := range []fs.Handle{dir, sub} {
			up, _, err := b.LookupParent(t.Context(), rootCred, h)
			if fs.CodeOf(err) != fs.Stale {
				t.Errorf("parent: %x, %v; want STALE", up, err)
			}
		}
	})
}

func TestHandleOfAnotherExportIsForged(t *testing.T) {
	needRoot(t)
	b, base := world(t, Config{})
	other := start(t, Config{Dir: base + "/outside"})
	secret := lookup(t, other, other.rootHandle, "secret")
	// Same file system, so the kernel would open it.
	if _, err := b.GetAttr(t.Context(), rootCred, secret); fs.CodeOf(err) != fs.BadHandle {
		t.Errorf("got %v, want BADHANDLE", err)
	}
}

// A program swaps a directory for a link to the outside, over and over, while clients look up in it.
func TestSwapRace(t *testing.T) {
	both(t, func(t *testing.T, cfg Config) {
		b, base := world(t, cfg)
		mustWrite(t, base+"/export/dir/secret", "inside")
		if err := os.Symlink("../outside", base+"/export/link"); err != nil {
			t.Fatal(err)
		}
		var stop atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() {
			for !stop.Load() {
				if err := unix.Renameat2(unix.AT_FDCWD, base+"/export/dir", unix.AT_FDCWD, base+"/export/link", unix.RENAME_EXCHANGE); err != nil {
					t.Error(err)
					return
				}
			}
		})
		found := 0
		for range 2000 {
			d, _, err := b.Lookup(t.Context(), rootCred, b.rootHandle, "dir")
			if err != nil {
				t.Fatal(err)
			}
			h, _, err := b.Lookup(t.Context(), rootCred, d, "secret")
			if err != nil {
				continue
			}
			buf := make([]byte, 16)
			n, _, err := b.Read(t.Context(), rootCred, fs.IORef{Handle: h}, 0, buf)
			if err == nil && string(buf[:n]) != "inside" {
				t.Fatalf("read %q", buf[:n])
			}
			found++
		}
		stop.Store(true)
		wg.Wait()
		if found == 0 {
			t.Error("the race was never won: the test shows nothing")
		}
	})
}

// Files are renamed by one client while others use them by handle: none is ever Stale.
func TestRenameRace(t *testing.T) {
	both(t, func(t *testing.T, cfg Config) {
		cfg.Async = true
		b, base := world(t, cfg)
		mustMkdir(t, base+"/export/a/deep")
		mustWrite(t, base+"/export/a/deep/f", "content")
		f := lookup(t, b, lookup(t, b, lookup(t, b, b.rootHandle, "a"), "deep"), "f")
		var stop atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() {
			from, to := "a", "b"
			for !stop.Load() {
				if _, _, err := b.Rename(t.Context(), rootCred, b.rootHandle, from, b.rootHandle, to); err != nil {
					t.Error(err)
					return
				}
				from, to = to, from
			}
		})
		for range 1000 {
			if _, err := b.GetAttr(t.Context(), rootCred, f); err != nil {
				t.Error(err)
				break
			}
		}
		stop.Store(true)
		wg.Wait()
	})
}

// What is mounted below the export does not exist: the directory below the mount is seen.
func TestNestedMount(t *testing.T) {
	needRoot(t)
	b, base := func() (*Backend, string) {
		base := t.TempDir()
		mustMkdir(t, base+"/export/mnt")
		mustWrite(t, base+"/export/mnt/covered", "")
		if err := unix.Mount("tmpfs", base+"/export/mnt", "tmpfs", 0, ""); err != nil {
			t.Skip("run where tmpfs can be mounted:", err)
		}
		t.Cleanup(func() { _ = unix.Unmount(base+"/export/mnt", unix.MNT_DETACH) })
		mustWrite(t, base+"/export/mnt/mounted", "")
		return start(t, Config{Dir: base + "/export"}), base
	}()
	mnt := lookup(t, b, b.rootHandle, "mnt")
	lookup(t, b, mnt, "covered")
	if _, _, err := b.Lookup(t.Context(), rootCred, mnt, "mounted"); fs.CodeOf(err) != fs.NoEnt {
		t.Errorf("the mounted file: %v", err)
	}
	// Also what is mounted later.
	mustMkdir(t, base+"/export/later")
	if err := unix.Mount("tmpfs", base+"/export/later", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(base+"/export/later", unix.MNT_DETACH) })
	mustWrite(t, base+"/export/later/mounted", "")
	if _, _, err := b.Lookup(t.Context(), rootCred, lookup(t, b, b.rootHandle, "later"), "mounted"); fs.CodeOf(err) != fs.NoEnt {
		t.Errorf("the file mounted later: %v", err)
	}
}

func TestStateDirMustBeApart(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	mustMkdir(t, dir+"/in")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir+"/in", link); err != nil {
		t.Fatal(err)
	}
	for _, state := range []string{dir, dir + "/in", dir + "/not/yet", link, link + "/x"} {
		if _, err := New(t.Context(), Config{Dir: dir, StateDir: state, Logger: quiet()}); fs.CodeOf(err) != fs.Inval {
			t.Errorf("%s: %v", state, err)
		}
	}
	if _, err := New(t.Context(), Config{Dir: dir + "/absent", StateDir: t.TempDir(), Logger: quiet()}); err == nil {
		t.Error("an absent directory was exported")
	}
	mustWrite(t, dir+"/file", "")
	if _, err := New(t.Context(), Config{Dir: dir + "/file", StateDir: t.TempDir(), Logger: quiet()}); fs.CodeOf(err) != fs.NotDir {
		t.Errorf("a file was exported: %v", err)
	}
}

func TestKeyIsPrivate(t *testing.T) {
	b := start(t, Config{})
	st, err := os.Stat(b.cfg.StateDir + "/handle.key")
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st, err)
	}
	if len(b.rootHandle) > 40 {
		t.Errorf("a handle of %d bytes", len(b.rootHandle))
	}
}

// FuzzHandle: no handle that was not given out opens anything.
func FuzzHandle(f *testing.F) {
	needRoot(f)
	dir, state := f.TempDir(), f.TempDir()
	l, err := New(f.Context(), Config{Dir: dir, StateDir: state, Logger: quiet()})
	if err != nil {
		f.Fatal(err)
	}
	b := l.(*Backend)
	f.Cleanup(func() {
		if err := b.Close(contextFor()); err != nil {
			f.Error(err)
		}
	})
	f.Add([]byte(b.rootHandle))
	f.Add([]byte{})
	f.Add(append([]byte{kindTable}, make([]byte, 16)...))
	f.Add([]byte(b.rootHandle[:12]))
	f.Fuzz(func(t *testing.T, p []byte) {
		h := fs.Handle(p)
		_, err := b.GetAttr(t.Context(), rootCred, h)
		if h == b.rootHandle {
			if err != nil {
				t.Error(err)
			}
			return
		}
		if fs.CodeOf(err) != fs.BadHandle {
			t.Errorf("%x: %v", p, err)
		}
	})
}

// The vectors are of the paper that defines SipHash-2-4: key 00..0f, input 00..0e; and of the empty
// input.
func TestSipHash(t *testing.T) {
	k := macKey{0x0706050403020100, 0x0f0e0d0c0b0a0908}
	in := []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}
	if got := k.mac(in); got != 0xa129ca6149be45e5 {
		t.Errorf("%x", got)
	}
	if got := k.mac(nil); got != 0x726fdb47dd0e0e31 {
		t.Errorf("%x", got)
	}
}
