package nfsup

import (
	"context"
	"log/slog"
	"net"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
)

// Config says how to be a client of which server. Addr, OwnerID and Cred are needed; zero means the
// default for all else.
type Config struct {
	// Addr is the server, "host:port".
	Addr string
	// Dial opens a connection to it; nil means TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)

	// MinorVersion is the highest that is tried, 1 or 2 (the default). A server that does not have 2
	// is asked for 1.
	MinorVersion uint32
	// NConnect is the number of connections, 1 to 16; the default is 1.
	NConnect int
	// Slots is how many requests may be outstanding, 1 to 1024; the default is 128. The server may
	// allow fewer.
	Slots int
	// MaxRead and MaxWrite bound the payload of one READ and WRITE, in bytes; the default is 1 MiB. The
	// server may allow less: see Info.
	MaxRead, MaxWrite int

	// OwnerID is co_ownerid: it names this client for ever. Whoever knows it can destroy or resume our
	// state, so it is never logged. At most 1024 bytes.
	OwnerID []byte
	// Verifier is co_verifier: it changes when the state in memory was lost, RFC 8881 18.35.
	Verifier [8]byte
	// Cred is the credential of the client itself, for all that is not done for a user. It never
	// changes, over reboots too: servers compare it (18.35.4).
	Cred *rpc.Cred

	// Retain asks for EXCHGID4_FLAG_RETAIN_STATE. A server that answers INVAL is asked without.
	Retain bool
	// DelayReclaimComplete leaves RECLAIM_COMPLETE to [Client.ReclaimComplete]. Otherwise it follows
	// CREATE_SESSION, and no reclaim of the caller is ever sent.
	DelayReclaimComplete bool
	// Resume, if not nil, is the last incarnation: Dial goes on as that instead of telling the server
	// by a new verifier that its state is lost. See [Resume].
	Resume *Resume

	// DelayTime bounds how long NFS4ERR_DELAY is hidden from a caller by asking again; the default is
	// 10 s. Negative means not at all.
	DelayTime time.Duration
	// ConnectTime bounds one attempt to open and bind a connection; the default is 10 s.
	ConnectTime time.Duration

	Clock  clock.Clock  // default: clock.Real
	Logger *slog.Logger // default: none

	Events  Events
	Journal Journal
}

// Events are what a client learns by itself. Each may be nil. None must block, call back into the
// Client, or keep what it is given.
type Events struct {
	// LockAvailable passes CB_NOTIFY_LOCK on (20.11): a denied lock of this owner may be free now.
	LockAvailable func(fh nfs4.FH, lockOwner UpOwner)
	// Revoked says that state is lost. The Client has forgotten it already.
	Revoked func(Revocation)
	// Recall says that the server wants the delegation of a file back (20.2), or some of all (any, 20.6).
	// It has its answer already; [Client.ReturnDelegation] is to follow soon. If nil, it follows by itself.
	Recall func(fh nfs4.FH, any bool)
	// DelegationLost says that a delegation was revoked, or not given again after a restart.
	DelegationLost func(fh nfs4.FH)
	// DelegationAttr answers CB_GETATTR for a file of which a write delegation is held.
	DelegationAttr func(fh nfs4.FH) (change, size uint64, ok bool)
	// ServerRestarted says that the server forgot this client, most likely because it restarted: new
	// client ID, and reclaims begin. LeaseLost is the same when the lease was over by our own clock.
	ServerRestarted func()
	LeaseLost       func()
	// Recovered ends either, after the last reclaim.
	Recovered func(Recovery)
	// Connected and Disconnected tell about one of the NConnect connections.
	Connected    func(conn int)
	Disconnected func(conn int, why error)
	// BootEvent is a sentence for people: what was negotiated, what is being recovered.
	BootEvent func(text string)
	// Dead says that this client can never work again, as when Journal.BeforeCreateSession failed.
	// All calls return the error from now on.
	Dead func(why error)
}

// A Revocation is state that was lost.
type Revocation struct {
	Kind      StateKind
	OpenOwner UpOwner
	LockOwner UpOwner // KindLock
	FH        nfs4.FH
	// Ranges is what was lost of a lock-owner's set: KindLock only.
	Ranges RangeSet
	// Why is the server's answer, as nfs4.NFS4ERR_NO_GRACE.
	Why error
}

// StateKind tells an open from locks.
type StateKind uint8

// The kinds of state. A lost open is reported after the locks under it.
const (
	KindOpen StateKind = iota
	KindLock
)

func (k StateKind) String() string {
	if k == KindLock {
		return "lock"
	}
	return "open"
}

// A Recovery is the result of reclaiming from memory after the server forgot this client.
type Recovery struct {
	Opens, Locks         int // reclaimed; locks are ranges
	LostOpens, LostLocks int // see Revoked
	Reopened             int // opens without a deny mode that could not be reclaimed and were made anew
	Took                 time.Duration
	First                time.Time // when the first open was reclaimed; zero if none was
	// Completed says that RECLAIM_COMPLETE was sent; false if it is delayed.
	Completed bool
	// Resumed says that nothing was reclaimed: the server still had it, and had forgotten nothing.
	Resumed bool
}

// Journal is what has to be durable. Each may be nil.
type Journal struct {
	// BeforeCreateSession is called before each CREATE_SESSION with the identity that it will have:
	// CsaSequence is the number that is about to be sent. When it returns, that is durable, and this
	// process is still the one that owns the journal. An error ends the client for good (Events.Dead):
	// somebody else may be using its identity.
	BeforeCreateSession func(ctx context.Context, id Identity) error
	// SessionCreated is called after each success, before the session's first use: CsaSequence is now
	// the next number. When it returns, that is durable. An error ends the client for good.
	SessionCreated func(ctx context.Context, id Identity) error
	// Changed is called when Identity changed otherwise: it need not be durable at once.
	Changed func(id Identity)
	// StateChanged tells what is held now, for [Resume]: entries replace those of the same owner and
	// handle. One call follows another; none waits for the disk.
	StateChanged func(StateChange)
}

// A StateChange is what changed since the last one.
type StateChange struct {
	Opens     []OpenState
	Locks     []LockState
	GoneOpens []StateKey
	GoneLocks []StateKey
}

// A StateKey names an open or a lock-owner's locks.
type StateKey struct {
	Owner UpOwner
	FH    nfs4.FH
}

// An Identity is who this client is to the server: what a process that takes over must know.
type Identity struct {
	OwnerID      []byte
	Verifier     [8]byte
	ClientID     uint64
	CsaSequence  uint32           // of the next CREATE_SESSION
	Unanswered   bool             // it may have been sent already
	Counts       bool             // the server tells its count of CREATE_SESSION for a confirmed client too
	Completed    bool             // RECLAIM_COMPLETE was answered
	Sessions     []nfs4.SessionID // not known to be destroyed, the newest last
	ServerOwner  nfs4.ServerOwner
	ServerScope  string
	Flags        uint32 // eia_flags
	MinorVersion uint32
}

func (c *Config) setDefaults() {
	if c.Dial == nil {
		c.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}
	}
	if c.MinorVersion == 0 {
		c.MinorVersion = 2
	}
	c.NConnect = min(max(c.NConnect, 1), 16)
	if c.Slots <= 0 {
		c.Slots = 128
	}
	if c.MaxRead <= 0 {
		c.MaxRead = 1 << 20
	}
	if c.MaxWrite <= 0 {
		c.MaxWrite = 1 << 20
	}
	if c.DelayTime == 0 {
		c.DelayTime = 10 * time.Second
	}
	if c.ConnectTime <= 0 {
		c.ConnectTime = 10 * time.Second
	}
	if c.Clock == nil {
		c.Clock = clock.Real
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}
