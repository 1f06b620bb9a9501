package nfsdown

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/fs"
	"holdfast/internal/broken"
	"holdfast/internal/clock"
	"holdfast/internal/rpc"
	"holdfast/journal"
	"holdfast/nfsdown/state"
)

// A Server is an NFS server. Its methods may be called from many goroutines.
//
// Goroutines: those of package rpc for each connection, one for each request; background ones, which s.wg
// counts, for callbacks, effects and the end of grace.
//
// Lock order: no mutex of this package is held while another is taken, nor across I/O.
type Server struct {
	cfg   Config
	log   *slog.Logger
	state *state.Server
	tree  atomic.Pointer[tree]
	stats *opStats
	ids   *ids
	born  time.Time

	rpc    rpc.Server
	ctx    context.Context // ends when the server is shut down
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // background work

	// programs are the other RPC programs; immutable once Serve was called.
	programs map[uint32]Program
	// procStats are their counters; immutable as programs.
	procStats []*ProcStats
	// lockNotice hears of locks that clients of other protocols wait for; immutable as programs.
	lockNotice func(state.LockNotice)
	replies    replies40 // of NFSv4.0

	notices chan struct{} // as many as CB_NOTIFY_LOCK under way

	chanMu sync.Mutex
	// +checklocks:chanMu
	channels map[*state.Session]*channel

	mu sync.Mutex
	// running are the requests of a session, so that they can be interrupted.
	// +checklocks:mu
	running map[*state.Session]map[*context.CancelCauseFunc]struct{}
	// +checklocks:mu
	conns map[*conn]struct{}
	// +checklocks:mu
	heard map[heard]struct{} // the backends that we listen to
	// +checklocks:mu
	origins map[fs.Backend]uint32 // the part of the server that each backend is, from 1: see finishPart
	// +checklocks:mu
	parts map[uint32]uint32 // by export id, those included that are no more
	// +checklocks:mu
	completed map[fs.Backend]bool // that were told that no reclaim follows
	// +checklocks:mu
	stopping bool
	// +checklocks:mu
	timer clock.Timer
	// +checklocks:mu
	graceEnding bool // somebody is in finishGrace
	// +checklocks:mu
	graceAgain bool // and is to look again
	// +checklocks:mu
	graceReason string // why it ends, for the log
	// +checklocks:mu
	restart  RestartInfo
	restored chan struct{} // closed when state is restored, or there was nothing to restore
}

type heard struct {
	id uint32
	b  fs.Backend
}

// ErrStopped says that the server was shut down.
var ErrStopped = errors.New("nfsdown: server stopped")

// tick is how often leases are looked at.
const tick = time.Second

// New makes a server out of what the journal holds. If there is something to reclaim, grace begins now; else the
// backends are told at once that no reclaim follows.
func New(cfg Config) (*Server, error) {
	cfg.setDefaults()
	s := &Server{
		cfg: cfg, log: cfg.Logger, stats: new(opStats), ids: newIDs(cfg.Clock.Now), born: cfg.Clock.Now(), channels: map[*state.Session]*channel{},
		running: map[*state.Session]map[*context.CancelCauseFunc]struct{}{}, conns: map[*conn]struct{}{}, heard: map[heard]struct{}{},
		origins: map[fs.Backend]uint32{}, parts: map[uint32]uint32{}, completed: map[fs.Backend]bool{},
		notices: make(chan struct{}, maxNotices), programs: map[uint32]Program{}, restored: make(chan struct{}),
	}
	s.rpc.MaxConns = cfg.MaxConns
	var snap *journal.Snapshot
	if cfg.Journal != nil {
		var err error
		if snap, err = cfg.Journal.Load(); err != nil {
			return nil, fmt.Errorf("nfsdown: journal: %w", err)
		}
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	cfg.State.Part = s.part
	s.state = state.New(cfg.State, snap) // before a backend can be heard
	if err := s.ReloadExports(s.ctx, cfg.Exports); err != nil {
		s.cancel(ErrStopped)
		return nil, err
	}
	s.event(&journal.Event{Type: "boot", Text: fmt.Sprintf("epoch %d", s.cfg.State.Epoch)})
	items, stale, invisible := s.state.Restored()
	s.noteRestart(snap, invisible)
	switch {
	case invisible:
		s.runEffects(stale)
		s.background(func(ctx context.Context) { s.restore(ctx, items) })
		s.startTimer()
		return s, nil
	case s.cfg.Journal != nil:
		// Before anything is served: a restart in the middle of grace must not take the journal for whole.
		b := new(journal.Batch)
		if s.state.Phase() == state.GraceNone {
			b.EndGrace(s.cfg.State.Epoch) // there is nothing to reclaim, and clients of before are not known
		} else {
			b.BeginGrace()
		}
		if err := s.commit(s.ctx, b); err != nil {
			s.cancel(ErrStopped)
			return nil, fmt.Errorf("nfsdown: journal: %w", err)
		}
	}
	close(s.restored)
	if s.state.Phase() == state.GraceNone {
		s.background(func(ctx context.Context) { s.reclaimComplete(ctx) })
	} else {
		if broken.PurgeInGrace {
			b := new(journal.Batch)
			b.EndGrace(cfg.State.Epoch)
			_ = s.commit(s.ctx, b)
		}
		if broken.EarlyComplete {
			s.reclaimComplete(s.ctx)
		}
		g := s.state.GraceInfo()
		s.log.Info("grace period begins", "left", g.Left, "clients", g.Expected, "journal_complete", g.Complete)
		s.event(&journal.Event{Type: "grace", Result: "begin", Text: fmt.Sprintf("%d clients expected back within %v; journal complete: %v", g.Expected, g.Left.Round(100*time.Millisecond), g.Complete)})
	}
	s.startTimer()
	return s, nil
}

func (s *Server) startTimer() {
	s.mu.Lock()
	s.timer = s.cfg.Clock.AfterFunc(tick, s.expire)
	s.mu.Unlock()
}

// expire drops what is over, and comes again.
func (s *Server) expire() {
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		return
	}
	s.timer = s.cfg.Clock.AfterFunc(tick, s.expire)
	s.mu.Unlock()
	if eff := s.state.Expire(); !eff.Empty() {
		s.background(func(context.Context) { s.runEffects(eff) })
	}
	if s.state.Phase() == state.GraceActive {
		s.GraceMayEnd()
	}
}

// Serve accepts connections from l until ctx ends or the server is shut down. It may run for several listeners.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	err := s.rpc.Serve(ctx, l, func(nc net.Conn) (rpc.Options, error) { return s.options(nc), nil })
	if errors.Is(err, rpc.ErrServerClosed) {
		return ErrStopped
	}
	return err
}

// ServeConn serves one connection that is there already, and returns at once.
func (s *Server) ServeConn(nc net.Conn) *rpc.Conn { return rpc.NewConn(nc, s.options(nc)) }

func (s *Server) options(nc net.Conn) rpc.Options {
	c := s.newConn(nc)
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	return rpc.Options{
		MaxRecord: int(s.cfg.State.MaxRequest) + 4096, MaxInflight: s.cfg.MaxInflight, Handler: c,
		IdleTimeout: s.cfg.IdleTimeout, ReadTimeout: s.cfg.ReadTimeout, WriteTimeout: s.cfg.WriteTimeout,
		OnClose: func(error) {
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
			if rc := c.rpc.Load(); rc != nil {
				s.unbindBack(rc)
			}
		},
	}
}

// Shutdown takes no more requests, waits for those that run, or for ctx, and ends the background work. State at
// the backends stays as it is: after a restart clients reclaim. Journal and backends are the caller's to close.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopping = true
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	err := s.rpc.Shutdown(ctx)
	s.mu.Lock()
	s.cancel(ErrStopped) // under mu: nobody is counted any more once it is waited for
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		err = errors.Join(err, context.Cause(ctx))
	}
	return err
}

// ReloadExports replaces the exports. Handles of an export that is no longer there are stale; its state
// stays until its clients give it back or their leases end.
func (s *Server) ReloadExports(ctx context.Context, exports []Export) error {
	t, warnings, err := newTree(ctx, exports, s.cfg.Lookup, s.cfg.Clock.Now())
	if err != nil {
		return fmt.Errorf("nfsdown: %w", err)
	}
	for _, w := range warnings {
		s.log.Warn("export", "err", w)
	}
	for _, x := range t.list {
		h := heard{x.ID, x.Backend}
		s.mu.Lock()
		_, known := s.heard[h]
		s.heard[h] = struct{}{}
		s.mu.Unlock()
		if !known {
			x.Backend.Subscribe(&listener{s: s, id: x.ID, b: x.Backend})
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range t.list {
		if s.origins[x.Backend] == 0 {
			s.origins[x.Backend] = uint32(len(s.origins) + 1)
		}
		s.parts[x.ID] = s.origins[x.Backend]
	}
	t.parts = maps.Clone(s.parts)
	s.tree.Store(t)
	return nil
}

// enter counts a request; it fails when the server stops. The context lives as long as the server, not as the
// connection: a request whose connection dies goes on, and a retry gets its answer (RFC 8881 2.10.6.2).
func (s *Server) enter() (context.Context, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return nil, nil, ErrStopped
	}
	s.wg.Add(1)
	return s.ctx, s.wg.Done, nil
}

// track makes a context that Interrupt cancels.
func (s *Server) track(ctx context.Context, ss *state.Session) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	key := &cancel
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[ss] == nil {
		s.running[ss] = map[*context.CancelCauseFunc]struct{}{}
	}
	s.running[ss][key] = struct{}{}
	return ctx, func() {
		s.mu.Lock()
		delete(s.running[ss], key)
		if len(s.running[ss]) == 0 {
			delete(s.running, ss)
		}
		s.mu.Unlock()
		cancel(nil)
	}
}

// background runs f in a goroutine that Shutdown waits for.
func (s *Server) background(f func(ctx context.Context)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return
	}
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		f(s.ctx)
	}()
}

// commit makes a batch durable. It does not end with the request: the journal answers soon, and an outcome that
// is not known would be worse than waiting.
func (s *Server) commit(ctx context.Context, b *journal.Batch) error { return s.record(ctx, b, false) }

// record is commit, which with weak does not wait for the disk: journal.Write.
func (s *Server) record(ctx context.Context, b *journal.Batch, weak bool) error {
	switch ctx = context.WithoutCancel(ctx); {
	case s.cfg.Journal == nil || b == nil || b.Empty():
		return nil
	case weak:
		return s.cfg.Journal.Write(ctx, b)
	}
	return s.cfg.Journal.Commit(ctx, b)
}

// written waits until a batch and all that was posted before are in the journal's log: a restart finds
// them (journal.Write). A journal that fails is the end of this process, and the next one knows.
func (s *Server) written(b *journal.Batch) {
	if s.cfg.Journal == nil || b == nil {
		return
	}
	err := s.cfg.Journal.Write(context.WithoutCancel(s.ctx), b)
	if errors.Is(err, journal.ErrTooLarge) { // the records are posted one by one when the plan is settled
		err = s.cfg.Journal.Write(context.WithoutCancel(s.ctx), new(journal.Batch))
	}
	if err != nil {
		s.log.Error("journal", "err", err)
	}
}

// both records a batch and calls the backend side by side, so that a grant takes the longer of the two.
func (s *Server) both(ctx context.Context, b *journal.Batch, weak bool, call func() error) (backend, journal error) {
	switch {
	case call == nil:
		return nil, s.record(ctx, b, weak)
	case s.cfg.Journal == nil || b == nil || b.Empty():
		return call(), nil
	case broken.GrantBeforeJournal:
		s.background(func(ctx context.Context) {
			s.sleep(ctx, time.Second)
			_ = s.commit(ctx, b)
		})
		return call(), nil
	}
	begin := s.cfg.Journal.BeginCommit
	if weak {
		begin = s.cfg.Journal.BeginWrite
	}
	durable := begin(b)
	backend = call()
	return backend, durable.Wait(context.WithoutCancel(ctx))
}

// bothOpen is both for an open. One that denies is not made side by side: if we died before its record is written, and
// the client never asked again, nobody would know of an open at the backend that denies others theirs.
func (s *Server) bothOpen(ctx context.Context, p *state.OpenPlan, weak bool, call func() error) (backend, journal error) {
	if call == nil || p.Request.Deny == 0 {
		return s.both(ctx, p.Batch, weak, call)
	}
	if journal = s.commit(ctx, p.Batch); journal == nil {
		backend = call()
	}
	return backend, journal
}

// event adds to the journal's audit trail.
func (s *Server) event(e *journal.Event) {
	if s.cfg.Journal == nil {
		return
	}
	b := new(journal.Batch)
	b.AddEvent(e)
	s.Post(b)
}

// reclaimed notes the outcome of a reclaim.
func (s *Server) reclaimed(c *compound, what, owner string, file fs.Handle, r fs.Range, t fs.LockType, err error) {
	result := "granted"
	if err != nil {
		result = toStatus(err).String()
		s.log.Warn("reclaim refused", "what", what, "client", fs.Owner{Client: c.client.Owner(), Owner: owner}, "status", result, "err", err)
	}
	s.event(&journal.Event{Type: "reclaim", Client: c.client.Owner(), Owner: owner, File: file, Range: r, Lock: t, Result: result, Text: what})
}
