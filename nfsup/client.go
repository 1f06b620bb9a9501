package nfsup

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
)

// A Client is one NFSv4.1 client at one server. All methods may be called at once.
//
// Lock order: turns (open, then lock), then Client.mu or stateTable.mu. No mutex is held across
// I/O, nor when code of others runs.
type Client struct {
	cfg    Config
	ctx    context.Context // ends with the client; its cause is ErrClosed or what killed it
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // all goroutines

	state    stateTable
	tellTurn sync.Mutex  // of StateChanged; it is never held while anything waits for the server
	resumed  *resumption // immutable once the client works; nil if it was not resumed
	stats    stats

	chores     chores
	rcTurn     turn // of ReclaimComplete
	reconnects atomic.Uint64
	replays    atomic.Uint64
	rtt        atomic.Int64 // smoothed, ns
	renewed    atomic.Int64 // when the last SEQUENCE that was answered was sent, Unix ns
	backUp     atomic.Bool
	closing    atomic.Bool
	leaving    atomic.Bool // DESTROY_SESSION is on its way: that it is gone is no news

	mu      sync.Mutex
	changed chan struct{} // closed and replaced whenever something below changes; +checklocks:mu
	sess    *session      // the one that links bind to; nil while there is none; +checklocks:mu
	ready   bool          // the gate: requests may use sess; +checklocks:mu
	links   []*link       // immutable after Dial; what is in them: +checklocks:mu
	rotate  int           // +checklocks:mu
	ended   bool          // no more goroutines; +checklocks:mu

	// What EXCHANGE_ID and CREATE_SESSION gave. +checklocks:mu for all
	minor       uint32
	clientID    uint64
	lastID      uint64           // the last that was not zero
	confirmed   bool             // clientID has had a session
	csaNext     uint32           // csa_sequence of the next CREATE_SESSION
	csaTop      uint32           // the highest that may have been sent; csaNext-1 if all were answered
	counts      bool             // see Identity.Counts
	old         []nfs4.SessionID // of this client ID, not known to be destroyed
	verifier    [8]byte
	flags       uint32 // eia_flags in use
	resFlags    uint32 // eir_flags
	serverOwner nfs4.ServerOwner
	serverScope string
	serverImpl  string
	lease       time.Duration
	absence     time.Duration
	reclaimCap  time.Duration
	incarnation uint32 // counts confirmed client IDs
	completed   uint32 // the incarnation that RECLAIM_COMPLETE was sent for
	recovering  bool
}

// Dial connects, makes a client ID and a session, and, unless that is delayed, sends
// RECLAIM_COMPLETE. When it returns the client works. ctx bounds Dial only. A server that cannot be
// reached is an error at once: whoever wants to wait for it calls again.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	cfg.setDefaults()
	switch {
	case cfg.Addr == "":
		return nil, errors.New("nfsup: no address")
	case len(cfg.OwnerID) == 0 || len(cfg.OwnerID) > nfs4.OpaqueLimit:
		return nil, fmt.Errorf("nfsup: owner of %d bytes, must be 1 to %d", len(cfg.OwnerID), nfs4.OpaqueLimit)
	case cfg.Cred == nil:
		return nil, errors.New("nfsup: no credential")
	case cfg.MinorVersion > 2:
		return nil, fmt.Errorf("nfsup: minor version %d, must be 1 or 2", cfg.MinorVersion)
	}
	c := &Client{
		cfg:     cfg,
		chores:  chores{ask: make(chan chore, 1)},
		changed: make(chan struct{}),
	}
	c.beNew()
	c.ctx, c.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	c.state.init(!cfg.DelayReclaimComplete)
	c.state.records.init(cfg.Journal.StateChanged != nil)
	for i := range cfg.NConnect {
		c.links = append(c.links, &link{index: i})
	}

	if err := c.start(ctx); err != nil {
		c.end(err)
		return nil, err
	}
	return c, nil
}

// beNew makes the client one that the server has not seen: its verifier says that nothing is held.
func (c *Client) beNew() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.verifier = c.cfg.Verifier
	c.minor = c.cfg.MinorVersion
	c.flags = nfs4.EXCHGID4_FLAG_USE_NON_PNFS
	if c.cfg.Retain {
		c.flags |= nfs4.EXCHGID4_FLAG_RETAIN_STATE
	}
	c.clientID, c.confirmed, c.csaNext, c.csaTop, c.counts, c.old = 0, false, 0, 0, false, nil
}

// start makes the first session and opens the gate.
func (c *Client) start(ctx context.Context) error {
	sess, resumed, err := c.first(ctx)
	if err != nil {
		return err
	}
	for _, l := range c.links {
		c.spawn(func() { c.keepLink(l) })
	}
	if c.cfg.Journal.StateChanged != nil {
		c.spawn(c.keepRecords)
	}
	if resumed {
		err = c.sweep(ctx, sess)
	}
	if err == nil {
		err = c.settle(ctx, sess, nil)
	}
	if err != nil {
		if errors.Is(err, errSessionDead) {
			err = fmt.Errorf("nfsup: session lost at once: %w", sess.why())
		}
		return err
	}
	c.openGate(sess)
	c.spawn(func() { c.keep(sess) })
	i := c.Info()
	c.say("connected to %s: NFSv4.%d, lease %v, %d slots, %d connections, retention %v",
		i.Addr, i.MinorVersion, i.Lease, i.Slots, c.cfg.NConnect, i.RetainGranted)
	return nil
}

// Close gives back all locks and opens, the session and the client ID, as far as the server answers
// before ctx ends. After it, calls return ErrClosed.
func (c *Client) Close(ctx context.Context) error {
	if c.ctx.Err() != nil {
		return nil
	}
	first := c.closing.CompareAndSwap(false, true)
	var err error
	if first {
		c.returnAll(ctx)
		err = errors.Join(c.closeState(ctx), c.destroy(ctx))
		c.tellState()
	}
	c.end(ErrClosed)
	return err
}

// Abandon ends the client like kill -9 would: the server hears nothing.
func (c *Client) Abandon() { c.end(ErrClosed) }

// end stops all goroutines and waits for them.
func (c *Client) end(why error) {
	c.stop(why)
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.wg.Wait()
}

// spawn starts a goroutine that end waits for; false if there are to be none any more.
func (c *Client) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	c.wg.Go(f)
	return true
}

// stop makes every call fail from now on.
func (c *Client) stop(why error) {
	c.cancel(why)
	c.mu.Lock()
	sess := c.sess
	c.mu.Unlock()
	if sess != nil {
		sess.kill(why)
	}
	c.dropLinks()
}

// die ends the client for good.
func (c *Client) die(why error) {
	if c.ctx.Err() != nil {
		return
	}
	c.cfg.Logger.Error("the client of the origin has ended", "why", why)
	c.stop(why)
	if f := c.cfg.Events.Dead; f != nil {
		f(why)
	}
}

// destroy is DESTROY_SESSION (18.37) and DESTROY_CLIENTID (18.50), both alone in their COMPOUND.
func (c *Client) destroy(ctx context.Context) error {
	sess, err := c.gate(ctx)
	if err != nil {
		return err
	}
	conn, _, err := c.pick(ctx, sess)
	if err != nil {
		return err
	}
	c.leaving.Store(true)
	for _, op := range []nfs4.Args{
		&nfs4.DestroySessionArgs{SessionID: sess.id},
		&nfs4.DestroyClientidArgs{ClientID: sess.clientID},
	} {
		b := backoff{first: 20 * time.Millisecond, max: time.Second}
		for try := 1; ; try++ {
			_, err := c.raw(ctx, conn, op)
			if err == nil {
				break
			}
			c.cfg.Logger.Debug("leaving the origin", "op", op.Op(), "err", err)
			switch s, _ := StatusOf(err); s {
			case nfs4.NFS4ERR_CONN_NOT_BOUND_TO_SESSION:
				// 18.37.3 wants a connection of the session. nfs-ganesha notes 16 addresses for a session
				// (NFS41_MAX_CONNECTIONS). Seen with 4.3: once a client had connected more often than that,
				// binding anew did not help any more.
				if try == 3 {
					c.cfg.Logger.Warn("the session stays at the origin until its lease ends", "err", err)
					return nil
				}
				if err := c.bind(conn, sess, nfs4.CDFC4_FORE); err != nil {
					return err
				}
				fallthrough
			case nfs4.NFS4ERR_DELAY, nfs4.NFS4ERR_BACK_CHAN_BUSY, nfs4.NFS4ERR_CLIENTID_BUSY:
				if err := b.wait(ctx, c.cfg.Clock); err != nil {
					return err
				}
				continue
			}
			return fmt.Errorf("nfsup: %v: %w", op.Op(), err)
		}
	}
	return nil
}

// notify wakes all that wait for a change.
//
// +checklocks:c.mu
func (c *Client) notify() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// gate waits until requests may be sent, and returns the session for them.
func (c *Client) gate(ctx context.Context) (*session, error) {
	for {
		c.mu.Lock()
		sess, ready, changed := c.sess, c.ready, c.changed
		c.mu.Unlock()
		if c.ctx.Err() != nil {
			return nil, context.Cause(c.ctx)
		}
		if ready && !sess.isDead() {
			return sess, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-c.ctx.Done():
			return nil, context.Cause(c.ctx)
		}
	}
}

func (c *Client) openGate(sess *session) {
	c.mu.Lock()
	c.sess, c.ready, c.recovering = sess, true, false
	c.notify()
	c.mu.Unlock()
}

// raw makes a COMPOUND without SEQUENCE on a connection: RFC 8881 2.10.2. The answers may be kept.
func (c *Client) raw(ctx context.Context, conn *rpc.Conn, ops ...nfs4.Args) ([]nfs4.Res, error) {
	c.mu.Lock()
	minor := c.minor
	c.mu.Unlock()
	var list []nfs4.Res
	var status nfs4.Status
	start := c.cfg.Clock.Now()
	err := conn.Call(ctx, &rpc.Call{Prog: nfs4.Program, Vers: nfs4.Version, Proc: nfs4.ProcCompound, Cred: *c.cfg.Cred},
		encodeCompound(minor, ops),
		decodeCompound(ops, func(s nfs4.Status, res []nfs4.Res) error { status, list = s, res; return nil }))
	if err != nil {
		return nil, err
	}
	c.stats.count(list, c.cfg.Clock.Now().Sub(start))
	if status != nfs4.NFS4_OK {
		i := max(len(list)-1, 0)
		return list, &StatusError{Op: ops[i].Op(), Status: status, Index: i}
	}
	return list, nil
}

// say tells people.
func (c *Client) say(format string, a ...any) {
	text := fmt.Sprintf(format, a...)
	c.cfg.Logger.Info(text)
	if f := c.cfg.Events.BootEvent; f != nil {
		f(text)
	}
}

// lapse is the lease, never zero.
func (c *Client) lapse() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lease <= 0 {
		return unknownLease
	}
	return c.lease
}

// unknownLease is what is believed before the server has told.
const unknownLease = 15 * time.Second
