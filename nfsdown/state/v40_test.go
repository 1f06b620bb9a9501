package state

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// peer40 is a client of NFSv4.0 for tests: the tester's opens and locks, without a session.
type peer40 struct {
	*tester
	seq map[string]uint32
}

func (w *world) peer40(name string) *peer40 {
	return &peer40{tester: w.client(name), seq: map[string]uint32{}}
}

func (c *peer40) setArgs() *nfs4.SetclientidArgs {
	return &nfs4.SetclientidArgs{Client: c.exchangeArgs().Owner}
}

// connect is SETCLIENTID and SETCLIENTID_CONFIRM.
func (c *peer40) connect() error {
	r := c.w.srv.SetClientID(c.setArgs(), c.who())
	if r.Status != nfs4.NFS4_OK {
		return r.Status
	}
	cl, eff, err := c.w.srv.SetClientIDConfirm(r.ClientID, r.Confirm, c.who())
	c.w.run(eff)
	if err == nil {
		c.c, c.opens, c.locks = cl, map[string]nfs4.Stateid{}, map[string]nfs4.Stateid{}
	}
	return err
}

func (c *peer40) request(f func() error) error {
	if _, err := c.w.srv.Begin40(c.c.ID()); err != nil {
		return err
	}
	defer c.c.End40()
	err := f()
	c.w.run(c.w.srv.Reclaimed40(c.c))
	return err
}

func (c *peer40) open(owner string, f fs.Handle, access, deny fs.Share, reclaim bool) error {
	return c.request(func() error {
		p, err := c.planOpen(c.w.t.Context(), owner, f, access, deny, reclaim)
		if err != nil {
			return err
		}
		return c.doOpen(p)
	})
}

func (c *peer40) lock(open, owner string, f fs.Handle, r fs.Range, t fs.LockType, reclaim bool) error {
	return c.request(func() error {
		p, err := c.planLock(c.w.t.Context(), c.lockRequest(open, owner, f, r, t, false, reclaim))
		if err != nil {
			return err
		}
		return c.doLock(p)
	})
}

var ten = fs.Range{First: 0, Last: 9}

func (c *peer40) must(err error) {
	c.w.t.Helper()
	if err != nil {
		c.w.t.Fatal(err)
	}
}

func wants(t *testing.T, what string, got error, want error) {
	t.Helper()
	if !errors.Is(got, want) && got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// The cases of RFC 7530 16.33.5 and 16.34.5.
func TestSetClientIDCases(t *testing.T) {
	w := newWorld(t, Config{CourtesyLimit: time.Hour})
	c := w.peer40("alice")
	set := func(who Caller) *nfs4.SetclientidRes { return w.srv.SetClientID(c.setArgs(), who) }
	confirm := func(r *nfs4.SetclientidRes, who Caller) error {
		_, eff, err := w.srv.SetClientIDConfirm(r.ClientID, r.Confirm, who)
		w.run(eff)
		return err
	}
	p, q := Caller{Principal: "p"}, Caller{Principal: "q"}
	first, second := set(p), set(p) // 16.33.5: an unconfirmed record is replaced
	wants(t, "a record that was replaced", confirm(first, p), nfs4.NFS4ERR_STALE_CLIENTID)
	wants(t, "by another principal", confirm(second, q), nfs4.NFS4ERR_CLID_INUSE)
	wants(t, "the new record", confirm(second, p), nil)
	wants(t, "once more", confirm(second, p), nil)
	wants(t, "with another verifier", confirm(&nfs4.SetclientidRes{ClientID: second.ClientID}, p), nfs4.NFS4ERR_STALE_CLIENTID)

	update := set(p)
	if update.ClientID != second.ClientID || update.Confirm == second.Confirm {
		t.Error("a new callback for a confirmed client must have its ID and another verifier")
	}
	wants(t, "the update", confirm(update, p), nil)
	wants(t, "its repetition", confirm(update, p), nil)
	wants(t, "what it replaced", confirm(second, p), nfs4.NFS4ERR_STALE_CLIENTID)

	c.c = w.srv.ClientByID(update.ClientID)
	c.opens, c.locks = map[string]nfs4.Stateid{}, map[string]nfs4.Stateid{}
	c.must(c.open("o", "f", fs.ShareBoth, fs.ShareBoth, false))
	if r := set(q); r.Status != nfs4.NFS4ERR_CLID_INUSE {
		t.Errorf("another principal, and there is state: %v", r.Status)
	}

	c.verifier++ // the client was restarted
	bob := w.peer40("bob")
	bob.must(bob.connect())
	restart := set(p)
	if restart.ClientID == update.ClientID {
		t.Error("a restarted client has its old ID")
	}
	wants(t, "before it is confirmed the old state stays", bob.open("o", "f", fs.ShareRead, 0, false), nfs4.NFS4ERR_SHARE_DENIED)
	wants(t, "the restart", confirm(restart, p), nil)
	wants(t, "then it is gone", bob.open("o", "f", fs.ShareRead, 0, false), nil)
	_, err := w.srv.Begin40(update.ClientID)
	wants(t, "the old ID", err, nfs4.NFS4ERR_STALE_CLIENTID)
	if r := w.srv.SetClientID(&nfs4.SetclientidArgs{}, p); r.Status != nfs4.NFS4ERR_INVAL {
		t.Errorf("an empty id: %v", r.Status)
	}
}

// RFC 8881 2.4.1: a client that changes the minor version has restarted.
func TestMinorVersionsDoNotMeet(t *testing.T) {
	w := newWorld(t, Config{Retain: RetainAlways})
	c := w.peer40("alice")
	c.must(c.connect())
	c.must(c.open("o", "f", fs.ShareBoth, fs.ShareBoth, false))
	id := c.c.ID()
	if res, _, _ := w.srv.CreateSession(sessionArgs(id, 1), c.who()); res.Status != nfs4.NFS4ERR_STALE_CLIENTID {
		t.Errorf("a session for a client of 4.0: %v", res.Status)
	}
	if _, err := w.srv.DestroyClientID(id, nil); !errors.Is(err, nfs4.NFS4ERR_STALE_CLIENTID) {
		t.Errorf("DESTROY_CLIENTID for it: %v", err)
	}
	if err := c.tester.connect(); err != nil {
		t.Fatal(err)
	}
	if c.c.ID() == id || c.flags&nfs4.EXCHGID4_FLAG_CONFIRMED_R != 0 {
		t.Error("EXCHANGE_ID found the client of 4.0")
	}
	if _, err := w.srv.Begin40(c.c.ID()); !errors.Is(err, nfs4.NFS4ERR_STALE_CLIENTID) {
		t.Errorf("RENEW of a client of 4.1: %v", err)
	}
	c.must(c.connect())
	if n := len(w.srv.Opens()); n != 0 {
		t.Errorf("%d opens are left: a client of 4.0 could never say that it reclaims no more", n)
	}
}

// RFC 7530 9.1.7: one request of an owner after another, and the last answer again for its repetition.
func TestSeqids(t *testing.T) {
	w := newWorld(t, Config{})
	c := w.peer40("alice")
	c.must(c.connect())
	ctx := t.Context()
	begin := func(op nfs4.OpNum, seqid uint32) (*Seq, error) { return w.srv.OpenSeq40(ctx, c.c, "o", op, seqid) }
	run := func(op nfs4.OpNum, seqid uint32, reply []byte) {
		t.Helper()
		q, err := begin(op, seqid)
		if err != nil || q.Replay != nil {
			t.Fatalf("%v %d: %v, replayed %v", op, seqid, err, q != nil && q.Replay != nil)
		}
		if op == nfs4.OP_OPEN_CONFIRM {
			q.SetConfirmed()
		}
		q.End(reply, "h")
	}
	run(nfs4.OP_OPEN, 7, []byte{1})   // any number is the first
	run(nfs4.OP_OPEN, 100, []byte{2}) // 16.18.5: it was never confirmed
	run(nfs4.OP_OPEN_CONFIRM, 101, []byte{3})
	for _, bad := range []uint32{100, 103, 0} {
		if _, err := begin(nfs4.OP_OPEN, bad); !errors.Is(err, nfs4.NFS4ERR_BAD_SEQID) {
			t.Errorf("%d after 101: %v", bad, err)
		}
	}
	if _, err := begin(nfs4.OP_CLOSE, 101); !errors.Is(err, nfs4.NFS4ERR_BAD_SEQID) {
		t.Errorf("another operation with the number of the last: %v", err)
	}
	q, err := begin(nfs4.OP_OPEN_CONFIRM, 101)
	if err != nil || !bytes.Equal(q.Replay, []byte{3}) || q.Handle != "h" {
		t.Fatalf("the repetition: %v", err)
	}
	q.End(nil, "")
	run(nfs4.OP_OPEN, 102, nil) // its error did not count
	run(nfs4.OP_OPEN, 102, []byte{4})
	for st, counts := range map[nfs4.Status]bool{nfs4.NFS4_OK: true, nfs4.NFS4ERR_DENIED: true, nfs4.NFS4ERR_GRACE: true,
		nfs4.NFS4ERR_BAD_STATEID: false, nfs4.NFS4ERR_BAD_SEQID: false, nfs4.NFS4ERR_STALE_STATEID: false, nfs4.NFS4ERR_NOFILEHANDLE: false} {
		if Counts40(st) != counts {
			t.Errorf("%v counts: %v", st, !counts)
		}
	}
	// 9.1.7 again: numbers wrap.
	run(nfs4.OP_OPEN, 103, []byte{5})
	c.c.v40.owners.open["o"].seqid = 1<<32 - 1
	run(nfs4.OP_OPEN, 0, []byte{6})

	w.now = w.now.Add(80 * time.Second)
	wants(t, "renew", c.request(func() error { return nil }), nil)
	w.now = w.now.Add(80 * time.Second)
	w.run(w.srv.Expire())
	if n := len(c.c.v40.owners.open); n != 0 {
		t.Errorf("%d idle owners are remembered", n)
	}
}

// 16.18: what is not confirmed cannot be used, and goes when the owner opens again.
func TestOpenConfirm(t *testing.T) {
	w := newWorld(t, Config{})
	c := w.peer40("alice")
	c.must(c.connect())
	open := func() nfs4.Stateid {
		t.Helper()
		p, eff, err := w.srv.PrepareOpen(t.Context(), c.c, &OpenRequest{Owner: "o", File: "f", Access: fs.ShareBoth, Cred: fs.Root, Unconfirmed: true})
		w.run(eff)
		c.must(err)
		c.must(c.doOpen(p))
		return c.opens[owned("o", "f")]
	}
	sid := open()
	if _, err := w.srv.ResolveIO(c.c, sid, "f", IORead); !errors.Is(err, nfs4.NFS4ERR_BAD_STATEID) {
		t.Errorf("reading before OPEN_CONFIRM: %v", err)
	}
	wants(t, "locking before OPEN_CONFIRM", c.lock("o", "x", "f", ten, fs.WriteLock, false), nfs4.NFS4ERR_BAD_STATEID)
	list := w.srv.Unconfirmed40(c.c, "o")
	if len(list) != 1 || list[0] != sid {
		t.Fatal(list)
	}
	p, file, err := w.srv.PrepareCancel(t.Context(), c.c, sid)
	c.must(err)
	_, eff, err := p.Settle(w.backend.CloseFile(t.Context(), p.Owner, file))
	w.run(eff)
	c.must(err)
	if err := w.checkInvariants(); err != nil {
		t.Fatal(err)
	}
	sid = open()
	old := sid
	old.Seqid--
	_, err = w.srv.ConfirmOpen(c.c, old)
	wants(t, "an old seqid", err, nfs4.NFS4ERR_OLD_STATEID)
	now, err := w.srv.ConfirmOpen(c.c, sid)
	c.must(err)
	if now.Seqid != sid.Seqid+1 || now.Other != sid.Other {
		t.Errorf("confirmed %v as %v", sid, now)
	}
	_, err = w.srv.ConfirmOpen(c.c, now)
	wants(t, "a second time", err, nfs4.NFS4ERR_BAD_STATEID)
	wants(t, "locking", c.lock("o", "x", "f", ten, fs.WriteLock, false), nil)
}

// RFC 7530 9.1.4 and 9.6: which stateids are whose.
func TestStateids40(t *testing.T) {
	w := newWorld(t, Config{})
	c := w.peer40("alice")
	c.must(c.connect())
	c.must(c.open("o", "f", fs.ShareBoth, 0, false))
	sid := c.opens[owned("o", "f")]
	check := func(what string, sid nfs4.Stateid, want error) {
		t.Helper()
		cl, err := w.srv.Stateid40(sid)
		if cl != nil {
			cl.End40()
		}
		wants(t, what, err, want)
	}
	check("a good one", sid, nil)
	zero := sid
	zero.Seqid = 0
	check("seqid 0 is not the newest", zero, nfs4.NFS4ERR_OLD_STATEID)
	check("one of nobody", nfs4.Stateid{Seqid: 1, Other: [12]byte{3: 1, 7: 99, 11: 1}}, nfs4.NFS4ERR_BAD_STATEID)
	check("one of the future, if our journal is an older copy", nfs4.Stateid{Seqid: 1, Other: [12]byte{3: 9, 7: 1, 11: 1}}, nfs4.NFS4ERR_STALE_STATEID)
	w.now = w.now.Add(91 * time.Second)
	w.run(w.srv.Expire())
	check("one of a client whose lease is over", sid, nfs4.NFS4ERR_EXPIRED)
	_, err := w.srv.Begin40(c.c.ID())
	wants(t, "its client ID", err, nfs4.NFS4ERR_EXPIRED)
	w.crash()
	check("one from before we restarted", sid, nfs4.NFS4ERR_STALE_STATEID)
	_, err = w.srv.Begin40(c.c.ID())
	wants(t, "a client ID from before", err, nfs4.NFS4ERR_STALE_CLIENTID)
}

// RFC 7530 9.6.2: our restart. There is no RECLAIM_COMPLETE.
func TestReclaim40(t *testing.T) {
	w := newWorld(t, Config{})
	alice, bob := w.peer40("alice"), w.peer40("bob")
	alice.must(alice.connect())
	bob.must(bob.connect())
	alice.must(alice.open("o", "f", fs.ShareBoth, 0, false))
	alice.must(alice.lock("o", "x", "f", ten, fs.WriteLock, false))
	bob.must(bob.open("o", "g", fs.ShareBoth, 0, false))
	w.crash()
	alice.must(alice.connect())
	wants(t, "something new while it may reclaim", alice.open("o2", "h", fs.ShareBoth, 0, false), nfs4.NFS4ERR_GRACE)
	wants(t, "a lock before its open", alice.lock("o", "x", "f", ten, fs.WriteLock, true), nfs4.NFS4ERR_BAD_STATEID)
	wants(t, "more than it had", alice.open("o", "f", fs.ShareBoth, fs.ShareBoth, true), nfs4.NFS4ERR_RECLAIM_BAD)
	wants(t, "another file", alice.open("o", "h", fs.ShareRead, 0, true), nfs4.NFS4ERR_RECLAIM_BAD)
	wants(t, "the open", alice.open("o", "f", fs.ShareBoth, 0, true), nil)
	wants(t, "a range that it did not have", alice.lock("o", "x", "f", fs.Range{First: 0, Last: 10}, fs.WriteLock, true), nfs4.NFS4ERR_RECLAIM_BAD)
	wants(t, "the lock", alice.lock("o", "x", "f", ten, fs.WriteLock, true), nil)
	wants(t, "something new when it has all", alice.open("o2", "h", fs.ShareBoth, 0, false), nil)
	if i := w.srv.GraceInfo(); i.Done != 1 || i.Expected != 2 || w.srv.EndGrace(false) != nil {
		t.Errorf("grace does not wait for bob: %+v", i)
	}
	// A second crash in the middle: what was reclaimed can be reclaimed again.
	w.crash()
	alice.must(alice.connect())
	alice.must(alice.open("o", "f", fs.ShareBoth, 0, true))
	alice.must(alice.lock("o", "x", "f", ten, fs.WriteLock, true))
	alice.must(alice.open("o2", "h", fs.ShareBoth, 0, true))
	w.now = w.now.Add(91 * time.Second)
	alice.must(alice.request(func() error { return nil }))
	if lost := w.endGrace(false); len(lost) != 1 || lost[0].Owner.Client != "bob" {
		t.Errorf("lost %v", lost)
	}
	bob.must(bob.connect())
	wants(t, "after grace", bob.open("o", "g", fs.ShareBoth, 0, true), nfs4.NFS4ERR_NO_GRACE)
	wants(t, "and anew", bob.open("o", "f", fs.ShareBoth, 0, false), nil)
	if err := bob.lock("o", "y", "f", ten, fs.WriteLock, false); !errors.Is(err, nfs4.NFS4ERR_DENIED) {
		t.Errorf("what alice holds: %v", err)
	}
	if err := w.checkInvariants(); err != nil {
		t.Fatal(err)
	}
}

// Grace ends early when the last one has all that it had.
func TestGraceEndsWithTheLastReclaim40(t *testing.T) {
	w := newWorld(t, Config{})
	c := w.peer40("alice")
	c.must(c.connect())
	c.must(c.open("o", "f", fs.ShareBoth, 0, false))
	w.crash()
	c.must(c.connect())
	if w.mayEnd.Load() {
		t.Fatal("grace may end before anything was reclaimed")
	}
	c.must(c.open("o", "f", fs.ShareBoth, 0, true))
	if !w.mayEnd.Load() || len(w.endGrace(false)) != 0 {
		t.Error("grace goes on with nothing to reclaim")
	}
}

// RFC 7530 16.37.
func TestReleaseLockOwner(t *testing.T) {
	w := newWorld(t, Config{})
	c := w.peer40("alice")
	c.must(c.connect())
	c.must(c.open("o", "f", fs.ShareBoth, 0, false))
	c.must(c.lock("o", "x", "f", ten, fs.WriteLock, false))
	_, err := w.srv.ReleaseLockOwner(c.c, "x")
	wants(t, "with a lock", err, nfs4.NFS4ERR_LOCKS_HELD)
	sid := c.locks[owned("x", "f")]
	p, err := w.srv.PrepareUnlock(t.Context(), c.c, sid, "f", ten)
	c.must(err)
	_, eff, err := p.Settle(w.backend.Unlock(t.Context(), fs.Root, p.Owner, "f", ten))
	w.run(eff)
	c.must(err)
	eff, err = w.srv.ReleaseLockOwner(c.c, "x")
	w.run(eff)
	wants(t, "without", err, nil)
	if _, _, ok := c.c.OwnerOf40(sid); ok {
		t.Error("its stateid is still there")
	}
	_, err = w.srv.ReleaseLockOwner(c.c, "nobody")
	wants(t, "one that nobody knows", err, nil)
}
