package nlm

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"holdfast/internal/nlm"
	"holdfast/internal/rpc"
	"holdfast/internal/xdr"
	"holdfast/journal"
	"holdfast/nfsdown"
)

type addr = netip.Addr

func rpcCall(prog, vers, proc uint32) *rpc.Call {
	// Lock managers want to be called by root.
	return &rpc.Call{Prog: prog, Vers: vers, Proc: proc, Cred: rpc.Cred{Flavor: rpc.AUTH_SYS, Machine: "holdfast"}}
}

// nsm is the status monitor, as far as others need it: they tell it that they have rebooted. It monitors nobody for other
// programs of this host.
type nsm struct{ s *Server }

// Versions is version 1 only.
func (nsm) Versions() (low, high uint32) { return nlm.NSMVersion, nlm.NSMVersion }

// ServeCall serves a call.
func (n nsm) ServeCall(ctx context.Context, p *nfsdown.Peer, in *rpc.InCall) {
	failed := false
	end := n.s.monitored.Begin(in.Proc)
	defer func() { end(failed) }()
	switch in.Proc {
	case nlm.SMNull, nlm.SMSimuCrash:
		_ = in.Reply(nil)
	case nlm.SMStat, nlm.SMMon:
		failed = true
		r := nlm.SMRes{Res: 1, State: n.s.state()} // STAT_FAIL
		_ = in.Reply(r.XDR)
	case nlm.SMUnmon, nlm.SMUnmonAll:
		r := nlm.SMRes{State: n.s.state()}
		_ = in.Reply(func(c *xdr.Codec) { c.Int32(&r.State) }) // sm_stat
	case nlm.SMNotify:
		var a nlm.Notify
		if a.XDR(in.Body); in.Body.Err() != nil {
			_ = in.Error(rpc.GARBAGE_ARGS, 0, 0)
			failed = true
			return
		}
		n.s.rebooted(ctx, p.Addr().Addr(), a.Name, a.State, false)
		_ = in.Reply(nil)
	default:
		_ = in.Error(rpc.PROC_UNAVAIL, 0, 0)
		failed = true
	}
}

// state is our own status: odd, since we are up, and higher after each boot.
func (s *Server) state() int32 {
	if s.cfg.Journal == nil {
		return 1
	}
	return int32(s.cfg.Journal.Epoch()&(1<<29-1))*2 + 1
}

// How long a client that does not answer SM_NOTIFY is told again.
const (
	notifyFirst = time.Second
	notifyMost  = time.Minute
	notifyTime  = 15 * time.Minute
)

// recover reads whom to tell that we rebooted: those who have something to reclaim, and all if the journal does not know
// who that is. NLM has no other way to say that a lock is lost than to refuse its reclaim. The others are forgotten.
func (s *Server) recover() error {
	if s.cfg.Journal == nil {
		return nil
	}
	monitors, err := s.cfg.Journal.Monitors()
	if err != nil {
		return fmt.Errorf("nlm: journal: %w", err)
	}
	missing := map[string]bool{}
	g := s.down.State().GraceInfo()
	for _, owner := range g.Missing {
		missing[owner] = true
	}
	forget := new(journal.Batch)
	for _, m := range monitors {
		k, ok := parseHostKey(m.Host)
		if !ok || g.Complete && !missing[k.owner()] {
			forget.DeleteMonitor(m.Host)
			continue
		}
		// It is known from now on, since it may reboot itself before it reclaims.
		h, err := s.hostOf(context.Background(), k)
		if err != nil {
			return err
		}
		h.mu.Lock()
		h.vers, h.state, h.recorded, h.local = m.Vers, m.State, true, localOf(&m)
		h.mu.Unlock()
		s.down.Background(func(ctx context.Context) { s.tell(ctx, h, localOf(&m)) })
	}
	if forget.Empty() {
		return nil
	}
	return s.cfg.Journal.Commit(context.Background(), forget)
}

// localOf is our address that a client calls, by which it knows us; not valid if that is not known.
func localOf(m *journal.Monitor) addr {
	a := netip.AddrFrom16(m.Priv).Unmap()
	if a.IsUnspecified() || m.Priv == [16]byte{} {
		return addr{}
	}
	return a
}

// tell sends SM_NOTIFY until the client's monitor has answered.
func (s *Server) tell(ctx context.Context, h *host, local addr) {
	k := h.key
	end := s.cfg.Clock.Now().Add(notifyTime)
	for pause := notifyFirst; ; pause = min(2*pause, notifyMost) {
		try, stop := context.WithTimeout(ctx, callTime)
		err := s.callHost(try, k.addr, local, nlm.NSMProgram, nlm.NSMVersion, nlm.SMNotify, &nlm.Notify{Name: s.cfg.Name, State: s.state()}, nil)
		stop()
		if err == nil {
			s.log.Info("told an NFSv3 client to reclaim its locks", "client", k)
			s.down.Event(&journal.Event{Type: "client", Client: k.owner(), Result: "notified", Text: "SM_NOTIFY"})
			return
		}
		if ctx.Err() != nil {
			return
		}
		s.log.Warn("an NFSv3 client does not hear that we rebooted; trying again", "client", k, "err", err)
		if !s.cfg.Clock.Now().Before(end) {
			s.down.Event(&journal.Event{Type: "client", Client: k.owner(), Result: "not notified", Text: err.Error()})
			return
		}
		w := &wait{kick: make(chan struct{}), done: h.gone}
		if !s.pause(ctx, w, pause) {
			return
		}
	}
}
