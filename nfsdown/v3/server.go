package v3

import (
	"context"
	"log/slog"
	"net/netip"

	"holdfast/fs"
	"holdfast/internal/nfs3"
	"holdfast/internal/rpc"
	"holdfast/internal/xdr"
	"holdfast/nfsdown"
)

// Config is what a Server is made with.
type Config struct {
	Down   *nfsdown.Server
	Logger *slog.Logger // slog.Default
	MaxIO  uint32       // bytes of one READ or WRITE: 1 MiB
}

// A Server is the NFS program's version 3.
type Server struct {
	down   *nfsdown.Server
	log    *slog.Logger
	maxIO  uint32
	drc    drc
	owners owners
	stats  *nfsdown.ProcStats
}

// New makes a Server and adds it, and MOUNT, to the programs of cfg.Down.
func New(cfg Config) *Server {
	s := &Server{down: cfg.Down, log: cfg.Logger, maxIO: cfg.MaxIO}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.maxIO == 0 {
		s.maxIO = 1 << 20
	}
	s.drc.init(drcEntries)
	s.owners.init()
	s.stats = cfg.Down.CountProcs("NFSv3", nfs3.ProcNames[:])
	cfg.Down.Handle(nfs3.Program, s)
	cfg.Down.Handle(nfs3.MountProgram, &mountd{s: s, stats: cfg.Down.CountProcs("MOUNT", nfs3.MountNames[:]), list: map[nfs3.MountEntry]struct{}{}})
	return s
}

// Versions is version 3 only; version 4 is nfsdown's.
func (s *Server) Versions() (low, high uint32) { return nfs3.Version, nfs3.Version }

// A call is a call on its way.
type call struct {
	*nfsdown.Scope
	s    *Server
	in   *rpc.InCall
	from netip.Addr
}

// A procedure takes its arguments and gives its result, which its status is in too.
type procedure struct {
	run func(context.Context, *call, nfs3.Args) (nfs3.Args, nfs3.Status)
	// once says that the procedure must not be run twice for one request: RFC 1813 4.5.
	once bool
}

// do makes a procedure of a function with types of its own.
func do[A any, R any, PA interface {
	*A
	nfs3.Args
}, PR interface {
	*R
	nfs3.Args
}](once bool, f func(context.Context, *call, PA, PR) error, status func(PR) *nfs3.Status) procedure {
	return procedure{once: once, run: func(ctx context.Context, c *call, a nfs3.Args) (nfs3.Args, nfs3.Status) {
		r := PR(new(R))
		err := f(ctx, c, a.(PA), r)
		st := toStatus(err)
		*status(r) = st
		if st == nfs3.ErrServerFault {
			c.s.log.Error("NFSv3 procedure failed", "proc", nfs3.ProcNames[c.in.Proc], "err", err)
		}
		return r, st
	}}
}

var procedures = [nfs3.NumProcs]procedure{
	nfs3.ProcGetattr:     do(false, getattr, func(r *nfs3.GetattrRes) *nfs3.Status { return &r.Status }),
	nfs3.ProcSetattr:     do(true, setattr, wccStatus),
	nfs3.ProcLookup:      do(false, lookup, func(r *nfs3.LookupRes) *nfs3.Status { return &r.Status }),
	nfs3.ProcAccess:      do(false, access, func(r *nfs3.AccessRes) *nfs3.Status { return &r.Status }),
	nfs3.ProcReadlink:    do(false, readlink, func(r *nfs3.ReadlinkRes) *nfs3.Status { return &r.Status }),
	nfs3.ProcRead:        do(false, read, func(r *nfs3.ReadRes) *nfs3.Status { return &r.Status }),
	nfs3.ProcWrite:       do(true, write, func(r *nfs3.WriteRes) *nfs3.Status { return &r.Status }),
	nfs3.ProcCreate:      do(true, create, createStatus),
	nfs3.ProcMkdir:       do(true, mkdir, createStatus),
	nfs3.ProcSymlink:     do(true, symlink, createStatus),
	nfs3.ProcMknod:       do(true, mknod, createStatus),
	nfs3.ProcRemove:      do(true, remove, wccStatus),
	nfs3.ProcRmdir:       do(true, rmdir, wccStatus),
	nfs3.ProcRename:      do(true, rename, func(r *nfs3.RenameRes) *nfs3.Status { return &r.Status }),
	nfs3.ProcLink:        do(true, link, func(r *nfs3.LinkRes) *nfs3.Status { return &r.Status }),
	nfs3.ProcReaddir:     do(false, readdir, readdirStatus),
	nfs3.ProcReaddirplus: do(false, readdirplus, readdirStatus),
	nfs3.ProcFsstat:      do(false, fsstat, func(r *nfs3.FsstatRes) *nfs3.Status { return &r.Status }),
	nfs3.ProcFsinfo:      do(false, fsinfo, func(r *nfs3.FsinfoRes) *nfs3.Status { return &r.Status }),
	nfs3.ProcPathconf:    do(false, pathconf, func(r *nfs3.PathconfRes) *nfs3.Status { return &r.Status }),
	nfs3.ProcCommit:      do(false, commit, func(r *nfs3.CommitRes) *nfs3.Status { return &r.Status }),
}

func wccStatus(r *nfs3.WccRes) *nfs3.Status         { return &r.Status }
func createStatus(r *nfs3.CreateRes) *nfs3.Status   { return &r.Status }
func readdirStatus(r *nfs3.ReaddirRes) *nfs3.Status { return &r.Status }

// ServeCall serves a call of version 3.
func (s *Server) ServeCall(ctx context.Context, p *nfsdown.Peer, in *rpc.InCall) {
	ctx = fs.Begin(ctx)
	end := s.stats.Begin(in.Proc)
	if in.Proc == nfs3.ProcNull {
		_ = in.Reply(nil)
		end(false)
		return
	}
	if in.Proc >= nfs3.NumProcs {
		_ = in.Error(rpc.PROC_UNAVAIL, 0, 0)
		end(true)
		return
	}
	proc := &procedures[in.Proc]
	args := in.Body.Rest()
	a := nfs3.NewArgs(in.Proc)
	if a.XDR(in.Body); in.Body.Err() != nil {
		_ = in.Error(rpc.GARBAGE_ARGS, 0, 0)
		end(true)
		return
	}
	c := &call{Scope: p.Scope(&in.Cred), s: s, in: in, from: p.Addr().Addr()}
	if !proc.once {
		res, st := proc.run(ctx, c, a)
		end(st != nfs3.OK)
		s.reply(in, res.XDR)
		return
	}
	key := drcKeyOf(p, in, args)
	e, first := s.drc.begin(key)
	if !first {
		select {
		case <-e.done:
			if e.reply == nil { // it was JUKEBOX: the client asks anew
				in.Drop()
				return
			}
			s.reply(in, func(x *xdr.Codec) { b := e.reply; x.Raw(&b) })
		case <-ctx.Done():
			in.Drop()
		}
		return
	}
	res, st := proc.run(ctx, c, a)
	end(st != nfs3.OK)
	x := xdr.NewEncoder(nil)
	res.XDR(x)
	b := x.Bytes()
	if x.Err() != nil || st == nfs3.ErrJukebox { // told later: then the next try, which may have the same xid, is another one
		s.drc.end(key, e, nil)
	} else {
		s.drc.end(key, e, b)
	}
	s.reply(in, res.XDR)
}

func (s *Server) reply(in *rpc.InCall, f func(*xdr.Codec)) {
	if err := in.Reply(f); err != nil {
		s.log.Error("NFSv3 call could not be answered", "proc", in.Proc, "err", err)
	}
}

// file is the file of a handle.
func (c *call) file(ctx context.Context, h nfs3.FH) (*nfsdown.File, error) {
	return c.File(ctx, fs.Handle(h))
}

// writable is file for what changes it.
func (c *call) writable(ctx context.Context, h nfs3.FH) (*nfsdown.File, error) {
	f, err := c.file(ctx, h)
	if err == nil && f.ReadOnly {
		err = nfs3.ErrROFS
	}
	return f, err
}
