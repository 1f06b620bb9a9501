package nfsdown

import (
	"context"
	"errors"
	"time"

	"holdfast/fs"
	"holdfast/journal"
	"holdfast/nfsdown/state"
)

// GraceMayEnd is of state.Host: it looks, soon, whether grace can end.
func (s *Server) GraceMayEnd() { s.endGrace(false, "") }

// EndGrace ends the grace period now, or as soon as no reclaim is under way. What was not reclaimed is lost.
func (s *Server) EndGrace() { s.endGrace(true, "by command") }

// noGrace ends grace because the origin of an export takes no reclaims (DESIGN 3.8).
func (s *Server) noGrace(x *export) {
	why := "the origin takes no reclaims"
	if x != nil {
		why += " for " + x.Path
	}
	s.log.Warn("grace ends early", "reason", why)
	s.mu.Lock()
	s.graceReason = why
	s.mu.Unlock()
	s.runEffects(s.state.NoGrace())
	s.endGrace(false, why)
}

// endGrace runs finishGrace in the background, once at a time.
func (s *Server) endGrace(force bool, reason string) {
	s.mu.Lock()
	if reason != "" {
		s.graceReason = reason
	}
	if s.graceEnding && !force {
		s.graceAgain = true
		s.mu.Unlock()
		return
	}
	s.graceEnding = true
	s.mu.Unlock()
	s.background(func(ctx context.Context) {
		for again := true; again; {
			s.finishGrace(ctx, force)
			s.mu.Lock()
			again = s.graceAgain
			s.graceAgain = false
			s.graceEnding = again
			s.mu.Unlock()
			force = false
		}
	})
}

// finishGrace ends grace if it may end. First the mark in the journal: from then on what was not reclaimed
// is void, whatever happens. Then the origin is told, and only then does it no longer conflict here.
func (s *Server) finishGrace(ctx context.Context, force bool) {
	g := s.state.EndGrace(force)
	if g == nil {
		return
	}
	s.mu.Lock()
	reason := s.graceReason
	s.mu.Unlock()
	if reason == "" {
		reason = "all clients are complete, or time is over"
	}
	for _, l := range g.Lost {
		s.log.Warn("lost: not reclaimed", "owner", l.Owner, "name", l.Name, "locks", l.Locks)
	}
	g.Batch.AddEvent(&journal.Event{Type: "grace", Result: "reason", Text: reason})
	if err := s.commit(ctx, g.Batch); err != nil {
		// Grace stays ending: nothing new is granted by a server whose journal failed.
		s.log.Error("the end of grace is not durable", "err", err)
		return
	}
	if !s.reclaimComplete(ctx) {
		return
	}
	s.runEffects(g.Done())
	s.log.Info("grace period ended", "reason", reason, "lost", len(g.Lost))
	if s.cfg.Journal != nil {
		if _, err := s.cfg.Journal.Compact(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("journal compaction", "err", err)
		}
	}
}

// How long a backend that cannot say RECLAIM_COMPLETE is left alone before it is asked again.
const (
	retryFirst = 100 * time.Millisecond
	retryMost  = 10 * time.Second
)

// reclaimComplete tells all backends that no reclaim follows, as long as it takes. False: the server stops.
func (s *Server) reclaimComplete(ctx context.Context) bool {
	list := s.tree.Load().list
	s.Each(len(list), func(i int) {
		x := list[i]
		for pause := retryFirst; ; pause = min(2*pause, retryMost) {
			err := x.Backend.ReclaimComplete(ctx)
			if err == nil || ctx.Err() != nil {
				return
			}
			switch fs.CodeOf(err) {
			case fs.Delay, fs.Grace, fs.Unreachable, fs.Interrupted:
				s.log.Warn("the end of reclaims waits for the origin", "export", x.Path, "err", err)
			default:
				s.log.Error("the end of reclaims failed", "export", x.Path, "err", err)
				return
			}
			if !s.sleep(ctx, pause) {
				return
			}
		}
	})
	return ctx.Err() == nil
}

// sleep waits by the server's clock; false if ctx ended first.
func (s *Server) sleep(ctx context.Context, d time.Duration) bool {
	done := make(chan struct{})
	t := s.cfg.Clock.AfterFunc(d, func() { close(done) })
	select {
	case <-done:
		return true
	case <-ctx.Done():
		t.Stop()
		return false
	}
}

// Phase tells where the grace period stands.
func (s *Server) Phase() state.GracePhase { return s.state.Phase() }

var errJournal = errors.New("the journal failed: nothing is granted any more")
