package remote

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sync/singleflight"

	"holdfast/fs"
	"holdfast/fs/remote/diskcache"
	"holdfast/internal/nfs4"
)

// The data cache: file data on a local disk (package diskcache), by the origin's file and its change
// attribute. Invariant I6 is kept by four rules.
//
//   - A read is answered from the cache only under the attributes that count for it: those that came with
//     the reader's own OPEN or later ones, renewed within the acreg times, and again after each of its
//     locks. The data must be of just that change attribute. So what is served is what close-to-open allows.
//   - The permission is that of the open, if its credential reads; else the origin's decision about ACCESS
//     for the credential; else the READ goes to the origin.
//   - Data belongs to a change attribute if the attribute was known before the READ was sent and is the same
//     in a GETATTR after it, in the same COMPOUND.
//   - Servers move the change attribute before they write the data, and some only by clock ticks. So data
//     that was fetched while its version was younger than settleTime by the origin's clock is "young": it is
//     served to readers whose open came before the fetch, kept in memory only, and fetched again for others.
//
// What becomes of the data at a change of ours says own.go.
type dataCache struct {
	store *diskcache.Store
	space uint64
	clock originClock

	mu sync.Mutex
	// +checklocks:mu
	files map[fs.Handle]*dataFile
	// +checklocks:mu
	ring dataFile // the list's ring: next is the most recently used
	// +checklocks:mu
	grants map[grantKey]*grant
	// +checklocks:mu
	places map[fs.Handle]place // where files were seen, for people

	asking   singleflight.Group // GETATTRs to revalidate
	inFlight atomic.Int64       // bytes of readahead under way
	noPlus   atomic.Bool        // the origin has no READ_PLUS
	rate     atomic.Int64       // bytes a second that the origin gave of late
	// rewriting is how many changes of data are under way of which nobody knows whose it is, and rewrites how
	// many there were.
	rewriting, rewrites atomic.Int64

	c dataCounters
}

type dataCounters struct {
	hits, hitBytes, misses, missBytes                 atomic.Uint64
	fetched, ahead, joined                            atomic.Uint64 // bytes; joined: of others' fetches
	cold, changed, recent, through, denied, unsettled atomic.Uint64
	revalidated, ownKept, ownDropped, stale           atomic.Uint64
	lastStale                                         atomic.Int64
}

// A grant is an open that may read.
type grant struct {
	cred   string // credKey of who opened
	access fs.Share
	seq    uint64 // when the open, or the last lock under it, was answered
}

type grantKey struct {
	owner fs.Owner
	file  fs.Handle
}

// A dataFile is what is going on with the data of a file.
type dataFile struct {
	next, prev *dataFile
	handle     fs.Handle // immutable, as are the next two
	fh         nfs4.FH
	id         diskcache.ID
	users      int // guarded by dataCache.mu

	mu sync.Mutex
	// +checklocks:mu
	fetches []*fetch
	// +checklocks:mu
	streams [maxStreams]stream
	// +checklocks:mu
	turn int // of streams
	// +checklocks:mu
	change uint64 // that was read last
	// +checklocks:mu
	anonSeq uint64
	// +checklocks:mu
	anonAt time.Time
	// +checklocks:mu
	own ownWrites
	// +checklocks:mu
	kept ownVersion
	// torn says that a change of ours was given up on its way, and may be done at any time: no row of own
	// changes can be known to be all there is.
	// +checklocks:mu
	torn  bool
	loose looseWrites

	// storing orders what fetches store before what own writes store: a fetch that was overtaken by an own
	// write sees it in writes, and stores nothing.
	storing sync.RWMutex
	writes  atomic.Uint64 // counts own changes that began
	// unsettled says that there are kept own writes that the origin may not have on disk.
	unsettled atomic.Bool
}

// maxFiles bounds the files that are remembered; each costs some 700 bytes. Those with own writes that may be
// lost are kept.
const maxFiles = 20_000

func newDataCache(store *diskcache.Store, space uint64) *dataCache {
	d := &dataCache{store: store, space: space, files: make(map[fs.Handle]*dataFile), grants: make(map[grantKey]*grant), places: make(map[fs.Handle]place)}
	d.ring.next, d.ring.prev = &d.ring, &d.ring
	return d
}

// dataSpace keeps the files of origins apart, by the name in the configuration and by who the origin says
// it is: another server under an old name has none of the old one's data.
func dataSpace(name, scope string) uint64 {
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], uint64(len(name)))
	return xxhash.Sum64String(string(n[:]) + name + scope)
}

// id names a file in the store. The filehandle tells it from a later file with the same number.
func (d *dataCache) id(a *fs.Attr, fh nfs4.FH) diskcache.ID {
	return diskcache.ID{Space: d.space, Major: a.FSID.Major, Minor: a.FSID.Minor, FileID: a.FileID, Handle: xxhash.Sum64String(string(fh))}
}

// find returns the file, nil if nothing goes on with it.
func (d *dataCache) find(h fs.Handle) *dataFile {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.files[h]
}

// use returns the file, and keeps it until unuse.
func (d *dataCache) use(h fs.Handle, a *fs.Attr, fh nfs4.FH) *dataFile {
	return d.useIf(h, a, fh, true)
}

// useIf is use, but nil for a file with which nothing goes on, unless it is to be made.
func (d *dataCache) useIf(h fs.Handle, a *fs.Attr, fh nfs4.FH, mk bool) *dataFile {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[h]
	if f == nil {
		if !mk {
			return nil
		}
		f = &dataFile{handle: h, fh: fh, id: d.id(a, fh)}
		d.files[h] = f
		f.next, f.prev = f, f
	}
	f.prev.next, f.next.prev = f.next, f.prev
	f.next, f.prev = d.ring.next, &d.ring
	f.next.prev, f.prev.next = f, f
	f.users++
	for x := d.ring.prev; len(d.files) > maxFiles && x != &d.ring; {
		prev := x.prev
		if x.users == 0 && !x.unsettled.Load() {
			x.prev.next, x.next.prev = x.next, x.prev
			delete(d.files, x.handle)
		}
		x = prev
	}
	return f
}

func (d *dataCache) unuse(f *dataFile) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f.users--
}

// opened says that an open was granted to cred.
func (r *Remote) dataOpened(o fs.Owner, cred *fs.Cred, file fs.Handle, access fs.Share) {
	d := r.data
	if d == nil {
		return
	}
	g := &grant{cred: credKey(orAnonymous(cred)), access: access, seq: r.cache.begin()}
	k := grantKey{o, file}
	d.mu.Lock()
	defer d.mu.Unlock()
	if old := d.grants[k]; old != nil {
		if old.cred != g.cred {
			g.access = access // of this credential; the other's is asked for by ACCESS
		} else {
			g.access |= old.access
		}
	}
	d.grants[k] = g
}

// closed says that an open is gone.
func (r *Remote) dataClosed(o fs.Owner, file fs.Handle) {
	d := r.data
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.grants, grantKey{o, file})
}

// dataLocked says that a lock was granted: what others wrote under it must be seen (RFC 8881 10.3.2).
func (r *Remote) dataLocked(open fs.Owner, file fs.Handle) {
	d := r.data
	if d == nil {
		return
	}
	if r.cache.mode != Immutable {
		r.cache.stale(file)
	}
	seq := r.cache.begin()
	d.mu.Lock()
	defer d.mu.Unlock()
	if g := d.grants[grantKey{open, file}]; g != nil {
		n := *g
		n.seq = seq
		d.grants[grantKey{open, file}] = &n
	}
}

// dataReduced says that an open was downgraded.
func (r *Remote) dataReduced(o fs.Owner, file fs.Handle, access fs.Share) {
	d := r.data
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if g := d.grants[grantKey{o, file}]; g != nil {
		n := *g
		n.access &= access
		d.grants[grantKey{o, file}] = &n
	}
}

func (d *dataCache) grant(o fs.Owner, file fs.Handle) *grant {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.grants[grantKey{o, file}]
}

func orAnonymous(cred *fs.Cred) *fs.Cred {
	if cred == nil {
		return anonymous
	}
	return cred
}

// settleTime is how old a version has to be, by the origin's clock, until no write that led to it can still
// be under way.
const settleTime = time.Second

// An originClock knows how late it is at the origin at least: each ctime that was seen was in the past
// there. It forgets within two clockSpans, for an origin whose clock was set back.
type originClock struct {
	mu sync.Mutex
	// +checklocks:mu
	turned time.Time
	// +checklocks:mu
	ahead, before time.Duration // of the origin's clock before ours, at least; now and in the last span
	// +checklocks:mu
	known, knownBefore bool
}

const clockSpan = 10 * time.Minute

// saw takes a ctime in.
func (c *originClock) saw(ctime, now time.Time) {
	d := ctime.Sub(now)
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.turned) > clockSpan {
		c.before, c.knownBefore = c.ahead, c.known
		c.known, c.turned = false, now
	}
	if !c.known || d > c.ahead {
		c.ahead, c.known = d, true
	}
}

// settled tells that the version that a ctime belongs to is older than settleTime.
func (c *originClock) settled(ctime, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	ahead, known := c.ahead, c.known
	if c.knownBefore && (!known || c.before > ahead) {
		ahead, known = c.before, true
	}
	return known && now.Add(ahead).Sub(ctime) >= settleTime
}
