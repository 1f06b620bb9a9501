package state

import (
	"context"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// verdict is what stands in the way of a request, in the order in which it counts.
type verdict struct {
	denied error           // another has it: *DeniedError or SHARE_DENIED
	grace  bool            // what somebody may yet reclaim
	delay  bool            // something whose release failed and will be tried again
	wait   <-chan struct{} // something on its way; closed when it is settled
	// What is there only by courtesy: clients whose lease is over, and held state at its limit.
	clients []*Client
	shares  []*open
	ranges  []*lock
}

// eviction is what a request has evicted so far: its releases do not stand in its way.
type eviction struct {
	eff  Effects
	mine map[*Release]bool
}

func (e *eviction) note() {
	if e.mine == nil {
		e.mine = map[*Release]bool{}
	}
	for _, r := range e.eff.Releases {
		e.mine[r] = true
	}
}

func (e *eviction) effects() *Effects {
	if e.eff.Empty() {
		return nil
	}
	return &e.eff
}

// gone notes a conflict with what waits to be given back. file.mu is held.
func (v *verdict) gone(r *Release, ev *eviction) {
	switch {
	case r == nil || ev.mine[r]:
	case r.failed:
		v.delay = true
	default:
		v.wait = r.done
	}
}

// judgeLock finds what conflicts with a lock of owner. file.mu is held.
func (f *file) judgeLock(s *Server, owner fs.Owner, r fs.Range, t fs.LockType, now time.Time, ev *eviction) (v verdict) {
	for _, l := range f.locks {
		if l.owner == owner {
			continue
		}
		if k, ok := l.live.Conflict(r, t); ok {
			if c := l.open.client; c != nil && c.yields(now) && !c.isDead() {
				v.clients = append(v.clients, c)
			} else {
				v.denied = l.denial(k, c)
			}
		}
		for _, h := range l.held {
			k, ok := h.set.Conflict(r, t)
			switch {
			case !ok:
			case h.server:
				v.grace = true
			case s.stale(h.since, now):
				v.ranges = append(v.ranges, l)
			default:
				v.denied = l.denial(k, nil)
			}
		}
		if p := l.pend; p != nil && p.r.Overlaps(r) && p.t.Conflicts(t) {
			v.wait = p.done
		}
		if _, ok := l.gone.Conflict(r, t); ok {
			rel := l.release
			if rel == nil {
				rel = l.open.release
			}
			v.gone(rel, ev)
		}
	}
	return v
}

// denial names l as the holder.
func (l *lock) denial(k fs.Lock, c *Client) *DeniedError {
	d := &DeniedError{Range: k.Range, Type: k.Type, Owner: l.owner.Owner}
	if c != nil {
		d.ClientID = c.id
		return d
	}
	p := l.open.party
	p.mu.Lock()
	d.ClientID = p.rec.ClientID
	p.mu.Unlock()
	return d
}

// judgeOpen finds what conflicts with an open of owner, RFC 8881 9.7. file.mu is held.
func (f *file) judgeOpen(s *Server, owner fs.Owner, access, deny fs.Share, now time.Time, ev *eviction) (v verdict) {
	clash := func(a, d fs.Share) bool { return access&d != 0 || deny&a != 0 }
	for _, o := range f.opens {
		if o.owner == owner {
			continue
		}
		if o.client != nil && clash(o.access, o.deny) {
			if o.client.yields(now) && !o.client.isDead() {
				v.clients = append(v.clients, o.client)
			} else {
				v.denied = nfs4.NFS4ERR_SHARE_DENIED
			}
		}
		for _, h := range o.held {
			switch {
			case !clash(h.access, h.deny):
			case h.server:
				v.grace = true
			case s.stale(h.since, now):
				v.shares = append(v.shares, o)
			default:
				v.denied = nfs4.NFS4ERR_SHARE_DENIED
			}
		}
		if o.pend != nil && clash(o.pend.access, o.pend.deny) {
			v.wait = o.pend.done
		}
		if clash(o.goneAccess, o.goneDeny) {
			v.gone(o.release, ev)
		}
	}
	return v
}

// step is what to do about a verdict.
type step uint8

const (
	stepGrant step = iota
	stepRefuse
	stepAgain // wait or evict with everything given back, then judge again
)

// next decides; for stepRefuse with the error. Held state at its limit gives way at once, so that
// nothing is evicted for a request that is refused anyway. file.mu is held.
func (v *verdict) next(s *Server, now time.Time, ev *eviction) (step, error) {
	switch {
	case v.denied != nil:
		return stepRefuse, v.denied
	case v.grace:
		return stepRefuse, nfs4.NFS4ERR_GRACE
	case v.delay:
		return stepRefuse, nfs4.NFS4ERR_DELAY
	case v.wait != nil || len(v.clients) > 0:
		return stepAgain, nil
	}
	for _, o := range v.shares {
		s.yieldShares(o, now, &ev.eff)
	}
	for _, l := range v.ranges {
		s.yieldRanges(l, now, &ev.eff)
	}
	ev.note()
	return stepGrant, nil
}

// again does what stepAgain asks for; no mutex and no turn is held. The error is that of ctx.
func (v *verdict) again(ctx context.Context, s *Server, ev *eviction) error {
	if v.wait != nil {
		select {
		case <-v.wait:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for _, c := range v.clients {
		s.evict(c, "lease over, and another client wants what it has", &ev.eff)
	}
	ev.note()
	return nil
}

// admit judges a request for new state before the files are looked at: RFC 8881 18.51.3 and 8.4.2.1.
// A client that has retained state to reclaim may open meanwhile, and lock unless it negotiated
// retention (draft: GRACE).
func (s *Server) admit(c *Client, forLock bool) error {
	if s.stalled() {
		return nfs4.NFS4ERR_GRACE
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	switch {
	case c.dead:
		return nfs4.NFS4ERR_EXPIRED
	case c.complete || c.permanent:
		return nil
	case c.retained && !(forLock && c.retains()):
		return nil
	}
	return nfs4.NFS4ERR_GRACE
}

// reclaim is a reclaim on its way.
type reclaim struct {
	inGrace bool // in our own grace: a reference is held
}

// beginReclaim judges whether the client may reclaim at all: until its RECLAIM_COMPLETE, in our
// grace, or while something is held for it.
func (s *Server) beginReclaim(c *Client) (*reclaim, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return nil, nfs4.NFS4ERR_EXPIRED
	}
	if c.complete || c.completing {
		return nil, nfs4.NFS4ERR_NO_GRACE
	}
	r := &reclaim{inGrace: s.enter()}
	if !r.inGrace && !c.retained {
		return nil, nfs4.NFS4ERR_NO_GRACE
	}
	c.reclaiming++
	return r, nil
}

// endReclaim ends what beginReclaim began.
func (s *Server) endReclaim(c *Client, r *reclaim, granted bool, eff *Effects) {
	c.mu.Lock()
	c.reclaiming--
	c.mu.Unlock()
	if granted {
		s.grace.granted.Add(1)
	} else {
		s.grace.refused.Add(1)
	}
	if r.inGrace {
		s.leave(eff)
	}
}

// unknown judges a reclaim that nothing held matches: whether it may go on to the origin, and else
// why not.
func (s *Server) unknown(c *Client, r *reclaim) error {
	p := c.party
	p.mu.Lock()
	expired, yielded, some := p.expired, p.yielded, len(p.opens) > 1 // the entry that was asked for is there by now
	p.mu.Unlock()
	switch {
	case r.inGrace && !s.grace.complete && s.cfg.UnknownReclaim == UnknownForward:
		return nil
	case r.inGrace && !s.grace.complete:
		return nfs4.NFS4ERR_NO_GRACE
	case expired || yielded:
		return nfs4.NFS4ERR_NO_GRACE // it may have had it; another may have had it since
	case r.inGrace || some:
		return nfs4.NFS4ERR_RECLAIM_BAD
	}
	return nfs4.NFS4ERR_NO_GRACE
}

// ambiguous tells whether err leaves open if the backend did what it was asked.
func ambiguous(err error) bool {
	switch fs.CodeOf(err) {
	case fs.Interrupted, fs.Unreachable, fs.IO, fs.ServerFault:
		return true
	}
	return false
}

// reclaimRefused notes what the origin's answer to a reclaim means for the rest.
func (s *Server) reclaimRefused(call Call, err error, eff *Effects) {
	if call == CallReclaim && fs.CodeOf(err) == fs.NoGrace {
		eff.Add(s.NoGrace())
	}
}
