package nfsdown

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/nfsdown/state"
)

func invisible(c *Config) { c.State.Restore = true }

// again is what a client does that only notices a broken connection: BADSESSION, then a session on the client
// ID that it has.
func (p *peer) again() *peer {
	p.t.Helper()
	p.connect()
	if st, _ := p.must(p.sequence()); st != nfs4.NFS4ERR_BADSESSION {
		p.t.Fatalf("SEQUENCE after the restart: %v", st)
	}
	return p.session(p.fore)
}

func restored(t *testing.T, w *world) RestartInfo {
	t.Helper()
	eventually(t, "state is restored", func() bool { return w.srv.Restart().Done })
	return w.srv.Restart()
}

// RFC 8881 8.4.2.1.1: a server with a full record needs no reclaims. I1, I2.
func TestInvisibleRestart(t *testing.T) {
	w := newDurableWorld(t, invisible)
	p, q := w.client("alice"), w.client("bob")
	fh, sid := p.open("o", "f")
	lock := p.lock(fh, sid, "l", nfs4.WRITE_LT, 0, 10)
	lock = last[*nfs4.LockuRes](p.ok(put(fh), &nfs4.LockuArgs{LockType: nfs4.WRITE_LT, LockStateid: lock, Offset: 0, Length: 5})).LockStateid
	_, qsid := q.open("qo", "f")
	for range 3 { // any number of times
		id := p.id
		w.reboot(nil)
		if w.srv.Phase() != state.GraceNone {
			t.Fatalf("phase %v", w.srv.Phase())
		}
		p.again()
		q.again()
		// Rights are as before, from the first request on.
		q.fails(nfs4.NFS4ERR_DENIED, put(fh), lockArgs(qsid, "ql", nfs4.WRITE_LT, 5, 1))
		p.ok(put(fh), &nfs4.WriteArgs{Stateid: lock, Data: []byte("x")})
		if held := w.fs.Held(fsOwner("alice", "l"), backendHandle(t, fh)); len(held) != 1 || held[0].Range != (fs.Range{First: 5, Last: 9}) {
			t.Errorf("the backend holds %v", held)
		}
		if r := restored(t, w); !r.Invisible || r.Lost != 0 || r.Opens != 2 || r.Locks != 1 {
			t.Errorf("%+v", r)
		}
		p.fails(nfs4.NFS4ERR_COMPLETE_ALREADY, &nfs4.ReclaimCompleteArgs{})
		p.fails(nfs4.NFS4ERR_NO_GRACE, put(fh), reclaimOpen("o", 3, 0))
		if p.id != id || p.exchange().id != id {
			t.Errorf("client ID %x, was %x", p.id, id)
		}
	}
	// It ends as anything does.
	lock = last[*nfs4.LockuRes](p.ok(put(fh), &nfs4.LockuArgs{LockType: nfs4.WRITE_LT, LockStateid: lock, Offset: 0, Length: 10})).LockStateid
	q.ok(put(fh), lockArgs(qsid, "ql", nfs4.WRITE_LT, 5, 1))
	p.ok(&nfs4.FreeStateidArgs{Stateid: lock})
	p.ok(put(fh), &nfs4.CloseArgs{OpenStateid: sid})
	w.reboot(nil)
	p.again()
	p.fails(nfs4.NFS4ERR_BAD_STATEID, put(fh), &nfs4.CloseArgs{OpenStateid: sid})
	if r := restored(t, w); r.Opens != 1 || r.Locks != 1 {
		t.Errorf("%+v", r)
	}
}

// CREATE_SESSION: the recorded number may come again, as its answer may have been lost, and so may the next.
func TestCreateSessionAfterInvisibleRestart(t *testing.T) {
	for name, back := range map[string]uint32{"its answer was lost": 1, "its answer came": 0} {
		t.Run(name, func(t *testing.T) {
			w := newDurableWorld(t, invisible)
			p := w.client("alice")
			p.open("o", "f")
			w.reboot(nil)
			p.connect()
			p.csa -= back
			p.session(p.fore)
			p.ok(putroot)
			p.csa += 5
			st, _ := p.must(&nfs4.CreateSessionArgs{ClientID: p.id, Sequence: p.csa, ForeChan: p.fore, BackChan: p.fore})
			if st != nfs4.NFS4ERR_SEQ_MISORDERED {
				t.Errorf("a number from nowhere: %v", st)
			}
		})
	}
}

// What the backend does not give back is lost, and its holder is told: I2.
func TestInvisibleRestartRefused(t *testing.T) {
	w := newDurableWorld(t, invisible)
	p := w.client("alice")
	fh, sid := p.open("o", "f")
	lock := p.lock(fh, sid, "l", nfs4.WRITE_LT, 0, 10)
	gfh, gsid := p.open("o", "g")
	w.reboot(func(_ context.Context, op string) error {
		if op == "ReclaimLock" {
			return fs.E("LOCK", fs.ReclaimConflict, nil)
		}
		return nil
	})
	p.again()
	p.fails(nfs4.NFS4ERR_ADMIN_REVOKED, put(fh), &nfs4.WriteArgs{Stateid: lock, Data: []byte("x")})
	if r := restored(t, w); r.Lost != 1 {
		t.Errorf("%+v", r)
	}
	st, list := p.must(p.sequence())
	if flags := list[0].(*nfs4.SequenceRes).StatusFlags; st != nfs4.NFS4_OK || flags&nfs4.SEQ4_STATUS_ADMIN_STATE_REVOKED == 0 {
		t.Errorf("SEQUENCE: %v, flags %#x", st, flags)
	}
	p.ok(&nfs4.FreeStateidArgs{Stateid: lock})
	p.ok(put(gfh), &nfs4.WriteArgs{Stateid: gsid, Data: []byte("x")})
	p.ok(put(fh), lockArgs(sid, "l", nfs4.WRITE_LT, 0, 10))
	told := 0
	for e, err := range w.jr.Events(1, nil) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Type == "lost" && e.Client == "alice" && e.Name == "f" && e.Range.Last == 9 {
			told++
		}
	}
	if told != 1 {
		t.Errorf("the loss is in the audit trail %d times", told)
	}
}

// While the origin does not answer nothing passes, and nothing is lost; nor by dying in the middle.
func TestInvisibleRestartWaitsForTheOrigin(t *testing.T) {
	w := newDurableWorld(t, invisible)
	p := w.client("alice")
	fh, sid := p.open("o", "f")
	lock := p.lock(fh, sid, "l", nfs4.WRITE_LT, 0, 10)
	var away atomic.Bool
	away.Store(true)
	for range 2 {
		var asked atomic.Bool // by this incarnation
		w.reboot(func(_ context.Context, op string) error {
			if op == "ReclaimLock" && away.Load() {
				asked.Store(true)
				return fs.E("LOCK", fs.Unreachable, errors.New("no route"))
			}
			return nil
		})
		eventually(t, "the lock is asked for", asked.Load)
		p.again()
		delayed := make(chan nfs4.Status, 1)
		go func() {
			st, _ := p.do(put(fh), &nfs4.WriteArgs{Stateid: lock, Data: []byte("x")})
			delayed <- st
		}()
		var st nfs4.Status
		eventually(t, "the request is told to come later", func() bool {
			w.clock.Advance(restorePatience)
			select {
			case st = <-delayed:
				return true
			default:
				return false
			}
		})
		if st != nfs4.NFS4ERR_DELAY || w.srv.Restart().Done {
			t.Fatalf("%v, %+v", st, w.srv.Restart())
		}
	}
	away.Store(false)
	eventually(t, "state is restored", func() bool { w.clock.Advance(retryMost); return w.srv.Restart().Done })
	p.ok(put(fh), &nfs4.WriteArgs{Stateid: lock, Data: []byte("x")})
}

// A client that restarted while we did: what it had is held, and not given to others.
func TestClientRestartsDuringInvisibleRestart(t *testing.T) {
	w := newDurableWorld(t, func(c *Config) { invisible(c); c.State.Retain = state.RetainAlways })
	p, q := w.client("alice"), w.client("bob")
	fh, sid := p.open("o", "f")
	p.lock(fh, sid, "l", nfs4.WRITE_LT, 0, 10)
	_, qsid := q.open("qo", "f")
	p2 := w.dial("alice")
	p2.verf = 2
	p2.exchange()
	w.reboot(nil) // before it reclaims
	restored(t, w)
	p2.again()
	q.again()
	q.fails(nfs4.NFS4ERR_DENIED, put(fh), lockArgs(qsid, "ql", nfs4.WRITE_LT, 0, 10))
	p2.fails(nfs4.NFS4ERR_BAD_STATEID, put(fh), &nfs4.CloseArgs{OpenStateid: sid})
	open := last[*nfs4.OpenRes](p2.ok(put(fh), reclaimOpen("o", 3, 0))).Stateid
	w.reboot(nil) // in the middle
	restored(t, w)
	p2.again()
	q.again()
	q.fails(nfs4.NFS4ERR_DENIED, put(fh), lockArgs(qsid, "ql", nfs4.WRITE_LT, 0, 10))
	p2.ok(put(fh), reclaimLock(open, "l", nfs4.WRITE_LT, 0, 10))
	p2.ok(&nfs4.ReclaimCompleteArgs{})
	q.fails(nfs4.NFS4ERR_DENIED, put(fh), lockArgs(qsid, "ql", nfs4.WRITE_LT, 0, 10))
}

// RFC 8881 8.4.3: a client that expired does not come back.
func TestExpiredClientIsNotRestored(t *testing.T) {
	w := newDurableWorld(t, invisible)
	p := w.client("alice")
	p.open("o", "f")
	w.clock.Advance(5 * 60e9)
	eventually(t, "its state is released", func() bool { return w.fs.Opens() == 0 })
	w.reboot(nil)
	if r := restored(t, w); r.Opens != 0 || w.fs.Opens() != 0 {
		t.Errorf("%+v, %d opens", r, w.fs.Opens())
	}
	p.connect()
	st, _ := p.must(&nfs4.CreateSessionArgs{ClientID: p.id, Sequence: p.csa, ForeChan: p.fore, BackChan: p.fore})
	if st != nfs4.NFS4ERR_STALE_CLIENTID {
		t.Errorf("CREATE_SESSION: %v", st)
	}
}

// By choice it is grace, and until that has ended no restart is invisible.
func TestGraceByChoice(t *testing.T) {
	w := newDurableWorld(t, nil)
	p := w.client("alice")
	p.open("o", "f")
	w.reboot(nil)
	if r := w.srv.Restart(); r.Invisible || !strings.Contains(r.Reason, "--restart=grace") {
		t.Errorf("%+v", r)
	}
	w.edit = invisible
	w.reboot(nil)
	if r := w.srv.Restart(); r.Invisible || !strings.Contains(r.Reason, "grace period did not end") || w.srv.Phase() != state.GraceActive {
		t.Errorf("%+v", r)
	}
	p.back()
	p.ok(&nfs4.ReclaimCompleteArgs{})
	eventually(t, "grace is over", func() bool { return w.srv.Phase() == state.GraceOver })
	w.reboot(nil)
	if r := restored(t, w); !r.Invisible {
		t.Errorf("%+v", r)
	}
}

// What a client of NFSv4.0 has cannot come back unseen, since the order of its requests is not recorded: it reclaims.
func TestNoInvisibleRestartWithStateOfV40(t *testing.T) {
	w := newDurableWorld(t, invisible)
	w.client("maker").mkfile("f", nil)
	p := w.peer40("alice")
	fh, sid := p.open40("o", "f", 3, 0)
	lock := last[*nfs4.LockRes](p.ok40(put(fh), p.lockArgs(sid, "l", 0, 10))).LockStateid
	w.reboot(nil)
	if r := w.srv.Restart(); r.Invisible || !strings.Contains(r.Reason, "NFSv4.0") || w.srv.Phase() != state.GraceActive {
		t.Fatalf("%+v, phase %v", r, w.srv.Phase())
	}
	p.connect()
	p.fails40(nfs4.NFS4ERR_STALE_STATEID, put(fh), &nfs4.WriteArgs{Stateid: lock, Data: []byte("x")})
	p.setclientid()
	a := reclaimOpen("o", 3, 0)
	p.seq++
	a.Owner.ClientID, a.Seqid = p.id, p.seq
	sid = last[*nfs4.OpenRes](p.ok40(put(fh), a)).Stateid
	l := p.lockArgs(sid, "l", 0, 10)
	l.Reclaim = true
	lock = last[*nfs4.LockRes](p.ok40(put(fh), l)).LockStateid
	eventually(t, "grace is over", func() bool { return w.srv.Phase() == state.GraceOver })
	p.ok40(put(fh), &nfs4.LockuArgs{LockType: nfs4.WRITE_LT, Seqid: 1, LockStateid: lock, Length: 10})
	p.seq++
	p.ok40(put(fh), &nfs4.CloseArgs{Seqid: p.seq, OpenStateid: sid})
	// One that has nothing does not stand in the way, and makes itself known again.
	w.reboot(nil)
	if r := restored(t, w); !r.Invisible {
		t.Fatalf("%+v", r)
	}
	p.connect()
	p.fails40(nfs4.NFS4ERR_STALE_CLIENTID, &nfs4.RenewArgs{ClientID: p.id})
	p.setclientid().open40("o2", "f", 3, 0)
}

// OPEN_DOWNGRADE: the smaller record is written before the backend is asked, and the larger one comes back
// before the client hears that it was refused.
func TestDowngradeIsWrittenFirst(t *testing.T) {
	w := newDurableWorld(t, invisible)
	p := w.client("alice")
	fh, _ := p.open("o", "f")
	sid := last[*nfs4.OpenRes](p.ok(putroot, openArgs("o", "f", nfs4.OPEN4_SHARE_ACCESS_READ, 0))).Stateid
	recorded := func() fs.Share {
		snap, err := w.jr.Load()
		if err != nil || len(snap.Opens) != 1 {
			t.Errorf("%v, %+v", err, snap)
			return 0
		}
		return snap.Opens[0].LiveAccess | snap.Opens[0].Access
	}
	for _, refuse := range []error{fs.E("OPEN", fs.Delay, nil), nil} {
		var asked atomic.Uint32 // what the journal said then
		w.reboot(func(_ context.Context, op string) error {
			if op != "Downgrade" {
				return nil
			}
			asked.Store(uint32(recorded()))
			return refuse
		})
		p.again()
		restored(t, w)
		args := &nfs4.OpenDowngradeArgs{OpenStateid: sid, ShareAccess: nfs4.OPEN4_SHARE_ACCESS_READ}
		if refuse != nil {
			p.fails(nfs4.NFS4ERR_DELAY, put(fh), args)
			if got := recorded(); got != fs.ShareBoth {
				t.Errorf("after it was refused the journal says %v", got)
			}
		} else if p.ok(put(fh), args); recorded() != fs.ShareRead {
			t.Errorf("after it the journal says %v", recorded())
		}
		if got := fs.Share(asked.Load()); got != fs.ShareRead {
			t.Errorf("when the backend was asked the journal said %v", got)
		}
	}
	// Dying in the middle, the open is what the client wanted, and its request may come again.
	w.reboot(nil)
	p.again()
	p.ok(put(fh), &nfs4.OpenDowngradeArgs{OpenStateid: sid, ShareAccess: nfs4.OPEN4_SHARE_ACCESS_READ})
}
