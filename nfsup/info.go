package nfsup

import (
	"slices"
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
	// Resumed says that this client went on as the last incarnation; its own first life is that one's.
	Resumed                  bool
	AbsenceLimit, ReclaimCap time.Duration

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

// Info tells about the client now.
func (c *Client) Info() Info {
	const overhead = 512 // of a COMPOUND around the payload of READ or WRITE
	c.mu.Lock()
	defer c.mu.Unlock()
	i := Info{
		Addr:            c.cfg.Addr,
		MinorVersion:    c.minor,
		ClientID:        c.clientID,
		ServerOwner:     c.serverOwner,
		ServerScope:     c.serverScope,
		ServerImpl:      c.serverImpl,
		Lease:           c.lease,
		RetainGranted:   c.resFlags&nfs4.EXCHGID4_FLAG_RETAIN_STATE != 0,
		Resumed:         c.resumed != nil,
		Reclaimable:     c.resFlags&nfs4.EXCHGID4_FLAG_RECLAIMABLE_R != 0,
		AbsenceLimit:    c.absence,
		ReclaimCap:      c.reclaimCap,
		RTT:             time.Duration(c.rtt.Load()),
		Reconnects:      c.reconnects.Load(),
		Replays:         c.replays.Load(),
		Incarnation:     c.incarnation,
		ReclaimComplete: c.incarnation != 0 && c.completed == c.incarnation,
		Recovering:      c.recovering,
		BackChannel:     c.backUp.Load(),
	}
	lease := c.lease
	if lease <= 0 {
		lease = unknownLease
	}
	i.LeaseExpires = time.Unix(0, c.renewed.Load()).Add(lease)
	if s := c.sess; s != nil {
		i.SessionID = s.id
		i.MaxRequest, i.MaxResponse, i.MaxOps = s.maxRequest, s.maxResponse, s.maxOps
		i.MaxWrite = min(c.cfg.MaxWrite, pages(s.maxRequest-overhead))
		i.MaxRead = min(c.cfg.MaxRead, pages(s.maxResponse-overhead))
		i.Slots, i.SlotsInUse, i.SlotsWaiting = s.slots.use()
	}
	for _, l := range c.links {
		ci := ConnInfo{Up: l.conn != nil, Outstanding: int(l.outstanding.Load())}
		if l.conn != nil {
			ci.Local, ci.Remote = l.conn.LocalAddr().String(), l.conn.RemoteAddr().String()
		}
		if l.err != nil {
			ci.LastError = l.err.Error()
		}
		i.Conns = append(i.Conns, ci)
	}
	c.state.mu.Lock()
	i.Opens, i.LockOwners = len(c.state.opens), len(c.state.locks)
	c.state.mu.Unlock()
	return i
}

// Identity is what a process that takes over must know.
func (c *Client) Identity() Identity {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := Identity{
		OwnerID:      c.cfg.OwnerID,
		Verifier:     c.verifier,
		ClientID:     c.clientID,
		CsaSequence:  c.csaNext,
		Unanswered:   newer(c.csaTop+1, c.csaNext),
		Counts:       c.counts,
		Completed:    c.incarnation != 0 && c.completed == c.incarnation,
		Sessions:     slices.Clone(c.old),
		ServerOwner:  c.serverOwner,
		ServerScope:  c.serverScope,
		Flags:        c.flags,
		MinorVersion: c.minor,
	}
	return id
}

// pages rounds n down to whole pages, if there is one: servers have their files in those.
func pages(n int) int {
	if n < 4096 {
		return n
	}
	return n &^ 4095
}
