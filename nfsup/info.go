package nfsup

import (
	"time"

	"holdfast/internal/nfs4"
)

// Info is what a client knows about itself and its server.
type Info struct {
	Addr         string
	MinorVersion uint32
	ClientID     uint64
	SessionID    nfs4.SessionID
	ServerOwner  nfs4.ServerOwner
	ServerScope  string
	ServerImpl   string // what the server says it is; may be empty

	// Lease is lease_time. LeaseExpires is when it ends if no request succeeds: never too late.
	Lease        time.Duration
	LeaseExpires time.Time

	// RetainGranted says that the server agreed to EXCHGID4_FLAG_RETAIN_STATE. Reclaimable is
	// EXCHGID4_FLAG_RECLAIMABLE_R, a hint that something can be reclaimed. AbsenceLimit and ReclaimCap
	// are the two attributes of the draft, zero if the server has none.
	RetainGranted, Reclaimable bool
	AbsenceLimit, ReclaimCap   time.Duration

	// Sizes in bytes: of a whole COMPOUND and its answer, and of a payload that fits in one.
	MaxRequest, MaxResponse int
	MaxRead, MaxWrite       int
	MaxOps                  int
	Slots, SlotsInUse       int
	SlotsWaiting            int // requests that wait for a slot

	RTT        time.Duration // smoothed, of all requests
	Conns      []ConnInfo
	Reconnects uint64
	Replays    uint64 // requests sent again on another connection

	// Incarnation counts the client IDs of this process, from 1. ReclaimComplete tells whether it was
	// sent for the present one, Recovering whether requests are held at the gate.
	Incarnation     uint32
	ReclaimComplete bool
	Recovering      bool
	BackChannel     bool // the server can call back, as far as it says

	Opens, LockOwners int
}

// ConnInfo is one of the NConnect connections.
type ConnInfo struct {
	Local, Remote string
	Up            bool
	Outstanding   int
	LastError     string
}

// OpStat counts one operation over the life of the Client.
type OpStat struct {
	Count  uint64
	Errors uint64 // refused by the server
	RTT    time.Duration
	Max    time.Duration
}

// MeanRTT is the mean time from sending a COMPOUND with this operation to its answer.
func (s OpStat) MeanRTT() time.Duration {
	if s.Count == 0 {
		return 0
	}
	return s.RTT / time.Duration(s.Count)
}
