package conform

import (
	"errors"

	"holdfast/internal/nfs4"
)

// Byte-range locks: RFC 8881 section 9, and the operations in 18.10 to 18.12.
var lockTests = []Test{
	{Name: "lock/conflict", Section: "18.10.3", About: "a write lock is denied to another client, which is told whose and where", run: func(t *T) {
		a, b := t.client("a"), t.client("b")
		a.lock(a.open("", "a", both, none), nfs4.WRITE_LT, 10, 20)
		_, err := b.tryLock(b.open("", "b", both, none), "b", nfs4.WRITE_LT, 15, 100, false)
		t.want(err, "LOCK of what another has", nfs4.NFS4ERR_DENIED)
		var d *deniedError
		if !errors.As(err, &d) || d.Offset != 10 || d.Length != 20 || d.LockType != nfs4.WRITE_LT {
			t.fail("the refusal tells of another lock: %+v", d)
		}
	}},
	{Name: "lock/shared", Section: "9.1", About: "two clients read-lock the same bytes, and neither gets a write lock then", run: func(t *T) {
		a, b := t.client("a"), t.client("b")
		fa, fb := a.open("", "a", both, none), b.open("", "b", both, none)
		a.lock(fa, nfs4.READ_LT, 0, 10)
		b.lock(fb, nfs4.READ_LT, 0, 10)
		_, err := b.tryLock(fb, "b", nfs4.WRITE_LT, 5, 1, false)
		t.want(err, "an upgrade while another reads", nfs4.NFS4ERR_DENIED)
		b.denied(fb, 5, 1, true)
	}},
	{Name: "lock/owners", Section: "9.1.1", About: "two lock-owners of one client are strangers", run: func(t *T) {
		a := t.client("a")
		f := a.open("", "a", both, none)
		a.lock(f, nfs4.WRITE_LT, 0, 10)
		_, err := a.tryLock(f, "another", nfs4.WRITE_LT, 0, 10, false)
		t.want(err, "LOCK by another owner of the client", nfs4.NFS4ERR_DENIED)
	}},
	{Name: "lock/own", Section: "18.11.3", About: "LOCKT does not speak of a lock of the owner that asks", run: func(t *T) {
		a := t.client("a")
		f := a.open("", "a", both, none)
		a.lock(f, nfs4.WRITE_LT, 0, 10)
		_, err := a.do(&nfs4.PutfhArgs{FH: f.fh}, &nfs4.LocktArgs{LockType: nfs4.WRITE_LT, Length: 10, Owner: a.stateOwner("a")})
		t.ok(err, "LOCKT by the owner of the lock")
	}},
	{Name: "lock/split", Section: "18.12.3", About: "unlocking the middle leaves both ends", run: func(t *T) {
		a, b := t.client("a"), t.client("b")
		fa, fb := a.open("", "a", both, none), b.open("", "b", both, none)
		a.lock(fa, nfs4.WRITE_LT, 0, 30)
		err := a.tryUnlock(fa, 10, 10)
		if t.want(err, "LOCKU of the middle", nfs4.NFS4_OK, nfs4.NFS4ERR_LOCK_RANGE) != nfs4.NFS4_OK {
			t.skip("the server takes locks back only as they were taken (LOCK_RANGE)")
		}
		b.denied(fb, 0, 10, true)
		b.denied(fb, 20, 10, true)
		b.lock(fb, nfs4.WRITE_LT, 10, 10)
	}},
	{Name: "lock/merge", Section: "18.12.3", About: "what was locked in two pieces is unlocked in one", run: func(t *T) {
		a, b := t.client("a"), t.client("b")
		fa, fb := a.open("", "a", both, none), b.open("", "b", both, none)
		a.lock(fa, nfs4.WRITE_LT, 0, 10)
		a.lock(fa, nfs4.WRITE_LT, 10, 10)
		err := a.tryUnlock(fa, 0, 20)
		if t.want(err, "LOCKU of both", nfs4.NFS4_OK, nfs4.NFS4ERR_LOCK_RANGE) != nfs4.NFS4_OK {
			t.skip("the server takes locks back only as they were taken (LOCK_RANGE)")
		}
		b.denied(fb, 0, 20, false)
	}},
	{Name: "lock/downgrade", Section: "9.3", About: "a write lock becomes a read lock, and others may read-lock then", run: func(t *T) {
		a, b := t.client("a"), t.client("b")
		fa, fb := a.open("", "a", both, none), b.open("", "b", both, none)
		a.lock(fa, nfs4.WRITE_LT, 0, 10)
		_, err := a.tryLock(fa, "a", nfs4.READ_LT, 0, 10, false)
		if t.want(err, "LOCK for reading over one's own for writing", nfs4.NFS4_OK, nfs4.NFS4ERR_LOCK_NOTSUPP) != nfs4.NFS4_OK {
			t.skip("the server does not downgrade locks (LOCK_NOTSUPP)")
		}
		b.lock(fb, nfs4.READ_LT, 0, 10)
		b.denied(fb, 0, 10, true)
	}},
	{Name: "lock/whole", Section: "18.10.3", About: "a length of all ones goes to the end of the file, however long it gets", run: func(t *T) {
		a, b := t.client("a"), t.client("b")
		a.lock(a.open("", "a", both, none), nfs4.WRITE_LT, 100, nfs4.MaxFileLen)
		fb := b.open("", "b", both, none)
		b.denied(fb, 1<<40, 1, true)
		b.denied(fb, 0, 100, false)
	}},
	{Name: "lock/empty", Section: "18.10.3", About: "a length of zero is invalid", run: func(t *T) {
		a := t.client("a")
		_, err := a.tryLock(a.open("", "a", both, none), "a", nfs4.WRITE_LT, 10, 0, false)
		t.want(err, "LOCK of no bytes", nfs4.NFS4ERR_INVAL)
	}},
	{Name: "lock/overflow", Section: "18.10.3", About: "a range beyond the last offset is invalid", run: func(t *T) {
		a := t.client("a")
		_, err := a.tryLock(a.open("", "a", both, none), "a", nfs4.WRITE_LT, nfs4.MaxFileOff, 100, false)
		t.want(err, "LOCK past the end of all numbers", nfs4.NFS4ERR_INVAL)
	}},
	{Name: "lock/mode", Section: "15.1.8.8", About: "no write lock under an open for reading", run: func(t *T) {
		a := t.client("a")
		a.open("", "makes", both, none)
		_, err := a.tryLock(a.open("", "a", read, none), "a", nfs4.WRITE_LT, 0, 10, false)
		t.want(err, "LOCK for writing under an open for reading", nfs4.NFS4ERR_OPENMODE)
	}},
	{Name: "lock/close", Section: "18.2.3", About: "CLOSE frees the locks or is refused with LOCKS_HELD, and never leaves them behind", run: func(t *T) {
		a, b := t.client("a"), t.client("b")
		fa, fb := a.open("", "a", both, none), b.open("", "b", both, none)
		a.lock(fa, nfs4.WRITE_LT, 0, 10)
		switch t.want(a.close(fa), "CLOSE with a lock", nfs4.NFS4_OK, nfs4.NFS4ERR_LOCKS_HELD) {
		case nfs4.NFS4_OK:
			b.lock(fb, nfs4.WRITE_LT, 0, 10)
		default:
			b.denied(fb, 0, 10, true)
		}
	}},
	{Name: "lock/free-stateid", Section: "18.38.3", About: "a stateid cannot be freed while it has locks, and can be afterwards", run: func(t *T) {
		a := t.client("a")
		f := a.open("", "a", both, none)
		id := a.lock(f, nfs4.WRITE_LT, 0, 10)
		_, err := a.do(&nfs4.FreeStateidArgs{Stateid: id})
		t.want(err, "FREE_STATEID with a lock", nfs4.NFS4ERR_LOCKS_HELD)
		a.unlock(f, 0, nfs4.MaxFileLen)
		id = a.locks[stateKey{f.fh, "a"}]
		_, err = a.do(&nfs4.FreeStateidArgs{Stateid: id})
		t.ok(err, "FREE_STATEID without a lock")
		delete(a.locks, stateKey{f.fh, "a"})
		_, err = a.tryLock(f, "a", nfs4.WRITE_LT, 0, 10, false)
		t.ok(err, "LOCK with the stateid's owner anew")
	}},
	{Name: "lock/old-stateid", Section: "8.2.2", About: "the stateid before the last one is told to be old", run: func(t *T) {
		a := t.client("a")
		f := a.open("", "a", both, none)
		first := a.lock(f, nfs4.WRITE_LT, 0, 10)
		second := a.lock(f, nfs4.WRITE_LT, 20, 10)
		if first.Other != second.Other || second.Seqid != first.Seqid+1 {
			t.fail("the stateid %v became %v", first, second)
		}
		a.locks[stateKey{f.fh, "a"}] = first
		err := a.tryUnlock(f, 0, 10)
		a.locks[stateKey{f.fh, "a"}] = second
		t.want(err, "LOCKU with the old stateid", nfs4.NFS4ERR_OLD_STATEID)
	}},
	{Name: "lock/stranger", Section: "8.2.4", About: "a stateid is no good to another client", run: func(t *T) {
		a, b := t.client("a"), t.client("b")
		fa, fb := a.open("", "a", both, none), b.open("", "b", both, none)
		b.locks[stateKey{fb.fh, "b"}] = a.lock(fa, nfs4.WRITE_LT, 0, 10)
		err := b.tryUnlock(fb, 0, 10)
		delete(b.locks, stateKey{fb.fh, "b"})
		t.want(err, "LOCKU with the stateid of another client", nfs4.NFS4ERR_BAD_STATEID)
		b.denied(fb, 0, 10, true)
	}},
	{Name: "lock/retry", Section: "9.6", About: "a waiter that is denied gets the lock when it asks again after the unlock", run: func(t *T) {
		a, b := t.client("a"), t.client("b")
		fa, fb := a.open("", "a", both, none), b.open("", "b", both, none)
		a.lock(fa, nfs4.WRITE_LT, 0, 10)
		_, err := b.tryLock(fb, "b", nfs4.WRITEW_LT, 0, 10, false)
		t.want(err, "LOCK that would wait", nfs4.NFS4ERR_DENIED)
		a.unlock(fa, 0, 10)
		b.lock(fb, nfs4.WRITEW_LT, 0, 10)
	}},
	{Name: "lock/no-reclaim", Section: "18.10.3", About: "no reclaim of a lock outside grace, by one who has said that none follows", run: func(t *T) {
		a := t.client("a")
		f := a.open("", "a", both, none)
		_, err := a.tryLock(f, "a", nfs4.WRITE_LT, 0, 10, true)
		t.want(err, "LOCK as a reclaim", nfs4.NFS4ERR_NO_GRACE)
		_, err = a.reclaimOpen(f.fh, "another", both, none)
		t.want(err, "OPEN as a reclaim", nfs4.NFS4ERR_NO_GRACE)
	}},
}
