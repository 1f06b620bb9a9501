package nfsdown

import (
	"context"
	"sync"

	"holdfast/fs"
	"holdfast/journal"
	"holdfast/nfsdown/state"
)

// The Server is the host on which package state's effects run.
var _ state.Host = (*Server)(nil)

// runEffects does what a decision of package state asks for. It does not end with the request.
func (s *Server) runEffects(e *state.Effects) {
	if !e.Empty() {
		e.Run(context.WithoutCancel(s.ctx), s)
	}
}

// evict takes away what stands in the way of a grant only by courtesy. It must be durable before the grant:
// the client that loses it must not reclaim (RFC 8881 8.4.3).
func (s *Server) evict(e *state.Effects) {
	if e.Empty() {
		return
	}
	b := e.Batch
	e.Batch = nil
	if err := s.commit(s.ctx, b); err != nil {
		// The grant's own commit comes after this one and fails too.
		s.log.Error("journal", "err", err)
	}
	s.runEffects(e)
}

// backend finds whose a handle is. Without an export there is nothing to give back to.
func (s *Server) backend(h fs.Handle) (fs.Backend, fs.Handle, bool) {
	id, b, ok := unwrap(h)
	if !ok {
		return nil, "", false
	}
	x := s.tree.Load().byExp[id]
	if x == nil {
		return nil, "", false
	}
	return x.Backend, b, true
}

// Downgrade is of state.Releaser, as are the next four.
func (s *Server) Downgrade(ctx context.Context, owner fs.Owner, file fs.Handle, access, deny fs.Share) error {
	b, h, ok := s.backend(file)
	if !ok {
		return nil
	}
	return b.Downgrade(ctx, owner, h, access, deny)
}

// CloseFile closes an open.
func (s *Server) CloseFile(ctx context.Context, owner fs.Owner, file fs.Handle) error {
	b, h, ok := s.backend(file)
	if !ok {
		return nil
	}
	return b.CloseFile(ctx, owner, h)
}

// Unlock gives back a range.
func (s *Server) Unlock(ctx context.Context, cred *fs.Cred, owner fs.Owner, file fs.Handle, r fs.Range) error {
	b, h, ok := s.backend(file)
	if !ok {
		return nil
	}
	if cred == nil {
		cred = fs.Root
	}
	return b.Unlock(ctx, cred, owner, h, r)
}

// ReleaseLockOwner forgets a lock-owner.
func (s *Server) ReleaseLockOwner(ctx context.Context, owner fs.Owner, file fs.Handle) error {
	b, h, ok := s.backend(file)
	if !ok {
		return nil
	}
	return b.ReleaseLockOwner(ctx, owner, h)
}

// CancelWait leaves a backend's queue.
func (s *Server) CancelWait(owner fs.Owner, file fs.Handle, r fs.Range) {
	if b, h, ok := s.backend(file); ok {
		b.CancelWait(owner, h, r)
	}
}

// Post gives a batch to the journal without waiting.
func (s *Server) Post(b *journal.Batch) {
	if s.cfg.Journal == nil || b == nil || b.Empty() {
		return
	}
	if err := s.cfg.Journal.Post(b); err != nil {
		s.log.Error("journal", "err", err)
	}
}

// Interrupt cancels the requests that run in a session.
func (s *Server) Interrupt(ss *state.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for cancel := range s.running[ss] {
		(*cancel)(fs.E("", fs.Interrupted, nil))
	}
}

// Closed forgets a session.
func (s *Server) Closed(ss *state.Session) {
	s.closeChannel(ss)
	s.mu.Lock()
	list := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		list = append(list, c)
	}
	s.mu.Unlock()
	for _, c := range list {
		c.unbind(ss.ID())
	}
}

// eachLimit is how many calls to backends one effect makes side by side.
const eachLimit = 16

// Each runs f(0) to f(n-1) side by side.
func (s *Server) Each(n int, f func(int)) {
	if n == 1 {
		f(0)
		return
	}
	var wg sync.WaitGroup
	limit := make(chan struct{}, eachLimit)
	for i := range n {
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			f(i)
		})
	}
	wg.Wait()
}
