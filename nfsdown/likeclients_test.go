//go:build linux

package nfsdown

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"holdfast/fs/local"
	"holdfast/internal/nfs4"
)

// What other clients than Linux ask by NFSv4, as their vendors' documentation describes it; package v3 has those of NFSv3.

// localWorld exports a directory of this host.
func localWorld(t *testing.T) (w *world, dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("run as root: files belong to other users")
	}
	dir = t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	b, err := local.New(t.Context(), local.Config{Dir: dir, StateDir: t.TempDir(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return newWorld(t, func(c *Config) { c.Exports[0].Backend = b }), dir
}

// macOS uses NFSv4.0: it asks for named attributes, which we have not, and then keeps extended attributes in files named
// "._"; it creates exclusively, confirms each new open-owner, and takes whole files by LOCK.
func TestLikeMacOSByV40(t *testing.T) {
	w, dir := localWorld(t)
	mac, other := w.peer40("mac.local"), w.peer40("mini.local")
	mac.cred, other.cred = asUser(501), asUser(501)
	root := &nfs4.PutrootfhArgs{}
	a := last[*nfs4.GetattrRes](mac.ok40(root, &nfs4.GetattrArgs{Request: nfs4.Bits(nfs4.FATTR4_SUPPORTED_ATTRS, nfs4.FATTR4_LEASE_TIME, nfs4.FATTR4_FSID,
		nfs4.FATTR4_CASE_INSENSITIVE, nfs4.FATTR4_CASE_PRESERVING, nfs4.FATTR4_NAMED_ATTR, nfs4.FATTR4_MAXNAME, nfs4.FATTR4_MAXREAD, nfs4.FATTR4_MAXWRITE)})).Attrs
	if a.LeaseTime == 0 || a.CaseInsensitive || !a.CasePreserving || a.NamedAttr || a.MaxName != 255 || a.MaxRead == 0 || a.MaxWrite == 0 {
		t.Errorf("attributes: %+v", a)
	}
	if r := last[*nfs4.AccessRes](mac.ok40(root, &nfs4.AccessArgs{Access: 0x3f})); r.Access&0x1f != 0x1f {
		t.Errorf("ACCESS: %+v", r)
	}
	mac.fails40(nfs4.NFS4ERR_NOTSUPP, root, &nfs4.OpenattrArgs{})
	for _, name := range []string{".DS_Store", "._.", ".hidden"} {
		mac.fails40(nfs4.NFS4ERR_NOENT, root, &nfs4.LookupArgs{Name: name})
	}
	// create opens a file exclusively, as the answer of the first request is late twice, and gives it attributes.
	create := func(p *peer40, name string) (nfs4.FH, nfs4.Stateid) {
		t.Helper()
		o := p.openArgs("proc-"+name, name, nfs4.OPEN4_SHARE_ACCESS_BOTH, 0)
		o.Seqid, o.How = 1, nfs4.OpenHow{Type: nfs4.OPEN4_CREATE, Mode: nfs4.EXCLUSIVE4, Verf: nfs4.Verifier{'m', 'a', 'c'}}
		var fh nfs4.FH
		var open *nfs4.OpenRes
		for range 2 {
			list := p.ok40(root, o, &nfs4.GetfhArgs{}, &nfs4.GetattrArgs{Request: nfs4.Bits(nfs4.FATTR4_TYPE, nfs4.FATTR4_FILEID, nfs4.FATTR4_SIZE)})
			if again := list[2].(*nfs4.GetfhRes).FH; open != nil && (again != fh || list[1].(*nfs4.OpenRes).Stateid != open.Stateid) {
				t.Errorf("a repeated OPEN of %s is another one", name)
			}
			open, fh = list[1].(*nfs4.OpenRes), list[2].(*nfs4.GetfhRes).FH
		}
		if open.Rflags&nfs4.OPEN4_RESULT_CONFIRM == 0 {
			t.Errorf("a new owner need not confirm: %x", open.Rflags)
		}
		sid := last[*nfs4.OpenConfirmRes](p.ok40(put(fh), &nfs4.OpenConfirmArgs{OpenStateid: open.Stateid, Seqid: 2})).OpenStateid
		p.ok40(put(fh), &nfs4.SetattrArgs{Stateid: sid, Attrs: nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_MODE), Mode: 0o644}})
		return fh, sid
	}
	fh, sid := create(mac, "report.txt")
	text := bytes.Repeat([]byte("text "), 10000)
	one := last[*nfs4.WriteRes](mac.ok40(put(fh), &nfs4.WriteArgs{Stateid: sid, Data: text[:32768]}))
	two := last[*nfs4.WriteRes](mac.ok40(put(fh), &nfs4.WriteArgs{Stateid: sid, Offset: 32768, Data: text[32768:]}))
	if done := last[*nfs4.CommitRes](mac.ok40(put(fh), &nfs4.CommitArgs{})); done.Verf != one.Verf || done.Verf != two.Verf {
		t.Errorf("verifiers %x, %x and %x without a restart", one.Verf, two.Verf, done.Verf)
	}
	doubleFH, doubleSid := create(mac, "._report.txt")
	mac.ok40(put(doubleFH), &nfs4.WriteArgs{Stateid: doubleSid, Stable: nfs4.FILE_SYNC4, Data: make([]byte, 4096)})
	mac.ok40(put(doubleFH), &nfs4.CloseArgs{Seqid: 3, OpenStateid: doubleSid})

	// The whole file, to the end of what there may be.
	lock := &nfs4.LockArgs{LockType: nfs4.WRITEW_LT, Length: 1<<64 - 1, Locker: nfs4.Locker{NewLockOwner: true, OpenSeqid: 3, OpenStateid: sid,
		LockOwner: nfs4.StateOwner{ClientID: mac.id, Owner: "proc 700"}}}
	lsid := last[*nfs4.LockRes](mac.ok40(put(fh), lock)).LockStateid
	if again := last[*nfs4.LockRes](mac.ok40(put(fh), lock)).LockStateid; again != lsid {
		t.Error("a repeated LOCK is another one")
	}
	ofh, osid := other.open40("o", "report.txt", nfs4.OPEN4_SHARE_ACCESS_BOTH, 0)
	wait := other.lockArgs(osid, "proc 700", 0, 1)
	wait.LockType = nfs4.WRITEW_LT
	other.fails40(nfs4.NFS4ERR_DENIED, put(ofh), wait) // and asks again, from time to time
	mac.ok40(&nfs4.RenewArgs{ClientID: mac.id})

	// The document is saved beside the old one and renamed over it, with its extended attributes.
	for _, prefix := range []string{"", "._"} {
		savedFH, savedSid := create(mac, prefix+"report.txt.sb-1")
		mac.ok40(put(savedFH), &nfs4.WriteArgs{Stateid: savedSid, Stable: nfs4.FILE_SYNC4, Data: []byte("saved")})
		mac.ok40(put(savedFH), &nfs4.CloseArgs{Seqid: 3, OpenStateid: savedSid})
		mac.ok40(root, &nfs4.SavefhArgs{}, root, &nfs4.RenameArgs{OldName: prefix + "report.txt.sb-1", NewName: prefix + "report.txt"})
		if b, err := os.ReadFile(filepath.Join(dir, prefix+"report.txt")); err != nil || string(b) != "saved" {
			t.Errorf("%sreport.txt on the disk: %q %v", prefix, b, err)
		}
	}
	// The old one is open still, and locked.
	if r := last[*nfs4.ReadRes](mac.ok40(put(fh), &nfs4.ReadArgs{Stateid: lsid, Count: 5})); string(r.Data) != "text " {
		t.Errorf("what was replaced: %q", r.Data)
	}
	mac.ok40(put(fh), &nfs4.LockuArgs{LockType: nfs4.WRITE_LT, Seqid: 1, LockStateid: lsid, Length: 1<<64 - 1})
	granted := other.lockArgs(osid, "proc 700", 0, 1)
	granted.LockType = nfs4.WRITEW_LT
	other.ok40(put(ofh), granted)
	mac.ok40(put(fh), &nfs4.CloseArgs{Seqid: 4, OpenStateid: sid})
	mac.ok40(&nfs4.ReleaseLockownerArgs{Owner: nfs4.StateOwner{ClientID: mac.id, Owner: "proc 700"}})
}

// ESXi uses NFSv4.1 by several connections: it says who it is on each, finds that it is one server, and binds all to one
// session; it says at once that it reclaims nothing. A disk is locked by an open that denies everything.
func TestLikeESXiByV41(t *testing.T) {
	w, dir := localWorld(t)
	connect := func(verf byte) (paths []*peer) {
		t.Helper()
		var first *nfs4.ExchangeIDRes
		for range 3 {
			p := w.dial("esx1")
			p.minor, p.verf = 1, verf
			st, list := p.must(&nfs4.ExchangeIDArgs{Owner: nfs4.ClientOwner{Verifier: nfs4.Verifier{verf}, ID: "esx1"}})
			if st != nfs4.NFS4_OK {
				t.Fatalf("EXCHANGE_ID: %v", st)
			}
			r := list[0].(*nfs4.ExchangeIDRes)
			if first == nil {
				first = r
				p.id, p.csa = r.ClientID, r.SequenceID
				p.session(nfs4.ChannelAttrs{MaxRequestSize: 1 << 20, MaxResponseSize: 1 << 20, MaxResponseSizeCached: 4096, MaxOperations: 16, MaxRequests: 16})
			} else {
				// Trunking asks for the same owner of the server, scope and client ID: RFC 8881 2.10.5.
				if r.ServerOwner != first.ServerOwner || r.ServerScope != first.ServerScope || r.ClientID != first.ClientID || r.Flags&nfs4.EXCHGID4_FLAG_CONFIRMED_R == 0 {
					t.Errorf("another path leads to %+v, the first to %+v", r, first)
				}
				q := paths[0]
				p.id, p.sess, p.fore, p.seq, p.slot = q.id, q.sess, q.fore, q.seq, uint32(len(paths))
				st, list := p.must(&nfs4.BindConnToSessionArgs{SessionID: p.sess, Dir: nfs4.CDFC4_FORE_OR_BOTH})
				if st != nfs4.NFS4_OK || list[0].(*nfs4.BindConnToSessionRes).SessionID != p.sess {
					t.Fatalf("BIND_CONN_TO_SESSION: %v", st)
				}
			}
			paths = append(paths, p)
		}
		paths[0].ok(&nfs4.ReclaimCompleteArgs{})
		paths[1].fails(nfs4.NFS4ERR_COMPLETE_ALREADY, &nfs4.ReclaimCompleteArgs{})
		return paths
	}
	paths := connect(1)
	disk := openArgs("vm", "vm-flat.vmdk", nfs4.OPEN4_SHARE_ACCESS_BOTH, nfs4.OPEN4_SHARE_DENY_BOTH)
	list := paths[0].ok(putroot, disk, &nfs4.GetfhArgs{})
	sid, fh := list[1].(*nfs4.OpenRes).Stateid, list[2].(*nfs4.GetfhRes).FH
	paths[0].ok(put(fh), &nfs4.SetattrArgs{Stateid: sid, Attrs: nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_SIZE), Size: 8 << 30}})

	rival := w.client("esx2")
	denied := func(when string) {
		t.Helper()
		for _, access := range []uint32{nfs4.OPEN4_SHARE_ACCESS_READ, nfs4.OPEN4_SHARE_ACCESS_WRITE, nfs4.OPEN4_SHARE_ACCESS_BOTH} {
			if st, _ := rival.do(putroot, openArgs("vm", "vm-flat.vmdk", access, nfs4.OPEN4_SHARE_DENY_BOTH)); st != nfs4.NFS4ERR_SHARE_DENIED {
				t.Errorf("%s another host opens the disk with access %d: %v", when, access, st)
			}
		}
		rival.fails(nfs4.NFS4ERR_LOCKED, put(fh), &nfs4.WriteArgs{Data: []byte("x")})
		rival.fails(nfs4.NFS4ERR_LOCKED, put(fh), &nfs4.ReadArgs{Count: 1})
	}
	denied("while it is on")
	// The guest's I/O goes by every path, each with a slot of its own, under the open that one of them made.
	for i, p := range paths {
		block := bytes.Repeat([]byte{byte(i + 1)}, 4096)
		at := uint64(i) << 30
		if r := last[*nfs4.WriteRes](p.ok(put(fh), &nfs4.WriteArgs{Stateid: sid, Offset: at, Stable: nfs4.FILE_SYNC4, Data: block})); r.Committed != nfs4.FILE_SYNC4 {
			t.Errorf("path %d: %+v", i, r)
		}
		q := paths[(i+1)%len(paths)]
		if r := last[*nfs4.ReadRes](q.ok(put(fh), &nfs4.ReadArgs{Stateid: sid, Offset: at, Count: 4096})); !bytes.Equal(r.Data, block) {
			t.Errorf("what path %d wrote is read as %d other bytes", i, len(r.Data))
		}
	}
	// A path fails: the session goes on by the others, and a request of the dead one is asked for again on another.
	paths[0].cache = true
	late := []nfs4.Args{paths[0].sequence(), put(fh), &nfs4.SetattrArgs{Stateid: sid, Attrs: nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_MODE), Mode: 0o600}}, &nfs4.GetattrArgs{Request: nfs4.Bits(nfs4.FATTR4_CHANGE)}}
	st, list := paths[0].must(late...)
	if st != nfs4.NFS4_OK {
		t.Fatalf("SETATTR: %v", st)
	}
	if err := paths[0].conn.Close(); err != nil {
		t.Fatal(err)
	}
	paths[2].ok(put(fh), &nfs4.WriteArgs{Stateid: sid, Data: []byte("on")}) // what is done again would be seen by its change attribute
	st, repeated := paths[1].must(late...)
	if st != nfs4.NFS4_OK || last[*nfs4.GetattrRes](repeated).Attrs.Change != last[*nfs4.GetattrRes](list).Attrs.Change {
		t.Errorf("a request that is asked for again on another path: %v %+v", st, repeated)
	}
	denied("when a path has failed")

	// The host itself restarts: its lock is gone with its old life, and it takes it again.
	again := connect(2)
	list = again[1].ok(putroot, disk, &nfs4.GetfhArgs{})
	if list[2].(*nfs4.GetfhRes).FH != fh {
		t.Error("the disk has another handle")
	}
	sid = list[1].(*nfs4.OpenRes).Stateid
	if r := last[*nfs4.ReadRes](again[2].ok(put(fh), &nfs4.ReadArgs{Stateid: sid, Count: 2})); string(r.Data) != "on" {
		t.Errorf("after the restart: %q", r.Data)
	}
	denied("when it is back")
	again[0].ok(put(fh), &nfs4.CloseArgs{OpenStateid: sid}) // power off
	rival.ok(putroot, disk)
	if st, err := os.Stat(filepath.Join(dir, "vm-flat.vmdk")); err != nil || st.Size() != 8<<30 {
		t.Errorf("on the disk: %+v %v", st, err)
	}
}
