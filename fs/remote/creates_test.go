package remote

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/nfsup"
)

// slowOpens is an origin whose OPENs take until they are let go.
type slowOpens struct {
	*fake
	mu    sync.Mutex
	there int // guarded by mu
	free  chan struct{}
}

func (s *slowOpens) Open(ctx context.Context, cred *rpc.Cred, a *nfsup.OpenArgs) (*nfsup.OpenReply, error) {
	s.mu.Lock()
	s.there++
	s.mu.Unlock()
	<-s.free
	return s.fake.Open(ctx, cred, a)
}

// Creates, and other changes, in one directory do not wait for each other: over a long link they are all under way at
// once, and so are lookups in the directory meanwhile.
func TestCreatesInOneDirectoryGoSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		d := f.add(f.root, "d", nfs4.NF4DIR)
		f.add(d, "there", nfs4.NF4REG)
		up := &slowOpens{fake: f, free: make(chan struct{})}
		r := newRigOf(t, f, up, nil)
		ctx := context.Background()
		dir, _, err := r.Lookup(ctx, alice, r.root(), "d")
		r.must(err)
		const n = 64
		var g sync.WaitGroup
		for i := range n {
			g.Go(func() {
				o := fs.Owner{Client: fmt.Sprint("client ", i), Owner: "o"}
				if _, err := r.Open(ctx, alice, &fs.OpenRequest{Owner: o, Access: fs.ShareBoth, Dir: dir, Name: fmt.Sprint("f", i), Create: fs.Unchecked}); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		up.mu.Lock()
		if up.there != n {
			t.Errorf("%d creates are under way, want %d", up.there, n)
		}
		up.mu.Unlock()
		if _, _, err := r.Lookup(ctx, alice, dir, "there"); err != nil { // does not wait for them
			t.Error(err)
		}
		close(up.free)
		g.Wait()
		// Together they are known to be ours: nothing of the directory was lost to them.
		for _, h := range r.l.takeChanged() {
			if h == dir {
				t.Error("our own creates count as somebody else's change")
			}
		}
		if got := len(list(r, dir, false, 1000)); got != n+1 {
			t.Errorf("%d entries, want %d", got, n+1)
		}
		r.Abandon()
	})
}
