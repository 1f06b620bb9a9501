package v3

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/fs/fstest/memfs"
	"holdfast/internal/nfs3"
	"holdfast/internal/rpc"
	"holdfast/internal/xdr"
	"holdfast/nfsdown"
	lockmanager "holdfast/nfsdown/nlm"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// A world is a server over a file system in memory.
type world struct {
	t    testing.TB
	fs   *memfs.FS
	down *nfsdown.Server
	v3   *Server
	addr string
	// hook, if not nil, is asked before each operation of fs.
	hook atomic.Pointer[func(op string) error]
}

func newWorld(t testing.TB, edit func(*nfsdown.Config)) *world {
	t.Helper()
	w := &world{t: t, fs: memfs.New()}
	w.fs.Hook = func(_ context.Context, op string) error {
		if f := w.hook.Load(); f != nil {
			return (*f)(op)
		}
		return nil
	}
	cfg := nfsdown.Config{Logger: quiet, Exports: []nfsdown.Export{
		{Path: "/data", Backend: w.fs, Clients: []nfsdown.ClientRule{{Pattern: "*", Access: nfsdown.Access{RW: true, Squash: nfsdown.NoRootSquash}}}},
	}}
	if edit != nil {
		edit(&cfg)
	}
	var err error
	if w.down, err = nfsdown.New(cfg); err != nil {
		t.Fatal(err)
	}
	w.v3 = New(Config{Down: w.down, Logger: quiet})
	if _, err := lockmanager.New(lockmanager.Config{Down: w.down, Logger: quiet, Name: "server"}); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = l.Addr().String()
	done := make(chan struct{})
	go func() { defer close(done); _ = w.down.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
		defer stop()
		if err := w.down.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		<-done
	})
	return w
}

// A peer is a client on a connection.
type peer struct {
	t    testing.TB
	conn *rpc.Conn
	cred rpc.Cred
}

func (w *world) peer(uid uint32) *peer {
	w.t.Helper()
	nc, err := net.Dial("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	p := &peer{t: w.t, conn: rpc.NewConn(nc, rpc.Options{}), cred: rpc.Cred{Flavor: rpc.AUTH_SYS, Machine: "test", UID: uid, GID: uid}}
	w.t.Cleanup(func() { _ = p.conn.Close() })
	return p
}

// raw makes a call and gives the bytes of the result.
func (p *peer) raw(prog, vers, proc uint32, a nfs3.Args) ([]byte, error) {
	var out []byte
	err := p.conn.Call(context.Background(), &rpc.Call{Prog: prog, Vers: vers, Proc: proc, Cred: p.cred},
		func(c *xdr.Codec) {
			if a != nil {
				a.XDR(c)
			}
		},
		func(c *xdr.Codec) error { out = append(out, c.Rest()...); return nil })
	return out, err
}

// call makes a call of NFSv3.
func call3[R nfs3.Args](p *peer, proc uint32, a nfs3.Args) R {
	p.t.Helper()
	b, err := p.raw(nfs3.Program, nfs3.Version, proc, a)
	if err != nil {
		p.t.Fatalf("%s: %v", nfs3.ProcNames[proc], err)
	}
	r := nfs3.NewRes(proc)
	d := xdr.NewDecoder(b)
	if r.XDR(d); d.Err() != nil || d.Len() != 0 {
		p.t.Fatalf("%s: %v, %d bytes left", nfs3.ProcNames[proc], d.Err(), d.Len())
	}
	return r.(R)
}

func (p *peer) mnt(path string) *nfs3.MntRes {
	p.t.Helper()
	b, err := p.raw(nfs3.MountProgram, nfs3.MountV3, nfs3.MountMnt, &nfs3.PathArgs{Path: path})
	if err != nil {
		p.t.Fatal(err)
	}
	r := new(nfs3.MntRes)
	d := xdr.NewDecoder(b)
	if r.XDR(d); d.Err() != nil {
		p.t.Fatal(d.Err())
	}
	return r
}

func (p *peer) root() nfs3.FH {
	p.t.Helper()
	r := p.mnt("/data")
	if r.Status != nfs3.OK {
		p.t.Fatal(r.Status)
	}
	return nfs3.FH(r.FH)
}

func want(t testing.TB, what string, got, want nfs3.Status) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// mkfile makes a file with data.
func (p *peer) mkfile(dir nfs3.FH, name string, mode uint32, data string) nfs3.FH {
	p.t.Helper()
	r := call3[*nfs3.CreateRes](p, nfs3.ProcCreate, &nfs3.CreateArgs{Where: nfs3.Dirop{Dir: dir, Name: name}, Mode: nfs3.Guarded, Attr: nfs3.Sattr{Mode: &mode}})
	if r.Status != nfs3.OK || r.FH == nil {
		p.t.Fatalf("CREATE %q: %v", name, r.Status)
	}
	if data != "" {
		w := call3[*nfs3.WriteRes](p, nfs3.ProcWrite, &nfs3.WriteArgs{FH: *r.FH, Count: uint32(len(data)), Stable: 2, Data: []byte(data)})
		if w.Status != nfs3.OK || w.Count != uint32(len(data)) || w.Committed != 2 {
			p.t.Fatalf("WRITE %q: %+v", name, w)
		}
	}
	return *r.FH
}

func w2() *memfs.FS { return memfs.New() }

// inner is the backend's part of a handle.
func inner(h nfs3.FH) fs.Handle { return fs.Handle(h[5:]) }
