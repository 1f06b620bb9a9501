package remote_test

import (
	"context"
	"os"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/fs/fstest"
	"holdfast/fs/local"
	"holdfast/nfsdown/state"
)

// bench is an origin over a directory, and a mount of it, that can both be restarted.
type bench struct {
	t                          *testing.T
	dir, state, journal, mount string
	st                         state.Config

	b   fs.Backend
	srv *server
	m   *mounted
}

func newBench(t *testing.T) *bench {
	t.Helper()
	x := &bench{t: t, dir: t.TempDir(), state: t.TempDir(), journal: t.TempDir(), mount: t.TempDir(), st: state.Config{Lease: 30 * time.Second}}
	must(t, os.Chmod(x.dir, 0o755))
	x.start("")
	t.Cleanup(func() { x.b.Close(context.Background()) })
	return x
}

func (x *bench) start(addr string) {
	x.t.Helper()
	b, err := local.New(x.t.Context(), local.Config{Dir: x.dir, StateDir: x.state, Logger: testLog(x.t)})
	if err != nil {
		x.t.Skipf("this machine cannot export a directory: %v", err)
	}
	x.b = b
	x.srv = serve(x.t, b, x.journal, nil, addr, x.st)
	x.m = site{x.srv.addr, "/export"}.mount(x.t, x.mount, nil)
	must(x.t, x.m.ReclaimComplete(x.t.Context()))
	for x.srv.Phase() == state.GraceActive || x.srv.Phase() == state.GraceEnding { // all known clients are complete
		select {
		case <-time.After(5 * time.Millisecond):
		case <-x.t.Context().Done():
			x.t.Fatal("the origin's grace does not end")
		}
	}
}

// restart ends both, without a word to each other, and starts them again.
func (x *bench) restart() {
	x.m.crash()
	x.srv.stop()
	x.b.Close(context.Background())
	x.start(x.srv.addr)
}

// TestSuite is what every backend passes, over the wire and a directory.
func TestSuite(t *testing.T) {
	var x *bench
	fstest.Run(t, func(t *testing.T) fs.Backend {
		x = newBench(t)
		return x.m.Remote
	}, fstest.Options{
		Creds: true, Special: true, Xattrs: true, Sparse: true, Copy: true, KeepsCancelled: true,
		Restart: func(t *testing.T, _ fs.Backend) fs.Backend {
			x.restart()
			return x.m.Remote
		},
	})
}
