//go:build linux

package local

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/fs"
)

// TestReplaced: another directory, or another file system, is exported in place of one. The handles of the first
// are stale there, and good again when it is back.
func TestReplaced(t *testing.T) {
	needRoot(t)
	t.Run("directory", func(t *testing.T) {
		base := t.TempDir()
		dir, aside := filepath.Join(base, "export"), filepath.Join(base, "aside")
		mustMkdir(t, dir)
		mustMkdir(t, filepath.Join(base, "other"))
		swap := func(from, to string) {
			t.Helper()
			for _, r := range [][2]string{{dir, from}, {to, dir}} {
				if err := os.Rename(r[0], r[1]); err != nil {
					t.Fatal(err)
				}
			}
		}
		replaced(t, dir, func() { swap(aside, filepath.Join(base, "other")) }, func() { swap(filepath.Join(base, "other"), aside) })
	})
	t.Run("file system", func(t *testing.T) {
		dir := mounted(t, "tmpfs", "")
		replaced(t, dir, func() {
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
				t.Fatal(err)
			}
		}, func() {
			if err := unix.Unmount(dir, 0); err != nil {
				t.Fatal(err)
			}
		})
	})
}

func replaced(t *testing.T, dir string, replace, back func()) {
	state := t.TempDir()
	export := func(name, text string, do func(b *Backend, f fs.Handle)) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		b, err := New(t.Context(), Config{Dir: dir, StateDir: state, Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		l := b.(*Backend)
		do(l, lookup(t, l, l.rootHandle, name))
		if err := l.Close(contextFor()); err != nil {
			t.Fatal(err)
		}
	}
	code := func(b *Backend, h fs.Handle) fs.Code {
		_, err := b.GetAttr(t.Context(), rootCred, h)
		return fs.CodeOf(err)
	}
	var first, root fs.Handle
	var id fs.FSID
	export("f", "first", func(b *Backend, f fs.Handle) { first, root, id = f, b.rootHandle, b.fsid })
	export("f", "first", func(b *Backend, f fs.Handle) {
		if f != first || b.rootHandle != root || b.fsid != id {
			t.Error("a restart changed handles or the fsid")
		}
	})
	replace()
	for range 2 {
		export("f", "second", func(b *Backend, f fs.Handle) {
			if f == first || b.rootHandle == root || b.fsid == id {
				t.Error("what was exported in its stead has the same handles, or fsid")
			}
			for _, h := range []fs.Handle{first, root} {
				if c := code(b, h); c != fs.Stale {
					t.Errorf("a handle of what was replaced: %v", c)
				}
			}
			junk := []byte(first)
			junk[1] ^= 1
			if c := code(b, fs.Handle(junk)); c != fs.BadHandle {
				t.Errorf("a handle that was never given out: %v", c)
			}
		})
	}
	back()
	export("f", "first", func(b *Backend, f fs.Handle) {
		if f != first || code(b, first) != fs.OK || code(b, root) != fs.OK || b.fsid != id {
			t.Error("handles are not good again when what they are of is back")
		}
	})
}

func TestPlacesAreBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "places")
	for i := range 40 {
		before, err := loadPlaces(path, place{byte(i)})
		if err != nil {
			t.Fatal(err)
		}
		if len(before) != min(i, maxPlaces) || len(before) > 0 && before[len(before)-1] != (place{byte(i - 1)}) {
			t.Fatalf("place %d: %d before", i, len(before))
		}
	}
	if err := os.WriteFile(path, []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadPlaces(path, place{1}); err == nil {
		t.Error("a damaged file was taken")
	}
}
