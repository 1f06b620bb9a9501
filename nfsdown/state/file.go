package state

import (
	"hash/maphash"
	"sync"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// fileTable finds the state of a file by handle. Files without state are not in it.
type fileTable struct {
	seed   maphash.Seed
	shards [64]shard
}

type shard struct {
	mu    sync.Mutex
	files map[fs.Handle]*file // guarded by mu
}

// file is all opens, locks and waiters of a file.
type file struct {
	handle fs.Handle // immutable
	refs   int       // guarded by shard.mu; those who found it by handle and are not done

	mu sync.Mutex
	// opens and locks, guarded by mu. INVARIANT (I1): live, held and reserved ranges of two
	// lock-owners overlap only if both are shared, but for what is being evicted.
	opens   map[fs.Owner]*open
	locks   map[fs.Owner]*lock
	waiters []*waiter // guarded by mu; first come, first served
	// touched, guarded by mu: clients that change the file otherwise than under an open, now.
	touched map[string]int
}

// open is what one open-owner has of one file: live, held, on its way, and on its way out. All
// fields are guarded by file.mu unless said.
type open struct {
	file  *file    // immutable
	owner fs.Owner // immutable
	party *party   // immutable
	turn  turn     // its own

	// The live part: client is whose stateid sid is; nil if there is none.
	client               *Client
	sid                  *stateid
	access, deny         fs.Share
	via                  nfs4.SessionID // that the last OPEN was granted over; zero with NFSv4.0
	seenAccess, seenDeny uint8          // bit n: an OPEN had modes n; what OPEN_DOWNGRADE may name
	reclaimed            bool           // it came by a reclaim of this client: locks may be reclaimed under it
	lostLocks            bool           // the audit trail names a lock of it as lost at the backend

	held []heldShare
	pend *pendShare
	// goneAccess and goneDeny are what the backend may still have and nobody wants; release is set
	// while they, or the whole open, wait to be given back.
	goneAccess, goneDeny fs.Share
	atBackend            bool // the backend has, or may have, the open
	release              *Release

	// Of a delegation that is to come back: since when, whether the client was told, and what is closed when it ends.
	recalled     time.Time
	returned     chan struct{} // nil if it is not
	asking, told bool

	lower   *DowngradePlan // an OPEN_DOWNGRADE on its way: the record does without what it gives back
	closing bool           // a CLOSE is on its way: there is no record, whoever posts it

	locks map[*lock]struct{}
	users int // plans and releases that point here

	epoch uint32 // of the record, if nothing of this epoch is in it
	puts  int    // records written
	cred  *fs.Cred
	name  string
	since time.Time
}

// lock is what one lock-owner has of one file. All fields are guarded by file.mu unless said.
type lock struct {
	owner fs.Owner // immutable
	open  *open    // that it was taken under; changes only while nothing is held and nobody uses it
	turn  turn     // its own

	sid       *stateid // nil if there is no live lock stateid
	live      fs.RangeSet
	reclaimed bool

	held    []heldRange
	pend    *pendRange
	gone    fs.RangeSet // what the backend may still have and nobody wants
	leaving *fs.Range   // what a LOCKU on its way gives back: the record does without it
	release *Release    // set while gone waits to be given back

	users int
	epoch uint32
	puts  int
	since time.Time
}

// heldShare is an open that waits to be reclaimed.
type heldShare struct {
	access, deny fs.Share
	since        time.Time // when the cap clock began; it never restarts
	server       bool      // from the journal: the backend does not have it before it is reclaimed
	asked        bool      // a reclaim's outcome is open: the backend may have it
}

// heldRange is locks that wait to be reclaimed.
type heldRange struct {
	set    fs.RangeSet
	since  time.Time
	server bool
	asked  bool
}

// pendShare is an open on its way: others wait until it is settled.
type pendShare struct {
	access, deny fs.Share
	sid          *stateid // that the client will be told of; nil: the one it has
	done         chan struct{}
}

// pendRange is a lock on its way.
type pendRange struct {
	r    fs.Range
	t    fs.LockType
	sid  *stateid // as for an open
	done chan struct{}
}

func (ft *fileTable) shard(h fs.Handle) *shard {
	return &ft.shards[maphash.String(ft.seed, string(h))%uint64(len(ft.shards))]
}

// get finds or makes a file; put it back.
func (ft *fileTable) get(h fs.Handle) *file {
	sh := ft.shard(h)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	f := sh.files[h]
	if f == nil {
		if sh.files == nil {
			sh.files = map[fs.Handle]*file{}
		}
		f = &file{handle: h, opens: map[fs.Owner]*open{}, locks: map[fs.Owner]*lock{}}
		sh.files[h] = f
	}
	f.refs++
	return f
}

// peek finds a file, or nil; put it back.
func (ft *fileTable) peek(h fs.Handle) *file {
	sh := ft.shard(h)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	f := sh.files[h]
	if f != nil {
		f.refs++
	}
	return f
}

// put ends get or peek.
func (ft *fileTable) put(f *file) {
	sh := ft.shard(f.handle)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	f.refs--
	ft.tidy(sh, f)
}

// drop forgets f if it has become empty; for those who did not find it by handle. f.mu is not held.
func (ft *fileTable) drop(f *file) {
	sh := ft.shard(f.handle)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	ft.tidy(sh, f)
}

func (ft *fileTable) tidy(sh *shard, f *file) {
	if f.refs > 0 || sh.files[f.handle] != f {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.opens)+len(f.locks)+len(f.waiters) == 0 {
		delete(sh.files, f.handle)
	}
}

// all lists the files, each with a reference.
func (ft *fileTable) all() []*file {
	var out []*file
	for i := range ft.shards {
		sh := &ft.shards[i]
		sh.mu.Lock()
		for _, f := range sh.files {
			f.refs++
			out = append(out, f)
		}
		sh.mu.Unlock()
	}
	return out
}

// openOf finds or makes the entry of an open-owner. f.mu is held.
func (f *file) openOf(p *party, owner fs.Owner) *open {
	o := f.opens[owner]
	if o == nil {
		o = &open{file: f, owner: owner, party: p, locks: map[*lock]struct{}{}}
		f.opens[owner] = o
		p.add(o)
	}
	return o
}

// lockOf finds or makes the entry of a lock-owner; a new one belongs to o. f.mu is held.
func (f *file) lockOf(o *open, owner fs.Owner) *lock {
	l := f.locks[owner]
	if l == nil {
		l = &lock{owner: owner, open: o}
		f.locks[owner] = l
		o.locks[l] = struct{}{}
	}
	return l
}

// tidyLock forgets the entry if there is nothing in it. f.mu is held.
func (f *file) tidyLock(l *lock) {
	if l.sid == nil && len(l.live)+len(l.held)+len(l.gone) == 0 && l.pend == nil && l.users == 0 {
		if f.locks[l.owner] == l { // l may have been forgotten already, and the owner be back
			delete(f.locks, l.owner)
		}
		delete(l.open.locks, l)
	}
}

// tidyOpen forgets the entry if there is nothing in it. f.mu is held.
func (f *file) tidyOpen(o *open) {
	if o.client == nil { // else the entry stays, and its locks are tidied one by one
		for l := range o.locks {
			f.tidyLock(l)
		}
	}
	if o.client == nil && len(o.held)+len(o.locks) == 0 && o.pend == nil && o.release == nil && o.users == 0 {
		if f.opens[o.owner] == o { // as for locks: whoever looked at a list of entries may come late
			delete(f.opens, o.owner)
		}
		o.party.remove(o)
	}
}

// heldModes is the union of the held modes; server says which: those the backend does not have yet.
func (o *open) heldModes(server bool) (access, deny fs.Share) {
	for _, h := range o.held {
		if h.server == server {
			access |= h.access
			deny |= h.deny
		}
	}
	return access, deny
}

// heldSet is the union of the held ranges of one sort.
func (l *lock) heldSet(server bool) fs.RangeSet {
	var out fs.RangeSet
	for _, h := range l.held {
		if h.server == server {
			out = strongest(out, h.set)
		}
	}
	return out
}

// wanted is what the backend is to have of the open: live and held over a client's restart.
func (o *open) wanted() (access, deny fs.Share) {
	access, deny = o.heldModes(false)
	if o.client != nil {
		access |= o.access
		deny |= o.deny
	}
	return access, deny
}

// wanted is what the backend is to have of the lock.
func (l *lock) wanted() fs.RangeSet { return strongest(l.live, l.heldSet(false)) }

// consume takes a reclaimed, replaced or unlocked range out of what is held.
func (l *lock) consume(r fs.Range) {
	kept := l.held[:0]
	for _, h := range l.held {
		if h.set = h.set.With(r, fs.NoLock); len(h.set) > 0 {
			kept = append(kept, h)
		}
	}
	l.held = kept
}
