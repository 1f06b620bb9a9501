package nfsup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
)

// A session is one session at the server, RFC 8881 2.10. It is never healed: when it is lost, another
// takes its place.
type session struct {
	id          nfs4.SessionID
	clientID    uint64
	incarnation uint32
	minor       uint32
	slots       *slotTable
	maxOps      int
	maxRequest  int // bytes, as the next
	maxResponse int
	back        cbTable

	deadCh chan struct{} // closed when it is lost
	mu     sync.Mutex
	err    error // why; +checklocks:mu
}

func (s *session) isDead() bool {
	select {
	case <-s.deadCh:
		return true
	default:
		return false
	}
}

// why is the reason of its death.
func (s *session) why() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// kill declares the session lost. The keeper sees that, and so does everyone who waits for it.
func (s *session) kill(why error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = why
	close(s.deadCh)
	s.mu.Unlock()
	s.slots.kill()
}

// establish makes a session, and a client ID if there is none or the server has forgotten it. fresh
// says that the client ID is new, so that all state has to be reclaimed. The connection that carried
// it becomes the first link's. Only Dial and the keeper call it, one at a time.
func (c *Client) establish(ctx context.Context) (sess *session, fresh bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, establishTime, errors.New("nfsup: no session in time"))
	defer cancel()
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, false, err
	}
	defer func() {
		if err != nil {
			_ = conn.Close()
		}
	}()
	sess, fresh, err = c.establishOn(ctx, conn)
	return sess, fresh, err
}

// establishOn is establish on a connection.
func (c *Client) establishOn(ctx context.Context, conn *rpc.Conn) (sess *session, fresh bool, err error) {
	forgotten, misordered := 0, 0
	for {
		c.mu.Lock()
		known, check := c.clientID != 0, c.confirmed && c.counts
		c.mu.Unlock()
		switch {
		case !known:
			err = c.exchangeID(ctx, conn)
		case check:
			err = c.recount(ctx, conn)
		default:
			err = nil
		}
		if err != nil {
			return nil, false, err
		}
		sess, fresh, err = c.createSession(ctx, conn)
		if err == nil {
			err = c.firstUse(ctx, conn, sess, fresh)
		}
		if err == nil {
			c.adopt(sess, conn)
			return sess, fresh, nil
		}
		switch s, _ := StatusOf(err); s {
		case nfs4.NFS4ERR_STALE_CLIENTID, nfs4.NFS4ERR_EXPIRED, nfs4.NFS4ERR_BADSESSION:
			// 8.4.2: the server does not know us any more.
			forgotten++
			if forgotten > 2 {
				return nil, false, err
			}
		case nfs4.NFS4ERR_SEQ_MISORDERED:
			// Somebody else counts too, or the server lost count: ask it.
			misordered++
			if misordered > 2 {
				return nil, false, err
			}
			c.cfg.Logger.Warn("the origin counts CREATE_SESSION otherwise than we do")
			if err := c.recount(ctx, conn); err != nil {
				return nil, false, err
			}
			continue
		default:
			return nil, false, err
		}
		c.mu.Lock()
		c.clientID, c.confirmed = 0, false
		c.mu.Unlock()
	}
}

// establishTime bounds one attempt at a session.
const establishTime = 20 * time.Second

// exchangeID is EXCHANGE_ID, RFC 8881 18.35. It sets clientID and what comes with it.
func (c *Client) exchangeID(ctx context.Context, conn *rpc.Conn) error {
	r, err := c.askExchangeID(ctx, conn)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.incarnation > 0 && r.Flags&nfs4.EXCHGID4_FLAG_CONFIRMED_R != 0 && r.ClientID != c.lastID {
		// Not by us: 18.35.4 case 2 with an ID that we never had.
		return &fatalError{fmt.Errorf("%w: it has confirmed another client ID", ErrUsurped)}
	}
	c.learnClient(r)
	return nil
}

// learnClient takes the answer to EXCHANGE_ID for a client ID that has had no session from us.
//
// +checklocks:c.mu
func (c *Client) learnClient(r *nfs4.ExchangeIDRes) {
	c.clientID, c.lastID = r.ClientID, r.ClientID
	c.resFlags = r.Flags
	c.csaNext = r.SequenceID // 18.36.4: the first CREATE_SESSION of an unconfirmed ID carries it
	c.csaTop = c.csaNext - 1
	c.confirmed = false
	c.old = nil // they died with the client ID
	if r.ImplID != nil {
		c.serverImpl = r.ImplID.Domain + " " + r.ImplID.Name
	}
	if c.serverScope != "" && c.serverScope != r.ServerScope {
		// 8.4.2.1: state of another scope must not be reclaimed.
		c.state.forbidReclaim(fmt.Errorf("nfsup: the server's scope changed: %w", nfs4.NFS4ERR_NO_GRACE))
	}
	c.serverOwner, c.serverScope = r.ServerOwner, r.ServerScope
}

// recount compares the server's count of CREATE_SESSION for the present client ID with ours, before
// another session is made and after the server did not like the number. The count is an epoch: if it is
// ahead of all that we have sent, another process has gone on as this client while this one slept, and
// this one must end. Its next number would be answered by that one's session (18.36.4).
func (c *Client) recount(ctx context.Context, conn *rpc.Conn) error {
	r, err := c.askExchangeID(ctx, conn)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	confirmed := r.Flags&nfs4.EXCHGID4_FLAG_CONFIRMED_R != 0
	switch {
	case !confirmed:
		c.learnClient(r) // the server has forgotten us
	case c.confirmed && r.ClientID != c.clientID:
		return &fatalError{fmt.Errorf("%w: it has confirmed another client ID", ErrUsurped)}
	case c.confirmed && c.counts && newer(r.SequenceID, c.csaTop+1):
		return &fatalError{fmt.Errorf("%w: it has made session %d, and this process has asked for %d at most", ErrUsurped, r.SequenceID-1, c.csaTop)}
	case c.confirmed && c.counts && newer(r.SequenceID, c.csaNext):
		// What was sent and not answered was executed. The number is sent again, to learn the session.
		c.csaNext = r.SequenceID - 1
	default:
		c.clientID, c.lastID, c.csaNext, c.resFlags = r.ClientID, r.ClientID, r.SequenceID, r.Flags
	}
	return nil
}

// firstUse finds out whether a session is really new, and makes that durable. A session of a confirmed
// client ID may be somebody else's, handed to us as a replayed answer: then its slots have moved on.
func (c *Client) firstUse(ctx context.Context, conn *rpc.Conn, sess *session, fresh bool) error {
	if !fresh {
		c.mu.Lock()
		known := slices.Contains(c.old, sess.id)
		c.mu.Unlock()
		err := error(nil)
		if !known {
			_, err = c.raw(ctx, conn, &nfs4.SequenceArgs{SessionID: sess.id, SequenceID: 1})
		}
		switch s, answered := StatusOf(err); {
		case known, s == nfs4.NFS4ERR_SEQ_MISORDERED, s == nfs4.NFS4ERR_BADSESSION, s == nfs4.NFS4ERR_SEQ_FALSE_RETRY:
			return &fatalError{fmt.Errorf("%w: the session that it gave is not new", ErrUsurped)}
		case err != nil && !answered:
			return err
		case err == nil:
			sess.slots.seq[0] = 1
		}
	} else if r, err := c.askExchangeID(ctx, conn); err == nil {
		// Does it tell the count when it need not? 18.35.3 lets it.
		c.mu.Lock()
		c.counts = r.Flags&nfs4.EXCHGID4_FLAG_CONFIRMED_R != 0 && r.ClientID == c.clientID && r.SequenceID == c.csaNext
		c.mu.Unlock()
	} else if _, answered := StatusOf(err); !answered {
		return err
	}
	c.mu.Lock()
	c.old = append(c.old, sess.id)
	c.mu.Unlock()
	if f := c.cfg.Journal.SessionCreated; f != nil {
		if err := f(ctx, c.Identity()); err != nil {
			return &fatalError{fmt.Errorf("nfsup: after CREATE_SESSION: %w", err)}
		}
	}
	return nil
}

// askExchangeID negotiates the minor version and the retention flag as well.
func (c *Client) askExchangeID(ctx context.Context, conn *rpc.Conn) (*nfs4.ExchangeIDRes, error) {
	b := backoff{first: 50 * time.Millisecond, max: time.Second}
	for {
		c.mu.Lock()
		args := &nfs4.ExchangeIDArgs{
			Owner:  nfs4.ClientOwner{Verifier: c.verifier, ID: string(c.cfg.OwnerID)},
			Flags:  c.flags,
			ImplID: &nfs4.ImplID{Domain: "holdfast", Name: "holdfast"},
		}
		minor := c.minor
		c.mu.Unlock()
		list, err := c.raw(ctx, conn, args)
		if err == nil {
			return list[0].(*nfs4.ExchangeIDRes), nil
		}
		switch s, _ := StatusOf(err); {
		case s == nfs4.NFS4ERR_MINOR_VERS_MISMATCH && minor > 1:
			c.mu.Lock()
			c.minor--
			c.mu.Unlock()
		case s == nfs4.NFS4ERR_INVAL && args.Flags&nfs4.EXCHGID4_FLAG_RETAIN_STATE != 0:
			// 18.35.3: a server that does not know the bit says so like this.
			c.mu.Lock()
			c.flags &^= nfs4.EXCHGID4_FLAG_RETAIN_STATE
			c.mu.Unlock()
		case s == nfs4.NFS4ERR_DELAY:
			if err := b.wait(ctx, c.cfg.Clock); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("nfsup: EXCHANGE_ID: %w", err)
		}
	}
}

// createSession is CREATE_SESSION, RFC 8881 18.36.
//
// NFS4ERR_DELAY is ambiguous: knfsd gives the number back, a server by the letter has used it up and
// would replay the DELAY for ever. So the same number is tried again, and now and then the next one.
func (c *Client) createSession(ctx context.Context, conn *rpc.Conn) (*session, bool, error) {
	const overhead = 4096 // around the payload of one READ or WRITE
	b := backoff{first: 50 * time.Millisecond, max: time.Second}
	ahead := false // trying the next number after DELAY
	for try := 1; ; try++ {
		id := c.Identity()
		if ahead {
			id.CsaSequence++
		}
		id.Unanswered = true
		c.mu.Lock()
		if newer(id.CsaSequence, c.csaTop) {
			c.csaTop = id.CsaSequence
		}
		c.mu.Unlock()
		if f := c.cfg.Journal.BeforeCreateSession; f != nil {
			if err := f(ctx, id); err != nil {
				err = &fatalError{fmt.Errorf("nfsup: before CREATE_SESSION: %w", err)}
				return nil, false, err
			}
		}
		cred := c.cfg.Cred
		args := &nfs4.CreateSessionArgs{
			ClientID: id.ClientID,
			Sequence: id.CsaSequence,
			Flags:    nfs4.CREATE_SESSION4_FLAG_CONN_BACK_CHAN,
			ForeChan: nfs4.ChannelAttrs{
				MaxRequestSize:        uint32(c.cfg.MaxWrite + overhead),
				MaxResponseSize:       uint32(c.cfg.MaxRead + overhead),
				MaxResponseSizeCached: overhead,
				MaxOperations:         64,
				MaxRequests:           uint32(min(c.cfg.Slots, 1024)),
			},
			BackChan: nfs4.ChannelAttrs{
				MaxRequestSize:        overhead,
				MaxResponseSize:       overhead,
				MaxResponseSizeCached: overhead,
				MaxOperations:         16,
				MaxRequests:           cbSlots,
			},
			CBProgram: nfs4.CBProgram,
			SecParms: []nfs4.CallbackSecParms{{Flavor: nfs4.AUTH_SYS, Sys: nfs4.AuthSys{
				Machine: cred.Machine, UID: cred.UID, GID: cred.GID,
			}}},
		}
		start := c.cfg.Clock.Now()
		list, err := c.raw(ctx, conn, args)
		if err == nil {
			c.renewedAt(start)
			return c.newSession(args, list[0].(*nfs4.CreateSessionRes))
		}
		switch s, _ := StatusOf(err); {
		case s == nfs4.NFS4ERR_DELAY:
			if ahead { // taken and used up
				c.mu.Lock()
				c.csaNext = args.Sequence
				c.mu.Unlock()
			}
			ahead = try%3 == 0
			if err := b.wait(ctx, c.cfg.Clock); err != nil {
				return nil, false, err
			}
		case s == nfs4.NFS4ERR_SEQ_MISORDERED && ahead:
			ahead = false
		default:
			return nil, false, fmt.Errorf("nfsup: CREATE_SESSION: %w", err)
		}
	}
}

// newSession takes what CREATE_SESSION answered.
func (c *Client) newSession(a *nfs4.CreateSessionArgs, r *nfs4.CreateSessionRes) (*session, bool, error) {
	fore := r.ForeChan
	if fore.MaxRequests == 0 || fore.MaxOperations < 4 || fore.MaxRequestSize < 1024 || fore.MaxResponseSize < 1024 {
		return nil, false, fmt.Errorf("nfsup: the server's session is too small: %+v", fore)
	}
	c.mu.Lock()
	fresh := !c.confirmed
	if fresh {
		c.confirmed = true
		c.incarnation++
	}
	c.csaNext = a.Sequence + 1
	c.csaTop = a.Sequence
	sess := &session{
		id:          r.SessionID,
		clientID:    a.ClientID,
		incarnation: c.incarnation,
		minor:       c.minor,
		slots:       newSlotTable(int(min(fore.MaxRequests, a.ForeChan.MaxRequests))),
		maxOps:      int(min(fore.MaxOperations, a.ForeChan.MaxOperations)),
		maxRequest:  int(min(fore.MaxRequestSize, a.ForeChan.MaxRequestSize)),
		maxResponse: int(min(fore.MaxResponseSize, a.ForeChan.MaxResponseSize)),
		deadCh:      make(chan struct{}),
	}
	sess.back.init(int(min(max(r.BackChan.MaxRequests, 1), cbSlots)))
	c.mu.Unlock()
	c.backUp.Store(r.Flags&nfs4.CREATE_SESSION4_FLAG_CONN_BACK_CHAN != 0)
	c.state.setClientID(a.ClientID)
	return sess, fresh, nil
}

// A fatalError ends the client for good.
type fatalError struct{ err error }

func (e *fatalError) Error() string { return e.err.Error() }
func (e *fatalError) Unwrap() error { return e.err }
