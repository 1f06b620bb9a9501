//go:build linux

package local

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/fs"
	"holdfast/fs/fstest"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// needRoot skips what only the superuser can show.
func needRoot(t testing.TB) {
	t.Helper()
	if _, err := newIdentity(); err != nil {
		t.Skip("run as root, in the initial user namespace:", err)
	}
}

// start opens a backend that is closed at the end of the test.
func start(t testing.TB, cfg Config) *Backend {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.StateDir == "" {
		cfg.StateDir = t.TempDir()
	}
	if cfg.Logger == nil {
		cfg.Logger = quiet()
	}
	if err := os.Chmod(cfg.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	l := b.(*Backend)
	t.Cleanup(func() {
		if err := l.Close(contextFor()); err != nil {
			t.Error(err)
		}
	})
	return l
}

func runSuite(t *testing.T, cfg Config) {
	needRoot(t)
	xattrs := cfg.Dir == "" || kindHasXattrs(cfg.Dir)
	base := cfg.Dir
	fstest.Run(t, func(t *testing.T) fs.Backend {
		c := cfg
		if base != "" {
			dir, err := os.MkdirTemp(base, "export")
			if err != nil {
				t.Fatal(err)
			}
			c.Dir = dir
		}
		return start(t, c)
	}, fstest.Options{
		Creds: true, Special: true, Xattrs: xattrs, Sparse: true, Copy: true, GrantsReclaims: true,
		Restart: func(t *testing.T, b fs.Backend) fs.Backend {
			// Not closed: the process died. Its descriptors go when the test ends.
			return start(t, b.(*Backend).cfg)
		},
	})
}

func kindHasXattrs(dir string) bool {
	return unix.Setxattr(filepath.Clean(dir), "user.fstest", []byte("x"), 0) == nil
}

func TestSuiteKernelHandles(t *testing.T) { runSuite(t, Config{}) }

func TestSuiteHandleTable(t *testing.T) { runSuite(t, Config{HandleTable: true}) }

// mounted gives a directory on a file system of this type, or skips.
func mounted(t testing.TB, typ, data string) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	if err := unix.Mount(typ, dir, typ, 0, data); err != nil {
		t.Skipf("run where %s can be mounted: %v", typ, err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func TestSuiteTmpfs(t *testing.T) { runSuite(t, Config{Dir: mounted(t, "tmpfs", "")}) }

// An overlay without nfs_export cannot open by handle, so the table is chosen without being asked for.
func TestSuiteOverlay(t *testing.T) {
	needRoot(t)
	base := t.TempDir()
	for _, d := range []string{"lower", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(base, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir := mounted(t, "overlay", "lowerdir="+base+"/lower,upperdir="+base+"/upper,workdir="+base+"/work")
	if b := start(t, Config{Dir: dir}); b.table == nil {
		t.Error("the kernel's handles were chosen")
	}
	runSuite(t, Config{Dir: dir})
}
