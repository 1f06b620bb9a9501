package nfsdown

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"holdfast/fs"
	"holdfast/journal"
	"holdfast/nfsdown/state"
)

// GraceMayEnd is of state.Host: it looks, soon, whether grace can end.
func (s *Server) GraceMayEnd() { s.endGrace(false, "") }

// EndGrace ends the grace period now, or as soon as no reclaim is under way. What was not reclaimed is lost.
func (s *Server) EndGrace() { s.endGrace(true, "by command") }

// noGrace ends grace because the origin of an export takes no reclaims (DESIGN 3.8): for all that is there, and
// for everything if there is no other origin that may still take some.
func (s *Server) noGrace(x *export) {
	why := "the origin takes no reclaims"
	if x != nil {
		why += " for " + x.Path
		if part, others := s.otherOrigins(x); len(others) > 0 {
			eff := s.state.NoGraceAt(part) // before others are looked at: of two at once, one sees both
			if slices.ContainsFunc(others, func(p uint32) bool { return !s.state.EndedAt(p) }) {
				s.runEffects(eff)
				return
			}
		}
	}
	s.log.Warn("grace ends early", "reason", why)
	s.mu.Lock()
	s.graceReason = why
	s.mu.Unlock()
	s.runEffects(s.state.NoGrace())
	s.endGrace(false, why)
}

// otherOrigins gives the part that an export belongs to, and those of exports of other origins.
func (s *Server) otherOrigins(x *export) (part uint32, others []uint32) {
	t := s.tree.Load()
	part = t.parts[x.ID]
	for _, o := range t.list {
		if p := t.parts[o.ID]; p != part && len(o.Refer) == 0 {
			others = append(others, p)
		}
	}
	return part, others
}

// part is state.Config.Part: exports are of one part if they have the same backend.
func (s *Server) part(h fs.Handle) uint32 {
	t := s.tree.Load()
	id, _, ok := unwrap(h)
	if t == nil || !ok {
		return 0
	}
	return t.parts[id]
}

// ofPart lists the exports of a part, by path.
func (s *Server) ofPart(part uint32) (list []*export) {
	t := s.tree.Load()
	for _, x := range t.list {
		if t.parts[x.ID] == part {
			list = append(list, x)
		}
	}
	return list
}

// finishPart ends grace for an origin that takes no reclaims, as finishGrace does for all: what was not reclaimed
// there is void in the journal, then the origin is told, and only then does it no longer conflict.
func (s *Server) finishPart(ctx context.Context, g *state.PartEnd) {
	exports := s.ofPart(g.Part)
	paths := make([]string, 0, len(exports))
	for _, x := range exports {
		paths = append(paths, x.Path)
	}
	reason := "the origin takes no reclaims for " + strings.Join(paths, ", ")
	s.log.Warn("grace ends early for an origin", "reason", reason)
	s.logLost(g.Lost)
	if g.Record(ctx, s) != nil {
		return // the server stops
	}
	g.Batch.AddEvent(&journal.Event{Type: "grace", Result: "reason", Text: reason})
	// It comes after the records, which are durable with it.
	if err := s.commit(ctx, g.Batch); err != nil {
		s.log.Error("the end of grace is not durable", "exports", paths, "err", err)
		return
	}
	if !s.completeAt(ctx, exports) {
		return
	}
	s.runEffects(g.Done())
	s.log.Info("grace period ended for an origin", "exports", paths, "lost", len(g.Lost))
}

// logLost names what was not reclaimed.
func (s *Server) logLost(list []state.Lost) {
	for _, l := range list {
		s.log.Warn("lost: not reclaimed", "owner", l.Owner, "name", l.Name, "locks", l.Locks)
	}
}

// GraceInfo is how recovery stands.
type GraceInfo struct {
	state.GraceInfo
	// OverFor are the paths of exports where grace has ended, or is about to, because their origin takes no reclaims,
	// while it lasts for others.
	OverFor []string
}

// GraceInfo tells how recovery stands.
func (s *Server) GraceInfo() GraceInfo {
	g := GraceInfo{GraceInfo: s.state.GraceInfo()}
	t := s.tree.Load()
	for _, x := range t.list {
		if g.Phase == state.GraceActive && s.state.EndedAt(t.parts[x.ID]) {
			g.OverFor = append(g.OverFor, x.Path)
		}
	}
	return g
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

// finishGrace ends grace if it may end, or for those origins for which it may. First the mark in the journal: from then on what was not reclaimed
// is void, whatever happens. Then the origin is told, and only then does it no longer conflict here.
func (s *Server) finishGrace(ctx context.Context, force bool) {
	for p := s.state.EndGraceAt(); p != nil; p = s.state.EndGraceAt() {
		s.background(func(ctx context.Context) { s.finishPart(ctx, p) })
	}
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
	s.logLost(g.Lost)
	g.Record(s)
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
	return s.completeAt(ctx, s.tree.Load().list)
}

// completeAt tells the backends of some exports, each once: those that were told before are left out.
func (s *Server) completeAt(ctx context.Context, exports []*export) bool {
	var list []*export
	s.mu.Lock()
	for _, x := range exports {
		same := func(o *export) bool { return o.Backend == x.Backend }
		if !s.completed[x.Backend] && !slices.ContainsFunc(list, same) {
			list = append(list, x)
		}
	}
	s.mu.Unlock()
	s.Each(len(list), func(i int) {
		x := list[i]
		for pause := retryFirst; ; pause = min(2*pause, retryMost) {
			err := x.Backend.ReclaimComplete(ctx)
			if err == nil {
				s.mu.Lock()
				s.completed[x.Backend] = true
				s.mu.Unlock()
				return
			}
			if ctx.Err() != nil {
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
