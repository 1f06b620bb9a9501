package nfsup

import (
	"context"
	"slices"

	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
)

// Lock returns nil if the lock is held now, *DeniedError if it conflicts with another owner's,
// ErrNoState if the open is not there. If ctx ends first and the server grants it, what was held before
// is restored in the background, except after a reclaim, which may be repeated.
func (c *Client) Lock(ctx context.Context, cred *rpc.Cred, a *LockArgs) error {
	leave, err := c.state.enterReclaim(nfs4.OP_LOCK, a.Reclaim)
	if err != nil {
		return err
	}
	done, again, err := c.claimLock(a)
	if done || err != nil {
		leave()
		return err
	}
	args := *a
	_, err = detach(c, ctx, func(ctx context.Context, commit func() bool) (struct{}, error) {
		defer leave()
		if again {
			return struct{}{}, c.repeatLock(ctx, cred, &args, commit)
		}
		return struct{}{}, c.lock(ctx, cred, &args, commit)
	})
	return err
}

func (c *Client) lock(ctx context.Context, cred *rpc.Cred, a *LockArgs, commit func() bool) error {
	o, err := c.state.takeOpen(ctx, a.OpenOwner, a.FH, false)
	if err != nil {
		return err
	}
	defer o.turn.give(false)
	l, err := c.state.takeLock(ctx, a.LockOwner, a.FH, o, cred)
	if err != nil {
		return err
	}
	defer c.state.giveLock(l)

	c.state.mu.Lock()
	if !l.has {
		c.state.moveLock(l, o) // its former open is gone, or never gave it a lock
	}
	l.cred = cred
	before := slices.Clone(l.set)
	c.state.mu.Unlock()

	if err := c.sendLock(ctx, cred, o, l, a.Range, a.Write, a.Wait, a.Reclaim); err != nil {
		return err
	}
	if !commit() && !a.Reclaim {
		c.restore(o, l, a.Range, before)
	}
	return nil
}

// sendLock is LOCK, RFC 8881 18.10, until it is granted or refused. The caller has the turn on l.
func (c *Client) sendLock(ctx context.Context, cred *rpc.Cred, o *openState, l *lockState, r Range, write, wait, reclaim bool) error {
	if !write && !reclaim {
		c.state.count(func() { l.wish = &wish{r: r, keep: true} })
		defer c.state.count(func() { l.wish = nil })
	}
	for try := 0; ; try++ {
		var sent *nfs4.LockArgs
		var refused error
		var status nfs4.Status
		err := c.run(ctx, &request{
			cred:    cred,
			sticky:  true,
			all:     true,
			patient: c.cfg.DelayTime,
			build: func(*session) ([]nfs4.Args, error) {
				if c.state.open(o.key.owner, o.key.fh) != o {
					return nil, ErrNoState
				}
				sent = c.state.lockArgs(o, l, r, write, wait, reclaim)
				return []nfs4.Args{&nfs4.PutfhArgs{FH: l.key.fh}, sent}, nil
			},
			use: func(res []nfs4.Res) error {
				last := res[len(res)-1]
				status = last.Stat()
				lr, ok := last.(*nfs4.LockRes)
				switch {
				case ok && status == nfs4.NFS4_OK:
					c.state.locked(l, r, write, lr.LockStateid)
					c.state.claimed(l, r, write)
					c.state.console(l)
					refused = nil
				case ok && status == nfs4.NFS4ERR_DENIED:
					refused = c.denied(&lr.Denied)
				default:
					refused = &StatusError{Op: last.Op(), Status: status, Index: len(res) - 1}
				}
				return nil
			},
		})
		if err != nil {
			return err
		}
		if refused == nil || !stateError(status) || try >= tries {
			return refused
		}
		if !c.lockStateChanged(o, l, sent, status) {
			c.checkOpen(o, false)
			if c.state.open(o.key.owner, o.key.fh) != o {
				return refused
			}
			if !c.lockStateChanged(o, l, sent, status) {
				return refused
			}
		}
	}
}

// lockStateChanged tells whether another try would send something else.
func (c *Client) lockStateChanged(o *openState, l *lockState, sent *nfs4.LockArgs, status nfs4.Status) bool {
	t := &c.state
	t.mu.Lock()
	defer t.mu.Unlock()
	if sent.Locker.NewLockOwner {
		return l.has || o.stateid.Other != sent.Locker.OpenStateid.Other
	}
	if !l.has || l.stateid != sent.Locker.LockStateid {
		return true
	}
	if len(l.set) == 0 {
		// The server may forget a lock-owner that holds nothing: introduce it again.
		l.has = false
		return true
	}
	if status == nfs4.NFS4ERR_OLD_STATEID && l.stateid.Seqid != 0 {
		// We have the turn, so whatever made it older was ours: an answer that was lost with a session.
		l.stateid.Seqid = 0
		return true
	}
	return false
}

// restore makes r what it was before, for a lock that nobody waits for any more.
func (c *Client) restore(o *openState, l *lockState, r Range, before RangeSet) {
	was := before.within(r)
	left := RangeSet{}.with(r, true)
	for _, h := range was {
		left = left.without(h.Range)
	}
	for _, h := range left {
		if err := c.sendUnlock(c.ctx, o, l, h.Range); err != nil {
			c.cfg.Logger.Warn("a lock that nobody waits for any more stays at the origin", "fh", l.key.fh, "range", h.Range, "err", err)
		}
	}
	for _, h := range was {
		if err := c.sendLock(c.ctx, l.cred, o, l, h.Range, h.Write, false, false); err != nil {
			c.cfg.Logger.Warn("a lock could not be set back", "fh", l.key.fh, "range", h, "err", err)
		}
	}
}

// denied makes an error of LOCK4denied.
func (c *Client) denied(d *nfs4.LockDenied) error {
	e := &DeniedError{Range: rangeOf(d.Offset, d.Length), Write: d.LockType.Exclusive(), Owner: d.Owner}
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	if d.Owner.ClientID == c.state.clientID && len(d.Owner.Owner) == len(e.Holder) {
		e.Ours = true
		copy(e.Holder[:], d.Owner.Owner)
	}
	return e
}

// Unlock gives a range back. What that owner does not hold needs no unlocking.
func (c *Client) Unlock(ctx context.Context, lockOwner UpOwner, fh nfs4.FH, r Range) error {
	_, err := detach(c, ctx, func(ctx context.Context, _ func() bool) (struct{}, error) {
		return struct{}{}, c.withLock(ctx, lockOwner, fh, func(o *openState, l *lockState) error {
			c.state.mu.Lock()
			none := len(l.set.within(r)) == 0
			c.state.mu.Unlock()
			if none {
				return nil
			}
			return c.sendUnlock(ctx, o, l, r)
		})
	})
	return err
}

// withLock runs f with the turns on a lock-owner's state, if there is any.
func (c *Client) withLock(ctx context.Context, lockOwner UpOwner, fh nfs4.FH, f func(*openState, *lockState) error) error {
	for {
		o := c.state.lockOpen(lockOwner, fh)
		if o == nil {
			return nil
		}
		if err := o.turn.take(ctx, false); err != nil {
			return err
		}
		l, err := c.state.takeLock(ctx, lockOwner, fh, nil, nil)
		if l == nil || err != nil {
			o.turn.give(false)
			return err
		}
		c.state.mu.Lock()
		same := l.open == o
		c.state.mu.Unlock()
		if same {
			err = f(o, l)
		}
		c.state.giveLock(l)
		o.turn.give(false)
		if same {
			return err
		}
	}
}

// sendUnlock is LOCKU, RFC 8881 18.12. The caller has the turn on l.
func (c *Client) sendUnlock(ctx context.Context, o *openState, l *lockState, r Range) error {
	c.state.count(func() { l.wish = &wish{r: r} })
	defer c.state.count(func() { l.wish = nil })
	for try := 0; ; try++ {
		var sent nfs4.Stateid
		var fail *StatusError
		err := c.run(ctx, &request{
			cred:    c.credOf(o),
			sticky:  true,
			all:     true,
			patient: c.cfg.DelayTime,
			build: func(*session) ([]nfs4.Args, error) {
				c.state.mu.Lock()
				defer c.state.mu.Unlock()
				if !l.has {
					return nil, errNothingToDo // lost, or given up in a recovery
				}
				sent = l.stateid
				a := &nfs4.LockuArgs{LockType: nfs4.WRITE_LT, LockStateid: sent}
				a.Offset, a.Length = r.wire()
				return []nfs4.Args{&nfs4.PutfhArgs{FH: l.key.fh}, a}, nil
			},
			use: func(res []nfs4.Res) error {
				last := res[len(res)-1]
				if lr, ok := last.(*nfs4.LockuRes); ok && lr.Status == nfs4.NFS4_OK {
					c.state.unlocked(l, r, lr.LockStateid)
					fail = nil
					return nil
				}
				fail = &StatusError{Op: last.Op(), Status: last.Stat(), Index: len(res) - 1}
				return nil
			},
		})
		if err == errNothingToDo {
			return nil
		}
		if err != nil {
			return err
		}
		if fail == nil {
			return nil
		}
		if !stateError(fail.Status) || try >= tries {
			return fail
		}
		again := false
		c.state.mu.Lock()
		switch {
		case l.stateid != sent:
			again = true
		case fail.Status == nfs4.NFS4ERR_OLD_STATEID && sent.Seqid != 0:
			l.stateid.Seqid = 0
			again = true
		}
		c.state.mu.Unlock()
		if !again {
			c.checkOpen(o, false)
			return fail
		}
	}
}

// TestLock returns *DeniedError if a Lock by that owner would be denied now: RFC 8881 18.11.
func (c *Client) TestLock(ctx context.Context, cred *rpc.Cred, lockOwner UpOwner, fh nfs4.FH, r Range, write bool) error {
	var denied error
	err := c.run(ctx, &request{
		cred:    cred,
		all:     true,
		patient: c.cfg.DelayTime,
		build: func(*session) ([]nfs4.Args, error) {
			c.state.mu.Lock()
			defer c.state.mu.Unlock()
			a := &nfs4.LocktArgs{LockType: lockType(write, false), Owner: c.state.owner(lockOwner)}
			a.Offset, a.Length = r.wire()
			return []nfs4.Args{&nfs4.PutfhArgs{FH: fh}, a}, nil
		},
		use: func(res []nfs4.Res) error {
			last := res[len(res)-1]
			denied = nil
			if lt, ok := last.(*nfs4.LocktRes); ok && lt.Status == nfs4.NFS4ERR_DENIED {
				denied = c.denied(&lt.Denied)
			} else if last.Stat() != nfs4.NFS4_OK {
				denied = &StatusError{Op: last.Op(), Status: last.Stat(), Index: len(res) - 1}
			}
			return nil
		},
	})
	if err != nil {
		return err
	}
	return denied
}

// FreeLockOwner forgets a lock-owner that holds nothing on fh any more: FREE_STATEID, RFC 8881 18.38.
// NFS4ERR_LOCKS_HELD if it still does.
func (c *Client) FreeLockOwner(ctx context.Context, lockOwner UpOwner, fh nfs4.FH) error {
	_, err := detach(c, ctx, func(ctx context.Context, _ func() bool) (struct{}, error) {
		return struct{}{}, c.withLock(ctx, lockOwner, fh, func(o *openState, l *lockState) error {
			return c.freeLock(ctx, o, l)
		})
	})
	return err
}

func (c *Client) freeLock(ctx context.Context, o *openState, l *lockState) error {
	err := c.run(ctx, &request{
		cred:    c.credOf(o),
		sticky:  true,
		patient: c.cfg.DelayTime,
		build: func(*session) ([]nfs4.Args, error) {
			c.state.mu.Lock()
			defer c.state.mu.Unlock()
			switch {
			case len(l.set) > 0:
				return nil, &StatusError{Op: nfs4.OP_FREE_STATEID, Status: nfs4.NFS4ERR_LOCKS_HELD}
			case !l.has:
				return nil, errNothingToDo
			}
			return []nfs4.Args{&nfs4.FreeStateidArgs{Stateid: newest(l.stateid)}}, nil
		},
		use: func([]nfs4.Res) error {
			c.state.count(func() { l.has = false })
			return nil
		},
	})
	switch s, _ := StatusOf(err); {
	case err == errNothingToDo:
		return nil
	case s == nfs4.NFS4ERR_BAD_STATEID, s == nfs4.NFS4ERR_EXPIRED, s == nfs4.NFS4ERR_ADMIN_REVOKED:
		c.state.count(func() { l.has = false }) // gone is gone
		return nil
	}
	return err
}

// credOf is the credential for what is done about an open without a user at hand.
func (c *Client) credOf(o *openState) *rpc.Cred {
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	return o.cred
}
