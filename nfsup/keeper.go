package nfsup

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"holdfast/internal/nfs4"
)

// The keeper is the goroutine that renews the lease, remakes the session, and does the chores that
// the server asks for in the status flags of SEQUENCE.

// keep runs until the client ends.
func (c *Client) keep(sess *session) {
	for {
		tick, stop := after(c.cfg.Clock, c.untilRenewal())
		select {
		case <-c.ctx.Done():
			stop()
			return
		case <-sess.deadCh:
			stop()
			if sess = c.recover(sess); sess == nil {
				return
			}
		case ch := <-c.chores.ask:
			stop()
			c.doChore(sess, ch)
		case <-tick:
			c.doChore(sess, choreRenew)
		}
	}
}

// untilRenewal is the time until a third of the lease has passed since the last SEQUENCE (8.3).
func (c *Client) untilRenewal() time.Duration {
	third := c.lapse() / 3
	since := c.cfg.Clock.Now().Sub(time.Unix(0, c.renewed.Load()))
	if since >= third {
		return third / 4 // one is under way, or will be
	}
	return third - since
}

// LeaseExpires is when the lease ends if no request succeeds from now on. It errs on the early side:
// a lease counts from when the request that renewed it was sent.
func (c *Client) LeaseExpires() time.Time {
	return time.Unix(0, c.renewed.Load()).Add(c.lapse())
}

// renewedAt notes that a request sent at t has renewed the lease.
func (c *Client) renewedAt(t time.Time) {
	for old := c.renewed.Load(); t.UnixNano() > old && !c.renewed.CompareAndSwap(old, t.UnixNano()); old = c.renewed.Load() {
	}
}

// A chore is something to be done about the session or all state, not by the request that met it.
type chore uint32

const (
	choreRenew       chore = iota // SEQUENCE alone
	choreCheck                    // TEST_STATEID for everything
	choreBackChannel              // bind a connection for it anew
	numChores
)

// chores are asked for at any time and done one of each kind at once.
type chores struct {
	ask     chan chore
	running [numChores]atomic.Bool
	doneAt  [numChores]atomic.Int64 // Unix ns
}

// choreRest is how long a chore is not repeated on the word of a status flag, which stays up until the
// server has noticed that it was done.
const choreRest = 2 * time.Second

// askChore asks the keeper. It does not block: if it is busy, the next status flag will ask again.
func (c *Client) askChore(ch chore) {
	if c.chores.running[ch].Load() || c.cfg.Clock.Now().UnixNano()-c.chores.doneAt[ch].Load() < int64(choreRest) {
		return
	}
	select {
	case c.chores.ask <- ch:
	default:
	}
}

// doChore does it in a goroutine of its own, since it waits for the server.
func (c *Client) doChore(sess *session, ch chore) {
	if !c.chores.running[ch].CompareAndSwap(false, true) {
		return
	}
	end := func() {
		c.chores.doneAt[ch].Store(c.cfg.Clock.Now().UnixNano())
		c.chores.running[ch].Store(false)
	}
	ok := c.spawn(func() {
		defer end()
		var err error
		switch ch {
		case choreRenew:
			err = c.renew(c.ctx, sess)
		case choreCheck:
			err = c.checkAll(c.ctx, sess, false)
		case choreBackChannel:
			err = c.rebind(sess)
		}
		if err != nil && c.ctx.Err() == nil && !errors.Is(err, errSessionDead) {
			c.cfg.Logger.Warn("chore at the origin failed", "chore", ch, "err", err)
		}
	})
	if !ok {
		end()
	}
}

// renew is SEQUENCE alone.
func (c *Client) renew(ctx context.Context, sess *session) error {
	return c.runOn(ctx, sess, &request{cred: c.cfg.Cred, build: fixed(nil)})
}

// rebind gives the back channel a connection.
func (c *Client) rebind(sess *session) error {
	conn, l, err := c.pick(c.ctx, sess)
	if err != nil {
		return err
	}
	if err := c.bind(conn, sess, nfs4.CDFC4_FORE_OR_BOTH); err != nil {
		c.linkDown(l, conn, err) // its keeper tries with another connection
		return err
	}
	return nil
}

// sequenced takes what a successful SEQUENCE says: RFC 8881 18.46.3. start is when it was sent.
func (c *Client) sequenced(sess *session, r *nfs4.SequenceRes, start time.Time) {
	c.renewedAt(start)
	rtt := int64(c.cfg.Clock.Now().Sub(start))
	if old := c.rtt.Load(); old != 0 {
		rtt = old + (rtt-old)/8
	}
	c.rtt.Store(rtt)
	if limit, _, _ := sess.slots.use(); r.TargetHighestSlotID != uint32(limit-1) {
		sess.slots.setTarget(r.TargetHighestSlotID)
	}
	if r.StatusFlags != 0 {
		c.statusFlags(sess, r.StatusFlags)
	} else {
		c.backUp.Store(true)
	}
}

// statusFlags does the duty of each flag of SEQUENCE: RFC 8881 18.46.3.
func (c *Client) statusFlags(sess *session, f uint32) {
	if f&(nfs4.SEQ4_STATUS_CB_PATH_DOWN|nfs4.SEQ4_STATUS_CB_PATH_DOWN_SESSION) != 0 {
		c.backUp.Store(false)
		c.askChore(choreBackChannel)
	}
	if f&(nfs4.SEQ4_STATUS_EXPIRED_ALL_STATE_REVOKED|nfs4.SEQ4_STATUS_EXPIRED_SOME_STATE_REVOKED|
		nfs4.SEQ4_STATUS_ADMIN_STATE_REVOKED|nfs4.SEQ4_STATUS_RECALLABLE_STATE_REVOKED) != 0 {
		c.askChore(choreCheck)
	}
	if f&(nfs4.SEQ4_STATUS_EXPIRED_ALL_STATE_REVOKED|nfs4.SEQ4_STATUS_EXPIRED_SOME_STATE_REVOKED|nfs4.SEQ4_STATUS_ADMIN_STATE_REVOKED) != 0 {
		c.state.count(func() { c.state.taint(c, errRevokedFlag) })
	}
	if f&nfs4.SEQ4_STATUS_BACKCHANNEL_FAULT != 0 {
		// Drain, destroy and remake: the keeper does that with any dead session.
		sess.kill(errBackChannelFault)
	}
	if f&nfs4.SEQ4_STATUS_RESTART_RECLAIM_NEEDED != 0 {
		// The server restarted and kept the session. The flag stands until RECLAIM_COMPLETE, so it is
		// news only where that was sent before.
		c.mu.Lock()
		news := c.completed == sess.incarnation
		c.mu.Unlock()
		if news {
			sess.kill(errReclaimNeeded)
		}
	}
	if f&nfs4.SEQ4_STATUS_LEASE_MOVED != 0 {
		c.cfg.Logger.Warn("a file system of the origin has moved; that is not followed")
	}
}

var (
	errBackChannelFault = errors.New("nfsup: the server met an error in the back channel")
	errRevokedFlag      = errors.New("nfsup: the server says that it revoked state")
	errReclaimNeeded    = errors.New("nfsup: the server restarted and kept the session")
)
