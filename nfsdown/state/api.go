package state

import (
	"context"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/journal"
)

// Errors of this package are nfs4.Status values, or *DeniedError, or the error that a backend or
// the journal gave to Settle.

// Server is all state of one NFS server.
type Server struct{ cfg Config }

// Client is a client ID, RFC 8881 2.4.
type Client struct{}

// Session is a session, RFC 8881 2.10.
type Session struct{}

// Request is a COMPOUND that runs in a slot.
type Request struct{}

func newServer(cfg Config, snap *journal.Snapshot) *Server { return &Server{cfg: cfg} }
func (e *Effects) add(o *Effects)                          {}
func (e *Effects) run(ctx context.Context, h Host)         {}

// --- client.go

// ExchangeID is EXCHANGE_ID, RFC 8881 18.35.4, all nine cases. The result's Status tells the outcome.
func (s *Server) ExchangeID(a *nfs4.ExchangeIDArgs, who Caller) (*nfs4.ExchangeIDRes, *Effects) {
	return nil, nil
}

// CreateSession is CREATE_SESSION, RFC 8881 18.36.4, with its own reply cache. The session is nil
// if it failed; a replayed answer comes with the session it made, if that still exists.
// On DELAY run the Effects at once: they interrupt what the client's last incarnation still runs.
func (s *Server) CreateSession(a *nfs4.CreateSessionArgs, who Caller) (*nfs4.CreateSessionRes, *Session, *Effects) {
	return nil, nil, nil
}

// DestroyClientID is DESTROY_CLIENTID, RFC 8881 18.50. via is the request it came in, or nil.
func (s *Server) DestroyClientID(id uint64, via *Request) (*Effects, error) { return nil, nil }

// PermanentClient gives a client that has no lease and no session, and is past its
// RECLAIM_COMPLETE once grace is over: for state that another protocol vouches for (NLM).
func (s *Server) PermanentClient(owner, principal string) (*Client, *Effects) { return nil, nil }

// ReleaseClient gives back all state of a client, as if its lease had ended, and forgets it.
func (s *Server) ReleaseClient(c *Client) *Effects { return nil }

// ID is the client ID.
func (c *Client) ID() uint64 { return 0 }

// Owner is the co_ownerid.
func (c *Client) Owner() string { return "" }

// Retain tells whether the client negotiated EXCHGID4_FLAG_RETAIN_STATE.
func (c *Client) Retain() bool { return false }

// A CompletePlan is a RECLAIM_COMPLETE that is to become durable.
type CompletePlan struct {
	Batch *journal.Batch // to Commit; nil if there is nothing to write
}

// PrepareReclaimComplete is RECLAIM_COMPLETE, RFC 8881 18.51. COMPLETE_ALREADY for the second one.
// oneFS has no effect here (no migration): the plan is nil and so is the error.
func (s *Server) PrepareReclaimComplete(c *Client, oneFS bool) (*CompletePlan, error) {
	return nil, nil
}

// Settle ends the plan: what was held for the client and was not reclaimed is released.
func (p *CompletePlan) Settle(journalErr error) (*Effects, error) { return nil, nil }

// --- session.go, slot.go

// Session finds a session: BADSESSION.
func (s *Server) Session(id nfs4.SessionID) (*Session, error) { return nil, nil }

// ID is the session ID.
func (ss *Session) ID() nfs4.SessionID { return nfs4.SessionID{} }

// Client is whose session it is.
func (ss *Session) Client() *Client { return nil }

// Fore is the fore channel as it was granted.
func (ss *Session) Fore() nfs4.ChannelAttrs { return nfs4.ChannelAttrs{} }

// Back is the back channel as it was granted.
func (ss *Session) Back() nfs4.ChannelAttrs { return nfs4.ChannelAttrs{} }

// Callback is the callback program and the credentials to use, as CREATE_SESSION or the last
// BACKCHANNEL_CTL gave them.
func (ss *Session) Callback() (program uint32, sec []nfs4.CallbackSecParms) { return 0, nil }

// SetCallback is BACKCHANNEL_CTL, RFC 8881 18.33.
func (ss *Session) SetCallback(program uint32, sec []nfs4.CallbackSecParms) {}

// SetBackChannel tells how many connections the back channel has now; zero shows in the status
// flags of SEQUENCE if the client ever asked for a back channel.
func (ss *Session) SetBackChannel(conns int) {}

// SetBackChannelFault makes SEQUENCE say SEQ4_STATUS_BACKCHANNEL_FAULT from now on.
func (ss *Session) SetBackChannelFault() {}

// BindConn is BIND_CONN_TO_SESSION, RFC 8881 18.34: dir is a CDFC4 value, granted a CDFS4 value.
func (s *Server) BindConn(id nfs4.SessionID, dir uint32, rdma bool) (ss *Session, granted uint32, err error) {
	return nil, 0, nil
}

// DestroySession is DESTROY_SESSION, RFC 8881 18.37: DELAY while requests run in it, other than via
// (the request that asks; nil if it came without SEQUENCE). bound tells whether the connection is
// bound to the session: CONN_NOT_BOUND_TO_SESSION.
func (s *Server) DestroySession(id nfs4.SessionID, via *Request, bound bool) (*Effects, error) {
	return nil, nil
}

// SequenceResult says what is to become of a COMPOUND.
type SequenceResult struct {
	Res nfs4.SequenceRes // the answer to SEQUENCE itself
	// Request is set if the rest of the COMPOUND is to run; call Done when it has.
	Request *Request
	// Replay is the whole answer to a retry, the bytes that Done was given. Do not change them.
	Replay []byte
	// Uncached: a retry whose answer was not kept. Answer Res, and RETRY_UNCACHED_REP to the
	// second operation if there is one (RFC 8881 2.10.6.1.3).
	Uncached bool
}

// Sequence is SEQUENCE, RFC 8881 18.46. fingerprint is a hash of the whole request and of its user;
// a retry with another one is SEQ_FALSE_RETRY. Errors: BADSESSION, BADSLOT, BAD_HIGH_SLOT,
// SEQ_MISORDERED, SEQ_FALSE_RETRY, DELAY (the first one still runs).
func (s *Server) Sequence(a *nfs4.SequenceArgs, fingerprint uint64) (*SequenceResult, error) {
	return nil, nil
}

// Session is where the request runs.
func (r *Request) Session() *Session { return nil }

// Client is whose request it is.
func (r *Request) Client() *Client { return nil }

// CacheThis tells whether the reply is to be kept: one longer than the session's
// MaxResponseSizeCached is then REP_TOO_BIG_TO_CACHE.
func (r *Request) CacheThis() bool { return false }

// Done ends the request with the reply that is about to be sent; reply is kept, not copied, if it
// is to be cached. The lease is renewed. Done is called once, also when no reply could be made (nil).
func (r *Request) Done(reply []byte) {}

// --- stateid.go

// IsSpecial tells whether sid is a special stateid, RFC 8881 8.2.3. The current stateid is the
// caller's to replace.
func IsSpecial(sid nfs4.Stateid) bool { return false }

// ResolveIO judges READ, WRITE or a SETATTR of the size under sid and gives the owners for the
// backend. c is nil for requests of other protocols, which have the anonymous stateid only. Errors:
// BAD_STATEID, OLD_STATEID, EXPIRED, ADMIN_REVOKED, OPENMODE, LOCKED, GRACE.
func (s *Server) ResolveIO(c *Client, sid nfs4.Stateid, file fs.Handle, io IO) (fs.IORef, error) {
	return fs.IORef{}, nil
}

// TestStateid is one of TEST_STATEID, RFC 8881 18.48.
func (s *Server) TestStateid(c *Client, sid nfs4.Stateid) nfs4.Status { return 0 }

// FreeStateid is FREE_STATEID, RFC 8881 18.38: LOCKS_HELD if it stands for something.
func (s *Server) FreeStateid(c *Client, sid nfs4.Stateid) (*Effects, error) { return nil, nil }

// --- open.go

// OpenTicket is an open by name on its way: the backend opens a file whose handle is not known yet.
type OpenTicket struct{}

// BeginOpen judges an open by name as far as can be done without the handle (GRACE), before the
// backend is asked. End the ticket after Settle, or when the backend refused.
func (s *Server) BeginOpen(c *Client, owner string) (*OpenTicket, error) { return nil, nil }

// End ends the ticket.
func (t *OpenTicket) End() {}

// CheckOpen judges a non-reclaim open of a file without doing it: SHARE_DENIED or GRACE. The Effects
// evict what stands in the way only by courtesy; run them and (if the error is nil) ask the backend
// (again). Call it before an open by name that truncates, and after the backend said ShareDenied.
// Evict's Batch must be committed, not posted.
func (s *Server) CheckOpen(ctx context.Context, c *Client, owner string, file fs.Handle, access, deny fs.Share) (evict *Effects, err error) {
	return nil, nil
}

// OpenPlan is an open on its way.
type OpenPlan struct {
	Batch   *journal.Batch // to Commit
	Evict   *Effects       // to run before the backend is asked; may be nil
	Call    Call           // also for an open by name: CallNormal says that it must be opened again, by handle
	Request fs.OpenRequest // by handle, for Call
}

// PrepareOpen judges an open of a file. For an open by name (Ticket set) the backend has it already.
// The Effects are to be run whatever the error is: they undo such an open. Errors: SHARE_DENIED,
// GRACE, NO_GRACE, RECLAIM_BAD, RECLAIM_CONFLICT, or that of ctx.
func (s *Server) PrepareOpen(ctx context.Context, c *Client, req *OpenRequest) (*OpenPlan, *Effects, error) {
	return nil, nil, nil
}

// Settle ends the plan with what the backend said (nil if it was not asked) and the journal. The
// error is the one to answer with.
func (p *OpenPlan) Settle(backendErr, journalErr error) (nfs4.Stateid, *Effects, error) {
	return nfs4.Stateid{}, nil, nil
}

// DowngradePlan is an OPEN_DOWNGRADE on its way.
type DowngradePlan struct {
	Call         Call
	Owner        fs.Owner
	File         fs.Handle
	Access, Deny fs.Share
}

// PrepareDowngrade judges OPEN_DOWNGRADE, RFC 8881 18.18: INVAL if the modes are not those of a
// subset of the opens done.
func (s *Server) PrepareDowngrade(ctx context.Context, c *Client, sid nfs4.Stateid, file fs.Handle, access, deny fs.Share) (*DowngradePlan, error) {
	return nil, nil
}

// Settle ends the plan.
func (p *DowngradePlan) Settle(backendErr error) (nfs4.Stateid, *Effects, error) {
	return nfs4.Stateid{}, nil, nil
}

// ClosePlan is a CLOSE on its way: Locks.CloseFile(Owner, File).
type ClosePlan struct {
	Owner fs.Owner
	File  fs.Handle
}

// PrepareClose judges CLOSE, RFC 8881 18.2. Locks under the open go with it.
func (s *Server) PrepareClose(ctx context.Context, c *Client, sid nfs4.Stateid, file fs.Handle) (*ClosePlan, error) {
	return nil, nil
}

// Settle ends the plan. A backend that knows no such open (BadStateid) has closed it.
func (p *ClosePlan) Settle(backendErr error) (nfs4.Stateid, *Effects, error) {
	return nfs4.Stateid{}, nil, nil
}

// --- lock.go

// DeniedError is NFS4ERR_DENIED with the holder, for LOCK4denied. errors.Is(err, nfs4.NFS4ERR_DENIED).
type DeniedError struct {
	Range    fs.Range
	Type     fs.LockType
	ClientID uint64 // 0 if the holder is not a client of ours
	Owner    string // the lock-owner's bytes
}

func (e *DeniedError) Error() string { return "DENIED" }

// Unwrap gives the status.
func (e *DeniedError) Unwrap() error { return nfs4.NFS4ERR_DENIED }

// LockPlan is a LOCK on its way.
type LockPlan struct {
	Batch   *journal.Batch // to Commit; nil if nothing changes
	Evict   *Effects       // to run before the backend is asked; may be nil
	Call    Call
	Request fs.LockRequest
}

// PrepareLock judges LOCK, RFC 8881 18.10. A request with Wait that is denied takes a place in the
// queue. The Effects are to be run whatever the error is. Errors: *DeniedError, GRACE, NO_GRACE,
// RECLAIM_BAD, RECLAIM_CONFLICT, OPENMODE, those of stateids, or that of ctx.
func (s *Server) PrepareLock(ctx context.Context, c *Client, req *LockRequest) (*LockPlan, *Effects, error) {
	return nil, nil, nil
}

// Settle ends the plan. If the backend said Denied, the error is a *DeniedError.
func (p *LockPlan) Settle(backendErr, journalErr error) (nfs4.Stateid, *Effects, error) {
	return nfs4.Stateid{}, nil, nil
}

// UnlockPlan is a LOCKU on its way: Locks.Unlock(Owner, File, Range) unless Call is CallNone.
type UnlockPlan struct {
	Call  Call
	Owner fs.Owner
	File  fs.Handle
	Range fs.Range
}

// PrepareUnlock judges LOCKU, RFC 8881 18.12.
func (s *Server) PrepareUnlock(ctx context.Context, c *Client, sid nfs4.Stateid, file fs.Handle, r fs.Range) (*UnlockPlan, error) {
	return nil, nil
}

// Settle ends the plan.
func (p *UnlockPlan) Settle(backendErr error) (nfs4.Stateid, *Effects, error) {
	return nfs4.Stateid{}, nil, nil
}

// TestLock is our part of LOCKT, RFC 8881 18.11: *DeniedError or GRACE. If it is nil ask the backend.
func (s *Server) TestLock(c *Client, lockOwner string, file fs.Handle, r fs.Range, t fs.LockType) error {
	return nil
}

// LockAvailable is the backend's news that a denied lock may be free now (fs.Listener).
func (s *Server) LockAvailable(file fs.Handle, owner fs.Owner, r fs.Range) *Effects { return nil }

// Revoke is the backend's news that state was taken away (fs.Listener). The stateids that stand for
// it say ADMIN_REVOKED (or EXPIRED, if why is fs.Expired) until FREE_STATEID; locks is nil if the
// whole open went.
func (s *Server) Revoke(owner fs.Owner, file fs.Handle, locks fs.RangeSet, why error) *Effects {
	return nil
}

// --- lease.go

// Expire drops what is over: leases, courtesy, unconfirmed clients, waiters' turns, and tries failed
// releases again. Call it at NextDeadline, or every second or so.
func (s *Server) Expire() *Effects { return nil }

// NextDeadline is when Expire will have something to do; at the latest in a lease period.
func (s *Server) NextDeadline() time.Time { return time.Time{} }

// HoldLeases stops (true) and resumes (false) the end of leases: while we ourselves wait for the
// origin nobody's lease ends. When resumed every lease starts anew.
func (s *Server) HoldLeases(hold bool) {}

// --- grace.go

// GracePhase is where the server's own grace period stands.
type GracePhase uint8

// The phases.
const (
	GraceNone   GracePhase = iota // there was nothing to reclaim
	GraceActive                   // reclaims are taken
	GraceEnding                   // no more reclaims; the end is on its way to the journal and upstream
	GraceOver
)

func (p GracePhase) String() string { return [...]string{"none", "active", "ending", "over"}[p%4] }

// Phase tells where grace stands.
func (s *Server) Phase() GracePhase { return 0 }

// NoGrace ends grace early: the origin takes no reclaims. Call EndGrace when the Effects say so.
func (s *Server) NoGrace() *Effects { return nil }

// Lost is a lock or an open that was not reclaimed in time.
type Lost struct {
	Owner        fs.Owner // the lock-owner, or the open-owner
	File         fs.Handle
	Name         string
	Locks        fs.RangeSet // nil for an open
	Access, Deny fs.Share
}

// GraceEnd is the end of grace on its way: Commit the Batch, then Backend.ReclaimComplete, then Done.
type GraceEnd struct {
	Batch *journal.Batch // EndGrace(epoch)
	Lost  []Lost
}

// EndGrace ends grace if it may end: nil if there is none, if clients are still expected and time is
// not over, or if a reclaim is under way (then Effects say GraceMayEnd when it is done).
// force ends it now, as soon as no reclaim is under way.
func (s *Server) EndGrace(force bool) *GraceEnd { return nil }

// Done says that the end is durable and the origin knows. What was not reclaimed no longer conflicts.
func (g *GraceEnd) Done() *Effects { return nil }

// --- snapshot.go

// ClientInfo is a client for people.
type ClientInfo struct {
	ID                 uint64
	Owner              string
	Principal, Addr    string
	Impl               string
	Confirmed          bool
	Complete           bool // RECLAIM_COMPLETE was sent
	Retain             bool
	Courtesy           bool // its lease ended; kept by courtesy
	LeaseLeft          time.Duration
	Sessions           int
	Opens, Locks, Held int
	Revoked            int
}

// OpenInfo is an open for people.
type OpenInfo struct {
	Owner        fs.Owner
	File         fs.Handle
	Name         string
	Access, Deny fs.Share // live
	Held         bool     // not reclaimed yet
	Reclaimed    bool
	Since        time.Time
}

// LockInfo is a lock-owner's locks on a file, for people.
type LockInfo struct {
	Owner, OpenOwner fs.Owner
	File             fs.Handle
	Name             string
	Live             fs.RangeSet
	Held             fs.RangeSet // not reclaimed yet
	Reclaimed        bool
	Since            time.Time
}

// WaiterInfo is somebody who waits for a lock.
type WaiterInfo struct {
	Owner    fs.Owner
	File     fs.Handle
	Range    fs.Range
	Type     fs.LockType
	Since    time.Time
	Notified bool // the range is kept for it
	Upstream bool // it waits in the origin's queue
}

// GraceInfo is the state of recovery.
type GraceInfo struct {
	Phase    GracePhase
	Left     time.Duration
	Complete bool     // the journal was complete
	Expected int      // clients that had something
	Done     int      // of these, complete
	Missing  []string // co_ownerids of those that are not
	// Reclaims of this incarnation: granted, refused, and items not reclaimed so far.
	Granted, Refused, Remaining int
	Lost                        []Lost // after the end
}

// Clients lists the clients by owner.
func (s *Server) Clients() []ClientInfo { return nil }

// Opens lists the opens by file and owner.
func (s *Server) Opens() []OpenInfo { return nil }

// Locks lists the locks by file and owner.
func (s *Server) Locks() []LockInfo { return nil }

// Waiters lists the waiters, file by file in their order.
func (s *Server) Waiters() []WaiterInfo { return nil }

// GraceInfo tells how recovery stands.
func (s *Server) GraceInfo() GraceInfo { return GraceInfo{} }

// ClientByID finds a client, for LOCK4denied and the command line; nil if there is none.
func (s *Server) ClientByID(id uint64) *Client { return nil }

// Release is one (open-owner, file) whose state at the backend is to be brought down to what is
// live here: closed, downgraded, or some ranges unlocked.
type Release struct{}

// Run does it at b and returns what follows: a batch to post and those who waited. If the backend
// fails the release is kept and Expire tries again.
func (r *Release) Run(ctx context.Context, b Releaser) *Effects { return nil }
