package state

import "holdfast/fs"

// ReclaimedAll looks whether a permanent client has anything left to reclaim. If not, grace need not wait for it: no
// RECLAIM_COMPLETE will come.
func (s *Server) ReclaimedAll(c *Client) *Effects {
	eff := &Effects{}
	if !c.permanent {
		return eff
	}
	for _, o := range c.party.entries() {
		o.file.mu.Lock()
		left := len(o.lost())
		o.file.mu.Unlock()
		if left > 0 {
			return eff
		}
	}
	s.clientDone(c.party.owner, eff)
	return eff
}

// CancelWait takes a request that waits out of the queue, and out of the backend's.
func (s *Server) CancelWait(c *Client, lockOwner string, file fs.Handle, r fs.Range) *Effects {
	eff := &Effects{}
	f := s.files.peek(file)
	if f == nil {
		return eff
	}
	defer s.files.put(f)
	owner := fs.Owner{Client: c.party.owner, Owner: lockOwner}
	f.mu.Lock()
	defer f.mu.Unlock()
	s.dropWaiters(f, func(w *waiter) bool { return w.owner == owner && w.r == r }, eff)
	s.wake(f, eff)
	return eff
}
