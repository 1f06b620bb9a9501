package remote

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// slowClose is an upstream whose CLOSE takes as long as the test wants.
type slowClose struct {
	*fake
	let chan struct{}
}

func (s *slowClose) CloseFile(ctx context.Context, owner UpOwner, fh nfs4.FH) error {
	<-s.let
	return s.fake.CloseFile(ctx, owner, fh)
}

// An open that denies nothing is closed at once where the origin is far; what it would be in the way of waits until it is
// closed there too, and nothing else does.
func TestCloseFarAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.info.RTT = 50 * time.Millisecond
		up := &slowClose{f, make(chan struct{})}
		r := newRigOf(t, f, up, nil)
		ctx := t.Context()
		h := r.open("o", "f").File
		r.must(r.CloseFile(ctx, me("o"), h))
		if f.closes != 0 {
			t.Fatal("CLOSE was waited for")
		}
		_, err := r.Write(ctx, alice, fs.IORef{Handle: h, Open: me("o")}, 0, []byte("x"), fs.Unstable)
		if fs.CodeOf(err) != fs.BadStateid { // though the origin would still take it
			t.Errorf("a write after the close: %v", err)
		}
		r.must(openBy(r, "other", h, 0)) // nobody is in its way
		same, denies := make(chan error, 1), make(chan error, 1)
		go func() { same <- openBy(r, "o", h, 0) }()
		go func() { denies <- openBy(r, "d", h, fs.ShareWrite) }()
		synctest.Wait()
		if len(same)+len(denies) > 0 {
			t.Error("an open did not wait for what is in its way at the origin")
		}
		opens := f.count[nfs4.OP_OPEN]
		close(up.let)
		r.must(<-same)
		r.must(<-denies)
		if n := f.count[nfs4.OP_OPEN] - opens; n != 2 || f.closes != 1 {
			t.Errorf("%d opens, %d closes at the origin", n, f.closes)
		}
		if f.opens[fakeKey{r.openUp(me("o")), h2fh(r, h)}] == 0 {
			t.Error("the open that came after is not at the origin")
		}

		// What denies something, or has locks, is closed before the answer.
		up.let = make(chan struct{})
		shut := make(chan error, 1)
		go func() { shut <- r.CloseFile(ctx, me("d"), h) }()
		synctest.Wait()
		if len(shut) > 0 {
			t.Error("an open that denies writing was closed in the background")
		}
		close(up.let)
		r.must(<-shut)
		r.fetching.Wait()
	})
}

func openBy(r *rig, who string, h fs.Handle, deny fs.Share) error {
	_, err := r.Open(context.Background(), alice, &fs.OpenRequest{Owner: me(who), File: h, Access: fs.ShareBoth, Deny: deny})
	return err
}

func h2fh(r *rig, h fs.Handle) nfs4.FH {
	fh, err := r.resolve(context.Background(), h)
	r.must(err)
	return fh
}

func me(name string) fs.Owner { return fs.Owner{Client: "client", Owner: name} }
