package state

import (
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// RetainPolicy says whose state is kept as held state when a new verifier is confirmed (DESIGN 5).
type RetainPolicy uint8

// The policies.
const (
	RetainAlways     RetainPolicy = iota // everybody's: the seed
	RetainNegotiated                     // of those who set EXCHGID4_FLAG_RETAIN_STATE: the draft
	RetainNever                          // RFC 8881 18.35.4 case 5 to the letter
)

// UnknownReclaim says what becomes of a reclaim that an incomplete journal cannot judge.
type UnknownReclaim uint8

// The choices.
const (
	UnknownForward UnknownReclaim = iota // the backend's origin decides
	UnknownRefuse                        // NO_GRACE; and GRACE for all non-reclaim work in our grace
)

// Config is what a Server is made with. Zero fields get the default that is named.
type Config struct {
	Now   func() time.Time // time.Now
	Epoch uint32           // the journal's boot count: part of client IDs and stateids

	Lease time.Duration // 90 s
	Grace time.Duration // as long as Lease

	// ReclaimsOnly refuses everything but reclaims while grace lasts. Without it we use what RFC 8881
	// 8.4.2.1 allows to a server whose records say what may be reclaimed: what cannot conflict is taken.
	ReclaimsOnly bool

	Retain RetainPolicy
	// AbsenceLimit is how long after its lease ended the state of a client that negotiated
	// retention is safe from conflicts; zero: as long as Lease.
	AbsenceLimit time.Duration
	// ReclaimCap is how long held state is safe from conflicts, counted from the confirmation that
	// made it held; zero: as long as Lease.
	ReclaimCap time.Duration
	// CourtesyLimit is how long state is kept after its lease ended while nobody wants it. Zero
	// releases it when the lease ends.
	CourtesyLimit time.Duration
	// WaiterHold is how long a freed range is kept for the first waiter (RFC 8881 9.6). 5 s.
	WaiterHold time.Duration

	UnknownReclaim UnknownReclaim

	// Part tells which part of the server a file belongs to, whose grace may end before that of the others
	// (NoGraceAt): all that one origin has. It is called with mutexes held. Nil: all files are of part 0.
	Part func(fs.Handle) uint32

	// Restore lets the server go on where the last incarnation stood, if the journal is Whole: clients
	// keep their client IDs and stateids, and need not reclaim. See restore.go.
	Restore bool

	Slots         uint32 // most slots of a session: 64
	MaxRequest    uint32 // bytes: 1 MiB and 64 KiB
	MaxResponse   uint32 // bytes: 1 MiB and 64 KiB
	MaxCached     uint32 // most bytes of a cached reply: 8 KiB
	MaxOps        uint32 // operations in a COMPOUND: 64
	MaxSessions   int    // sessions of one client: 64
	MaxClients    int    // clients: 65536; more are told DELAY
	ServerOwner   nfs4.ServerOwner
	ServerScope   string
	ImplID        *nfs4.ImplID
	ExchangeFlags uint32 // pNFS role for eir_flags; zero: EXCHGID4_FLAG_USE_NON_PNFS

	// Delegations lets files be delegated to clients.
	Delegations    bool
	MaxDelegations int // at once: 65536

	// MayNotify promises a CB_NOTIFY_LOCK to those who wait for a lock.
	MayNotify bool
}

// Call says how the backend is to be asked for what a plan is about.
type Call uint8

// The ways.
const (
	CallNone    Call = iota // not at all: the backend has it already
	CallNormal              // as an ordinary request
	CallReclaim             // with the reclaim flag, and never without
)

// Caller is who sends a request that no session vouches for.
type Caller struct {
	// Principal stands for the credential. It must be the same after a restart of anybody, for it
	// is compared with the journal's.
	Principal string
	Addr      string // for people
}

// IO is what is about to be done under a stateid.
type IO uint8

// The kinds of I/O.
const (
	IORead IO = iota
	IOWrite
	IOSetSize
)

// OpenRequest is an OPEN of a regular file whose handle is known.
type OpenRequest struct {
	Owner        string // the open-owner's bytes
	File         fs.Handle
	Access, Deny fs.Share
	Reclaim      bool     // CLAIM_PREVIOUS
	Cred         *fs.Cred // for the journal
	Name         string   // the last known name, for people
	// Unconfirmed makes a stateid that OPEN_CONFIRM has to come before: NFSv4.0.
	Unconfirmed bool
	// Session is that of the request, zero with NFSv4.0: an OPEN that is repeated over another one may be the same again.
	Session nfs4.SessionID
	// Ticket is set for an open by name: the backend has opened the file already.
	Ticket *OpenTicket
}

// LockRequest is a LOCK.
type LockRequest struct {
	File fs.Handle // the current filehandle
	// Stateid is the open stateid if NewOwner is set, else the lock stateid.
	Stateid   nfs4.Stateid
	NewOwner  bool
	LockOwner string // the lock-owner's bytes, if NewOwner
	Range     fs.Range
	Type      fs.LockType
	Wait      bool // READW_LT or WRITEW_LT
	Reclaim   bool
}
