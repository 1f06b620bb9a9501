package v3

import (
	"testing"

	"holdfast/fs"
	"holdfast/internal/nfs3"
	"holdfast/internal/nfs4"
	"holdfast/nfsdown"
	"holdfast/nfsdown/state"
)

// holder gives a client of NFSv4.1 a write delegation of a file, and returns what takes it back.
func holder(t *testing.T, s *state.Server, h fs.Handle) (giveBack func()) {
	t.Helper()
	who := state.Caller{Principal: "p"}
	ex, _ := s.ExchangeID(&nfs4.ExchangeIDArgs{Owner: nfs4.ClientOwner{ID: "holder"}}, who)
	ch := nfs4.ChannelAttrs{MaxRequestSize: 4096, MaxResponseSize: 4096, MaxOperations: 8, MaxRequests: 1}
	_, ss, _ := s.CreateSession(&nfs4.CreateSessionArgs{ClientID: ex.ClientID, Sequence: ex.SequenceID, Flags: nfs4.CREATE_SESSION4_FLAG_CONN_BACK_CHAN, ForeChan: ch, BackChan: ch}, who)
	if ss == nil {
		t.Fatal("no session")
	}
	c := ss.Client()
	c.SetTried()
	complete, err := s.PrepareReclaimComplete(c, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := complete.Settle(nil); err != nil {
		t.Fatal(err)
	}
	p, _, err := s.PrepareOpen(t.Context(), c, &state.OpenRequest{Owner: "o", File: h, Access: fs.ShareBoth})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Settle(nil, nil); err != nil {
		t.Fatal(err)
	}
	p, why := s.PrepareDelegation(t.Context(), c, &state.DelegRequest{File: h, Kind: state.WriteDeleg})
	if p == nil {
		t.Fatalf("no delegation: %d", why)
	}
	sid, _, err := p.Settle(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		r, err := s.PrepareDelegReturn(t.Context(), c, sid, h)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := r.Settle(nil); err != nil {
			t.Fatal(err)
		}
	}
}

// What a client of NFSv4 has delegated is recalled before NFSv3 looks at it or changes it: JUKEBOX meanwhile.
func TestJukeboxForDelegation(t *testing.T) {
	w := newWorld(t, func(c *nfsdown.Config) { c.State.Delegations = true })
	p := w.peer(0)
	root := p.mnt("/data").FH
	mode := uint32(0o666)
	made := call3[*nfs3.CreateRes](p, nfs3.ProcCreate, &nfs3.CreateArgs{Where: nfs3.Dirop{Dir: nfs3.FH(root), Name: "f"}, Attr: nfs3.Sattr{Mode: &mode}})
	if made.Status != nfs3.OK {
		t.Fatal(made.Status)
	}
	fh := *made.FH
	giveBack := holder(t, w.down.State(), fs.Handle(fh))
	at := nfs3.Dirop{Dir: nfs3.FH(root), Name: "f"}
	size := uint64(0)
	list := []struct {
		name string
		run  func() nfs3.Status
	}{
		{"GETATTR", func() nfs3.Status {
			return call3[*nfs3.GetattrRes](p, nfs3.ProcGetattr, &nfs3.FHArgs{FH: fh}).Status
		}},
		{"READ", func() nfs3.Status {
			return call3[*nfs3.ReadRes](p, nfs3.ProcRead, &nfs3.ReadArgs{FH: fh, Count: 1}).Status
		}},
		{"WRITE", func() nfs3.Status {
			return call3[*nfs3.WriteRes](p, nfs3.ProcWrite, &nfs3.WriteArgs{FH: fh, Count: 1, Data: []byte("x")}).Status
		}},
		{"SETATTR", func() nfs3.Status {
			return call3[*nfs3.WccRes](p, nfs3.ProcSetattr, &nfs3.SetattrArgs{FH: fh, Attr: nfs3.Sattr{Mode: &mode}}).Status
		}},
		{"CREATE of what is there", func() nfs3.Status {
			return call3[*nfs3.CreateRes](p, nfs3.ProcCreate, &nfs3.CreateArgs{Where: at, Attr: nfs3.Sattr{Size: &size}}).Status
		}},
		{"LINK", func() nfs3.Status {
			return call3[*nfs3.LinkRes](p, nfs3.ProcLink, &nfs3.LinkArgs{File: fh, Link: nfs3.Dirop{Dir: nfs3.FH(root), Name: "g"}}).Status
		}},
		{"RENAME", func() nfs3.Status {
			return call3[*nfs3.RenameRes](p, nfs3.ProcRename, &nfs3.RenameArgs{From: nfs3.Dirop{Dir: nfs3.FH(root), Name: "f"}, To: nfs3.Dirop{Dir: nfs3.FH(root), Name: "h"}}).Status
		}},
		{"REMOVE", func() nfs3.Status {
			return call3[*nfs3.WccRes](p, nfs3.ProcRemove, &nfs3.DiropArgs{What: at}).Status
		}},
	}
	for _, x := range list {
		if st := x.run(); st != nfs3.ErrJukebox {
			t.Errorf("%s: %v", x.name, st)
		}
	}
	giveBack()
	for _, x := range list[:6] {
		if st := x.run(); st != nfs3.OK {
			t.Errorf("%s after the return: %v", x.name, st)
		}
	}
}
