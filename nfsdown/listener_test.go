package nfsdown

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/journal"
)

// DESIGN 4: what is lost upstream is told to its holder, and not silently taken again.
func TestRevokedStateIsTold(t *testing.T) {
	w := newWorld(t, nil)
	p := w.client("alice")
	fh, open := p.open("o", "f")
	lock := p.lock(fh, open, "l", nfs4.WRITE_LT, 0, 10)
	l := &listener{s: w.srv, id: ExportID("/"), b: w.fs}
	l.Revoked(fsOwner("alice", "o"), backendHandle(t, fh), nil, fs.E("", fs.AdminRevoked, nil))
	eventually(t, "the open is revoked", func() bool {
		st, _ := p.do(put(fh), &nfs4.ReadArgs{Stateid: nfs4.Stateid{Other: open.Other}, Count: 1})
		return st == nfs4.NFS4ERR_ADMIN_REVOKED
	})
	_, list := p.must(p.sequence())
	if f := list[0].(*nfs4.SequenceRes).StatusFlags; f&nfs4.SEQ4_STATUS_ADMIN_STATE_REVOKED == 0 {
		t.Errorf("flags %x", f)
	}
	codes := last[*nfs4.TestStateidRes](p.ok(&nfs4.TestStateidArgs{Stateids: []nfs4.Stateid{open, lock}})).StatusCodes
	for i, sid := range []nfs4.Stateid{open, lock} {
		if codes[i] != nfs4.NFS4ERR_ADMIN_REVOKED {
			t.Errorf("stateid %d: %v", i, codes[i])
			continue
		}
		p.ok(&nfs4.FreeStateidArgs{Stateid: sid})
	}
	_, list = p.must(p.sequence())
	if f := list[0].(*nfs4.SequenceRes).StatusFlags; f&nfs4.SEQ4_STATUS_ADMIN_STATE_REVOKED != 0 {
		t.Errorf("flags %x after all were freed", f)
	}
}

// A Linux client is told by its stateids alone: by the flags it would take all its locks for lost.
func TestLinuxIsNotToldByFlags(t *testing.T) {
	w := newWorld(t, nil)
	for _, name := range []string{"Linux NFSv4.2 alice", "bob"} {
		p := w.client(name)
		fh, open := p.open("o", name)
		lock := p.lock(fh, open, "l", nfs4.WRITE_LT, 0, 10)
		l := &listener{s: w.srv, id: ExportID("/"), b: w.fs}
		l.Revoked(fsOwner(name, "l"), backendHandle(t, fh), fs.RangeSet{{Range: fs.Range{First: 0, Last: 9}, Type: fs.WriteLock}}, fs.E("", fs.AdminRevoked, nil))
		eventually(t, "the lock is revoked", func() bool {
			st, _ := p.do(put(fh), &nfs4.WriteArgs{Stateid: lock, Data: []byte("x")})
			return st == nfs4.NFS4ERR_ADMIN_REVOKED
		})
		_, list := p.must(p.sequence())
		f := list[0].(*nfs4.SequenceRes).StatusFlags
		if flagged := f&nfs4.SEQ4_STATUS_ADMIN_STATE_REVOKED != 0; flagged != (name == "bob") {
			t.Errorf("%s: flags %x", name, f)
		}
		code := last[*nfs4.TestStateidRes](p.ok(&nfs4.TestStateidArgs{Stateids: []nfs4.Stateid{lock}})).StatusCodes[0]
		if code != nfs4.NFS4ERR_ADMIN_REVOKED {
			t.Errorf("%s: TEST_STATEID: %v", name, code)
		}
		p.ok(put(fh), &nfs4.WriteArgs{Stateid: open, Data: []byte("x")})
	}
}

func TestAuthNoneIsAnonymous(t *testing.T) {
	w := newWorld(t, nil)
	p := w.client("alice")
	p.cred = rpc.Cred{}
	a := last[*nfs4.GetattrRes](p.ok(putroot, &nfs4.CreateArgs{Type: nfs4.CreateType{Type: nfs4.NF4DIR}, Name: "d"}, &nfs4.GetattrArgs{Request: nfs4.Bits(nfs4.FATTR4_OWNER)})).Attrs
	if a.Owner != "65534" {
		t.Errorf("owner %s", a.Owner)
	}
}

func TestTooManyConnections(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxConns = 2 })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- w.srv.Serve(context.Background(), l) }()
	for i := range 3 {
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c := rpc.NewConn(nc, rpc.Options{})
		defer c.Close()
		err = c.Call(context.Background(), &rpc.Call{Prog: nfs4.Program, Vers: nfs4.Version}, nil, nil)
		if (err == nil) != (i < 2) {
			t.Errorf("connection %d: %v", i, err)
		}
	}
	if st := w.srv.Status(); st.Conns != 2 || st.Refused != 1 || len(st.Exports) != 1 || st.Degraded != nil {
		t.Errorf("status %+v", st)
	}
	w.stop()
	if err := <-served; !errors.Is(err, ErrStopped) {
		t.Errorf("Serve: %v", err)
	}
}

// Counters are what `stats` shows.
func TestCounters(t *testing.T) {
	w := newWorld(t, nil)
	p := w.client("alice")
	p.mkfile("f", []byte("12345"))
	p.ok(with(at("f"), &nfs4.ReadArgs{Count: 3})...)
	p.fails(nfs4.NFS4ERR_NOENT, at("none")...)
	got := map[string]OpStat{}
	for _, s := range w.srv.OpStats() {
		got[s.Op] = s
	}
	if got["WRITE"].In != 5 || got["READ"].Out != 3 || got["LOOKUP"].Count != 2 || got["LOOKUP"].Errors != 1 {
		t.Errorf("%+v", got)
	}
}

// What is lost is named once, whoever learns of it in which order: whose, in which file, which range, and why.
func TestALossIsNamedOnce(t *testing.T) {
	w := newDurableWorld(t, nil)
	p := w.client("alice")
	fh, open := p.open("o", "f")
	p.lock(fh, open, "l", nfs4.WRITE_LT, 100, 50)
	gfh, _ := p.open("o", "g")
	l := &listener{s: w.srv, id: ExportID("/"), b: w.fs}
	h, why := backendHandle(t, fh), fs.E("", fs.NoGrace, nil)
	set := fs.RangeSet{{Range: fs.Range{First: 100, Last: 149}, Type: fs.WriteLock}}
	for range 2 { // the lock, and then the open with what was under it
		l.Revoked(fsOwner("alice", "l"), h, set, why)
		l.Revoked(fsOwner("alice", "o"), h, nil, why)
	}
	l.Revoked(fsOwner("alice", "o"), backendHandle(t, gfh), nil, fs.E("", fs.Expired, nil))
	local := fsOwner(fs.LocalClient+"1", "77")
	l.Revoked(local, h, fs.RangeSet{{Range: fs.Range{First: 7, Last: 8}, Type: fs.ReadLock}}, why)
	want := []string{
		"NO_GRACE alice l f write 100-149 the lock is lost: the origin takes no reclaims and has not kept it",
		"EXPIRED alice o g  0-0 the open is lost: its lease at the origin ended",
		"NO_GRACE " + local.Client + " 77  read 7-8 the lock is lost: the origin takes no reclaims and has not kept it",
	}
	eventually(t, "all are named", func() bool { return len(lostLines(t, w)) >= len(want) })
	got := lostLines(t, w)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("lost:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func lostLines(t *testing.T, w *world) (lines []string) {
	t.Helper()
	for e, err := range w.jr.Events(1, func(e *journal.Event) bool { return e.Type == "lost" }) {
		if err != nil {
			t.Fatal(err)
		}
		kind := ""
		if e.Lock != 0 {
			kind = e.Lock.String()
		}
		lines = append(lines, fmt.Sprintf("%s %s %s %s %s %d-%d %s", e.Result, e.Client, e.Owner, e.Name, kind, e.Range.First, e.Range.Last, e.Text))
	}
	return lines
}
