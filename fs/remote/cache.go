package remote

import (
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/fs"
)

// The cache knows, of each file, what the origin said last: attributes, what which credential may
// do, a link's target, and of a directory the entries that were looked up and the pages that were
// read. The rules:
//
//   - How old an answer may be says the mode (consistency.go); what follows is the default.
//   - Attributes are good for acregmin to acregmax (acdirmin to acdirmax), twice as long each time
//     they are found unchanged, as nfs(5) has it.
//   - Names and pages are good while the directory's attributes are, and only beside the change
//     attribute that they were seen with. So one fresh GETATTR of a directory keeps or drops them all.
//   - Access decisions are kept for each credential, never derived from the mode, and dropped when the
//     change attribute moves in a way that was not our own doing.
//   - A change attribute that moved without us is somebody else's change: what is known of the file goes,
//     and the listeners are told.
//   - An answer that was overtaken by a newer one never puts an older change attribute in its place.
//
// Everything is bounded by weight, least recently used first. What must not be evicted is not here.
type cache struct {
	times  AttrTimes
	mode   Consistency
	seed   maphash.Seed
	shards [cacheShards]shard
	log    *metaLog // nil: nothing outlives the process

	counters cacheCounters
}

const cacheShards = 16

// AttrTimes are the acreg and acdir times of nfs(5). Zero values mean its defaults: 3 s and 60 s for
// files, 30 s and 60 s for directories. A negative value means no caching.
type AttrTimes struct {
	RegMin, RegMax, DirMin, DirMax time.Duration
}

func (t *AttrTimes) setDefaults() {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
		*d = max(*d, 0)
	}
	def(&t.RegMin, 3*time.Second)
	def(&t.RegMax, 60*time.Second)
	def(&t.DirMin, 30*time.Second)
	def(&t.DirMax, 60*time.Second)
	t.RegMax = max(t.RegMax, t.RegMin)
	t.DirMax = max(t.DirMax, t.DirMin)
}

func (t *AttrTimes) of(typ fs.FileType) (low, high time.Duration) {
	if typ == fs.Directory {
		return t.DirMin, t.DirMax
	}
	return t.RegMin, t.RegMax
}

type cacheCounters struct {
	attrHits, attrMisses, nameHits, nameMisses, accessHits, accessMisses, pageHits, pageMisses, foreign, evicted atomic.Uint64
}

// Lock order: one shard's mutex at a time, and nothing is called while it is held.
type shard struct {
	mu sync.Mutex
	// +checklocks:mu
	nodes map[fs.Handle]*node
	// +checklocks:mu
	lru node // the list's ring: next is the most recently used
	// +checklocks:mu
	weight, limit int
}

// A node is what is known of one file; its shard's mutex guards it.
type node struct {
	next, prev *node
	handle     fs.Handle

	attr    *fs.Attr // replaced, never changed
	fresh   time.Time
	timeo   time.Duration
	settled uint64   // when attr came in, by fs.Tick
	asked   uint64   // when the request began that brought it
	came    int64    // by the clock, in ns since 1970
	logged  *fs.Attr // as they are in the file (metalog.go)

	access accessList
	link   *string

	// Of a directory. What has the generation gen, and the pages, belong to the change attribute namesAt.
	// Older names are hints: whom a change of ours may have touched.
	names   map[string]nameEntry
	gen     uint64 // from 1
	namesAt uint64
	pages   []*dirPage
	verf    [8]byte // the origin's cookie verifier
	verfOK  bool

	writers int    // changes of ours that are under way
	burst   *burst // while there are writers
}

// nameEntry is where a name leads; an empty child says that there is no such entry.
type nameEntry struct {
	child fs.Handle
	gen   uint64
}

type accessBits struct{ asked, granted uint32 }

// An accessList is the decisions by credential, of which there are one or two for most files.
type accessList []accessEntry

type accessEntry struct {
	cred string
	accessBits
}

func (l accessList) get(cred string) accessBits {
	for i := range l {
		if l[i].cred == cred {
			return l[i].accessBits
		}
	}
	return accessBits{}
}

// dirPage is an answer to READDIR.
type dirPage struct {
	start   uint64 // the cookie that it follows
	entries []fs.DirEntry
	eof     bool
	attrs   bool // the entries have attributes
	read    time.Time
}

const maxPages = 4

func newCache(times AttrTimes, limit int) *cache {
	times.setDefaults()
	c := &cache{times: times, mode: CloseToOpen, seed: maphash.MakeSeed()}
	for i := range c.shards {
		s := &c.shards[i]
		s.nodes = make(map[fs.Handle]*node)
		s.lru.next, s.lru.prev = &s.lru, &s.lru
		s.limit = max(limit/cacheShards, 64)
	}
	return c
}

func (c *cache) shard(h fs.Handle) *shard {
	return &c.shards[maphash.String(c.seed, string(h))%cacheShards]
}

// begin numbers a request that is about to be sent.
func (c *cache) begin() uint64 { return fs.Tick() }

// credKey is a credential as a map key: all that a decision can depend on.
func credKey(cred *fs.Cred) string {
	b := make([]byte, 0, 8+4*len(cred.Groups))
	b = binary.BigEndian.AppendUint32(b, cred.UID)
	b = binary.BigEndian.AppendUint32(b, cred.GID)
	for _, g := range cred.Groups {
		b = binary.BigEndian.AppendUint32(b, g)
	}
	return string(b)
}

// get returns the node, most recently used now, or nil.
//
// +checklocks:s.mu
func (s *shard) get(h fs.Handle) *node {
	n := s.nodes[h]
	if n != nil {
		n.unlink()
		s.push(n)
	}
	return n
}

// make returns the node, and makes it if it is not there.
//
// +checklocks:s.mu
func (s *shard) make(h fs.Handle) *node {
	if n := s.get(h); n != nil {
		return n
	}
	n := &node{handle: h, gen: 1}
	s.nodes[h] = n
	s.weight++
	s.push(n)
	return n
}

// +checklocks:s.mu
func (s *shard) push(n *node) {
	n.next, n.prev = s.lru.next, &s.lru
	n.next.prev, n.prev.next = n, n
}

func (n *node) unlink() { n.next.prev, n.prev.next = n.prev, n.next }

// shrink evicts what was not used for long until the shard is within its limit.
//
// +checklocks:s.mu
func (s *shard) shrink(evicted *atomic.Uint64) {
	for n := s.lru.prev; s.weight > s.limit && n != &s.lru; {
		prev := n.prev
		if n.writers == 0 {
			s.remove(n)
			evicted.Add(1)
		}
		n = prev
	}
}

// +checklocks:s.mu
func (s *shard) remove(n *node) {
	n.unlink()
	delete(s.nodes, n.handle)
	s.weight -= n.weight()
}

func (n *node) weight() int {
	w := 1 + len(n.names) + len(n.access)
	for _, p := range n.pages {
		w += len(p.entries)
	}
	return w
}

// dropNames makes the entries of a directory hints, and forgets its pages.
//
// +checklocks:s.mu
func (s *shard) dropNames(n *node) {
	before := n.weight()
	n.gen++
	n.pages = nil
	s.weight += n.weight() - before
}

// dropAccess forgets the decisions.
//
// +checklocks:s.mu
func (s *shard) dropAccess(n *node) {
	s.weight -= len(n.access)
	n.access = nil
}

// getAttr returns attributes that are good for a request.
func (c *cache) getAttr(h fs.Handle, v view) *fs.Attr {
	return c.attrIf(h, func(n *node) bool { return c.current(n, v) })
}

// readAttr is getAttr for reads under an open.
func (c *cache) readAttr(h fs.Handle, now time.Time) *fs.Attr {
	return c.attrIf(h, func(n *node) bool { return c.readable(n, now) })
}

func (c *cache) attrIf(h fs.Handle, good func(*node) bool) *fs.Attr {
	s := c.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.get(h)
	if n == nil || !good(n) {
		c.counters.attrMisses.Add(1)
		return nil
	}
	c.counters.attrHits.Add(1)
	return n.attr
}

// exact returns attributes that were true when they came and that no change of ours is about to make
// old: they are true now if nobody else can have changed the file since, whatever their age.
func (c *cache) exact(h fs.Handle) *fs.Attr {
	s := c.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.get(h)
	if n == nil || !n.isExact() {
		return nil
	}
	c.counters.attrHits.Add(1)
	return n.attr
}

// isExact: whoever doubts the attributes sets fresh to zero.
func (n *node) isExact() bool { return n.attr != nil && !n.fresh.IsZero() && n.writers == 0 }

// exactAccess is access for a file that nobody else can have changed.
func (c *cache) exactAccess(h fs.Handle, cred string, want uint32) (granted uint32, ok bool) {
	s := c.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.get(h)
	if n == nil || !n.isExact() {
		return 0, false
	}
	b := n.access.get(cred)
	return b.granted & want, b.asked&want == want
}

// undoubted returns attributes that were true when they came, though a change of ours may be making them old;
// nil if there are none.
func (c *cache) undoubted(h fs.Handle) *fs.Attr {
	s := c.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.nodes[h]; n != nil && !n.fresh.IsZero() {
		return n.attr
	}
	return nil
}

// hint is where a name led when it was seen last; empty if that is not known.
func (c *cache) hint(dir fs.Handle, name string) fs.Handle {
	child, _ := c.hintOf(dir, name)
	return child
}

// hintOf is hint; known tells a name that led nowhere from one that was not seen.
func (c *cache) hintOf(dir fs.Handle, name string) (child fs.Handle, known bool) {
	s := c.shard(dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[dir]
	if n == nil {
		return "", false
	}
	e, known := n.names[name]
	return e.child, known
}

// lastAttr returns the attributes however old; nil if none are known. Type, FSID and FileID never get old.
func (c *cache) lastAttr(h fs.Handle) *fs.Attr {
	s := c.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.nodes[h]; n != nil {
		return n.attr
	}
	return nil
}

// seen takes in attributes from an answer to a request that began at start. It returns true if they
// show a change that was not ours.
func (c *cache) seen(h fs.Handle, a *fs.Attr, start uint64, now time.Time) (foreign bool) {
	s := c.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.make(h)
	foreign = c.take(s, n, a, start, now)
	s.shrink(&c.counters.evicted)
	return foreign
}

// take is seen, for a node.
//
// +checklocks:s.mu
func (c *cache) take(s *shard, n *node, a *fs.Attr, start uint64, now time.Time) (foreign bool) {
	old := n.attr
	if old != nil && start < n.settled && a.Change < old.Change {
		// A newer answer overtook this one. (If the origin's change attribute is a clock that stepped
		// back, this one may be the newer: so the next question goes to the origin.)
		n.fresh = time.Time{}
		return false
	}
	if old != nil && old.Change != a.Change {
		if n.writers > 0 {
			n.changes().saw(a.Change, a.Change)
		} else {
			foreign = true
			c.counters.foreign.Add(1)
		}
		s.dropAccess(n)
		n.link = nil
	}
	if n.namesAt != a.Change {
		s.dropNames(n)
		n.namesAt = a.Change
	}
	c.settle(n, a, old != nil && old.Change == a.Change, start, now)
	c.logAttr(n)
	return foreign
}

// settle puts attributes in place and says how long they are good.
func (c *cache) settle(n *node, a *fs.Attr, unchanged bool, start uint64, now time.Time) {
	low, high := c.times.of(a.Type)
	if unchanged && n.timeo > 0 {
		n.timeo = min(n.timeo*2, high)
	} else {
		n.timeo = low
	}
	n.attr, n.came, n.fresh, n.settled, n.asked = a, now.UnixNano(), now.Add(n.timeo), fs.Tick(), start
}

// beginChange says that a request of ours that changes the file is about to be sent.
func (c *cache) beginChange(h fs.Handle) uint64 {
	defer c.doubt(h)
	s := c.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.make(h)
	if n.writers == 0 {
		n.burst = &burst{}
		if n.attr != nil {
			n.burst.from, n.burst.known = n.attr.Change, true
		}
	}
	n.writers++
	n.logged = nil
	return c.begin()
}

// A change is the outcome of a change of ours.
type change struct {
	handle fs.Handle
	start  uint64
	// known says that before is the change attribute that the change was made on. after is the one that
	// it led to; zero if that is only in attr. atomic is that of change_info4.
	known, atomic bool
	before, after uint64
	attr          *fs.Attr // from the same answer; may be nil
	edit          func(*names)
	resetAccess   bool // it may have changed permissions
}

// endChange takes in the outcome of a change of ours. It returns true if somebody else changed the
// file as well.
func (c *cache) endChange(ch *change, now time.Time) (foreign bool) {
	s := c.shard(ch.handle)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.make(ch.handle)
	n.writers = max(n.writers-1, 0)
	if ch.resetAccess {
		s.dropAccess(n)
	}
	n.link = nil
	old := n.attr
	after := ch.after
	if after == 0 && ch.attr != nil {
		after = ch.attr.Change
	}
	if ch.known && after != 0 {
		n.changes().saw(ch.before, after)
	} else {
		n.changes().lost = true
	}
	base := ch.known && old != nil && old.Change == ch.before
	if !base {
		s.dropAccess(n)
	}
	before := n.weight()
	// If nothing but this change happened to the entries, they stay, edited.
	sure := base && ch.atomic && n.namesAt == ch.before
	n.pages = nil
	n.logged = nil
	if sure {
		n.namesAt = ch.after
		c.note(n.handle, metaRecord{kind: metaMoved, at: ch.before, after: ch.after})
	} else {
		n.gen++
		n.namesAt = after
	}
	if ch.edit != nil {
		ch.edit(&names{n, sure, s.maxNamesOf(), c})
	}
	s.weight += n.weight() - before
	switch {
	case ch.attr != nil && (old == nil || ch.start >= n.settled || ch.attr.Change >= old.Change):
		if n.namesAt != ch.attr.Change {
			s.dropNames(n)
			s.dropAccess(n)
			n.namesAt = ch.attr.Change
			n.changes().saw(ch.attr.Change, ch.attr.Change)
		}
		c.settle(n, ch.attr, false, ch.start, now)
	case ch.attr == nil && old != nil:
		// The change attribute moved and the rest is unknown. The copy is stale from the start, but it
		// remembers how far our own doing goes, and keeps names that are known to be good.
		a := *old
		if base && after != 0 || after > old.Change {
			a.Change = after
		}
		n.attr, n.fresh = &a, time.Time{}
	default:
		n.fresh = time.Time{}
	}
	c.logAttr(n)
	if n.writers == 0 && !n.changes().ours() {
		c.counters.foreign.Add(1)
		foreign = true
	}
	if n.writers == 0 {
		n.burst = nil
	}
	s.shrink(&c.counters.evicted)
	return foreign
}

// A burst is one or more changes of ours that overlap in time. Each says on which change attribute
// it was made and to which it led; together they must lead from what was known before to what is
// known now without a gap, or somebody else has changed the file as well.
type burst struct {
	from  uint64
	known bool
	lost  bool // a change of which nobody knows what it did
	spans []span
}

type span struct{ before, after uint64 }

// changes is the burst of now.
func (n *node) changes() *burst {
	if n.burst == nil {
		n.burst = &burst{}
	}
	return n.burst
}

// maxSpans bounds the memory of a burst; a longer one counts as somebody else's change.
const maxSpans = 256

func (b *burst) saw(before, after uint64) {
	if len(b.spans) >= maxSpans {
		b.lost = true
		return
	}
	b.spans = append(b.spans, span{before, after})
}

// ours tells that nobody else changed the file.
func (b *burst) ours() bool {
	if !b.known || b.lost {
		return false
	}
	slices.SortFunc(b.spans, func(x, y span) int { return cmp.Compare(x.before, y.before) })
	reached := b.from
	for _, s := range b.spans {
		if s.before > reached || s.before < b.from {
			return false
		}
		reached = max(reached, s.after)
	}
	return true
}

// failChange ends a change that did not happen, or of which nobody knows.
func (c *cache) failChange(h fs.Handle, mayHaveHappened bool) {
	s := c.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.get(h)
	if n == nil {
		return
	}
	n.writers = max(n.writers-1, 0)
	if mayHaveHappened {
		n.changes().lost = true
		n.fresh = time.Time{}
		s.dropNames(n)
		s.dropAccess(n)
		n.logged = nil
		c.note(h, metaRecord{kind: metaDrop})
	}
	if n.writers == 0 {
		n.burst = nil
	}
}

// drop forgets a file: it is gone, or its handle is.
func (c *cache) drop(h fs.Handle) {
	s := c.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[h]
	c.note(h, metaRecord{kind: metaDrop})
	switch {
	case n == nil:
	case n.writers > 0:
		n.attr, n.fresh, n.link, n.logged = nil, time.Time{}, nil, nil
		s.dropNames(n)
		s.dropAccess(n)
	default:
		s.remove(n)
	}
}

// stale makes the next question about the file go to the origin.
func (c *cache) stale(h fs.Handle) {
	defer c.doubt(h)
	s := c.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.nodes[h]; n != nil {
		n.fresh, n.logged = time.Time{}, nil
	}
}

// staleAll does that for all files: the origin was away, and others may have changed anything.
func (c *cache) staleAll() {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for _, n := range s.nodes {
			if c.mode != Immutable {
				n.fresh = time.Time{}
			}
			n.verfOK = false
		}
		s.mu.Unlock()
	}
}

// size is the number of files and the weight of all that is known of them.
func (c *cache) size() (files, weight int) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		files += len(s.nodes)
		weight += s.weight
		s.mu.Unlock()
	}
	return files, weight
}
