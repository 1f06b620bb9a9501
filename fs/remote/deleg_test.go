package remote

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/nfsup"
)

// giver is an origin that delegates what it is asked to.
type giver struct {
	*fake
	mu       sync.Mutex
	held     map[nfs4.FH]nfsup.DelegKind
	serial   map[nfs4.FH]uint64 // of what was granted last
	invalid  bool               // the lease is in doubt
	returned chan nfs4.FH
	wanted   []nfsup.DelegKind
	granted  func() // is called once, between an OPEN and its answer
}

func newGiver() *giver {
	return &giver{fake: newFake(), held: map[nfs4.FH]nfsup.DelegKind{}, serial: map[nfs4.FH]uint64{}, returned: make(chan nfs4.FH, 1<<15)}
}

func (g *giver) Open(ctx context.Context, cred *rpc.Cred, a *nfsup.OpenArgs) (*nfsup.OpenReply, error) {
	reply, err := g.fake.Open(ctx, cred, a)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	granted := g.granted
	g.granted = nil
	g.mu.Unlock()
	if granted != nil {
		granted()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.wanted = append(g.wanted, a.Want)
	if a.Want > g.held[reply.FH] {
		g.held[reply.FH] = a.Want
		g.serial[reply.FH]++
		if a.Want == nfsup.DelegWrite {
			reply.WriteDelegation = g.serial[reply.FH]
		}
	}
	return reply, nil
}

func (g *giver) WriteDelegation(fh nfs4.FH) uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held[fh] != nfsup.DelegWrite || g.invalid {
		return 0
	}
	return g.serial[fh]
}

func (g *giver) Delegated(fh nfs4.FH) nfsup.DelegKind {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.held[fh]
}

func (g *giver) Delegations() (list []nfsup.Delegation) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for fh, k := range g.held {
		list = append(list, nfsup.Delegation{FH: fh, Kind: k})
	}
	return list
}

func (g *giver) LeaseValid() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.invalid
}

func (g *giver) ReturnDelegation(_ context.Context, fh nfs4.FH) error {
	g.take(fh)
	g.returned <- fh
	return nil
}

func (g *giver) take(fh nfs4.FH) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.held, fh)
}

// recall is CB_RECALL, as nfsup passes it on: what is recalled counts no more.
func (g *giver) recall(r *rig, fh nfs4.FH) {
	g.take(fh)
	r.recalled(fh, false)
	if got := <-g.returned; got != fh {
		r.t.Errorf("%q came back, not %q", got, fh)
	}
}

func (g *giver) opensOf(fh nfs4.FH) (n int) {
	g.fake.mu.Lock()
	defer g.fake.mu.Unlock()
	for k := range g.fake.opens {
		if k.fh == fh {
			n++
		}
	}
	return n
}

type delegRig struct {
	*rig
	g *giver
	x *fakeFile
	h fs.Handle
}

func newDelegRig(t *testing.T) *delegRig {
	g := newGiver()
	x := g.add(g.fake.root, "f", nfs4.NF4REG)
	g.info.RetainGranted = true
	r := newRigOf(t, g.fake, g, nil)
	h, _, err := r.Lookup(t.Context(), alice, r.Remote.root(), "f")
	r.must(err)
	return &delegRig{r, g, x, h}
}

func own(client, name string) fs.Owner { return fs.Owner{Client: client, Owner: name} }

func (d *delegRig) byName(o fs.Owner, cred *fs.Cred, access, deny fs.Share) error {
	_, err := d.Open(d.t.Context(), cred, &fs.OpenRequest{Owner: o, Access: access, Deny: deny, Dir: d.Remote.root(), Name: "f"})
	return err
}

func (d *delegRig) byHandle(o fs.Owner, cred *fs.Cred, access fs.Share) error {
	_, err := d.Open(d.t.Context(), cred, &fs.OpenRequest{Owner: o, Access: access, File: d.h})
	return err
}

func (d *delegRig) shut(o fs.Owner) { d.must(d.CloseFile(d.t.Context(), o, d.h)) }

// While a delegation is held nothing is asked: not by open and close, getattr, access, or lookup, however
// old the answers are.
func TestDelegatedFileNeedsNoAsking(t *testing.T) {
	for _, access := range []fs.Share{fs.ShareRead, fs.ShareBoth} {
		t.Run(fmt.Sprint(access), func(t *testing.T) {
			d := newDelegRig(t)
			o := own("end", "o")
			_, err := d.Access(t.Context(), alice, d.h, fs.AccessRead)
			d.must(err)
			d.must(d.byHandle(o, alice, access))
			d.shut(o)
			d.clock.Advance(time.Hour)
			if n := d.requests(func() {
				for range 3 {
					d.must(d.byHandle(o, alice, access))
					_, err := d.GetAttr(t.Context(), alice, d.h)
					d.must(err)
					_, err = d.Access(t.Context(), alice, d.h, fs.AccessRead)
					d.must(err)
					d.shut(o)
				}
			}); n != 0 {
				t.Errorf("%d requests", n)
			}
			// A directory has no delegation: it is asked when it is old, once for all of its names.
			if n := d.requests(func() {
				for range 3 {
					d.must(d.byName(o, alice, access, 0))
					d.shut(o)
				}
			}); n != 1 {
				t.Errorf("by name: %d requests, want the LOOKUP alone", n)
			}
			if n := d.g.opensOf(d.x.fh); n != 1 {
				t.Errorf("the origin has %d opens; the owner's stays there (I2)", n)
			}
		})
	}
}

// Where a delegation could cost a re-export its locks none is asked for, unless that is said.
func TestWhoAsksForDelegations(t *testing.T) {
	for _, c := range []struct {
		name             string
		retain, reexport bool
		policy           DelegatePolicy
		want             bool
	}{
		{"a re-export of a retaining origin asks", true, true, DelegateAuto, true},
		{"one that would have to resume does not", false, true, DelegateAuto, false},
		{"but it does if told to", false, true, DelegateAlways, true},
		{"a mount without re-export asks", false, false, DelegateAuto, true},
		{"never is never", true, false, DelegateNever, false},
	} {
		g := newGiver()
		g.info.RetainGranted = c.retain
		r := newRigOf(t, g.fake, g, func(cfg *Config) { cfg.Reexport, cfg.Delegations = c.reexport, c.policy })
		if got := r.wantDeleg(&fs.OpenRequest{Access: fs.ShareRead}) == nfsup.DelegRead; got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// Only the same owner, credential and modes have what is parked.
func TestWhoHasAParkedOpen(t *testing.T) {
	local := func(n string) fs.Owner { return own(fs.LocalClient+"m", n) }
	for _, c := range []struct {
		name          string
		first, second fs.Owner
		cred          *fs.Cred
		access        fs.Share
		asks          int
	}{
		{"the same owner has it", own("end", "o"), own("end", "o"), alice, fs.ShareRead, 0},
		{"for another user the origin decides", own("end", "o"), own("end", "o"), bob, fs.ShareRead, 1},
		{"other modes are asked for", own("end", "o"), own("end", "o"), alice, fs.ShareBoth, 1},
		{"another owner's open must be held under his name", own("end", "o"), own("end", "p"), alice, fs.ShareRead, 1},
		{"so must another client's", own("end", "o"), own("end2", "o"), alice, fs.ShareRead, 1},
		{"local opens take each other's", local("1"), local("2"), alice, fs.ShareRead, 0},
		{"but not those of another user", local("1"), local("2"), bob, fs.ShareRead, 1},
		{"nor those of an end client", own("end", "o"), local("2"), alice, fs.ShareRead, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDelegRig(t)
			d.must(d.byHandle(c.first, alice, fs.ShareRead))
			d.shut(c.first)
			if n := d.requests(func() { d.must(d.byHandle(c.second, c.cred, c.access)) }); n != c.asks {
				t.Errorf("%d requests, want %d", n, c.asks)
			}
			// I/O and close go by the owner that asks, whatever name he has there.
			_, _, err := d.Read(t.Context(), c.cred, fs.IORef{Handle: d.h, Open: c.second}, 0, make([]byte, 1))
			d.must(err)
			d.shut(c.second)
			if d.owners.share(d.openUp(c.second), d.h).held {
				t.Error("it is still open here")
			}
			d.g.recall(d.rig, d.x.fh)
			if n := d.g.opensOf(d.x.fh); n != 0 {
				t.Errorf("%d opens stay at the origin", n)
			}
		})
	}
}

// A recall ends it all at once: what is parked goes, and everything is asked again.
func TestRecallEndsTheCover(t *testing.T) {
	d := newDelegRig(t)
	o := own("end", "o")
	d.must(d.byHandle(o, alice, fs.ShareRead))
	d.shut(o)
	d.must(d.byHandle(own("end", "live"), alice, fs.ShareRead))
	d.g.recall(d.rig, d.x.fh)
	if n := d.g.opensOf(d.x.fh); n != 1 {
		t.Errorf("%d opens at the origin, want the live one", n)
	}
	d.g.behind(func() { d.x.change++ })
	a, err := d.GetAttr(t.Context(), alice, d.h)
	d.must(err)
	if a.Change != d.x.change {
		t.Error("old attributes after a recall (I6)")
	}
	if n := d.requests(func() { d.must(d.byHandle(o, alice, fs.ShareRead)) }); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// While the lease is in doubt the origin may have given the file to others.
func TestNothingIsCoveredWithoutALease(t *testing.T) {
	d := newDelegRig(t)
	o := own("end", "o")
	d.must(d.byHandle(o, alice, fs.ShareRead))
	d.shut(o)
	d.g.mu.Lock()
	d.g.invalid = true
	d.g.mu.Unlock()
	d.clock.Advance(time.Hour)
	if n := d.requests(func() {
		_, err := d.GetAttr(t.Context(), alice, d.h)
		d.must(err)
		d.must(d.byHandle(o, alice, fs.ShareRead))
	}); n != 2 {
		t.Errorf("%d requests", n)
	}
}

// A lost delegation is no lost open: the end client hears nothing, and the file is asked about again.
func TestLostDelegation(t *testing.T) {
	d := newDelegRig(t)
	o := own("end", "o")
	d.must(d.byHandle(o, alice, fs.ShareRead))
	up := d.openUp(o)
	d.shut(o)
	d.revoked(nfsup.Revocation{Kind: nfsup.KindOpen, OpenOwner: up, FH: d.x.fh, Why: nfs4.NFS4ERR_EXPIRED})
	d.l.mu.Lock()
	n := len(d.l.revoked)
	d.l.mu.Unlock()
	if n != 0 {
		t.Error("the loss of a parked open was told to somebody")
	}
	if n := d.requests(func() { d.must(d.byHandle(o, alice, fs.ShareRead)) }); n != 1 {
		t.Errorf("a lost open was taken for a parked one: %d requests", n)
	}
	d.g.take(d.x.fh)
	d.delegLost(d.x.fh)
	d.g.behind(func() { d.x.change++ })
	a, err := d.GetAttr(t.Context(), alice, d.h)
	d.must(err)
	if a.Change != d.x.change {
		t.Error("old attributes after the loss (I6)")
	}
}

// What is parked stands in nobody's way: neither that of an open of ours that denies it, nor of removal.
func TestParkedOpensMakeRoom(t *testing.T) {
	d := newDelegRig(t)
	o := own("end", "o")
	d.must(d.byHandle(o, alice, fs.ShareRead))
	d.shut(o)
	d.must(d.byName(own("end2", "d"), alice, fs.ShareRead, fs.ShareBoth))
	if n := d.g.opensOf(d.x.fh); n != 1 {
		t.Errorf("%d opens while one of them denies the other", n)
	}
	d.shut(own("end2", "d"))
	if n := d.g.opensOf(d.x.fh); n != 0 {
		t.Errorf("an open that denies something was parked")
	}
	d.must(d.byHandle(o, alice, fs.ShareRead))
	d.shut(o)
	_, err := d.Remove(t.Context(), alice, d.Remote.root(), "f", fs.RemoveAny)
	d.must(err)
	if n := d.g.opensOf(d.x.fh); n != 0 {
		t.Errorf("%d opens keep a removed file", n)
	}
}

// An open with locks is closed, with them.
func TestLockedOpenIsNotParked(t *testing.T) {
	d := newDelegRig(t)
	o := own("end", "o")
	d.must(d.byHandle(o, alice, fs.ShareBoth))
	d.must(d.Lock(t.Context(), alice, &fs.LockRequest{File: d.h, OpenOwner: o, LockOwner: own("end", "l"), Range: fs.Range{Last: 9}, Type: fs.WriteLock}))
	d.shut(o)
	if n := d.g.opensOf(d.x.fh); n != 0 {
		t.Error("the locks are still held at the origin")
	}
}

// Reclaims are never answered here, and never ask for a delegation.
func TestReclaimsGoToTheOrigin(t *testing.T) {
	d := newDelegRig(t)
	o := own("end", "o")
	d.must(d.byHandle(o, alice, fs.ShareRead))
	d.g.fake.mu.Lock()
	d.g.heldOp = map[fakeKey]uint32{{d.openUp(o), d.x.fh}: 1}
	d.g.fake.mu.Unlock()
	if n := d.requests(func() {
		_, err := d.Open(t.Context(), alice, &fs.OpenRequest{Owner: o, Access: fs.ShareRead, File: d.h, Reclaim: true})
		d.must(err)
	}); n != 1 {
		t.Errorf("%d requests", n)
	}
	if w := d.g.wanted[len(d.g.wanted)-1]; w != nfsup.DelegNone {
		t.Errorf("it wanted a delegation: %v", w)
	}
}

// What was parked is closed after its owner's next OPEN was carried out, and before the answer has come: nothing is left
// of the grant, and the file is opened again.
func TestCloseOvertakesTheAnswer(t *testing.T) {
	for _, by := range []string{"handle", "name"} {
		t.Run(by, func(t *testing.T) {
			d := newDelegRig(t)
			o := own("end", "o")
			d.must(d.byHandle(o, alice, fs.ShareRead))
			d.shut(o)
			d.g.granted = func() { d.g.recall(d.rig, d.x.fh) }
			if by == "name" {
				d.must(d.byName(o, alice, fs.ShareBoth, 0))
			} else {
				d.must(d.byHandle(o, alice, fs.ShareBoth))
			}
			if n := d.g.opensOf(d.x.fh); n != 1 {
				t.Errorf("%d opens at the origin", n)
			}
			_, _, err := d.Read(t.Context(), alice, fs.IORef{Handle: d.h, Open: o}, 0, make([]byte, 1))
			d.must(err)
			d.shut(o)
			d.g.recall(d.rig, d.x.fh) // it came with a delegation again
			if n := d.g.opensOf(d.x.fh); n != 0 {
				t.Errorf("%d opens are left at the origin", n)
			}
			if n := len(d.covers.opening); n != 0 {
				t.Errorf("%d OPENs are on their way", n)
			}
		})
	}
}

// Owners that open and close under recalls end with nothing at the origin.
func TestCoverUnderRecalls(t *testing.T) {
	d := newDelegRig(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			o := own("end", fmt.Sprint(i%4))
			for n := range 200 {
				if i >= 4 { // as the FUSE layer has it, no name comes twice
					o = own(fs.LocalClient+"m", fmt.Sprint(i, "/", n))
				}
				if err := d.byHandle(o, alice, fs.ShareRead); err != nil {
					t.Error(err)
				}
				if _, _, err := d.Read(t.Context(), alice, fs.IORef{Handle: d.h, Open: o}, 0, make([]byte, 1)); err != nil {
					t.Error("a recall closed an open that somebody has: ", err)
				}
				if err := d.CloseFile(t.Context(), o, d.h); err != nil && fs.CodeOf(err) != fs.BadStateid {
					t.Error(err)
				}
			}
		})
	}
	const recalls = 100
	for range recalls {
		d.g.take(d.x.fh)
		d.recalled(d.x.fh, false)
	}
	for range recalls {
		<-d.g.returned
	}
	wg.Wait()
	d.g.recall(d.rig, d.x.fh)
	if n := d.g.opensOf(d.x.fh); n != 0 {
		t.Errorf("%d opens are left at the origin", n)
	}
	d.covers.mu.Lock()
	defer d.covers.mu.Unlock()
	if d.covers.parked != 0 || len(d.covers.files) != 0 || len(d.covers.aliases) != 0 {
		t.Errorf("%d parked, %d files, %d aliases", d.covers.parked, len(d.covers.files), len(d.covers.aliases))
	}
}

// askedGiver counts who of several clients at one origin is asked.
type askedGiver struct {
	*giver
	asked int
}

func (a *askedGiver) Compound(ctx context.Context, cred *rpc.Cred, ops []nfs4.Args, use func([]nfs4.Res) error) error {
	a.asked++
	return a.giver.Compound(ctx, cred, ops, use)
}

func (a *askedGiver) CompoundAll(ctx context.Context, cred *rpc.Cred, ops []nfs4.Args, use func([]nfs4.Res) error) error {
	a.asked++
	return a.giver.CompoundAll(ctx, cred, ops, use)
}

// For the origin each upstream client is somebody else: what is asked about a file by another than the one that has its
// write delegation recalls that.
func TestTheHolderOfADelegationAsksAboutTheFile(t *testing.T) {
	g := newGiver()
	g.info.RetainGranted = true
	g.add(g.fake.root, "f", nfs4.NF4REG)
	other := newGiver()
	other.fake = g.fake
	first, holder := &askedGiver{giver: other}, &askedGiver{giver: g}
	r := newRigOf(t, g.fake, &shards{[]upstream{first, holder}}, nil)
	root := r.Remote.root()
	h, _, err := r.Lookup(t.Context(), alice, root, "f")
	r.must(err)
	if first.asked == 0 || holder.asked != 0 {
		t.Fatalf("without a delegation the first is asked: %d, %d", first.asked, holder.asked)
	}
	o := own("end", "o")
	for i := 0; shardOf(r.openUp(o), 2) != 1; i++ {
		o.Client = fmt.Sprint("end", i)
	}
	open := func() {
		_, err := r.Open(t.Context(), alice, &fs.OpenRequest{Owner: o, Access: fs.ShareBoth, Dir: root, Name: "f"})
		r.must(err)
	}
	mode := uint32(0o600)
	for name, do := range map[string]func() error{
		"LOOKUP":  func() error { _, _, err := r.Lookup(t.Context(), alice, root, "f"); return err },
		"GETATTR": func() error { _, err := r.GetAttr(t.Context(), alice, h); return err },
		"ACCESS":  func() error { _, err := r.Access(t.Context(), bob, h, fs.AccessRead); return err },
		"SETATTR": func() error {
			_, err := r.SetAttr(t.Context(), alice, fs.IORef{Handle: h}, &fs.SetAttr{Mode: &mode})
			return err
		},
		"COMMIT": func() error { _, err := r.Commit(t.Context(), alice, h, 0, 0); return err },
		"RENAME": func() error {
			_, _, err := r.Rename(t.Context(), alice, root, "f", root, "g")
			if err == nil {
				_, _, err = r.Rename(t.Context(), alice, root, "g", root, "f")
			}
			return err
		},
	} {
		open()
		r.cache.stale(h)
		r.cache.stale(root)
		before, asked := first.asked, holder.asked
		r.must(do())
		if first.asked != before || holder.asked == asked {
			t.Errorf("%s: the first was asked %d times, the holder %d times", name, first.asked-before, holder.asked-asked)
		}
	}
	// Nor does the end of the file.
	before := first.asked
	_, err = r.Remove(t.Context(), alice, root, "f", fs.RemoveFile)
	r.must(err)
	if first.asked != before {
		t.Error("REMOVE recalls it")
	}
}
