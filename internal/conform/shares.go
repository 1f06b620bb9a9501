package conform

import "holdfast/internal/nfs4"

// Share reservations: RFC 8881 sections 9.7 to 9.11, 18.16 and 18.18.
var shareTests = []Test{
	{Name: "share/deny", Section: "9.7", About: "what an open denies is refused to others, and the rest is not", run: func(t *T) {
		a, b := t.client("a"), t.client("b")
		a.open("", "a", read, nfs4.OPEN4_SHARE_DENY_WRITE)
		_, err := b.tryOpen("", "b", write, none)
		t.want(err, "OPEN for what another denies", nfs4.NFS4ERR_SHARE_DENIED)
		b.open("", "b", read, none)
	}},
	{Name: "share/deny-late", Section: "9.7", About: "nobody can deny what another has already", run: func(t *T) {
		a, b := t.client("a"), t.client("b")
		a.open("", "a", write, none)
		_, err := b.tryOpen("", "b", read, nfs4.OPEN4_SHARE_DENY_WRITE)
		t.want(err, "OPEN that denies what another has", nfs4.NFS4ERR_SHARE_DENIED)
		b.open("", "b", read, nfs4.OPEN4_SHARE_DENY_READ)
	}},
	{Name: "share/owners", Section: "9.7", About: "two open-owners of one client deny each other too", run: func(t *T) {
		a := t.client("a")
		a.open("", "a", both, nfs4.OPEN4_SHARE_DENY_BOTH)
		_, err := a.tryOpen("", "another", read, none)
		t.want(err, "OPEN by another owner of the client", nfs4.NFS4ERR_SHARE_DENIED)
	}},
	{Name: "share/close", Section: "18.2.3", About: "CLOSE ends the denial", run: func(t *T) {
		a, b := t.client("a"), t.client("b")
		t.ok(a.close(a.open("", "a", read, nfs4.OPEN4_SHARE_DENY_BOTH)), "CLOSE")
		b.open("", "b", both, none)
	}},
	{Name: "share/upgrade", Section: "9.10", About: "a second open of the owner adds its modes under the same stateid", run: func(t *T) {
		a, b := t.client("a"), t.client("b")
		first := a.open("", "a", read, none)
		second := a.open("", "a", write, nfs4.OPEN4_SHARE_DENY_WRITE)
		if first.id.Other != second.id.Other || second.id.Seqid != first.id.Seqid+1 {
			t.fail("the stateid %v became %v", first.id, second.id)
		}
		_, err := b.tryOpen("", "b", write, none)
		t.want(err, "OPEN for what the second open denies", nfs4.NFS4ERR_SHARE_DENIED)
		_, err = b.tryOpen("", "b", read, nfs4.OPEN4_SHARE_DENY_READ)
		t.want(err, "OPEN that denies what the first open has", nfs4.NFS4ERR_SHARE_DENIED)
	}},
	{Name: "share/downgrade", Section: "18.18.3", About: "OPEN_DOWNGRADE gives a mode back at once", run: func(t *T) {
		a, b := t.client("a"), t.client("b")
		a.open("", "a", read, none)
		f := a.open("", "a", write, nfs4.OPEN4_SHARE_DENY_WRITE)
		list, err := a.do(&nfs4.PutfhArgs{FH: f.fh}, &nfs4.OpenDowngradeArgs{OpenStateid: f.id, ShareAccess: read, ShareDeny: none})
		t.ok(err, "OPEN_DOWNGRADE")
		a.opens[stateKey{f.fh, "a"}] = list[1].(*nfs4.OpenDowngradeRes).OpenStateid
		b.open("", "b", both, nfs4.OPEN4_SHARE_DENY_WRITE)
	}},
	{Name: "share/downgrade-up", Section: "18.18.3", About: "OPEN_DOWNGRADE to more than there was is invalid", run: func(t *T) {
		a := t.client("a")
		a.open("", "makes", both, none)
		f := a.open("", "a", read, none)
		_, err := a.do(&nfs4.PutfhArgs{FH: f.fh}, &nfs4.OpenDowngradeArgs{OpenStateid: f.id, ShareAccess: both, ShareDeny: none})
		t.want(err, "OPEN_DOWNGRADE to more", nfs4.NFS4ERR_INVAL)
	}},
	{Name: "share/write", Section: "9.1.2", About: "who has no open cannot write what another open denies", run: func(t *T) {
		a, b := t.client("a"), t.client("b")
		f := a.open("", "a", both, nfs4.OPEN4_SHARE_DENY_WRITE)
		_, err := b.do(&nfs4.PutfhArgs{FH: f.fh}, &nfs4.WriteArgs{Stable: nfs4.FILE_SYNC4, Data: []byte("x")})
		t.want(err, "WRITE with the anonymous stateid", nfs4.NFS4ERR_LOCKED)
	}},
	{Name: "share/mode", Section: "9.1.2", About: "no WRITE under an open for reading", run: func(t *T) {
		a := t.client("a")
		a.open("", "makes", both, none)
		f := a.open("", "a", read, none)
		_, err := a.do(&nfs4.PutfhArgs{FH: f.fh}, &nfs4.WriteArgs{Stateid: f.id, Stable: nfs4.FILE_SYNC4, Data: []byte("x")})
		t.want(err, "WRITE under an open for reading", nfs4.NFS4ERR_OPENMODE)
	}},
	{Name: "share/no-access", Section: "18.16.3", About: "an open for nothing is invalid", run: func(t *T) {
		a := t.client("a")
		a.open("", "makes", both, none)
		_, err := a.tryOpen("", "a", 0, none)
		t.want(err, "OPEN for nothing", nfs4.NFS4ERR_INVAL)
	}},
}
