package conform

import (
	"holdfast/internal/nfs4"
	"holdfast/internal/plain"
)

// Restarts of the server: RFC 8881 section 8.4.2. A server that comes back with all of its state, so that
// clients notice nothing, passes as well.
var rebootTests = []Test{
	{Name: "reboot/reclaim", Section: "8.4.2.1", Restart: true, About: "an open and a lock are reclaimed after a restart, and nobody gets in between", run: func(t *T) {
		a, b := t.client("a"), t.client("b")
		f, fb := a.open("", "a", both, none), b.open("", "b", both, none)
		id := a.lock(f, nfs4.WRITE_LT, 0, 10)
		t.reboot()
		back := a.recover()
		t.intrude(b, fb, nfs4.WRITE_LT, 0, 10)
		if back {
			if !a.alive(id) {
				t.fail("the client is known, its lock is not")
			}
			b.denied(fb, 0, 10, true)
			return
		}
		r := a.reclaim(f, nfs4.WRITE_LT, 0, 10)
		a.complete()
		_, err := a.tryLock(r, "a", nfs4.WRITE_LT, 20, 10, true)
		t.want(err, "LOCK as a reclaim after RECLAIM_COMPLETE", nfs4.NFS4ERR_NO_GRACE)
		// The rival waits for the end of grace, and the lock is still not its own.
		t.keep = []*client{a}
		b.denied(b.open("", "b", both, none), 0, 10, true)
	}},
	{Name: "reboot/share", Section: "8.4.2.1", Restart: true, About: "a denial is reclaimed with its open", run: func(t *T) {
		a, b := t.client("a"), t.client("b")
		f := a.open("", "a", read, nfs4.OPEN4_SHARE_DENY_WRITE)
		t.reboot()
		if !a.recover() {
			_, err := a.reclaimOpen(f.fh, "a", read, nfs4.OPEN4_SHARE_DENY_WRITE)
			t.ok(err, "OPEN as a reclaim")
			a.complete()
		}
		if !b.recover() {
			b.complete()
		}
		t.keep = []*client{a}
		_, err := b.tryOpen("", "b", write, none)
		t.want(err, "OPEN for what is denied, after grace", nfs4.NFS4ERR_SHARE_DENIED)
	}},
	{Name: "reboot/shared", Section: "8.4.2.1", Restart: true, About: "read locks of two clients are both reclaimed", run: func(t *T) {
		a, b := t.client("a"), t.client("b")
		files := map[*client]file{a: a.open("", "a", both, none), b: b.open("", "b", both, none)}
		for c, f := range files {
			c.lock(f, nfs4.READ_LT, 0, 10)
		}
		t.reboot()
		for c, f := range files {
			if c.recover() {
				continue
			}
			c.reclaim(f, nfs4.READ_LT, 0, 10)
			c.complete()
		}
		c := t.client("c")
		t.keep = []*client{a, b}
		fc := c.open("", "c", both, none)
		c.denied(fc, 0, 10, true)
		c.lock(fc, nfs4.READ_LT, 0, 10)
	}},
	{Name: "reboot/stranger", Section: "8.4.3", Restart: true, About: "a client that the server did not know before cannot reclaim", run: func(t *T) {
		a := t.client("a")
		f := a.open("", "a", both, none)
		t.reboot()
		c := t.newcomer("stranger", false)
		_, err := c.reclaimOpen(f.fh, "a", both, none)
		t.want(err, "OPEN as a reclaim by a client that was not there", nfs4.NFS4ERR_NO_GRACE, nfs4.NFS4ERR_RECLAIM_BAD)
	}},
	{Name: "reboot/conflict", Section: "8.4.2.1", Restart: true, About: "two reclaims that conflict are not both granted", run: func(t *T) {
		a, b := t.client("a"), t.client("b")
		f, fb := a.open("", "a", both, none), b.open("", "b", both, none)
		a.lock(f, nfs4.WRITE_LT, 0, 10)
		t.reboot()
		if a.recover() {
			t.skip("the server came back with all of its state")
		}
		b.recover()
		a.reclaim(f, nfs4.WRITE_LT, 0, 10)
		rb, err := b.reclaimOpen(fb.fh, "b", both, none)
		t.ok(err, "OPEN as a reclaim by the other")
		_, err = b.tryLock(rb, "b", nfs4.WRITE_LT, 0, 10, true)
		t.refused(err, "LOCK as a reclaim of what another has reclaimed")
	}},
	{Name: "reboot/late", Section: "8.4.2.1", Restart: true, About: "what nobody reclaims is free after grace, and is not reclaimed then", run: func(t *T) {
		a, b := t.client("a"), t.client("b")
		f := a.open("", "a", both, none)
		a.lock(f, nfs4.WRITE_LT, 0, 10)
		t.reboot()
		if b.recover() {
			t.skip("the server came back with all of its state")
		}
		b.complete()
		// The server waits for a, and b for the server. An open is refused until grace ends.
		fb := b.open("", "b", both, none)
		b.lock(fb, nfs4.WRITE_LT, 0, 10)
		a.recover()
		_, err := a.tryReclaim(f, nfs4.WRITE_LT, 0, 10)
		t.want(err, "the reclaim after grace", nfs4.NFS4ERR_NO_GRACE, nfs4.NFS4ERR_RECLAIM_BAD)
	}},
	{Name: "reboot/edge", Section: "8.4.3", Restart: true, About: "a client that missed a grace period cannot reclaim in the next one", run: func(t *T) {
		a, b := t.client("a"), t.client("b")
		f := a.open("", "a", both, none)
		a.lock(f, nfs4.WRITE_LT, 0, 10)
		t.reboot()
		if b.recover() {
			t.skip("the server came back with all of its state")
		}
		b.complete()
		fb := b.open("", "b", both, none)
		b.lock(fb, nfs4.WRITE_LT, 0, 10)
		b.unlock(fb, 0, 10)
		t.reboot()
		a.recover()
		_, err := a.tryReclaim(f, nfs4.WRITE_LT, 0, 10)
		t.want(err, "the reclaim of what another has had since", nfs4.NFS4ERR_NO_GRACE, nfs4.NFS4ERR_RECLAIM_BAD)
	}},
}

// reboot restarts the server, and waits until it can be reached.
func (t *T) reboot() {
	t.ok(t.Restart(t.ctx), "restarting the server")
	for _, c := range t.clients {
		c.Cut()
	}
	p, err := plain.New(t.Addr, t.report.Minor, "holdfast conform", t.UID, t.GID)
	t.ok(err, "making a client")
	defer p.Cut()
	(&client{Client: p, t: t}).reach()
}

// recover is what a client does when its server has restarted. It tells whether the server has kept the
// client and all its state; else reclaims may follow.
func (c *client) recover() (kept bool) {
	same := c.comeBack()
	if !same {
		c.opens, c.locks = map[stateKey]nfs4.Stateid{}, map[stateKey]nfs4.Stateid{}
	}
	return same
}

// intrude has a rival try to take what it must not have, in a grace period or after it.
func (t *T) intrude(b *client, fb file, typ nfs4.LockType, offset, length uint64) {
	kept := b.recover()
	b.hasty = true
	defer func() { b.hasty = false }()
	if !kept {
		r, err := b.reclaimOpen(fb.fh, fb.owner, both, none)
		t.ok(err, "OPEN as a reclaim by another client")
		b.complete()
		fb = r
	}
	_, err := b.tryLock(fb, fb.owner, typ, offset, length, false)
	t.want(err, "LOCK by another client", nfs4.NFS4ERR_GRACE, nfs4.NFS4ERR_DENIED)
}
