package nfsdown

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/fs/fstest/memfs"
	"holdfast/internal/clock"
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/internal/xdr"
	"holdfast/journal"
)

// A world is a server over a file system in memory, with a clock that stands still.
type world struct {
	t     testing.TB
	fs    *memfs.FS
	clock *clock.Fake
	srv   *Server
	jr    *journal.Journal
	dir   string // of the journal; "" without one
	edit  func(*Config)
}

func newWorld(t testing.TB, edit func(*Config)) *world {
	t.Helper()
	w := &world{t: t, fs: memfs.New(), clock: clock.NewFake(time.Unix(1_000_000, 0)), edit: edit}
	w.fs.Now = w.clock.Now
	w.boot()
	t.Cleanup(w.stop)
	return w
}

// newDurableWorld has a journal on disk.
func newDurableWorld(t testing.TB, edit func(*Config)) *world {
	t.Helper()
	w := &world{t: t, fs: memfs.New(), clock: clock.NewFake(time.Unix(1_000_000, 0)), edit: edit, dir: t.TempDir()}
	w.fs.Now = w.clock.Now
	w.boot()
	t.Cleanup(w.stop)
	return w
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func (w *world) boot() {
	w.t.Helper()
	cfg := Config{Exports: []Export{{Path: "/", Backend: w.fs, Clients: []ClientRule{{"*", Access{RW: true, Squash: NoRootSquash}}}}}, Clock: w.clock, Logger: quiet}
	if w.dir != "" {
		j, _, err := journal.Open(w.dir, journal.Options{})
		if err != nil {
			w.t.Fatal(err)
		}
		w.jr, cfg.Journal = j, j
	}
	if w.edit != nil {
		w.edit(&cfg)
	}
	srv, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.srv = srv
}

func (w *world) stop() {
	if w.srv == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := w.srv.Shutdown(ctx); err != nil {
		w.t.Error(err)
	}
	w.srv = nil
	if w.jr != nil {
		if err := w.jr.Close(); err != nil {
			w.t.Error(err)
		}
		w.jr = nil
	}
}

// reboot is a restart of the host: the server, and the opens and locks of its file system, are gone. hook is
// the file system's from then on.
func (w *world) reboot(hook func(context.Context, string) error) {
	w.t.Helper()
	w.stop()
	w.fs.Restart()
	w.fs.Hook = hook
	w.boot()
}

// A peer is a client.
type peer struct {
	t     testing.TB
	w     *world
	conn  *rpc.Conn
	cred  rpc.Cred
	owner string
	verf  byte
	minor uint32
	id    uint64
	csa   uint32
	sess  nfs4.SessionID
	fore  nfs4.ChannelAttrs
	seq   map[uint32]uint32
	slot  uint32
	cache bool
	calls chan nfs4.CBArgs // callbacks that came
}

var rootCred = rpc.Cred{Flavor: rpc.AUTH_SYS, Machine: "test"}

// asUser is the credential of a user.
func asUser(uid uint32) rpc.Cred {
	return rpc.Cred{Flavor: rpc.AUTH_SYS, Machine: "test", UID: uid, GID: uid}
}

// dial connects without a session.
func (w *world) dial(owner string) *peer {
	w.t.Helper()
	p := &peer{t: w.t, w: w, cred: rootCred, owner: owner, verf: 1, minor: 2, seq: map[uint32]uint32{}, calls: make(chan nfs4.CBArgs, 16)}
	p.connect()
	return p
}

// connect makes a new connection, as after a network failure.
func (p *peer) connect() {
	p.t.Helper()
	if p.conn != nil {
		_ = p.conn.Close()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		if c, err := l.Accept(); err == nil {
			accepted <- c
		}
	}()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		p.t.Fatal(err)
	}
	p.w.srv.ServeConn(<-accepted)
	p.conn = rpc.NewConn(nc, rpc.Options{MaxRecord: 4 << 20, Handler: rpc.HandlerFunc(p.callback)})
	conn := p.conn
	p.t.Cleanup(func() { _ = conn.Close() })
}

// callback answers a CB_COMPOUND with success.
func (p *peer) callback(_ context.Context, _ *rpc.Conn, call *rpc.InCall) {
	var h nfs4.CBCompoundHeader
	h.XDR(call.Body)
	if h.MinorVersion != p.minor {
		_ = call.Reply(func(e *xdr.Codec) { nfs4.EncodeCBCompoundRes(e, nfs4.NFS4ERR_MINOR_VERS_MISMATCH, h.Tag, nil) })
		return
	}
	var list []nfs4.CBRes
	for range h.NumOps {
		op, a, err := nfs4.DecodeCBArgs(call.Body)
		if err != nil {
			_ = call.Error(rpc.GARBAGE_ARGS, 0, 0)
			return
		}
		r := nfs4.NewCBRes(op)
		if s, ok := r.(*nfs4.CBSequenceRes); ok {
			sa := a.(*nfs4.CBSequenceArgs)
			s.SessionID, s.SequenceID, s.SlotID = sa.SessionID, sa.SequenceID, sa.SlotID
		} else {
			p.calls <- a
		}
		list = append(list, r)
	}
	_ = call.Reply(func(e *xdr.Codec) { nfs4.EncodeCBCompoundRes(e, nfs4.NFS4_OK, h.Tag, list) })
}

// raw sends a COMPOUND as it is.
func (p *peer) raw(ops ...nfs4.Args) (nfs4.Status, []nfs4.Res, error) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var st nfs4.Status
	var list []nfs4.Res
	err := p.conn.Call(ctx, &rpc.Call{Prog: nfs4.Program, Vers: nfs4.Version, Proc: nfs4.ProcCompound, Cred: p.cred},
		func(e *xdr.Codec) { nfs4.EncodeCompound(e, "tag", p.minor, ops) },
		func(d *xdr.Codec) error {
			// What the results alias must live on.
			var own xdr.Codec
			own.ResetDecoder(append([]byte(nil), d.Rest()...))
			var err error
			st, list, err = nfs4.DecodeCompoundRes(&own, ops)
			if err == nil && own.Len() != 0 {
				err = errors.New("bytes after the result")
			}
			return err
		})
	return st, list, err
}

func (p *peer) must(ops ...nfs4.Args) (nfs4.Status, []nfs4.Res) {
	p.t.Helper()
	st, list, err := p.raw(ops...)
	if err != nil {
		p.t.Fatalf("compound: %v", err)
	}
	return st, list
}

// exchange is EXCHANGE_ID and CREATE_SESSION.
func (p *peer) exchange() *peer {
	p.t.Helper()
	st, list := p.must(&nfs4.ExchangeIDArgs{Owner: nfs4.ClientOwner{Verifier: nfs4.Verifier{p.verf}, ID: p.owner}})
	if st != nfs4.NFS4_OK {
		p.t.Fatalf("EXCHANGE_ID: %v", st)
	}
	r := list[0].(*nfs4.ExchangeIDRes)
	p.id, p.csa = r.ClientID, r.SequenceID
	return p.session(nfs4.ChannelAttrs{MaxRequestSize: 1 << 20, MaxResponseSize: 1 << 20, MaxResponseSizeCached: 4096, MaxOperations: 32, MaxRequests: 8})
}

// session is CREATE_SESSION.
func (p *peer) session(fore nfs4.ChannelAttrs) *peer {
	p.t.Helper()
	st, list := p.must(&nfs4.CreateSessionArgs{
		ClientID: p.id, Sequence: p.csa, Flags: nfs4.CREATE_SESSION4_FLAG_CONN_BACK_CHAN, ForeChan: fore,
		BackChan:  nfs4.ChannelAttrs{MaxRequestSize: 4096, MaxResponseSize: 4096, MaxOperations: 4, MaxRequests: 4},
		CBProgram: nfs4.CBProgram, SecParms: []nfs4.CallbackSecParms{{Flavor: nfs4.AUTH_NONE}},
	})
	if st != nfs4.NFS4_OK {
		p.t.Fatalf("CREATE_SESSION: %v", st)
	}
	r := list[0].(*nfs4.CreateSessionRes)
	p.sess, p.fore, p.seq = r.SessionID, r.ForeChan, map[uint32]uint32{}
	p.csa++
	return p
}

// client is a client with a session that has nothing to reclaim.
func (w *world) client(owner string) *peer {
	w.t.Helper()
	p := w.dial(owner).exchange()
	p.ok(&nfs4.ReclaimCompleteArgs{})
	return p
}

// sequence is the next SEQUENCE of the peer's slot.
func (p *peer) sequence() *nfs4.SequenceArgs {
	p.seq[p.slot]++
	return &nfs4.SequenceArgs{SessionID: p.sess, SequenceID: p.seq[p.slot], SlotID: p.slot, CacheThis: p.cache}
}

// do runs operations in the session and returns the status and the answers after that of SEQUENCE.
func (p *peer) do(ops ...nfs4.Args) (nfs4.Status, []nfs4.Res) {
	p.t.Helper()
	st, list := p.must(append([]nfs4.Args{p.sequence()}, ops...)...)
	if len(list) == 0 || list[0].Stat() != nfs4.NFS4_OK {
		p.t.Fatalf("SEQUENCE: %v", st)
	}
	return st, list[1:]
}

// ok is do that must succeed.
func (p *peer) ok(ops ...nfs4.Args) []nfs4.Res {
	p.t.Helper()
	st, list := p.do(ops...)
	if st != nfs4.NFS4_OK {
		p.t.Fatalf("%v: %v", list[len(list)-1].Op(), st)
	}
	return list
}

// fails is do whose last operation must fail so.
func (p *peer) fails(want nfs4.Status, ops ...nfs4.Args) {
	p.t.Helper()
	st, list := p.do(ops...)
	if st != want || len(list) != len(ops) {
		p.t.Fatalf("%v: got %v after %d of %d operations, want %v", ops[len(ops)-1].Op(), st, len(list), len(ops), want)
	}
	if v := validStatus(p.minor, list[len(list)-1].Op(), st); v != st {
		p.t.Errorf("%v is no answer to %v", st, list[len(list)-1].Op())
	}
}

// last returns the last answer.
func last[T nfs4.Res](list []nfs4.Res) T { return list[len(list)-1].(T) }

var putroot = &nfs4.PutrootfhArgs{}

// root are the operations to make a path below the root current.
func at(names ...string) []nfs4.Args {
	ops := []nfs4.Args{putroot}
	for _, n := range names {
		ops = append(ops, &nfs4.LookupArgs{Name: n})
	}
	return ops
}

func with(ops []nfs4.Args, more ...nfs4.Args) []nfs4.Args {
	return append(append([]nfs4.Args(nil), ops...), more...)
}

// fh is the handle of a path.
func (p *peer) fh(names ...string) nfs4.FH {
	p.t.Helper()
	return last[*nfs4.GetfhRes](p.ok(with(at(names...), &nfs4.GetfhArgs{})...)).FH
}

func put(fh nfs4.FH) nfs4.Args { return &nfs4.PutfhArgs{FH: fh} }

// openArgs opens a file of the root for an owner, and creates it.
func openArgs(owner, name string, access, deny uint32) *nfs4.OpenArgs {
	return &nfs4.OpenArgs{ShareAccess: access, ShareDeny: deny, Owner: nfs4.StateOwner{Owner: owner},
		How:   nfs4.OpenHow{Type: nfs4.OPEN4_CREATE, Mode: nfs4.UNCHECKED4, Attrs: nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_MODE), Mode: 0o666}},
		Claim: nfs4.OpenClaim{Type: nfs4.CLAIM_NULL, File: name}}
}

// open opens a file of the root for reading and writing.
func (p *peer) open(owner, name string) (nfs4.FH, nfs4.Stateid) {
	p.t.Helper()
	list := p.ok(putroot, openArgs(owner, name, nfs4.OPEN4_SHARE_ACCESS_BOTH, 0), &nfs4.GetfhArgs{})
	return list[2].(*nfs4.GetfhRes).FH, list[1].(*nfs4.OpenRes).Stateid
}

// lockArgs locks under an open for a new lock-owner.
func lockArgs(open nfs4.Stateid, owner string, t nfs4.LockType, off, length uint64) *nfs4.LockArgs {
	return &nfs4.LockArgs{LockType: t, Offset: off, Length: length,
		Locker: nfs4.Locker{NewLockOwner: true, OpenStateid: open, LockOwner: nfs4.StateOwner{Owner: owner}}}
}

// lock takes a lock.
func (p *peer) lock(fh nfs4.FH, open nfs4.Stateid, owner string, t nfs4.LockType, off, length uint64) nfs4.Stateid {
	p.t.Helper()
	return last[*nfs4.LockRes](p.ok(put(fh), lockArgs(open, owner, t, off, length))).LockStateid
}

// mkfile makes a file with content, without leaving an open.
func (p *peer) mkfile(name string, data []byte) nfs4.FH {
	p.t.Helper()
	list := p.ok(putroot, openArgs("mkfile", name, nfs4.OPEN4_SHARE_ACCESS_BOTH, 0), &nfs4.GetfhArgs{},
		&nfs4.WriteArgs{Stateid: nfs4.CurrentStateid, Stable: nfs4.FILE_SYNC4, Data: data},
		&nfs4.CloseArgs{OpenStateid: nfs4.CurrentStateid})
	return list[2].(*nfs4.GetfhRes).FH
}

// backendHandle is the handle that the file system in memory knows.
func backendHandle(t testing.TB, fh nfs4.FH) fs.Handle {
	t.Helper()
	_, h, ok := unwrap(fs.Handle(fh))
	if !ok {
		t.Fatalf("%v is no handle of an export", fh)
	}
	return h
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	end := time.Now().Add(10 * time.Second)
	for !cond() {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
