package nfsup

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
)

// A link is one of the NConnect connections, through all its lives. keepLink brings it up again.
type link struct {
	index int

	// Guarded by Client.mu.
	conn *rpc.Conn // nil: down
	sess *session  // what conn is bound to
	err  error     // why it was last down

	outstanding atomic.Int32
	answers     atomic.Uint64 // counts answers: the watchdog looks whether it moves
}

// errStalled says that a connection gave no sign of life in time.
var errStalled = errors.New("nfsup: the server does not answer")

// dial opens a connection and gives it our back channel handler.
func (c *Client) dial(ctx context.Context) (*rpc.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.ConnectTime, errors.New("nfsup: no connection in time"))
	defer cancel()
	nc, err := c.cfg.Dial(ctx, c.cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("nfsup: connect to %s: %w", c.cfg.Addr, err)
	}
	return rpc.NewConn(nc, rpc.Options{
		MaxRecord: c.cfg.MaxRead + 64<<10,
		Handler:   rpc.HandlerFunc(c.serveCallback),
	}), nil
}

// adopt makes sess the one that links bind to, and conn, which made it and so is bound to it for both
// channels (18.36.3), the first link's.
func (c *Client) adopt(sess *session, conn *rpc.Conn) {
	l := c.links[0]
	c.mu.Lock()
	old := l.conn
	c.sess = sess
	l.conn, l.sess, l.err = conn, sess, nil
	c.notify()
	c.mu.Unlock()
	if old != nil {
		_ = old.Close()
	}
	c.linkUp(l)
}

func (c *Client) linkUp(l *link) {
	if f := c.cfg.Events.Connected; f != nil {
		f(l.index)
	}
}

// keepLink keeps a link connected and bound to the present session until the client ends.
func (c *Client) keepLink(l *link) {
	b := backoff{first: 20 * time.Millisecond, max: time.Second}
	for c.ctx.Err() == nil {
		c.mu.Lock()
		conn, bound, sess, changed := l.conn, l.sess, c.sess, c.changed
		c.mu.Unlock()
		switch {
		case conn != nil && bound == sess && !sess.isDead():
			b.reset()
			c.watch(l, conn, changed)
		case sess == nil || sess.isDead():
			// The keeper closes what still hangs on a dead session when that has drained.
			select {
			case <-changed:
			case <-c.ctx.Done():
			}
		default:
			if conn != nil {
				c.linkDown(l, conn, rpc.ErrClosed)
			}
			if err := c.connect(l, sess); err != nil {
				c.mu.Lock()
				l.err = err
				c.mu.Unlock()
				c.cfg.Logger.Debug("connection attempt failed", "conn", l.index, "err", err)
				if b.wait(c.ctx, c.cfg.Clock) != nil {
					return
				}
			}
		}
	}
}

// watch waits until conn ends, or something changed. As long as requests are outstanding and no
// answer comes, it asks for a sign of life (procedure NULL): after a partition, TCP alone can take
// longer than a lease to find out.
func (c *Client) watch(l *link, conn *rpc.Conn, changed <-chan struct{}) {
	stall := min(max(c.lapse()/6, time.Second), 15*time.Second)
	for {
		seen := l.answers.Load()
		tick, stop := after(c.cfg.Clock, stall)
		select {
		case <-conn.Done():
			stop()
			c.linkDown(l, conn, conn.Err())
			return
		case <-changed:
			stop()
			return
		case <-c.ctx.Done():
			stop()
			return
		case <-tick:
		}
		if l.outstanding.Load() > 0 && l.answers.Load() == seen {
			if err := c.ping(conn, stall); err != nil {
				conn.CloseWithError(err)
			}
		}
	}
}

// ping asks for a sign of life.
func (c *Client) ping(conn *rpc.Conn, d time.Duration) error {
	ctx, cancel := context.WithCancelCause(c.ctx)
	defer cancel(nil)
	t := c.cfg.Clock.AfterFunc(d, func() { cancel(errStalled) })
	defer t.Stop()
	return conn.Call(ctx, &rpc.Call{Prog: nfs4.Program, Vers: nfs4.Version, Proc: nfs4.ProcNull}, nil, nil)
}

// linkDown takes a connection out of use.
func (c *Client) linkDown(l *link, conn *rpc.Conn, why error) {
	_ = conn.Close()
	c.mu.Lock()
	was := l.conn == conn
	if was {
		l.conn, l.sess, l.err = nil, nil, why
		c.notify()
	}
	c.mu.Unlock()
	if was && c.ctx.Err() == nil {
		c.reconnects.Add(1)
		if f := c.cfg.Events.Disconnected; f != nil {
			f(l.index, why)
		}
	}
}

// connect opens a connection and binds it, RFC 8881 18.34. The first two carry the back channel too.
func (c *Client) connect(l *link, sess *session) error {
	conn, err := c.dial(c.ctx)
	if err != nil {
		return err
	}
	dir := uint32(nfs4.CDFC4_FORE)
	if l.index < 2 {
		dir = nfs4.CDFC4_FORE_OR_BOTH
	}
	if err := c.bind(conn, sess, dir); err != nil {
		_ = conn.Close()
		return err
	}
	c.mu.Lock()
	if c.sess != sess || c.ctx.Err() != nil {
		c.mu.Unlock()
		_ = conn.Close()
		return nil // another session meanwhile: next round
	}
	l.conn, l.sess, l.err = conn, sess, nil
	c.notify()
	c.mu.Unlock()
	c.linkUp(l)
	return nil
}

// bind is BIND_CONN_TO_SESSION. An error means that the connection must not be used.
func (c *Client) bind(conn *rpc.Conn, sess *session, dir uint32) error {
	ctx, cancel := context.WithCancelCause(c.ctx)
	defer cancel(nil)
	t := c.cfg.Clock.AfterFunc(c.cfg.ConnectTime, func() { cancel(errStalled) })
	defer t.Stop()
	list, err := c.raw(ctx, conn, &nfs4.BindConnToSessionArgs{SessionID: sess.id, Dir: dir})
	if err == nil {
		r := list[0].(*nfs4.BindConnToSessionRes)
		if r.Dir == nfs4.CDFS4_BOTH || r.Dir == nfs4.CDFS4_BACK {
			c.backUp.Store(true)
		}
		return nil
	}
	switch s, ok := StatusOf(err); {
	case !ok:
		return err
	case sessionLost(s):
		// Unless this connection alone came to another server: then the session works elsewhere.
		if c.alive(sess) {
			c.askChore(choreRenew)
		} else {
			sess.kill(err)
		}
		return err
	case s == nfs4.NFS4ERR_NOTSUPP, s == nfs4.NFS4ERR_INVAL:
		// It can carry the fore channel all the same: a SEQUENCE binds it (2.10.3.1).
		return nil
	default:
		return err
	}
}

// sessionLost tells whether a status of SEQUENCE or BIND_CONN_TO_SESSION means that there is no such
// session any more. Some servers say EXPIRED when the lease has ended.
func sessionLost(s nfs4.Status) bool {
	switch s {
	case nfs4.NFS4ERR_BADSESSION, nfs4.NFS4ERR_DEADSESSION, nfs4.NFS4ERR_STALE_CLIENTID, nfs4.NFS4ERR_EXPIRED:
		return true
	}
	return false
}

// alive tells whether any connection is bound to sess.
func (c *Client) alive(sess *session) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.links {
		if l.conn != nil && l.sess == sess {
			return true
		}
	}
	return false
}

// pick waits for a connection that is bound to sess and returns the one with the least to do.
func (c *Client) pick(ctx context.Context, sess *session) (*rpc.Conn, *link, error) {
	for {
		c.mu.Lock()
		var best *link
		c.rotate++
		for i := range c.links {
			l := c.links[(i+c.rotate)%len(c.links)]
			if l.conn != nil && l.sess == sess && l.conn.Err() == nil && (best == nil || l.outstanding.Load() < best.outstanding.Load()) {
				best = l
			}
		}
		var conn *rpc.Conn
		if best != nil {
			conn = best.conn
		}
		changed := c.changed
		c.mu.Unlock()
		if sess.isDead() {
			return nil, nil, errSessionDead
		}
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		if conn != nil {
			return conn, best, nil
		}
		select {
		case <-changed:
		case <-sess.deadCh:
		case <-ctx.Done():
		}
	}
}

// dropLinks closes all connections. Their keepers, if they still run, make new ones.
func (c *Client) dropLinks() {
	c.mu.Lock()
	var list []*rpc.Conn
	for _, l := range c.links {
		if l.conn != nil {
			list = append(list, l.conn)
		}
	}
	c.mu.Unlock()
	for _, conn := range list {
		_ = conn.Close()
	}
}
