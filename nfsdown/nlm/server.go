package nlm

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"

	"holdfast/internal/clock"
	"holdfast/internal/nlm"
	"holdfast/internal/portmap"
	"holdfast/internal/rpc"
	"holdfast/internal/xdr"
	"holdfast/journal"
	"holdfast/nfsdown"
)

// Config is what a Server is made with.
type Config struct {
	Down    *nfsdown.Server
	Journal *journal.Journal // where hosts to notify are kept; nil: nowhere
	Logger  *slog.Logger     // slog.Default
	Clock   clock.Clock      // clock.Real
	// Dial reaches a program of a client, from our address local if that is valid. Default: by its portmapper.
	Dial func(ctx context.Context, host, local netip.Addr, prog, vers uint32) (*rpc.Conn, error)
	// Name is how we call ourselves in SM_NOTIFY.
	Name string
}

// A Server is the lock manager.
type Server struct {
	cfg  Config
	down *nfsdown.Server
	log  *slog.Logger
	// stats counts the procedures, of the status monitor too; immutable.
	stats, monitored *nfsdown.ProcStats

	mu sync.Mutex
	// +checklocks:mu
	hosts map[hostKey]*host
}

// New makes a Server, adds its programs to those of cfg.Down, and begins to tell those whose locks wait to be reclaimed.
func New(cfg Config) (*Server, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.Real
	}
	if cfg.Dial == nil {
		cfg.Dial = func(ctx context.Context, host, local netip.Addr, prog, vers uint32) (*rpc.Conn, error) {
			return (&portmap.Dialer{Local: local}).Dial(ctx, host, prog, vers)
		}
	}
	s := &Server{cfg: cfg, down: cfg.Down, log: cfg.Logger, hosts: map[hostKey]*host{}}
	s.stats, s.monitored = cfg.Down.CountProcs("NLM", nlm.ProcNames[:]), cfg.Down.CountProcs("NSM", nlm.SMNames[:])
	cfg.Down.Handle(nlm.Program, s)
	cfg.Down.Handle(nlm.NSMProgram, nsm{s})
	cfg.Down.OnLockNotice(s.notice)
	return s, s.recover()
}

// Versions are 1, 3 and 4; 2 was never used.
func (s *Server) Versions() (low, high uint32) { return nlm.V1, nlm.V4 }

// A call is a request of NLM.
type call struct {
	s    *Server
	p    *nfsdown.Peer
	in   *rpc.InCall
	v4   bool
	vers uint32
	end  func(failed bool) // of its statistics
}

// ServeCall serves a call. Those with MSG are answered at once with nothing, and by a call of ours later.
func (s *Server) ServeCall(ctx context.Context, p *nfsdown.Peer, in *rpc.InCall) {
	c := &call{s: s, p: p, in: in, v4: in.Vers == nlm.V4, vers: in.Vers, end: s.stats.Begin(in.Proc)}
	switch in.Proc {
	case nlm.ProcNull, nlm.ProcTestRes, nlm.ProcLockRes, nlm.ProcCancelRes, nlm.ProcUnlockRes, nlm.ProcGrantedRes:
		_ = in.Reply(nil) // GRANTED is called so that it has its answer itself
		c.end(false)
	case nlm.ProcTest, nlm.ProcTestMsg:
		a := &nlm.TestArgs{Lock: nlm.Lock{V4: c.v4}}
		serve(ctx, c, a, nlm.ProcTestMsg, nlm.ProcTestRes, &a.Lock.Caller, func(ctx context.Context) coder { return c.test(ctx, a) })
	case nlm.ProcLock, nlm.ProcLockMsg, nlm.ProcNMLock:
		a := &nlm.LockArgs{Lock: nlm.Lock{V4: c.v4}}
		serve(ctx, c, a, nlm.ProcLockMsg, nlm.ProcLockRes, &a.Lock.Caller, func(ctx context.Context) coder {
			return &nlm.Res{Cookie: a.Cookie, Stat: c.stat(c.lock(ctx, a, in.Proc != nlm.ProcNMLock))}
		})
	case nlm.ProcCancel, nlm.ProcCancelMsg:
		a := &nlm.CancelArgs{Lock: nlm.Lock{V4: c.v4}}
		serve(ctx, c, a, nlm.ProcCancelMsg, nlm.ProcCancelRes, &a.Lock.Caller, func(ctx context.Context) coder {
			return &nlm.Res{Cookie: a.Cookie, Stat: c.stat(c.cancel(ctx, a))}
		})
	case nlm.ProcUnlock, nlm.ProcUnlockMsg:
		a := &nlm.UnlockArgs{Lock: nlm.Lock{V4: c.v4}}
		serve(ctx, c, a, nlm.ProcUnlockMsg, nlm.ProcUnlockRes, &a.Lock.Caller, func(ctx context.Context) coder {
			return &nlm.Res{Cookie: a.Cookie, Stat: c.stat(c.unlock(ctx, a))}
		})
	case nlm.ProcShare, nlm.ProcUnshare:
		a := &nlm.ShareArgs{}
		serve(ctx, c, a, 0, 0, &a.Caller, func(ctx context.Context) coder {
			err := c.share(ctx, a, in.Proc == nlm.ProcShare)
			return &nlm.ShareRes{Cookie: a.Cookie, Stat: c.stat(err)}
		})
	case nlm.ProcFreeAll:
		a := &nlm.Notify{}
		serve(ctx, c, a, 0, 0, &a.Name, func(ctx context.Context) coder {
			s.rebooted(ctx, p.Addr().Addr(), a.Name, a.State, true)
			return nil
		})
	default:
		_ = in.Error(rpc.PROC_UNAVAIL, 0, 0)
		c.end(true)
	}
}

// coder is a type of the protocol.
type coder interface{ XDR(*xdr.Codec) }

// serve decodes the arguments, runs f, and answers.
func serve(ctx context.Context, c *call, a coder, msg, res uint32, caller *string, f func(context.Context) coder) {
	if a.XDR(c.in.Body); c.in.Body.Err() != nil {
		_ = c.in.Error(rpc.GARBAGE_ARGS, 0, 0)
		c.end(true)
		return
	}
	if msg == 0 || c.in.Proc != msg {
		r := f(ctx)
		c.end(refused(r))
		c.reply(r)
		return
	}
	c.reply(nil)
	r := f(ctx)
	c.end(refused(r))
	to, local, name, vers := c.p.Addr().Addr(), c.p.Local(), *caller, c.vers
	c.s.down.Background(func(ctx context.Context) {
		ctx, stop := context.WithTimeout(ctx, callTime)
		defer stop()
		if err := c.s.callHost(ctx, to, local, nlm.Program, vers, res, r, nil); err != nil {
			// The client asks again.
			c.s.log.Warn("an NLM answer was not delivered", "client", name, "addr", to, "err", err)
		}
	})
}

// refused tells whether an answer is an error: neither GRANTED nor BLOCKED.
func refused(r coder) bool {
	var st nlm.Stat
	switch r := r.(type) {
	case *nlm.Res:
		st = r.Stat
	case *nlm.TestRes:
		st = r.Stat
	case *nlm.ShareRes:
		st = r.Stat
	}
	return st != nlm.Granted && st != nlm.Blocked
}

func (c *call) reply(r coder) {
	var f func(*xdr.Codec)
	if r != nil {
		f = r.XDR
	}
	if err := c.in.Reply(f); err != nil {
		c.s.log.Error("NLM call could not be answered", "proc", c.in.Proc, "err", err)
	}
}
