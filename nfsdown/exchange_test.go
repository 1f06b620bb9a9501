package nfsdown

import (
	"testing"

	"holdfast/internal/nfs4"
)

// RFC 8881 18.35.4 case 9, whose PERM the table of 15.2 leaves out; and a bit that RFC 7862 14.1 gives to 4.2.
func TestExchangeIDRefusals(t *testing.T) {
	w := newWorld(t, nil)
	p := w.client("alice")
	a := &nfs4.ExchangeIDArgs{Owner: nfs4.ClientOwner{ID: "alice", Verifier: nfs4.Verifier{p.verf}}, Flags: nfs4.EXCHGID4_FLAG_UPD_CONFIRMED_REC_A}
	other := w.dial("alice")
	other.cred = asUser(1000)
	if st, _ := other.must(a); st != nfs4.NFS4ERR_PERM {
		t.Errorf("update by another principal: %v", st)
	}
	for minor, want := range map[uint32]nfs4.Status{1: nfs4.NFS4ERR_INVAL, 2: nfs4.NFS4_OK} {
		q := w.dial("bob")
		q.minor = minor
		if st, _ := q.must(&nfs4.ExchangeIDArgs{Owner: nfs4.ClientOwner{ID: "bob"}, Flags: nfs4.EXCHGID4_FLAG_SUPP_FENCE_OPS}); st != want {
			t.Errorf("SUPP_FENCE_OPS in 4.%d: %v, want %v", minor, st, want)
		}
	}
}

// 18.36.3: a back channel that no callback fits through.
func TestBackChannelTooSmall(t *testing.T) {
	w := newWorld(t, nil)
	p := w.dial("alice").exchange()
	ch := nfs4.ChannelAttrs{MaxRequestSize: 8192, MaxResponseSize: 8192, MaxOperations: 8, MaxRequests: 4}
	back := ch
	back.MaxRequestSize = 10
	if st, _ := p.must(&nfs4.CreateSessionArgs{ClientID: p.id, Sequence: p.csa, ForeChan: ch, BackChan: back}); st != nfs4.NFS4ERR_TOOSMALL {
		t.Error(st)
	}
}
