package nfsup

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/internal/nfs4"
)

// drainTime is how long answers that may be on their way are waited for when a session was lost,
// before its connections are closed.
const drainTime = 500 * time.Millisecond

// recover replaces a lost session, and everything behind it if need be: DESIGN 4, RFC 8881 8.4.2.
// It returns nil when the client has ended.
func (c *Client) recover(dead *session) *session {
	if c.leaving.Load() { // it was destroyed by us
		<-c.ctx.Done()
		return nil
	}
	begun := c.cfg.Clock.Now()
	expires := c.LeaseExpires()
	c.mu.Lock()
	c.ready, c.recovering = false, true
	c.notify()
	c.mu.Unlock()
	c.cfg.Logger.Warn("session with the origin lost", "why", dead.why())

	if !c.drain(dead) {
		return nil
	}
	if errors.Is(dead.why(), errReclaimNeeded) {
		c.mu.Lock()
		c.incarnation++ // the same client ID begins a new life
		c.mu.Unlock()
	}
	rec := &Recovery{}
	b := backoff{first: 50 * time.Millisecond, max: time.Second}
	told := false
	for {
		sess, fresh, err := c.establish(c.ctx)
		if err == nil {
			if fresh && !told {
				told = true
				c.forgotten(begun, expires)
			}
			if err = c.settle(c.ctx, sess, rec); err == nil {
				if fresh || told || rec.Opens+rec.Locks+rec.Reopened+rec.LostOpens+rec.LostLocks > 0 {
					c.recovered(rec, begun)
				}
				c.forget(sess)
				c.openGate(sess)
				return sess
			}
			sess.kill(err)
			if !c.drain(sess) {
				return nil
			}
		}
		if c.ctx.Err() != nil {
			return nil
		}
		var fatal *fatalError
		if errors.As(err, &fatal) {
			c.die(err)
			return nil
		}
		c.cfg.Logger.Warn("the origin is not back yet", "err", err)
		if b.wait(c.ctx, c.cfg.Clock) != nil {
			return nil
		}
	}
}

// drain waits until no request uses a dead session any more, so that the tables stand still; false if
// the client ends. Answers get a moment to arrive, then the connections are closed.
func (c *Client) drain(dead *session) bool {
	tick, stop := after(c.cfg.Clock, drainTime)
	defer stop()
	select {
	case <-dead.slots.drained:
	case <-tick:
	case <-c.ctx.Done():
		return false
	}
	c.dropLinks()
	select {
	case <-dead.slots.drained:
	case <-c.ctx.Done():
		return false
	}
	c.mu.Lock()
	c.sess = nil
	c.notify()
	c.mu.Unlock()
	return true
}

// forgotten tells that the server does not know us any more. Which of the two it was is a guess; the
// answers to the reclaims decide.
func (c *Client) forgotten(now, expires time.Time) {
	e := &c.cfg.Events
	if now.After(expires) {
		c.say("the origin forgot this client after its lease had ended; reclaiming")
		if e.LeaseLost != nil {
			e.LeaseLost()
		}
		return
	}
	c.say("the origin forgot this client, so it restarted; reclaiming")
	if e.ServerRestarted != nil {
		e.ServerRestarted()
	}
}

func (c *Client) recovered(rec *Recovery, begun time.Time) {
	rec.Took = c.cfg.Clock.Now().Sub(begun)
	c.mu.Lock()
	rec.Completed = c.completed == c.incarnation
	c.mu.Unlock()
	c.say("recovered in %v: %d opens and %d locks reclaimed, %d opens made anew, %d opens and %d locks lost",
		rec.Took.Round(time.Millisecond), rec.Opens, rec.Locks, rec.Reopened, rec.LostOpens, rec.LostLocks)
	if f := c.cfg.Events.Recovered; f != nil {
		f(*rec)
	}
}

// forget destroys the sessions that were given up although the server may still have them. What it
// does not destroy stays in the identity, for the fence of the next incarnation.
func (c *Client) forget(sess *session) {
	conn, _, err := c.pick(c.ctx, sess)
	if err != nil {
		return
	}
	c.mu.Lock()
	list := slices.Clone(c.old)
	c.mu.Unlock()
	for _, id := range list {
		if id == sess.id {
			continue
		}
		_, err := c.raw(c.ctx, conn, &nfs4.DestroySessionArgs{SessionID: id})
		if s, ok := StatusOf(err); err != nil && !(ok && sessionLost(s)) {
			c.cfg.Logger.Warn("an old session stays at the origin", "err", err)
			continue
		}
		c.destroyed(id)
	}
}

// destroyed notes that the server does not have a session any more.
func (c *Client) destroyed(id nfs4.SessionID) {
	c.mu.Lock()
	c.old = slices.DeleteFunc(slices.Clone(c.old), func(x nfs4.SessionID) bool { return x == id })
	c.mu.Unlock()
	c.identityChanged()
}

func (c *Client) identityChanged() {
	if f := c.cfg.Journal.Changed; f != nil {
		f(c.Identity())
	}
}

// settle does what a session needs before the gate opens: reclaims from memory, RECLAIM_COMPLETE
// unless it is delayed, and a look at the lease. errSessionDead: again with another one.
func (c *Client) settle(ctx context.Context, sess *session, rec *Recovery) error {
	if rec == nil {
		rec = &Recovery{}
	}
	anew, err := c.reclaimAll(ctx, sess, rec)
	if err != nil {
		return err
	}
	c.mu.Lock()
	complete := c.completed == sess.incarnation
	c.mu.Unlock()
	// Reclaims of callers that wait at the gate come first; ReclaimComplete, which waits for them, sends it.
	if !complete && c.state.promised() {
		if err := c.sendComplete(ctx, sess); err != nil {
			return err
		}
		complete = true
	}
	if err := c.reopenAll(ctx, sess, anew, complete, rec); err != nil {
		return err
	}
	return c.readLease(ctx, sess)
}

// readLease asks for lease_time, and for the two limits of the retention draft if it was agreed to.
func (c *Client) readLease(ctx context.Context, sess *session) error {
	c.mu.Lock()
	retain := c.resFlags&nfs4.EXCHGID4_FLAG_RETAIN_STATE != 0
	c.mu.Unlock()
	ask := nfs4.Bits(nfs4.FATTR4_LEASE_TIME)
	if retain {
		ask.Set(nfs4.FATTR4_RETAIN_ABSENCE_LIMIT)
		ask.Set(nfs4.FATTR4_RETAIN_RECLAIM_CAP)
	}
	err := c.runOn(ctx, sess, &request{
		cred:    c.cfg.Cred,
		patient: c.cfg.DelayTime,
		build:   fixed([]nfs4.Args{&nfs4.PutrootfhArgs{}, &nfs4.GetattrArgs{Request: ask}}),
		use: func(res []nfs4.Res) error {
			a := &res[1].(*nfs4.GetattrRes).Attrs
			c.mu.Lock()
			defer c.mu.Unlock()
			if a.Mask.Has(nfs4.FATTR4_LEASE_TIME) {
				c.lease = time.Duration(a.LeaseTime) * time.Second
			}
			c.absence, c.reclaimCap = 0, 0
			if a.Mask.Has(nfs4.FATTR4_RETAIN_ABSENCE_LIMIT) {
				c.absence = time.Duration(a.RetainAbsenceLimit) * time.Second
			}
			if a.Mask.Has(nfs4.FATTR4_RETAIN_RECLAIM_CAP) {
				c.reclaimCap = time.Duration(a.RetainReclaimCap) * time.Second
			}
			return nil
		},
	})
	if _, refused := StatusOf(err); err != nil && refused {
		c.cfg.Logger.Warn("the origin does not tell its lease time", "err", err, "assumed", c.lapse())
		return nil
	}
	return err
}

// reclaimAll reclaims every open and lock that is not of this incarnation. What the server refuses is
// lost, but for the opens in anew: reopenAll is to decide on them. An error means that the session was lost
// first; what was reclaimed by then counts.
func (c *Client) reclaimAll(ctx context.Context, sess *session, rec *Recovery) (anew []refused, err error) {
	opens, forbidden := c.state.toReclaim(sess.incarnation)
	if forbidden != nil {
		for _, o := range opens {
			c.lose(o, forbidden, rec)
		}
		c.dropOldDelegs(sess.incarnation)
		return nil, nil
	}
	limit, _, _ := sess.slots.use()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(min(limit, 64))
	for _, o := range opens {
		g.Go(func() error {
			no, err := c.reclaimOpen(gctx, sess, o, rec)
			if no != nil {
				c.state.count(func() { anew = append(anew, refused{o, no}) })
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	c.dropOldDelegs(sess.incarnation)
	return anew, nil
}

// reclaimPatience is how long a reclaim is repeated after NFS4ERR_DELAY before it counts as lost.
const reclaimPatience = time.Minute

// reclaimOpen reclaims an open, once for each combination of modes that it was made of: a later
// OPEN_DOWNGRADE may name any of them (18.18.3). Then the locks under it. no is why the server refuses an open
// that may be made anew.
func (c *Client) reclaimOpen(ctx context.Context, sess *session, o *openState, rec *Recovery) (no, err error) {
	err = c.openAgain(ctx, sess, o, nfs4.CLAIM_PREVIOUS)
	switch {
	case err == nil:
	case aborted(ctx, err):
		return nil, err
	case c.mayReopen(o, err):
		return err, nil
	default:
		c.lose(o, err, rec)
		return nil, nil
	}
	c.state.count(func() {
		if rec.Opens++; rec.First.IsZero() {
			rec.First = c.cfg.Clock.Now()
		}
	})
	for _, l := range c.state.locksUnder(o) {
		if err := c.reclaimLocks(ctx, sess, o, l, rec); err != nil {
			return nil, err
		}
	}
	c.state.finish(o, sess.incarnation)
	return nil, nil
}

// openAgain is OPEN by handle, once for each combination of modes: a reclaim (CLAIM_PREVIOUS) or anew (CLAIM_FH).
func (c *Client) openAgain(ctx context.Context, sess *session, o *openState, claim uint32) error {
	for _, m := range c.state.modesOf(o).list() {
		access, deny := m.wire()
		a := &nfs4.OpenArgs{
			ShareAccess: access,
			ShareDeny:   deny,
			Owner:       nfs4.StateOwner{ClientID: sess.clientID, Owner: string(o.key.owner[:])},
			Claim:       nfs4.OpenClaim{Type: claim},
		}
		if claim == nfs4.CLAIM_PREVIOUS {
			a.Claim.DelegateType = c.state.claimType(o.key.fh, sess.incarnation)
		} else {
			a.ShareAccess |= nfs4.OPEN4_SHARE_ACCESS_WANT_NO_DELEG
		}
		var sid nfs4.Stateid
		err := c.runOn(ctx, sess, &request{
			cred:    o.cred,
			patient: reclaimPatience,
			grace:   true,
			build:   fixed([]nfs4.Args{&nfs4.PutfhArgs{FH: o.key.fh}, a}),
			use: func(res []nfs4.Res) error {
				r := res[1].(*nfs4.OpenRes)
				sid = r.Stateid
				if claim == nfs4.CLAIM_PREVIOUS {
					c.delegReclaimed(o.cred, o.key.fh, &r.Delegation, sess.incarnation)
				} else {
					c.dropDelegation(o.cred, o.key.fh, &r.Delegation)
				}
				return nil
			},
		})
		if err != nil {
			return err
		}
		c.state.reclaimedOpen(o, sid)
	}
	return nil
}

// reclaimLocks reclaims the ranges of a lock-owner, the first one under the open, the others by the
// lock stateid that it gave, several to a COMPOUND.
func (c *Client) reclaimLocks(ctx context.Context, sess *session, o *openState, l *lockState, rec *Recovery) error {
	perCompound := max(1, min(sess.maxOps-2, 8))
	c.state.owe(l)
	for {
		set, under := c.state.owed(l, perCompound)
		if len(set) == 0 {
			return nil
		}
		var status nfs4.Status
		got := 0
		err := c.runOn(ctx, sess, &request{
			cred:    l.cred,
			patient: reclaimPatience,
			grace:   true,
			all:     true,
			build: func(*session) ([]nfs4.Args, error) {
				ops := []nfs4.Args{&nfs4.PutfhArgs{FH: l.key.fh}}
				for _, h := range set {
					a := c.state.lockArgs(o, l, h.Range, h.Write, false, true)
					if under {
						a.Locker.LockStateid.Seqid = 0 // the one before in this COMPOUND changes it
					}
					ops = append(ops, a)
				}
				return ops, nil
			},
			use: func(res []nfs4.Res) error {
				for _, r := range res[1:] {
					lr, ok := r.(*nfs4.LockRes)
					if !ok || lr.Status != nfs4.NFS4_OK {
						break
					}
					c.state.locked(l, set[got].Range, set[got].Write, lr.LockStateid)
					got++
				}
				status = res[len(res)-1].Stat()
				return nil
			},
		})
		if err == nil && status != nfs4.NFS4_OK {
			err = &StatusError{Op: nfs4.OP_LOCK, Status: status, Index: got + 1}
		}
		c.state.count(func() { rec.Locks += got })
		switch {
		case err == nil:
		case aborted(ctx, err):
			return err // what is owed stays so
		case got > 0 && (status == nfs4.NFS4ERR_DELAY || status == nfs4.NFS4ERR_GRACE):
		default:
			h := set[got]
			c.state.forgive(l, h.Range)
			c.lost(rec, &Revocation{
				Kind: KindLock, OpenOwner: o.key.owner, LockOwner: l.key.owner, FH: l.key.fh,
				Ranges: RangeSet{h}, Why: err,
			})
		}
	}
}

// aborted tells an error that is about the session from an answer of the server.
func aborted(ctx context.Context, err error) bool {
	return err == errSessionDead || ctx.Err() != nil
}

// lose takes an open and its locks out of the tables and tells.
func (c *Client) lose(o *openState, why error, rec *Recovery) {
	for _, r := range c.state.drop(o, why) {
		c.lost(rec, &r)
	}
}

// lost counts and tells a loss.
func (c *Client) lost(rec *Recovery, r *Revocation) {
	c.state.count(func() {
		if rec == nil {
			return
		}
		if r.Kind == KindOpen {
			rec.LostOpens++
		} else {
			rec.LostLocks += len(r.Ranges)
		}
	})
	c.cfg.Logger.Warn("state at the origin is lost", "kind", r.Kind, "fh", r.FH, "ranges", r.Ranges, "why", r.Why)
	if f := c.cfg.Events.Revoked; f != nil {
		f(*r)
	}
}

// ReclaimComplete promises that no reclaim follows, RFC 8881 18.51. It waits for reclaims that run.
// It is sent once for each client ID; called again, it does nothing (I5).
func (c *Client) ReclaimComplete(ctx context.Context) error {
	_, err := detach(c, ctx, func(ctx context.Context, _ func() bool) (struct{}, error) {
		return struct{}{}, c.reclaimComplete(ctx)
	})
	return err
}

func (c *Client) reclaimComplete(ctx context.Context) error {
	if err := c.rcTurn.take(ctx, true); err != nil {
		return err
	}
	defer c.rcTurn.give(true)
	if err := c.state.promise(ctx); err != nil {
		return err
	}
	if err := c.releaseUnclaimed(ctx); err != nil {
		return err
	}
	for {
		sess, err := c.gate(ctx)
		if err != nil {
			return err
		}
		c.mu.Lock()
		complete := c.completed == sess.incarnation
		c.mu.Unlock()
		if complete {
			return nil
		}
		if err := c.sendComplete(ctx, sess); err != errSessionDead {
			return err
		}
	}
}

// sendComplete is RECLAIM_COMPLETE of all file systems.
func (c *Client) sendComplete(ctx context.Context, sess *session) error {
	err := c.runOn(ctx, sess, &request{
		cred:    c.cfg.Cred,
		patient: reclaimPatience,
		sticky:  true,
		build:   fixed([]nfs4.Args{&nfs4.ReclaimCompleteArgs{}}),
	})
	// COMPLETE_ALREADY: an earlier try had arrived.
	if err != nil && !errors.Is(err, nfs4.NFS4ERR_COMPLETE_ALREADY) {
		return err
	}
	c.mu.Lock()
	c.completed = sess.incarnation
	c.mu.Unlock()
	c.identityChanged()
	return nil
}
