package state

import (
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/nfs4"
)

// Client is a client ID, RFC 8881 2.4: one incarnation of a co_ownerid.
type Client struct {
	srv   *Server
	party *party
	id    uint64

	verifier  nfs4.Verifier
	principal string
	retain    bool // it negotiated EXCHGID4_FLAG_RETAIN_STATE
	permanent bool // another protocol vouches for it: no lease, no RECLAIM_COMPLETE
	since     time.Time
	v40       *client40 // nil but for clients of NFSv4.0

	// renewed is when the lease began, in ns; running is how many COMPOUNDs run. Both change under
	// mu, so that the end of a lease and a renewal exclude each other; they are read without.
	renewed atomic.Int64
	running atomic.Int32

	mu       sync.RWMutex
	addr     string                // guarded by mu
	impl     string                // guarded by mu
	dead     bool                  // guarded by mu; nothing new may come to be under it
	sessions map[*Session]struct{} // guarded by mu
	stateids map[[12]byte]*stateid // guarded by mu; by stateid.other
	nextSID  uint32                // guarded by mu
	// retained says that held state was there when it was confirmed (draft: a retaining client).
	retained   bool // guarded by mu
	complete   bool // guarded by mu; RECLAIM_COMPLETE is done
	completing bool // guarded by mu; RECLAIM_COMPLETE is on its way
	reclaiming int  // guarded by mu; reclaims on their way

	// Revoked stateids that wait for FREE_STATEID, for the flags of SEQUENCE.
	admin, expired, delegs atomic.Int32
	wantsBack              atomic.Bool  // it asked for a back channel once
	tried                  atomic.Bool  // a callback was answered
	backs                  atomic.Int32 // sessions with a back channel now

	// The reply cache of CREATE_SESSION, guarded by Server.mu.
	csSeq     uint32
	csRes     nfs4.CreateSessionRes
	csSession *Session
	confirmed bool
	// csAnew says that csSeq is from the journal: its answer is not known, so it may come once more.
	csAnew bool
}

// ID is the client ID.
func (c *Client) ID() uint64 { return c.id }

// Owner is the co_ownerid.
func (c *Client) Owner() string { return c.party.owner }

// Permanent tells whether another protocol vouches for it.
func (c *Client) Permanent() bool { return c.permanent }

// Retain tells whether the client negotiated EXCHGID4_FLAG_RETAIN_STATE.
func (c *Client) Retain() bool { return c.retain }

// Complete tells whether it has sent RECLAIM_COMPLETE.
func (c *Client) Complete() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.complete
}

// newClient makes an unconfirmed record with a new client ID. s.mu is held.
func (s *Server) newClient(p *party, who Caller) *Client {
	c := &Client{
		srv: s, party: p, id: uint64(s.cfg.Epoch)<<32 | uint64(s.counter.Add(1)),
		principal: who.Principal, addr: who.Addr, since: s.now(),
		sessions: map[*Session]struct{}{}, stateids: map[[12]byte]*stateid{},
	}
	c.renewed.Store(s.now().UnixNano())
	s.byID[c.id] = c
	return c
}

// begin says that a COMPOUND of the client begins: false if the client is no more. It renews.
func (c *Client) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return false
	}
	c.running.Add(1)
	c.renewed.Store(c.srv.now().UnixNano())
	return true
}

// end ends what begin began. The lease lasts a whole period after the answer, RFC 8881 8.3.
func (c *Client) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.renewed.Store(c.srv.now().UnixNano())
	c.running.Add(-1)
}

// leaseEnd is when the lease ends if nothing renews it.
func (c *Client) leaseEnd() time.Time { return time.Unix(0, c.renewed.Load()).Add(c.srv.cfg.Lease) }

// lapsed tells whether the lease is over. It cannot be while a COMPOUND runs, RFC 8881 8.3.
func (c *Client) lapsed(now time.Time) bool {
	return !c.permanent && c.running.Load() == 0 && !c.srv.held.Load() && !c.srv.Restoring() && now.After(c.leaseEnd())
}

// yields tells whether its state must give way to a conflict: the lease is over, and the absence
// limit too if retention was negotiated.
func (c *Client) yields(now time.Time) bool {
	limit := c.leaseEnd()
	if c.retains() {
		limit = limit.Add(c.srv.cfg.AbsenceLimit)
	}
	return c.lapsed(now) && now.After(limit)
}

// retains tells whether the state outlives the lease by negotiation.
func (c *Client) retains() bool { return c.retain && c.srv.cfg.Retain != RetainNever }

// find looks up a stateid: nil if it is none of this client.
func (c *Client) find(sid nfs4.Stateid) *stateid {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.stateids[sid.Other]
}

// ready tells whether a plan may begin: the client was not ended, and what is no reclaim does not run
// beside RECLAIM_COMPLETE, whose records could otherwise come after those of the plan and say less.
func (c *Client) ready(reclaim bool) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	switch {
	case c.dead:
		return nfs4.NFS4ERR_BADSESSION
	case c.completing && !reclaim:
		return nfs4.NFS4ERR_DELAY
	}
	return nil
}

// isDead tells whether the client was ended.
func (c *Client) isDead() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.dead
}

// PermanentClient gives a client that has no lease and no session: for state that another protocol
// vouches for (NLM). It may reclaim while grace lasts, and its other requests are judged as if it
// had sent RECLAIM_COMPLETE. The same owner gets the same client until ReleaseClient.
func (s *Server) PermanentClient(owner, principal string) (*Client, *Effects) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.partyOf(owner)
	if p.confirmed != nil {
		return p.confirmed, nil
	}
	c := s.newClient(p, Caller{Principal: principal})
	c.permanent, c.confirmed = true, true
	p.confirmed = c
	eff := &Effects{}
	s.recordClient(eff, c)
	return c, eff
}

// ReleaseClient gives back all state of a client, as when its host says that it has rebooted, and
// forgets it. It must not reclaim what it had.
func (s *Server) ReleaseClient(c *Client) *Effects {
	eff := &Effects{}
	s.mu.Lock()
	s.bury(c, eff)
	c.party.confirming = true // until forget
	s.mu.Unlock()
	s.strip(c, killRelease, eff)
	s.forget(c.party, eff)
	return eff
}
