package nlm

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/fs/fstest/memfs"
	"holdfast/internal/clock"
	"holdfast/internal/nlm"
	"holdfast/internal/rpc"
	"holdfast/internal/xdr"
	"holdfast/journal"
	"holdfast/nfsdown"
	"holdfast/nfsdown/state"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// A world is a server with a journal over a file system in memory, and its clients' lock managers.
type world struct {
	t     *testing.T
	fs    *memfs.FS
	clock *clock.Fake
	dir   string
	jr    *journal.Journal
	down  *nfsdown.Server
	srv   *Server
	addr  string
	done  chan struct{}
	more  []nfsdown.Export // beside "/"
	// restore asks for restarts that clients do not see.
	restore bool

	mu      sync.Mutex
	calls   []heardCall                          // what clients were called with; guarded by mu
	answer  func(c *heardCall) (nlm.Stat, error) // guarded by mu
	arrived chan struct{}
}

// heardCall is a call at a client's lock manager or status monitor.
type heardCall struct {
	prog, proc uint32
	granted    nlm.TestArgs
	res        nlm.Res
	notify     nlm.Notify
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, fs: memfs.New(), clock: clock.NewFake(time.Unix(1_000_000, 0)), dir: t.TempDir(), arrived: make(chan struct{}, 100)}
	w.fs.Now = w.clock.Now
	w.boot()
	t.Cleanup(w.stop)
	return w
}

var everybody = []nfsdown.ClientRule{{Pattern: "*", Access: nfsdown.Access{RW: true, Squash: nfsdown.NoRootSquash}}}

func (w *world) boot() {
	w.t.Helper()
	var err error
	if w.jr, _, err = journal.Open(w.dir, journal.Options{}); err != nil {
		w.t.Fatal(err)
	}
	w.down, err = nfsdown.New(nfsdown.Config{State: state.Config{Restore: w.restore, Epoch: w.jr.Epoch()}, Logger: quiet, Clock: w.clock, Journal: w.jr,
		Exports: append([]nfsdown.Export{{Path: "/", Backend: w.fs, Clients: everybody}}, w.more...)})
	if err != nil {
		w.t.Fatal(err)
	}
	if w.srv, err = New(Config{Down: w.down, Journal: w.jr, Logger: quiet, Clock: w.clock, Dial: w.dial, Name: "server"}); err != nil {
		w.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.addr, w.done = l.Addr().String(), make(chan struct{})
	go func(d *nfsdown.Server, done chan struct{}) { defer close(done); _ = d.Serve(context.Background(), l) }(w.down, w.done)
}

func (w *world) stop() {
	if w.down == nil {
		return
	}
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	if err := errors.Join(w.down.Shutdown(ctx), w.jr.Close()); err != nil {
		w.t.Error(err)
	}
	<-w.done
	w.down = nil
}

// reboot is a restart of the host: opens and locks of its file system are gone.
func (w *world) reboot() {
	w.t.Helper()
	w.stop()
	w.fs.Restart()
	w.boot()
}

// dial reaches a client that answers as w.answer says.
func (w *world) dial(_ context.Context, host, _ netip.Addr, _, _ uint32) (*rpc.Conn, error) {
	here, there := net.Pipe()
	rpc.NewConn(there, rpc.Options{Handler: rpc.HandlerFunc(func(_ context.Context, _ *rpc.Conn, in *rpc.InCall) {
		c := heardCall{prog: in.Prog, proc: in.Proc}
		switch {
		case in.Prog == nlm.NSMProgram:
			c.notify.XDR(in.Body)
		case in.Proc == nlm.ProcGranted:
			c.granted.Lock.V4 = in.Vers == nlm.V4
			c.granted.XDR(in.Body)
		default:
			c.res.XDR(in.Body)
		}
		st, err := nlm.Granted, in.Body.Err()
		w.mu.Lock()
		answer := w.answer
		w.calls = append(w.calls, c)
		w.mu.Unlock()
		if answer != nil && err == nil {
			st, err = answer(&c)
		}
		w.arrived <- struct{}{}
		switch {
		case err != nil:
			_ = in.Error(rpc.SYSTEM_ERR, 0, 0)
		case in.Prog == nlm.Program && in.Proc == nlm.ProcGranted:
			r := nlm.Res{Cookie: c.granted.Cookie, Stat: st}
			_ = in.Reply(r.XDR)
		default:
			_ = in.Reply(nil)
		}
	})})
	return rpc.NewConn(here, rpc.Options{}), nil
}

// hear waits for the next call at a client.
func (w *world) hear() heardCall {
	w.t.Helper()
	select {
	case <-w.arrived:
	case <-time.After(20 * time.Second):
		w.t.Fatal("no client was called")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.calls[0]
	w.calls = w.calls[1:]
	return c
}

// quietNow fails if a client was called.
func (w *world) quietNow() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.calls) > 0 {
		w.t.Errorf("clients were called: %+v", w.calls)
	}
}

// file makes a file and gives its handle.
func (w *world) file(name string) string {
	w.t.Helper()
	return w.fileIn("/", w.fs, name)
}

// fileIn is file in an export.
func (w *world) fileIn(path string, b *memfs.FS, name string) string {
	w.t.Helper()
	ctx := context.Background()
	root, err := b.Root(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	owner := fs.Owner{Client: "maker", Owner: name}
	mode := uint32(0o666)
	out, err := b.Open(ctx, fs.Root, &fs.OpenRequest{Owner: owner, Access: fs.ShareWrite, Dir: root, Name: name, Create: fs.Unchecked, Attr: fs.SetAttr{Mode: &mode}})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := b.CloseFile(ctx, owner, out.File); err != nil {
		w.t.Fatal(err)
	}
	id := nfsdown.ExportID(path)
	return string([]byte{1, byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)}) + string(out.File)
}

// A peer is a client host.
type peer struct {
	w     *world
	name  string
	conn  *rpc.Conn
	vers  uint32
	state int32
}

func (w *world) peer(name string) *peer {
	w.t.Helper()
	nc, err := net.Dial("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	p := &peer{w: w, name: name, conn: rpc.NewConn(nc, rpc.Options{}), vers: nlm.V4, state: 3}
	w.t.Cleanup(func() { _ = p.conn.Close() })
	return p
}

func (p *peer) call(prog, vers, proc uint32, args, res coder) {
	p.w.t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
	defer stop()
	err := p.conn.Call(ctx, &rpc.Call{Prog: prog, Vers: vers, Proc: proc, Cred: rpc.Cred{Flavor: rpc.AUTH_SYS, Machine: p.name}}, args.XDR, func(x *xdr.Codec) error {
		if res != nil {
			res.XDR(x)
		}
		return x.Err()
	})
	if err != nil {
		p.w.t.Fatalf("%s: procedure %d: %v", p.name, proc, err)
	}
}

func (p *peer) desc(fh string, svid int32, off, n uint64) nlm.Lock {
	return nlm.Lock{V4: p.vers == nlm.V4, Caller: p.name, FH: fh, OH: "oh@" + p.name, SVID: svid, Offset: off, Len: n}
}

type how struct{ block, shared, reclaim bool }

func (p *peer) lock(fh string, svid int32, off, n uint64, h how) nlm.Stat {
	p.w.t.Helper()
	var r nlm.Res
	p.call(nlm.Program, p.vers, nlm.ProcLock, &nlm.LockArgs{Cookie: "ck", Block: h.block, Exclusive: !h.shared, Lock: p.desc(fh, svid, off, n), Reclaim: h.reclaim, State: p.state}, &r)
	if r.Cookie != "ck" {
		p.w.t.Errorf("cookie %q", r.Cookie)
	}
	return r.Stat
}

func (p *peer) unlock(fh string, svid int32, off, n uint64) nlm.Stat {
	p.w.t.Helper()
	var r nlm.Res
	p.call(nlm.Program, p.vers, nlm.ProcUnlock, &nlm.UnlockArgs{Lock: p.desc(fh, svid, off, n)}, &r)
	return r.Stat
}

func (p *peer) test(fh string, svid int32, off, n uint64) nlm.TestRes {
	p.w.t.Helper()
	r := nlm.TestRes{V4: p.vers == nlm.V4}
	p.call(nlm.Program, p.vers, nlm.ProcTest, &nlm.TestArgs{Exclusive: true, Lock: p.desc(fh, svid, off, n)}, &r)
	return r
}

func (p *peer) share(fh, oh string, mode, access uint32, on, reclaim bool) nlm.Stat {
	p.w.t.Helper()
	proc := uint32(nlm.ProcShare)
	if !on {
		proc = nlm.ProcUnshare
	}
	var r nlm.ShareRes
	p.call(nlm.Program, p.vers, proc, &nlm.ShareArgs{Caller: p.name, FH: fh, OH: oh, Mode: mode, Access: access, Reclaim: reclaim}, &r)
	return r.Stat
}

func want(t *testing.T, what string, got, want nlm.Stat) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// until waits for what happens beside the test.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not: %s", what)
		}
	}
}

func (w *world) locks() []state.LockInfo { return w.down.Locks() }
