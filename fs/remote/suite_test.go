package remote_test

import (
	"context"
	"os"
	"testing"

	"holdfast/fs"
	"holdfast/fs/fstest"
	"holdfast/fs/local"
	"holdfast/nfsdown/state"
)

// TestSuite is what every backend passes, over the wire and a directory.
func TestSuite(t *testing.T) {
	fstest.Run(t, func(t *testing.T) fs.Backend {
		s := friendly(t, emptyDirectory(t), state.RetainAlways)
		m := s.mount(t, t.TempDir(), nil)
		must(t, m.ReclaimComplete(t.Context()))
		return m.Remote
	}, fstest.Options{Creds: true, Special: true, Xattrs: true, Sparse: true, Copy: true, KeepsCancelled: true})
}

// emptyDirectory is a directory of mode 0755 as backend.
func emptyDirectory(t *testing.T) fs.Backend {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	b, err := local.New(t.Context(), local.Config{Dir: dir, StateDir: t.TempDir(), Logger: testLog(t)})
	if err != nil {
		t.Skipf("this machine cannot export a directory: %v", err)
	}
	t.Cleanup(func() { b.Close(context.Background()) })
	return b
}
