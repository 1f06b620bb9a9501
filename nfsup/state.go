package nfsup

import (
	"context"
	"maps"
	"slices"
	"sync"

	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
)

// The tables of what is held at the server. They are the truth for reclaims: an answer of the server is
// taken into them before its slot is free again, so that they stand still when a session has drained.

type openKey struct {
	owner UpOwner
	fh    nfs4.FH
}

type lockKey struct {
	owner UpOwner
	fh    nfs4.FH
}

// An openState is one open: all OPENs of an owner on a file, RFC 8881 9.7.
type openState struct {
	key  openKey
	turn turn // exclusive: CLOSE, OPEN_DOWNGRADE; shared: LOCK, LOCKU. OPEN has no turn: by name, it cannot know.

	// Guarded by stateTable.mu.
	cred    *rpc.Cred // of the last OPEN: for reclaims, and for what has no user's own
	stateid nfs4.Stateid
	modes   modes
	inc     uint32                  // the incarnation that it is held in
	landed  uint64                  // counts OPENs that were answered
	locks   map[*lockState]struct{} // those in stateTable.locks whose open is this
	closing bool                    // CLOSE or OPEN_DOWNGRADE is under way:
	late    modes                   // of OPENs that were answered since
	resumed bool                    // of the dead incarnation, and so far only this was asked for since:
	claimed modes
	bereft  map[UpOwner]struct{} // lock-owners that have lost locks here, and have not asked for one since
}

// A lockState is one lock-owner's locks on a file.
type lockState struct {
	key  lockKey
	turn turn // exclusive: all that changes it

	// Guarded by stateTable.mu.
	open    *openState
	cred    *rpc.Cred
	stateid nfs4.Stateid
	has     bool     // stateid is one
	set     RangeSet // what is held
	owing   RangeSet // in a recovery: what is still to be reclaimed
	wish    *wish    // a request that has no answer yet and gives something up
	users   int      // operations that hold on to it
	resumed bool     // of the dead incarnation, and so far only this was asked for since:
	claimed RangeSet
}

// A wish is an unlock, or a lock for reading of what is locked for writing, that is on its way. Nobody wants
// what it gives up, and the server may have taken it already: a reclaim of it would be refused, and
// so would one of a whole range that it is part of (RECLAIM_BAD).
type wish struct {
	r    Range
	keep bool // for reading; only if all of it is held: else the lock may still be denied, and nothing is given up
}

// A stateTable is guarded by its one mutex, which is never held across I/O.
type stateTable struct {
	mu       sync.Mutex
	clientID uint64
	opens    map[openKey]*openState
	locks    map[lockKey]*lockState
	flights  map[UpOwner]map[*flight]struct{} // OPENs without an answer
	delegs   map[nfs4.FH]*delegState
	early    [][12]byte // delegations that were recalled before they came
	records  records

	vow       bool          // RECLAIM_COMPLETE was sent, or will be: no reclaim of a caller begins any more
	reclaims  int           // reclaims of callers that run
	quiet     chan struct{} // closed when reclaims is 0; made by who waits
	forbidden error         // the next recovery must not reclaim
}

// A flight is an OPEN without an answer.
type flight struct{ landed chan struct{} }

func (t *stateTable) init(vow bool) {
	t.vow = vow
	t.opens = make(map[openKey]*openState)
	t.locks = make(map[lockKey]*lockState)
	t.flights = make(map[UpOwner]map[*flight]struct{})
	t.delegs = make(map[nfs4.FH]*delegState)
}

func (t *stateTable) setClientID(id uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clientID = id
}

// owner is how the server sees an owner. The client ID in it is ignored in 4.1 (18.16.3), but not by all.
//
// +checklocks:t.mu
func (t *stateTable) owner(o UpOwner) nfs4.StateOwner {
	return nfs4.StateOwner{ClientID: t.clientID, Owner: string(o[:])}
}

// enterReclaim begins a reclaim of a caller: not after RECLAIM_COMPLETE (18.51.3).
func (t *stateTable) enterReclaim(op nfs4.OpNum, reclaim bool) (leave func(), err error) {
	if !reclaim {
		return func() {}, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.vow {
		return nil, &StatusError{Op: op, Status: nfs4.NFS4ERR_NO_GRACE, Index: 1}
	}
	t.reclaims++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.reclaims--
		if t.reclaims == 0 && t.quiet != nil {
			close(t.quiet)
			t.quiet = nil
		}
	}, nil
}

// promise lets no further reclaim begin, and waits for those that run.
func (t *stateTable) promise(ctx context.Context) error {
	t.mu.Lock()
	t.vow = true
	for t.reclaims > 0 {
		if t.quiet == nil {
			t.quiet = make(chan struct{})
		}
		quiet := t.quiet
		t.mu.Unlock()
		select {
		case <-quiet:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		t.mu.Lock()
	}
	t.mu.Unlock()
	return nil
}

// promised tells whether RECLAIM_COMPLETE may be sent now.
func (t *stateTable) promised() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.vow && t.reclaims == 0
}

// forbidReclaim makes the next recovery give everything up.
func (t *stateTable) forbidReclaim(why error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forbidden = why
}

// count runs f under the mutex.
func (t *stateTable) count(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
}

// takeOff notes that an OPEN of owner is about to be sent; land that its answer is in the table.
func (t *stateTable) takeOff(owner UpOwner) *flight {
	f := &flight{make(chan struct{})}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.flights[owner] == nil {
		t.flights[owner] = make(map[*flight]struct{})
	}
	t.flights[owner][f] = struct{}{}
	return f
}

func (t *stateTable) land(owner UpOwner, f *flight) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.flights[owner], f)
	if len(t.flights[owner]) == 0 {
		delete(t.flights, owner)
	}
	if len(t.flights) == 0 {
		t.early = nil
	}
	close(f.landed)
}

// awaitFlights waits for the OPENs of owner that are under way now.
func (t *stateTable) awaitFlights(ctx context.Context, owner UpOwner) error {
	t.mu.Lock()
	var list []*flight
	for f := range t.flights[owner] {
		list = append(list, f)
	}
	t.mu.Unlock()
	for _, f := range list {
		select {
		case <-f.landed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// newer tells whether seqid a came after b; it wraps (8.2.2).
func newer(a, b uint32) bool { return int32(a-b) > 0 }

// opened takes the answer to an OPEN. before is what the owner had already; lost is state that the
// server dropped without a word.
func (t *stateTable) opened(key openKey, cred *rpc.Cred, inc uint32, sid nfs4.Stateid, m modes) (o *openState, before modes, landed uint64, lost []Revocation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o = t.opens[key]
	if o != nil && o.stateid.Other != sid.Other {
		if !o.closing {
			// Not by us: an open of ours ended at the server, and this is another.
			lost = t.dropLocked(o, nfs4.NFS4ERR_BAD_STATEID)
		}
		o = nil
	}
	if o == nil {
		o = &openState{key: key, stateid: sid}
		t.opens[key] = o
	} else if newer(sid.Seqid, o.stateid.Seqid) {
		o.stateid = sid
	}
	before = o.modes
	o.modes |= m
	if o.resumed {
		o.claimed |= m
	}
	t.touch(key)
	if o.closing {
		o.late |= m
	}
	o.cred, o.inc = cred, inc
	o.landed++
	return o, before, o.landed, lost
}

// open finds an open.
func (t *stateTable) open(owner UpOwner, fh nfs4.FH) *openState {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.opens[openKey{owner, fh}]
}

// takeOpen waits for a turn on an open; nil and ErrNoState if there is none.
func (t *stateTable) takeOpen(ctx context.Context, owner UpOwner, fh nfs4.FH, exclusive bool) (*openState, error) {
	for {
		o := t.open(owner, fh)
		if o == nil {
			return nil, ErrNoState
		}
		if err := o.turn.take(ctx, exclusive); err != nil {
			return nil, err
		}
		if t.open(owner, fh) == o {
			return o, nil
		}
		o.turn.give(exclusive)
	}
}

// takeLock waits for the turn on a lock-owner's state on a file, which is made if open is not nil and
// it is not there; nil without an error if it is not there. giveLock must follow.
func (t *stateTable) takeLock(ctx context.Context, owner UpOwner, fh nfs4.FH, open *openState, cred *rpc.Cred) (*lockState, error) {
	key := lockKey{owner, fh}
	t.mu.Lock()
	l := t.locks[key]
	if l == nil {
		if open == nil {
			t.mu.Unlock()
			return nil, nil
		}
		l = &lockState{key: key, open: open, cred: cred}
		t.addLock(l)
	}
	l.users++
	t.mu.Unlock()
	if err := l.turn.take(ctx, true); err != nil {
		t.unuse(l)
		return nil, err
	}
	return l, nil
}

func (t *stateTable) giveLock(l *lockState) {
	l.turn.give(true)
	t.unuse(l)
}

func (t *stateTable) unuse(l *lockState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l.users--
	if l.users == 0 && !l.has && len(l.set) == 0 && len(l.owing) == 0 && t.locks[l.key] == l {
		t.removeLock(l)
	}
}

// lockOpen finds the open that a lock-owner's state hangs on.
func (t *stateTable) lockOpen(owner UpOwner, fh nfs4.FH) *openState {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.locks[lockKey{owner, fh}]; l != nil {
		return l.open
	}
	return nil
}

// lockArgs makes a LOCK: under the lock stateid if there is one, else as a new lock-owner under the open.
func (t *stateTable) lockArgs(o *openState, l *lockState, r Range, write, wait, reclaim bool) *nfs4.LockArgs {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := &nfs4.LockArgs{LockType: lockType(write, wait), Reclaim: reclaim}
	a.Offset, a.Length = r.wire()
	if l.has {
		a.Locker.LockStateid = l.stateid
		return a
	}
	a.Locker.NewLockOwner = true
	a.Locker.OpenStateid = newest(o.stateid)
	a.Locker.LockOwner = t.owner(l.key.owner)
	return a
}

// newest makes a stateid mean the newest version, 8.2.2.
func newest(s nfs4.Stateid) nfs4.Stateid {
	s.Seqid = 0
	return s
}

func lockType(write, wait bool) nfs4.LockType {
	switch {
	case write && wait:
		return nfs4.WRITEW_LT
	case write:
		return nfs4.WRITE_LT
	case wait:
		return nfs4.READW_LT
	}
	return nfs4.READ_LT
}

// locked takes a success of LOCK.
func (t *stateTable) locked(l *lockState, r Range, write bool, sid nfs4.Stateid) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.adoptLock(l, sid)
	l.set = l.set.with(r, write)
	l.owing = l.owing.without(r)
	t.touchLock(l.key)
}

// claimed notes that somebody asked for what the dead incarnation held.
func (t *stateTable) claimed(l *lockState, r Range, write bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l.resumed {
		l.claimed = l.claimed.with(r, write)
	}
}

// unlocked takes a success of LOCKU.
func (t *stateTable) unlocked(l *lockState, r Range, sid nfs4.Stateid) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.adoptLock(l, sid)
	l.set = l.set.without(r)
	l.claimed = l.claimed.without(r)
	t.touchLock(l.key)
}

// adoptLock takes the newer stateid. The state may have been dropped meanwhile: then it is back.
//
// +checklocks:t.mu
func (t *stateTable) adoptLock(l *lockState, sid nfs4.Stateid) {
	if !l.has || l.stateid.Other != sid.Other || newer(sid.Seqid, l.stateid.Seqid) {
		l.stateid = sid
	}
	l.has = true
	if t.locks[l.key] == nil {
		t.addLock(l)
	}
}

// addLock, removeLock and moveLock keep stateTable.locks and openState.locks in step.
//
// +checklocks:t.mu
func (t *stateTable) addLock(l *lockState) {
	t.locks[l.key] = l
	if l.open.locks == nil {
		l.open.locks = make(map[*lockState]struct{})
	}
	l.open.locks[l] = struct{}{}
}

// +checklocks:t.mu
func (t *stateTable) removeLock(l *lockState) {
	delete(t.locks, l.key)
	delete(l.open.locks, l)
}

// moveLock puts a lock-owner's state under another open.
//
// +checklocks:t.mu
func (t *stateTable) moveLock(l *lockState, o *openState) {
	if here := t.locks[l.key] == l; here {
		t.removeLock(l)
		defer t.addLock(l)
	}
	l.open = o
}

// closed takes a success of CLOSE: the locks under the open went too.
func (t *stateTable) closed(o *openState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dropLocked(o, nil)
}

// drop takes an open and its locks out of the tables, and returns what is to be told.
func (t *stateTable) drop(o *openState, why error) []Revocation {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dropLocked(o, why)
}

// dropLocksUnder takes the locks under an open out of the tables, and returns what is to be told.
func (t *stateTable) dropLocksUnder(o *openState, why error) []Revocation {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dropLocks(o, why)
}

// +checklocks:t.mu
func (t *stateTable) dropLocks(o *openState, why error) []Revocation {
	var list []Revocation
	for l := range o.locks {
		if r := t.dropLock(l, why); r != nil {
			list = append(list, *r)
		}
	}
	return list
}

// +checklocks:t.mu
func (t *stateTable) dropLocked(o *openState, why error) []Revocation {
	list := t.dropLocks(o, why)
	if t.opens[o.key] == o {
		delete(t.opens, o.key)
		t.touch(o.key)
		list = append(list, Revocation{Kind: KindOpen, OpenOwner: o.key.owner, FH: o.key.fh, Why: why})
	}
	return list
}

// dropLock takes a lock-owner's state out of the table; nil if it held nothing.
//
// +checklocks:t.mu
func (t *stateTable) dropLock(l *lockState, why error) *Revocation {
	set := l.all()
	l.has, l.set, l.owing, l.stateid = false, nil, nil, nfs4.Stateid{}
	l.resumed, l.claimed = false, nil
	t.touchLock(l.key)
	if t.locks[l.key] == l && l.users == 0 {
		t.removeLock(l)
	}
	if len(set) == 0 {
		return nil
	}
	if why != nil {
		t.bereave(l)
	}
	return &Revocation{Kind: KindLock, OpenOwner: l.open.key.owner, LockOwner: l.key.owner, FH: l.key.fh, Ranges: set, Why: why}
}

// all is what is held or is to be reclaimed.
func (l *lockState) all() RangeSet {
	set := slices.Clone(l.set)
	for _, h := range l.owing {
		set = set.with(h.Range, h.Write)
	}
	return set
}

// For recoveries.

// toReclaim lists the opens that are of an earlier incarnation than inc.
func (t *stateTable) toReclaim(inc uint32) (list []*openState, forbidden error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range t.opens {
		if o.inc != inc {
			list = append(list, o)
		}
	}
	forbidden, t.forbidden = t.forbidden, nil
	return list, forbidden
}

func (t *stateTable) modesOf(o *openState) modes {
	t.mu.Lock()
	defer t.mu.Unlock()
	return o.modes
}

func (t *stateTable) locksUnder(o *openState) []*lockState {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Keys(o.locks))
}

func (t *stateTable) reclaimedOpen(o *openState, sid nfs4.Stateid) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if o.stateid.Other != sid.Other || newer(sid.Seqid, o.stateid.Seqid) {
		o.stateid = sid
		t.touch(o.key)
	}
}

// finish notes that an open and its locks are of this incarnation now.
func (t *stateTable) finish(o *openState, inc uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o.inc = inc
}

// owe notes that all that a lock-owner holds is to be reclaimed, and its stateid is void.
func (t *stateTable) owe(l *lockState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l.owing = l.all()
	if w := l.wish; w != nil && (!w.keep || l.owing.covers(w.r)) {
		was := l.owing.within(w.r)
		l.owing = l.owing.without(w.r)
		for _, h := range was {
			if w.keep {
				l.owing = l.owing.with(h.Range, false)
			}
		}
	}
	l.set, l.has, l.stateid = nil, false, nfs4.Stateid{}
}

// owed gives the next ranges to reclaim: one as long as there is no lock stateid (under false), else up
// to n.
func (t *stateTable) owed(l *lockState, n int) (set RangeSet, under bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !l.has {
		n = 1
	}
	return slices.Clone(l.owing[:min(n, len(l.owing))]), l.has
}

// forgive notes that a range is lost.
func (t *stateTable) forgive(l *lockState, r Range) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l.owing = l.owing.without(r)
	l.claimed = l.claimed.without(r)
	t.bereave(l)
	t.touchLock(l.key)
}

// bereave notes that a lock-owner has lost a lock: what was on its way to be read or written under that must not
// go on under the open (I2).
//
// +checklocks:t.mu
func (t *stateTable) bereave(l *lockState) {
	if l.open.bereft == nil {
		l.open.bereft = make(map[UpOwner]struct{})
	}
	l.open.bereft[l.key.owner] = struct{}{}
}

// console forgets that a lock-owner has lost a lock: it knows, and has a new one.
func (t *stateTable) console(l *lockState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(l.open.bereft, l.key.owner)
}

// State lists what is held, in no order.
func (c *Client) State() ([]OpenState, []LockState) {
	t := &c.state
	t.mu.Lock()
	defer t.mu.Unlock()
	var opens []OpenState
	var locks []LockState
	for _, o := range t.opens {
		opens = append(opens, o.state())
	}
	for _, l := range t.locks {
		if len(l.all()) > 0 {
			locks = append(locks, l.state())
		}
	}
	return opens, locks
}

// HasOpen tells the modes of an open; false if there is none.
func (c *Client) HasOpen(owner UpOwner, fh nfs4.FH) (access, deny uint32, ok bool) {
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	o := c.state.opens[openKey{owner, fh}]
	if o == nil {
		return 0, 0, false
	}
	access, deny = o.modes.wire()
	return access, deny, true
}
