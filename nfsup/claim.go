package nfsup

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
)

// Reclaims of callers after [Resume]: from the tables, without a word to the server.

// taint notes that the server revoked something. From then on a reclaim of what is not in the tables
// may be of what was revoked, and taken by somebody else and given back meanwhile.
//
// +checklocks:t.mu
func (t *stateTable) taint(c *Client, why error) {
	if c.resumed != nil && c.resumed.tainted == nil {
		c.resumed.tainted = why
	}
}

// claimOpen answers a reclaim of an open. again says that it is to be repeated as an ordinary request,
// and neither that it has to go to the server as a reclaim.
func (c *Client) claimOpen(a *OpenArgs) (reply *OpenReply, again bool, err error) {
	if !a.Reclaim || c.resumed == nil {
		return nil, false, nil
	}
	same := c.sameIncarnation()
	t := &c.state
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.opens[openKey{a.Owner, a.FH}]
	if o != nil && o.resumed && a.Access != 0 && o.claim(a.Access, a.Deny) {
		return &OpenReply{FH: a.FH}, false, nil
	}
	again, err = c.missing(nfs4.OP_OPEN, same)
	return nil, again, err
}

// claim tells whether the open has the modes, which are then somebody's: they stay at the end of grace.
// stateTable.mu is held.
func (o *openState) claim(access, deny uint32) bool {
	hasAccess, hasDeny := o.modes.wire()
	if access&^hasAccess != 0 || deny&^hasDeny != 0 {
		return false
	}
	if o.resumed {
		o.claimed |= mode(access, deny)
	}
	return true
}

// sameIncarnation tells whether the server has not forgotten the client since it was resumed.
func (c *Client) sameIncarnation() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.incarnation == c.resumed.incarnation
}

// missing decides about a reclaim of what the tables do not have.
//
// +checklocks:c.state.mu
func (c *Client) missing(op nfs4.OpNum, same bool) (again bool, err error) {
	r := c.resumed
	switch {
	case !same || !r.completed:
		// The server restarted, since or before: it decides, and takes reclaims.
		return false, nil
	case !r.whole:
		return false, refuseReclaim(op, errors.New("the journal does not say that this is held"))
	case r.tainted != nil:
		return false, refuseReclaim(op, fmt.Errorf("the server has revoked state: %w", r.tainted))
	}
	return true, nil
}

// refuseReclaim says that something is lost.
func refuseReclaim(op nfs4.OpNum, why error) error {
	// why is not wrapped: the status of this is NO_GRACE, whatever led to it.
	return fmt.Errorf("%w (%v)", &StatusError{Op: op, Status: nfs4.NFS4ERR_NO_GRACE, Index: 1}, why)
}

// claimLock answers a reclaim of a lock. done is false if it has to go to the server, as a reclaim or,
// if again says so, as an ordinary request.
func (c *Client) claimLock(a *LockArgs) (done, again bool, err error) {
	if !a.Reclaim || c.resumed == nil {
		return false, false, nil
	}
	same := c.sameIncarnation()
	t := &c.state
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.opens[openKey{a.OpenOwner, a.FH}]
	if o == nil || o.resumed && o.claimed == 0 {
		return false, false, ErrNoState // a lock is reclaimed only under its reclaimed open
	}
	l := t.locks[lockKey{a.LockOwner, a.FH}]
	if l != nil && l.resumed {
		switch covers(l.all(), a.Range, a.Write) {
		case coversSame:
			l.claimed = l.claimed.with(a.Range, a.Write)
			return true, false, nil
		case coversMore:
			return false, true, nil // it becomes a read lock, or stays one: the owner has it
		}
	}
	again, err = c.missing(nfs4.OP_LOCK, same)
	return false, again, err
}

type coverage int

const (
	coversNot  coverage = iota
	coversSame          // all of it, with that type
	coversMore          // all of it, some with a write lock where a read lock is asked for
)

// covers tells whether a set has all of a range, with the type asked for or more.
func covers(set RangeSet, r Range, write bool) coverage {
	got := coversSame
	left := RangeSet{}.with(r, write)
	for _, h := range set.within(r) {
		switch {
		case write && !h.Write:
			return coversNot
		case h.Write && !write:
			got = coversMore
		}
		left = left.without(h.Range)
	}
	if len(left) > 0 {
		return coversNot
	}
	return got
}

// repeatLock is a reclaim of a lock that the owner has already, or that nobody was told of.
func (c *Client) repeatLock(ctx context.Context, cred *rpc.Cred, a *LockArgs, commit func() bool) error {
	args := *a
	args.Reclaim = false
	err := c.lock(ctx, cred, &args, func() bool { commit(); return true })
	if s, _ := StatusOf(err); s == nfs4.NFS4ERR_DENIED {
		return refuseReclaim(nfs4.OP_LOCK, err) // another has it: it is lost
	}
	return err
}

// releaseUnclaimed gives back what the last incarnation held and nobody has reclaimed. No reclaim runs,
// and none will.
func (c *Client) releaseUnclaimed(ctx context.Context) error {
	if c.resumed == nil {
		return nil
	}
	t := &c.state
	t.mu.Lock()
	var opens []*openState
	var locks []*lockState
	for _, o := range t.opens {
		if o.resumed {
			opens = append(opens, o)
		}
	}
	for _, l := range t.locks {
		if l.resumed {
			locks = append(locks, l)
		}
	}
	t.mu.Unlock()
	var g errgroup.Group
	g.SetLimit(64)
	for _, l := range locks {
		g.Go(func() error { return c.leaveLock(ctx, l) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, o := range opens {
		g.Go(func() error { return c.leaveOpen(ctx, o) })
	}
	return g.Wait()
}

// leaveLock unlocks what was not claimed. That the origin refuses is told: the lock stays with the
// open. An error means that it was not decided, and it is tried again.
func (c *Client) leaveLock(ctx context.Context, l *lockState) error {
	err := c.withLock(ctx, l.key.owner, l.key.fh, func(o *openState, now *lockState) error {
		if now != l {
			return nil
		}
		c.state.mu.Lock()
		rest := l.set
		for _, h := range l.claimed {
			rest = rest.without(h.Range)
		}
		c.state.mu.Unlock()
		for _, h := range rest {
			if err := c.sendUnlock(ctx, o, l, h.Range); err != nil {
				return err
			}
		}
		c.state.count(func() { l.resumed, l.claimed = false, nil })
		return nil
	})
	return c.left(ctx, l.key.fh, err)
}

// leaveOpen closes an open that was not claimed, or reduces it to what was.
func (c *Client) leaveOpen(ctx context.Context, o *openState) error {
	if err := o.turn.take(ctx, true); err != nil {
		return err
	}
	defer o.turn.give(true)
	t := &c.state
	t.mu.Lock()
	here := t.opens[o.key] == o
	used := o.claimed != 0
	for l := range o.locks {
		used = used || len(l.set) > 0 // by a lock-owner that was reclaimed under another open
	}
	access, deny := o.claimed.wire()
	hadAccess, hadDeny := o.modes.wire()
	t.mu.Unlock()
	var err error
	switch {
	case !here:
	case !used:
		err = c.shrink(ctx, o, 0, 0)
	case o.claimed != 0 && (access != hadAccess || deny != hadDeny):
		err = c.shrink(ctx, o, access, deny)
	}
	if err == nil {
		t.count(func() { o.resumed = false })
	}
	return c.left(ctx, o.key.fh, err)
}

// left passes an error on unless it is the server's answer: that cannot be helped.
func (c *Client) left(ctx context.Context, fh nfs4.FH, err error) error {
	if err == nil || errors.Is(err, ErrNoState) {
		return nil
	}
	if _, answered := StatusOf(err); answered && ctx.Err() == nil {
		c.cfg.Logger.Warn("state that nobody reclaimed stays at the origin", "fh", fh, "err", err)
		return nil
	}
	return err
}
