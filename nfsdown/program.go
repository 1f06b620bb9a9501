package nfsdown

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/journal"
	"holdfast/nfsdown/state"
)

// A Program is another RPC program on the server's connections, which shares its exports and its state: version 3
// of NFS, MOUNT, NLM, NSM.
type Program interface {
	// Versions are the lowest and the highest version that there are; those between are too.
	Versions() (low, high uint32)
	// ServeCall answers a call of one of these versions, or drops it. ctx lives as long as the server.
	ServeCall(ctx context.Context, p *Peer, call *rpc.InCall)
}

// Handle adds a program before the first Serve. One for the NFS program itself serves what is not version 4.
func (s *Server) Handle(prog uint32, p Program) { s.programs[prog] = p }

// OnLockNotice has f told when a lock that a permanent client (state.PermanentClient) waits for may be free. f
// runs in a goroutine of its own. Call it before the first Serve.
func (s *Server) OnLockNotice(f func(state.LockNotice)) { s.lockNotice = f }

// program hands a call to its program.
func (s *Server) program(p Program, c *conn, rc *rpc.Conn, call *rpc.InCall) {
	ctx, leave, err := s.enter()
	if err != nil {
		call.Drop()
		_ = rc.Close()
		return
	}
	defer leave()
	p.ServeCall(ctx, &Peer{c}, call)
}

// ServePacket serves datagrams on pc until ctx ends or the server is shut down: MOUNT, NLM and NSM, whose
// clients use UDP. NFS is not served so.
func (s *Server) ServePacket(ctx context.Context, pc net.PacketConn) error {
	err := s.rpc.ServePacket(ctx, pc, func(nc net.Conn) (rpc.Options, error) { return s.options(nc), nil })
	if errors.Is(err, rpc.ErrServerClosed) {
		return ErrStopped
	}
	return err
}

// A Peer is who a call came from.
type Peer struct{ c *conn }

// Addr is the address of the peer.
func (p *Peer) Addr() netip.AddrPort { return netip.AddrPortFrom(p.c.addr, p.c.port) }

// Local is our address that the peer called; not valid if that is not known.
func (p *Peer) Local() netip.Addr { return p.c.local }

// Datagrams tells whether the call came by UDP.
func (p *Peer) Datagrams() bool { return p.c.datagrams }

// Scope is what a credential of the peer may see.
func (p *Peer) Scope(cred *rpc.Cred) *Scope { return &Scope{p.c.s.scopeOf(p.c, cred)} }

// A Scope finds files for one request, by the exports' rules.
type Scope struct{ scope }

// A File is a file that a request names: an fs.Backend's, with the credential that the export's squashing makes.
type File struct {
	// Handle is what clients and package state know; Inner is what Backend knows.
	Handle  fs.Handle
	Inner   fs.Handle
	Backend fs.Backend
	Cred    *fs.Cred
	// ReadOnly tells that this client may not change it. Pseudo directories above the exports are not so:
	// they refuse by themselves.
	ReadOnly bool
	// Exported tells whether it lies in an export, and is no pseudo directory.
	Exported bool

	r ref
}

func newFile(r ref) (*File, error) {
	if r.acc.Denied {
		return nil, fs.E("", fs.Access, errors.New("the export is not for this client"))
	}
	if r.wrongSec {
		return nil, fs.E("", fs.Access, errors.New("the export does not take users of this kind"))
	}
	if r.moved() {
		return nil, fs.E("", fs.Access, errors.New("the export is a referral, which only NFSv4 has"))
	}
	return &File{Handle: r.handle, Inner: r.h, Backend: r.b, Cred: r.cred, ReadOnly: r.x != nil && !r.acc.RW, Exported: r.x != nil, r: r}, nil
}

// found makes a File of the outcome of a search. Errors are made fs errors.
func found(r ref, err error) (*File, error) {
	if err != nil {
		return nil, asCode(err)
	}
	return newFile(r)
}

// asCode turns the NFSv4 errors of a search into those of package fs.
func asCode(err error) error {
	var s nfs4.Status
	if !errors.As(err, &s) {
		return err
	}
	for code, st := range statusOf {
		if st == s {
			return fs.E("", fs.Code(code), nil)
		}
	}
	return fs.E("", fs.ServerFault, err)
}

// File is the file of a handle. It does not say that the file is there.
func (sc *Scope) File(ctx context.Context, h fs.Handle) (*File, error) {
	return found(sc.resolve(ctx, h))
}

// Lookup is the entry name of a directory, over the border of an export if there is one. The attributes may be nil.
func (sc *Scope) Lookup(ctx context.Context, dir *File, name string) (*File, *fs.Attr, error) {
	r, a, err := sc.lookup(ctx, &dir.r, name)
	f, err := found(r, err)
	return f, a, err
}

// Sub is another file of dir's export, by the backend's handle.
func (sc *Scope) Sub(ctx context.Context, dir *File, inner fs.Handle) (*File, error) {
	return found(sc.sub(ctx, &dir.r, inner))
}

// Parent is the parent of a directory; of the root of all exports itself.
func (sc *Scope) Parent(ctx context.Context, dir *File) (*File, error) {
	r, err := sc.parent(ctx, &dir.r)
	if errors.Is(err, nfs4.NFS4ERR_NOENT) {
		return dir, nil
	}
	return found(r, err)
}

// Path is the directory or file at a path of the server's name space, as the daemon finds it. Symbolic links are
// not followed.
func (sc *Scope) Path(ctx context.Context, path string) (*File, error) {
	r, err := sc.enter(ctx, sc.tree.root)
	for _, name := range strings.Split(path, "/") {
		if err != nil {
			break
		}
		if name != "" {
			if r.acc.Denied {
				return newFile(r)
			}
			r.cred = fs.Root
			r, _, err = sc.lookup(ctx, &r, name)
		}
	}
	return found(r, err)
}

// OnWay tells whether the entry of a directory is, or leads to, another export: it can be neither made nor removed.
func (f *File) OnWay(name string) bool { return f.r.onWay(name) || f.r.junction(name) != nil }

// SameExport tells whether two files lie in the same export.
func (f *File) SameExport(o *File) bool { return f.r.x == o.r.x }

// FSID is the file system id that clients see.
func (f *File) FSID(id fs.FSID) fs.FSID {
	if f.r.x == nil {
		return id
	}
	return f.r.x.fsid(id)
}

// An ExportLine is an export as showmount(8) prints it.
type ExportLine struct {
	Path    string
	Clients []string
}

// Exported lists the exports that are not hidden from everybody.
func (sc *Scope) Exported() []ExportLine {
	var out []ExportLine
	for _, x := range sc.tree.list {
		l := ExportLine{Path: x.Path}
		for _, c := range x.Clients {
			if !c.Access.Denied {
				l.Clients = append(l.Clients, c.Pattern)
			}
		}
		out = append(out, l)
	}
	return out
}

// RunEffects does what a decision of package state asks for.
func (s *Server) RunEffects(e *state.Effects) { s.runEffects(e) }

// Evict takes away what stands in the way of a grant only by courtesy, and makes that durable first.
func (s *Server) Evict(e *state.Effects) { s.evict(e) }

// BothOpen is Both for an open: the record of one that denies is durable before the backend is asked.
func (s *Server) BothOpen(ctx context.Context, p *state.OpenPlan, call func() error) (backend, journal error) {
	return s.bothOpen(ctx, p, false, call)
}

// Both commits a batch and calls the backend side by side; call may be nil.
func (s *Server) Both(ctx context.Context, b *journal.Batch, call func() error) (backend, journal error) {
	return s.both(ctx, b, false, call)
}

// Commit makes a batch durable; without a journal it does nothing.
func (s *Server) Commit(ctx context.Context, b *journal.Batch) error { return s.commit(ctx, b) }

// Background runs f in a goroutine that Shutdown waits for; its context ends with the server.
func (s *Server) Background(f func(ctx context.Context)) { s.background(f) }

// Event adds to the audit trail.
func (s *Server) Event(e *journal.Event) { s.event(e) }

// NoGrace ends grace for what a backend has, because it takes no reclaims.
func (s *Server) NoGrace(f *File) { s.noGrace(f.r.x) }
