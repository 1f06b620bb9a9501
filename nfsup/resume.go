package nfsup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/internal/broken"
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
)

// Resume is going on as an incarnation that died. A new verifier says "I have lost my state" (RFC 8881
// 8.4.1), and an ordinary server then drops it. But the state was not lost, it is in Opens and Locks:
// with the same verifier the server gives the confirmed record back as it is (18.35.4, case 2).
//
// What Dial does, in this order: EXCHANGE_ID as before; CREATE_SESSION with the next number, whose count
// tells whether somebody else went on as this client since Identity was written; DESTROY_SESSION of all
// sessions of the dead incarnation, whose requests may still be on their way; TEST_STATEID of everything.
// What the server does not hold any more is told by Events.Revoked.
//
// Reclaims of callers are then answered from the tables: what is there is held at the server, and
// always was. [Client.ReclaimComplete] gives back what was not reclaimed.
type Resume struct {
	Identity Identity
	Opens    []OpenState
	Locks    []LockState

	// Whole says that what Opens and Locks do not have may be missing because it was not written down
	// in time, and for no other reason. Then a reclaim of it is repeated as an ordinary request of the
	// same owner, which changes nothing at the server if the owner has it (18.16, 18.10), and otherwise
	// takes what no caller was told of. That is safe only because the client ID lives, and the server
	// never said that it revoked anything; if it did, the reclaim is refused.
	Whole bool
	// UnlessRetained tells the server by the new verifier that this is another incarnation, as long as
	// it agrees to keep the state (EXCHGID4_FLAG_RETAIN_STATE); only otherwise is it resumed. An
	// unconfirmed EXCHANGE_ID destroys nothing (18.35.4, case 5).
	UnlessRetained bool
	// Only makes it an error, a [*CannotResumeError], if the server still has the state and it cannot be
	// resumed. Otherwise the client then is a new incarnation, which may well cost that state. Where the
	// server has restarted, or has dropped the client, nothing is there to be lost or to be fenced: then
	// the client is a new incarnation in any case, and what the server says to its reclaims decides.
	Only bool
}

// ErrUsurped says that another process went on as this client: the journal was restored from a backup,
// or copied to another host, or this process slept while another took over. Nothing may be done in this
// client's name any more.
var ErrUsurped = errors.New("nfsup: the server knows of a later incarnation of this client than this process does")

// A CannotResumeError says why the last incarnation cannot be resumed.
type CannotResumeError struct {
	Why string
	// Gone says that the server does not have the client and its state any more: it has restarted, or
	// dropped them when the lease was over.
	Gone bool
}

func (e *CannotResumeError) Error() string {
	return "nfsup: the last incarnation cannot be resumed: " + e.Why
}

// resumption is the state of a client that was resumed.
type resumption struct {
	whole       bool
	completed   bool   // the dead incarnation had sent RECLAIM_COMPLETE
	incarnation uint32 // that is its own
	began       time.Time

	// Guarded by stateTable.mu.
	tainted error // the server revoked something, or said so
}

// first makes the first session of the client, resumed or new.
func (c *Client) first(ctx context.Context) (sess *session, resumed bool, err error) {
	r := c.cfg.Resume
	if r == nil {
		sess, _, err = c.establish(ctx)
		return sess, false, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, resumeTime, errors.New("nfsup: not resumed in time"))
	defer cancel()
	sess, resumed, err = c.resume(ctx, r)
	var cannot *CannotResumeError
	if errors.As(err, &cannot) && (cannot.Gone || !r.Only) {
		c.say("%v; going on as a new incarnation", cannot)
		c.beNew()
		sess, _, err = c.establish(ctx)
	}
	return sess, resumed, err
}

// resumeTime bounds one attempt, the fence included.
const resumeTime = 40 * time.Second

// resume does the steps up to the fence.
func (c *Client) resume(ctx context.Context, r *Resume) (sess *session, resumed bool, err error) {
	began := c.cfg.Clock.Now()
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, false, err
	}
	defer func() {
		if err != nil {
			_ = conn.Close()
		}
	}()
	if r.UnlessRetained {
		if err := c.exchangeID(ctx, conn); err != nil {
			return nil, false, err
		}
		c.mu.Lock()
		retained := c.resFlags&nfs4.EXCHGID4_FLAG_RETAIN_STATE != 0
		c.mu.Unlock()
		if retained {
			sess, _, err = c.establishOn(ctx, conn)
			return sess, false, err
		}
	}
	id := &r.Identity
	c.mu.Lock()
	c.verifier, c.flags = id.Verifier, id.Flags
	if id.MinorVersion != 0 {
		c.minor = id.MinorVersion
	}
	c.mu.Unlock()
	res, err := c.askExchangeID(ctx, conn)
	if err != nil {
		return nil, false, err
	}
	number, err := id.number(res)
	if err != nil {
		return nil, false, err
	}
	c.mu.Lock()
	c.learnClient(res)
	c.confirmed, c.counts = true, id.Counts
	c.csaNext, c.csaTop = number, number-1
	c.old = slices.Clone(id.Sessions)
	c.incarnation = 1
	if id.Completed {
		c.completed = 1
	}
	c.mu.Unlock()
	sess, _, err = c.createSession(ctx, conn)
	switch s, _ := StatusOf(err); s {
	case nfs4.NFS4ERR_SEQ_MISORDERED:
		return nil, false, fmt.Errorf("%w: it does not take CREATE_SESSION %d", ErrUsurped, number)
	case nfs4.NFS4ERR_STALE_CLIENTID, nfs4.NFS4ERR_EXPIRED, nfs4.NFS4ERR_BADSESSION:
		return nil, false, &CannotResumeError{Why: fmt.Sprintf("the origin dropped it: %v", err), Gone: true}
	}
	if err == nil {
		err = c.firstUse(ctx, conn, sess, false)
	}
	if err == nil && broken.NoResumeFence {
		c.mu.Lock()
		c.old = []nfs4.SessionID{sess.id}
		c.mu.Unlock()
	} else if err == nil {
		err = c.fence(ctx, id.Sessions)
	}
	if err != nil {
		return nil, false, err
	}
	c.resumed = &resumption{whole: r.Whole, completed: id.Completed, incarnation: sess.incarnation, began: began}
	c.state.restore(r, sess.incarnation)
	c.adopt(sess, conn)
	return sess, true, nil
}

// number is the csa_sequence to send, after EXCHANGE_ID has answered r.
func (id *Identity) number(r *nfs4.ExchangeIDRes) (uint32, error) {
	switch {
	case r.Flags&nfs4.EXCHGID4_FLAG_CONFIRMED_R == 0:
		return 0, &CannotResumeError{Why: "the origin does not know this client any more: it has restarted, or dropped it after its lease", Gone: true}
	case r.ClientID != id.ClientID:
		return 0, fmt.Errorf("%w: it knows client ID %#x, the journal has %#x", ErrUsurped, r.ClientID, id.ClientID)
	case !id.Counts:
		return id.CsaSequence, nil
	}
	ahead := int32(r.SequenceID - id.CsaSequence)
	switch {
	case ahead > 1, ahead > 0 && !id.Unanswered:
		return 0, fmt.Errorf("%w: it has made session %d, the journal knows of %d; the journal is an old copy, or a copy is in use elsewhere",
			ErrUsurped, r.SequenceID-1, id.CsaSequence-1)
	case ahead < 0:
		return r.SequenceID, nil // a try that the server did not execute
	}
	return id.CsaSequence, nil // if it was executed, it is answered again
}

// fence destroys the sessions of the dead incarnation. When it returns nil, no request of theirs runs at
// the server, and none will. The connection must be bound to the session (18.37.3), and is used for
// nothing else.
func (c *Client) fence(ctx context.Context, sessions []nfs4.SessionID) error {
	for _, id := range sessions {
		if err := c.fenceOne(ctx, id); err != nil {
			return err
		}
		c.destroyed(id)
	}
	return nil
}

func (c *Client) fenceOne(ctx context.Context, id nfs4.SessionID) error {
	var conn *rpc.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close()
		}
	}()
	b := backoff{first: 20 * time.Millisecond, max: time.Second}
	unbound := 0
	for {
		if conn == nil {
			var err error
			if conn, err = c.dial(ctx); err != nil {
				return err
			}
			_, err = c.raw(ctx, conn, &nfs4.BindConnToSessionArgs{SessionID: id, Dir: nfs4.CDFC4_FORE})
			switch s, answered := StatusOf(err); {
			case s == nfs4.NFS4ERR_BADSESSION, s == nfs4.NFS4ERR_DEADSESSION:
				return nil
			case err != nil && !answered:
				return fmt.Errorf("nfsup: fence: %w", err)
			}
			// If it was refused otherwise, DESTROY_SESSION tells.
		}
		_, err := c.raw(ctx, conn, &nfs4.DestroySessionArgs{SessionID: id})
		switch s, answered := StatusOf(err); {
		case err == nil, s == nfs4.NFS4ERR_BADSESSION, s == nfs4.NFS4ERR_DEADSESSION:
			return nil
		case !answered:
			return fmt.Errorf("nfsup: fence: %w", err)
		case s == nfs4.NFS4ERR_CONN_NOT_BOUND_TO_SESSION:
			// nfs-ganesha notes 16 addresses for a session (NFS41_MAX_CONNECTIONS), and binds no more.
			if unbound++; unbound == 3 {
				return &CannotResumeError{Why: "the origin refuses to destroy the session of the dead incarnation, whose requests could still arrive"}
			}
			_ = conn.Close()
			conn = nil
		case s != nfs4.NFS4ERR_DELAY && s != nfs4.NFS4ERR_BACK_CHAN_BUSY:
			return fmt.Errorf("nfsup: fence: %w", err)
		}
		if err := b.wait(ctx, c.cfg.Clock); err != nil {
			return fmt.Errorf("nfsup: fence: requests of the dead incarnation are still running: %w", err)
		}
	}
}

// restore puts the journalled state into the tables. Locks whose open is missing are left out: they are
// asked for again, if anybody does.
func (t *stateTable) restore(r *Resume, inc uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range r.Opens {
		s := &r.Opens[i]
		m := modes(s.Modes)
		if a, d := m.wire(); m == 0 || a != s.Access || d != s.Deny {
			m = mode(s.Access, s.Deny)
		}
		o := &openState{key: openKey{s.Owner, s.FH}, cred: s.Cred, stateid: s.Stateid, modes: m, inc: inc, resumed: true}
		t.opens[o.key] = o
	}
	for i := range r.Locks {
		s := &r.Locks[i]
		o := t.opens[openKey{s.OpenOwner, s.FH}]
		if o == nil {
			continue
		}
		l := &lockState{
			key: lockKey{s.LockOwner, s.FH}, open: o, cred: s.Cred, stateid: s.Stateid, has: true,
			set: slices.Clone(s.Ranges), resumed: true,
		}
		t.addLock(l)
	}
}

// sweep asks the server what it still holds of what was restored.
func (c *Client) sweep(ctx context.Context, sess *session) error {
	rec := Recovery{Resumed: true}
	c.mu.Lock()
	rec.Completed = c.completed == sess.incarnation
	c.mu.Unlock()
	opens, locks := c.count()
	if err := c.checkAll(ctx, sess, true); err != nil {
		return err
	}
	rec.Opens, rec.Locks = c.count()
	rec.LostOpens, rec.LostLocks = opens-rec.Opens, locks-rec.Locks
	rec.Took = c.cfg.Clock.Now().Sub(c.resumed.began)
	c.say("resumed the last incarnation in %v: %d opens and %d locks are held, %d opens and %d locks lost",
		rec.Took.Round(time.Millisecond), rec.Opens, rec.Locks, rec.LostOpens, rec.LostLocks)
	if f := c.cfg.Events.Recovered; f != nil {
		f(rec)
	}
	return nil
}

// count counts opens and locked ranges.
func (c *Client) count() (opens, locks int) {
	t := &c.state
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.locks {
		locks += len(l.set)
	}
	return len(t.opens), locks
}
