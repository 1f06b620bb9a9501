package conform

import (
	"holdfast/internal/nfs4"
	"holdfast/internal/plain"
)

// What a re-export friendly server does when its client restarts: the design of reboot recovery for
// re-export servers ("seed"), and draft-cel-nfsv4-state-retention ("draft"), whose numbers are provisional.
var retainTests = []Test{
	{Name: "retain/flag", Section: "18.35.3; draft", About: "the retention flag is agreed to, declined, or INVAL: never ignored", run: func(t *T) {
		p, err := plain.New(t.Addr, t.report.Minor, "holdfast conform flag", t.UID, t.GID)
		t.ok(err, "making a client")
		t.ok(p.Dial(t.ctx), "connecting")
		defer p.Cut()
		list, err := p.Call(t.ctx, []nfs4.Args{&nfs4.ExchangeIDArgs{Owner: nfs4.ClientOwner{ID: p.Owner, Verifier: p.Verf},
			Flags: nfs4.EXCHGID4_FLAG_USE_NON_PNFS | nfs4.EXCHGID4_FLAG_RETAIN_STATE}})
		if t.want(err, "EXCHANGE_ID with the flag", nfs4.NFS4_OK, nfs4.NFS4ERR_INVAL) == nfs4.NFS4_OK {
			f := list[0].(*nfs4.ExchangeIDRes).Flags
			if f&nfs4.EXCHGID4_FLAG_RECLAIMABLE_R != 0 {
				t.fail("the server says that a client it has never seen can reclaim something")
			}
			if got := f&nfs4.EXCHGID4_FLAG_RETAIN_STATE != 0; got != t.report.Retain {
				t.fail("the server agrees to retain state: %v, and at the first time: %v", got, t.report.Retain)
			}
		}
	}},
	{Name: "retain/unasked", Section: "draft", About: "who does not ask is not told that its state is retained", run: func(t *T) {
		a := t.client("a")
		if a.Flags&(nfs4.EXCHGID4_FLAG_RETAIN_STATE|nfs4.EXCHGID4_FLAG_RECLAIMABLE_R) != 0 {
			t.fail("flags %#x", a.Flags)
		}
	}},
	{Name: "retain/limits", Section: "draft", About: "a server that retains tells for how long: attributes 92 and 93", run: func(t *T) {
		a := t.retaining("a")
		want := nfs4.Bits(nfs4.FATTR4_RETAIN_ABSENCE_LIMIT, nfs4.FATTR4_RETAIN_RECLAIM_CAP)
		list, err := a.do(&nfs4.PutrootfhArgs{}, &nfs4.GetattrArgs{Request: want})
		t.ok(err, "GETATTR")
		attrs := &list[1].(*nfs4.GetattrRes).Attrs
		if !attrs.Mask.Contains(want) || attrs.RetainReclaimCap == 0 {
			t.fail("absence limit %d s, reclaim cap %d s", attrs.RetainAbsenceLimit, attrs.RetainReclaimCap)
		}
	}},
	{Name: "retain/reclaim", Section: "seed; draft", About: "a client that restarted reclaims its open and lock, and nobody gets in between", run: func(t *T) {
		a, b, f, fb := t.held(nfs4.OPEN4_SHARE_DENY_NONE)
		b.denied(fb, 0, 10, true)
		r := a.reclaim(f, nfs4.WRITE_LT, 0, 10)
		b.denied(fb, 0, 10, true)
		a.complete()
		b.denied(fb, 0, 10, true)
		a.unlock(r, 0, 10)
		b.lock(fb, nfs4.WRITE_LT, 0, 10)
	}},
	{Name: "retain/others", Section: "draft", About: "others are DENIED what is retained, never put off by GRACE, and get the rest", run: func(t *T) {
		_, b, _, fb := t.held(nfs4.OPEN4_SHARE_DENY_NONE)
		b.hasty = true
		_, err := b.tryLock(fb, "b", nfs4.WRITE_LT, 5, 10, false)
		t.want(err, "LOCK of what is retained", nfs4.NFS4ERR_DENIED)
		_, err = b.tryLock(fb, "b", nfs4.WRITE_LT, 10, 10, false)
		t.ok(err, "LOCK of what is free")
		_, err = b.tryOpen("-other", "b", both, none)
		t.ok(err, "OPEN of another file")
	}},
	{Name: "retain/share", Section: "draft", About: "a denial is retained with its open", run: func(t *T) {
		a, b, f, _ := t.held(nfs4.OPEN4_SHARE_DENY_WRITE)
		b.hasty = true
		_, err := b.tryOpen("", "writes", write, none)
		t.want(err, "OPEN for what is denied", nfs4.NFS4ERR_SHARE_DENIED)
		_, err = a.reclaimOpen(f.fh, "a", both, nfs4.OPEN4_SHARE_DENY_BOTH)
		t.want(err, "a reclaim that denies more", nfs4.NFS4ERR_RECLAIM_BAD)
		_, err = a.reclaimOpen(f.fh, "a", both, nfs4.OPEN4_SHARE_DENY_WRITE)
		t.ok(err, "OPEN as a reclaim")
	}},
	{Name: "retain/hint", Section: "draft", About: "a client that comes back is told that something is there for it", run: func(t *T) {
		a, _, _, _ := t.held(nfs4.OPEN4_SHARE_DENY_NONE)
		if a.Flags&nfs4.EXCHGID4_FLAG_RECLAIMABLE_R == 0 {
			t.fail("RECLAIMABLE_R is clear (flags %#x) though a lock is retained", a.Flags)
		}
	}},
	{Name: "retain/open-first", Section: "draft", About: "a lock is reclaimed under its reclaimed open, and under no other", run: func(t *T) {
		a, _, f, _ := t.held(nfs4.OPEN4_SHARE_DENY_NONE)
		_, err := a.tryLock(file{f.fh, "a", f.id}, "a", nfs4.WRITE_LT, 0, 10, true)
		t.refused(err, "LOCK as a reclaim under the dead open")
	}},
	{Name: "retain/never-held", Section: "draft", About: "what was not held cannot be reclaimed: RECLAIM_BAD", run: func(t *T) {
		a, _, f, _ := t.held(nfs4.OPEN4_SHARE_DENY_NONE)
		_, err := a.reclaimOpen(f.fh, "stranger", both, none)
		t.want(err, "OPEN as a reclaim by an owner that had none", nfs4.NFS4ERR_RECLAIM_BAD)
		r, err := a.reclaimOpen(f.fh, "a", both, none)
		t.ok(err, "OPEN as a reclaim")
		_, err = a.tryLock(r, "a", nfs4.WRITE_LT, 0, 11, true)
		t.want(err, "LOCK as a reclaim of more bytes", nfs4.NFS4ERR_RECLAIM_BAD)
		_, err = a.tryLock(r, "stranger", nfs4.WRITE_LT, 0, 10, true)
		t.want(err, "LOCK as a reclaim by an owner that had none", nfs4.NFS4ERR_RECLAIM_BAD)
	}},
	{Name: "retain/smaller", Section: "draft", About: "less than was held can be reclaimed, and the rest goes with RECLAIM_COMPLETE", run: func(t *T) {
		a, b, f, fb := t.held(nfs4.OPEN4_SHARE_DENY_NONE)
		a.reclaim(f, nfs4.WRITE_LT, 0, 5)
		b.denied(fb, 5, 5, true)
		a.complete()
		b.denied(fb, 0, 5, true)
		b.denied(fb, 5, 5, false)
	}},
	{Name: "retain/complete", Section: "seed; draft", About: "RECLAIM_COMPLETE frees at once what was not reclaimed, and no reclaim is taken after it", run: func(t *T) {
		a, b, f, fb := t.held(nfs4.OPEN4_SHARE_DENY_NONE)
		b.denied(fb, 0, 10, true)
		a.complete()
		b.lock(fb, nfs4.WRITE_LT, 0, 10)
		_, err := a.reclaimOpen(f.fh, "a", both, none)
		t.want(err, "OPEN as a reclaim after RECLAIM_COMPLETE", nfs4.NFS4ERR_NO_GRACE)
	}},
	{Name: "retain/other-client", Section: "draft", About: "nobody reclaims what another held", run: func(t *T) {
		_, _, f, _ := t.held(nfs4.OPEN4_SHARE_DENY_NONE)
		c := t.newcomer("c", true)
		_, err := c.reclaimOpen(f.fh, "a", both, none)
		t.want(err, "OPEN as a reclaim by another client", nfs4.NFS4ERR_NO_GRACE, nfs4.NFS4ERR_RECLAIM_BAD)
	}},
	{Name: "retain/open-in-between", Section: "draft; seed", About: "before RECLAIM_COMPLETE a new open is taken, and a new lock is granted or put off", run: func(t *T) {
		a, _, _, _ := t.held(nfs4.OPEN4_SHARE_DENY_NONE)
		a.hasty = true
		f, err := a.tryOpen("-new", "new", both, none)
		t.ok(err, "OPEN of another file before RECLAIM_COMPLETE")
		_, err = a.tryLock(f, "new", nfs4.WRITE_LT, 0, 10, false)
		t.want(err, "LOCK before RECLAIM_COMPLETE", nfs4.NFS4_OK, nfs4.NFS4ERR_GRACE)
	}},
	{Name: "retain/again", Section: "seed; draft", About: "a client that restarts in the middle of its reclaims can reclaim all of it again", run: func(t *T) {
		a, b, f, fb := t.held(nfs4.OPEN4_SHARE_DENY_NONE)
		_, err := a.reclaimOpen(f.fh, "a", both, none)
		t.ok(err, "OPEN as a reclaim")
		a.restart()
		b.denied(fb, 0, 10, true)
		a.reclaim(f, nfs4.WRITE_LT, 0, 10)
		a.complete()
		b.denied(fb, 0, 10, true)
	}},
}

// held makes a client a that asks for retention, has its file open with a denial and bytes 0 to 9
// write-locked, and has restarted since; and another b that has the file open too.
func (t *T) held(deny uint32) (a, b *client, f, fb file) {
	a, b = t.retaining("a"), t.client("b")
	f = a.open("", "a", both, deny)
	a.lock(f, nfs4.WRITE_LT, 0, 10)
	access := uint32(both)
	if deny&nfs4.OPEN4_SHARE_DENY_WRITE != 0 {
		access = read
	}
	fb = b.open("", "b", access, none)
	a.restart()
	return a, b, f, fb
}
