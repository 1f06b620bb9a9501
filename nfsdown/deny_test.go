package nfsdown

import (
	"context"
	"testing"

	"holdfast/internal/nfs4"
)

// An open that denies is in the journal before the backend hears of it: else a kill in between, of a client that never
// asks again, leaves an open at the origin of which nobody knows.
func TestAnOpenThatDeniesIsWrittenFirst(t *testing.T) {
	w := newDurableWorld(t, nil)
	seen := make(chan int, 10)
	w.reboot(func(_ context.Context, op string) error {
		if op == "Open" {
			s, err := w.jr.Load()
			if err != nil {
				t.Error(err)
			} else {
				seen <- len(s.Opens)
			}
		}
		return nil
	})
	a := w.client("alice")
	fh, sid := a.open("o", "f")
	<-seen
	a.ok(with(nil, put(fh), &nfs4.CloseArgs{OpenStateid: sid})...)
	a.ok(with(nil, put(fh), &nfs4.OpenArgs{ShareAccess: 3, ShareDeny: 2, Owner: nfs4.StateOwner{Owner: "d"}, Claim: nfs4.OpenClaim{Type: nfs4.CLAIM_FH}})...)
	if n := <-seen; n != 1 {
		t.Errorf("%d records when the backend was asked, want one", n)
	}
}
