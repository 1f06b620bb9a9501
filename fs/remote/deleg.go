package remote

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/nfsup"
)

// Delegations from the origin, RFC 8881 10.4. While one is held the file does not change behind our back,
// so what is known of it needs no asking: attributes, decisions, data in a cache. Nor do opens, but for
// their sake one thing must be kept: an open that an end client was told of must be found again after any
// reboot (I2), and so is held at the origin, under the owner's own name, as the retention draft asks of a
// gateway even under a write delegation. So it is CLOSE that stays here. An open that its owner has closed
// is parked: the origin still has it, nobody else does. When the owner opens the file again with the same
// modes and credential it has the parked one, without a round trip. No open ever exists here alone: there
// is nothing to claim (CLAIM_DELEGATE_CUR) at a recall, and recovery knows nothing of delegations.
//
// Applications of this host have an owner for each open, which never comes again. Their state ends with
// the mount, so the name does not matter, and they take over each other's parked opens.
//
// What is parked has no locks and denies nothing. It goes when the delegation is recalled or lost, when
// somebody of us wants to deny what it has, and when its file is removed.

// delegator is an upstream that has delegations.
type delegator interface {
	Delegated(nfs4.FH) nfsup.DelegKind
	WriteDelegation(nfs4.FH) uint64
	Delegations() []nfsup.Delegation
	LeaseValid() bool
	ReturnDelegation(ctx context.Context, fh nfs4.FH) error
}

var (
	_ delegator = (*nfsup.Client)(nil)
	_ delegator = (*shards)(nil)
)

// Of several upstream clients each has its own delegations; what one of them has covers the file for all,
// since it is recalled whoever else wants to change it, another of us included.

func (s *shards) eachDelegator(f func(delegator) bool) {
	for _, u := range s.list {
		if d, ok := u.(delegator); ok && !f(d) {
			return
		}
	}
}

// Delegated counts only those whose own lease is valid.
func (s *shards) Delegated(fh nfs4.FH) (best nfsup.DelegKind) {
	s.eachDelegator(func(d delegator) bool {
		if k := d.Delegated(fh); k > best && d.LeaseValid() {
			best = k
		}
		return best != nfsup.DelegWrite
	})
	return best
}

// WriteDelegation is the number of the write delegation, whoever of us has it.
func (s *shards) WriteDelegation(fh nfs4.FH) (serial uint64) {
	s.eachDelegator(func(d delegator) bool {
		serial = d.WriteDelegation(fh)
		return serial == 0
	})
	return serial
}

// LeaseValid is judged by Delegated.
func (s *shards) LeaseValid() bool { return true }

// Delegations lists those of all.
func (s *shards) Delegations() (list []nfsup.Delegation) {
	s.eachDelegator(func(d delegator) bool { list = append(list, d.Delegations()...); return true })
	return list
}

// ReturnDelegation returns those of all.
func (s *shards) ReturnDelegation(ctx context.Context, fh nfs4.FH) error {
	return s.all(func(u upstream) error {
		if d, ok := u.(delegator); ok {
			return d.ReturnDelegation(ctx, fh)
		}
		return nil
	})
}

// Bounds of what is kept for convenience.
const (
	maxCovers = 8192  // delegated files
	maxParked = 16384 // parked opens
)

// covers is the delegated files and the parked opens. Lock order: covers.mu, then that of owners or of
// nfsup's tables. It is not held across a request.
type covers struct {
	mu sync.Mutex
	// +checklocks:mu
	files map[fs.Handle]*cover
	// +checklocks:mu
	parked int
	// closing are parked opens on their way out.
	// +checklocks:mu
	closing map[parkedKey]*closing
	// opening are the upstream owners that have OPENs on their way; see overtaken.go.
	// +checklocks:mu
	opening map[UpOwner]*opening
	// clock counts OPENs that are sent and CLOSEs that have ended.
	// +checklocks:mu
	clock uint64
	// aliases are the upstream owners that local opens have taken over.
	// +checklocks:mu
	aliases map[fs.Owner]UpOwner
	// promises are what end clients were promised of delegated files.
	// +checklocks:mu
	promises map[fs.Handle]*promise
	// local counts the changes of files by applications of this host that are under way.
	// +checklocks:mu
	local map[fs.Handle]int

	opens, closes, recalls, returned, lost atomic.Uint64
}

type cover struct {
	file   fs.Handle
	fh     nfs4.FH
	since  time.Time
	used   time.Time
	write  uint64             // the write delegation that what is known of the file came with or after, 0 if it did with none
	creds  map[UpOwner]string // whom live opens were opened for
	parked map[UpOwner]parkedOpen
}

type parkedKey struct {
	up   UpOwner
	file fs.Handle
}

// closing is a parked open that is about to be closed, or, when begun, being closed.
type closing struct {
	begun bool
	done  chan struct{}
}

type parkedOpen struct {
	access    fs.Share
	cred      string
	local     bool
	mayNotify bool
}

// DelegatePolicy says whether to ask the origin for delegations.
type DelegatePolicy uint8

// The policies.
//
// A server that keeps the state of a client that is away (knfsd's courteous server) gives all of it up when
// somebody wants one piece; a delegation makes every open for writing such a want. So auto asks for none
// where a re-export would come back by mode resume: there it would cost the end clients' locks. It asks
// where the origin has agreed to retain our state, and for a mount without re-export, whose locks end with it.
const (
	DelegateAuto DelegatePolicy = iota
	DelegateNever
	DelegateAlways
)

func (r *Remote) initCovers(up upstream) {
	d, ok := up.(delegator)
	switch r.cfg.Delegations {
	case DelegateNever:
		ok = false
	case DelegateAuto:
		ok = ok && (!r.cfg.Reexport || up.Info().RetainGranted)
	}
	if ok {
		r.deleg = d
	}
	r.covers.files = make(map[fs.Handle]*cover)
	r.covers.closing = make(map[parkedKey]*closing)
	r.covers.opening = make(map[UpOwner]*opening)
	r.covers.aliases = make(map[fs.Owner]UpOwner)
	r.covers.promises = make(map[fs.Handle]*promise)
	r.covers.local = make(map[fs.Handle]int)
}

// wantDeleg is the delegation to ask for with an open.
func (r *Remote) wantDeleg(req *fs.OpenRequest) nfsup.DelegKind {
	switch {
	case r.deleg == nil || req.Reclaim || req.Deny != 0:
		return nfsup.DelegNone
	case req.Access&fs.ShareWrite != 0:
		return nfsup.DelegWrite
	}
	return nfsup.DelegRead
}

// covered tells whether a delegation keeps others from changing the file now, and has done so since what
// is known of it came in.
func (r *Remote) covered(file fs.Handle, fh nfs4.FH, write bool) bool {
	if r.deleg == nil || !r.hasCover(file) {
		return false
	}
	k := r.deleg.Delegated(fh)
	return (k == nfsup.DelegWrite || k == nfsup.DelegRead && !write) && r.deleg.LeaseValid()
}

// coveredAttr gives attributes that are true without asking, nil if there are none.
func (r *Remote) coveredAttr(h fs.Handle, fh nfs4.FH) *fs.Attr {
	if !r.covered(h, fh, false) {
		return nil
	}
	return r.cache.exact(h)
}

// noteCover notes an open that the origin has granted, if a delegation came with it or was there. What the
// answer said of the file is in the cache already.
func (r *Remote) noteCover(file fs.Handle, fh nfs4.FH, up UpOwner, cred *fs.Cred, write uint64) {
	if r.deleg == nil || r.deleg.Delegated(fh) == nfsup.DelegNone {
		return
	}
	c := &r.covers
	c.mu.Lock()
	x := c.files[file]
	if x == nil {
		x = &cover{file: file, fh: fh, since: r.now(), creds: map[UpOwner]string{}, parked: map[UpOwner]parkedOpen{}}
		c.files[file] = x
	}
	x.used = r.now()
	if write != 0 {
		x.write = write
	}
	if _, again := x.creds[up]; again && x.creds[up] != credKey(cred) {
		x.creds[up] = "" // of two users: neither speaks for the other
	} else {
		x.creds[up] = credKey(cred)
	}
	var old []*cover
	if len(c.files) > maxCovers {
		old = c.oldest(len(c.files) / 8)
	}
	c.mu.Unlock()
	r.giveBackAll(old)
}

// oldest lists the n covers that were not used for longest.
//
// +checklocks:c.mu
func (c *covers) oldest(n int) []*cover {
	list := make([]*cover, 0, len(c.files))
	for _, x := range c.files {
		list = append(list, x)
	}
	slices.SortFunc(list, func(a, b *cover) int { return a.used.Compare(b.used) })
	return list[:min(n, len(list))]
}

func isLocal(o fs.Owner) bool { return strings.HasPrefix(o.Client, fs.LocalClient) }

// alias is the upstream owner that a local open has taken over.
func (c *covers) alias(o fs.Owner) (UpOwner, bool) {
	if !isLocal(o) {
		return UpOwner{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	up, ok := c.aliases[o]
	return up, ok
}

// openCovered opens without the origin, if the owner has such an open there already, live or parked.
// false: ask.
func (r *Remote) openCovered(ctx context.Context, cred *fs.Cred, req *fs.OpenRequest) (*fs.OpenResult, bool) {
	if r.deleg == nil || req.Reclaim || req.Deny != 0 || cred == nil {
		return nil, false
	}
	switch req.Create {
	case fs.NoCreate:
	case fs.Unchecked:
		if req.Attr.Size != nil {
			return nil, false
		}
	default:
		return nil, false
	}
	key := credKey(cred)
	file := req.File
	var change uint64
	if req.Name != "" {
		child, hit := r.cache.lookup(req.Dir, req.Name, key, r.view(ctx))
		if !hit {
			// The directory is to be asked anyway: by LOOKUP, which makes what is known of it fresh.
			if child = r.cache.hint(req.Dir, req.Name); child == "" || !r.hasCover(child) {
				return nil, false
			}
			var err error
			if child, _, err = r.Lookup(ctx, cred, req.Dir, req.Name); err != nil {
				return nil, false
			}
		}
		if child == "" {
			return nil, false
		}
		dir := r.cache.lastAttr(req.Dir)
		if dir == nil {
			return nil, false
		}
		file, change = child, dir.Change
	}
	fh, err := r.resolve(ctx, file)
	if err != nil || !r.covered(file, fh, req.Access&fs.ShareWrite != 0) {
		return nil, false
	}
	attr := r.cache.exact(file)
	if attr == nil || attr.Type != fs.Regular || !r.takeParked(file, fh, req, key) {
		return nil, false
	}
	r.covers.opens.Add(1)
	return &fs.OpenResult{File: file, Attr: attr, Change: fs.ChangeInfo{Atomic: true, Before: change, After: change}, MayNotify: true}, true
}

// alone is the number of the write delegation under which nobody but us has changed the file since what is known of
// it came in, 0 if there is none.
func (r *Remote) alone(file fs.Handle, fh nfs4.FH) uint64 {
	if r.deleg == nil {
		return 0
	}
	r.covers.mu.Lock()
	x := r.covers.files[file]
	serial := uint64(0)
	if x != nil {
		serial = x.write
	}
	r.covers.mu.Unlock()
	if serial == 0 || r.deleg.WriteDelegation(fh) != serial {
		return 0
	}
	return serial
}

func (r *Remote) hasCover(file fs.Handle) bool {
	r.covers.mu.Lock()
	defer r.covers.mu.Unlock()
	return r.covers.files[file] != nil
}

// takeParked gives an owner an open that the origin has already.
func (r *Remote) takeParked(file fs.Handle, fh nfs4.FH, req *fs.OpenRequest, key string) bool {
	up := r.openUp(req.Owner)
	c := &r.covers
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.files[file]
	if x == nil || r.deleg.Delegated(fh) == nfsup.DelegNone { // looked at again: a recall takes mu after it
		return false
	}
	if s := r.owners.share(up, file); s.held {
		if x.creds[up] != key || req.Access&^s.access != 0 {
			return false
		}
		x.used = r.now()
		return true
	}
	p, ok := x.parked[up]
	if ok = ok && p.cred == key && p.access == req.Access; !ok && isLocal(req.Owner) {
		for other, o := range x.parked {
			if o.local && o.cred == key && o.access == req.Access {
				up, p, ok = other, o, true
				c.aliases[req.Owner] = up
				break
			}
		}
	}
	if !ok {
		return false
	}
	delete(x.parked, up)
	c.parked--
	x.creds[up], x.used = key, r.now()
	r.owners.begin(up, req.Owner)
	r.owners.opened(up, file, p.access, 0, p.mayNotify)
	r.owners.end(up)
	return true
}

// park ends an open here and leaves it at the origin. false: it must be closed there.
func (r *Remote) park(owner fs.Owner, up UpOwner, file fs.Handle, fh nfs4.FH) bool {
	if r.deleg == nil {
		return false
	}
	c := &r.covers
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.files[file]
	if x == nil {
		delete(c.aliases, owner)
		return false
	}
	key := x.creds[up]
	delete(x.creds, up)
	delete(c.aliases, owner)
	a := r.cache.lastAttr(file)
	s, locks, notify := r.owners.idle(up, file)
	if key == "" || !s.held || s.deny != 0 || locks || c.parked >= maxParked || a == nil || a.Nlink == 0 ||
		r.ctx.Err() != nil || r.deleg.Delegated(fh) == nfsup.DelegNone {
		return false
	}
	x.parked[up] = parkedOpen{access: s.access, cred: key, local: isLocal(owner), mayNotify: notify}
	x.used = r.now()
	c.parked++
	r.owners.closed(up, file)
	c.closes.Add(1)
	return true
}

// forgetParked takes an open that the origin has lost out of what is parked; true if it was.
func (c *covers) forgetParked(up UpOwner, file fs.Handle) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.files[file]
	if x == nil {
		return false
	}
	if _, ok := x.parked[up]; !ok {
		return false
	}
	delete(x.parked, up)
	c.parked--
	return true
}

// unpark closes the parked opens of a file at the origin: somebody of us stands against them.
func (r *Remote) unpark(ctx context.Context, file fs.Handle) {
	c := &r.covers
	c.mu.Lock()
	x := c.files[file]
	var list map[UpOwner]*closing
	if x != nil && len(x.parked) > 0 {
		list = c.takeAll(x)
	}
	c.mu.Unlock()
	if list != nil {
		r.closeParked(ctx, x, list)
	}
}

// takeAll takes all parked opens of a file to be closed.
//
// +checklocks:c.mu
func (c *covers) takeAll(x *cover) map[UpOwner]*closing {
	list := make(map[UpOwner]*closing, len(x.parked))
	for up := range x.parked {
		list[up] = &closing{done: make(chan struct{})}
		c.closing[parkedKey{up, x.file}] = list[up]
	}
	c.parked -= len(list)
	x.parked = map[UpOwner]parkedOpen{}
	return list
}

func (r *Remote) closeParked(ctx context.Context, x *cover, list map[UpOwner]*closing) {
	c := &r.covers
	for up, cl := range list {
		key := parkedKey{up, x.file}
		c.mu.Lock()
		ours := c.closing[key] == cl
		cl.begun = ours
		c.mu.Unlock()
		if !ours {
			continue // its owner has opened the file again: it is his
		}
		r.closeUnwanted(ctx, key, x.fh, cl)
	}
}

// closeUnwanted closes an open at the origin that nobody here has any more, and tells who waits for that.
func (r *Remote) closeUnwanted(ctx context.Context, key parkedKey, fh nfs4.FH, cl *closing) {
	r.givenBack(r.up.CloseFile(ctx, key.up, fh))
	c := &r.covers
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing[key] == cl {
		delete(c.closing, key)
	}
	c.closeEnded(key)
	close(cl.done)
}

// givenBack says if an open that nobody wants stays at the origin.
func (r *Remote) givenBack(err error) {
	if err != nil && !errors.Is(err, nfsup.ErrNoState) && r.ctx.Err() == nil {
		r.log.Warn("an open of no use could not be given back", "err", err)
	}
}

// unparkFor makes room for an open that denies something: what is parked stands in its way at the origin.
func (r *Remote) unparkFor(ctx context.Context, cred *fs.Cred, req *fs.OpenRequest) {
	if r.deleg == nil || req.Deny == 0 {
		return
	}
	file := req.File
	if req.Name != "" {
		var err error
		if file, _, err = r.Lookup(ctx, cred, req.Dir, req.Name); err != nil {
			return // the open will say why
		}
	}
	r.unpark(ctx, file)
}

// recalled obeys the origin. It does not block.
func (r *Remote) recalled(fh nfs4.FH, any bool) {
	c := &r.covers
	c.recalls.Add(1)
	if any {
		c.mu.Lock()
		list := c.oldest((len(c.files) + 1) / 2)
		c.mu.Unlock()
		r.giveBackAll(list)
		return
	}
	file, _, _ := r.seal.seal(fh)
	go r.giveBack(file, fh)
}

func (r *Remote) giveBackAll(list []*cover) {
	if len(list) == 0 {
		return
	}
	go func() {
		for _, x := range list {
			r.recallDown(x.file) // all of them at once
		}
		for _, x := range list {
			r.giveBack(x.file, x.fh)
		}
	}()
}

// giveBack returns a delegation: first what end clients have of it, then what is parked, so that it stands in nobody's way, then
// DELEGRETURN. Data is written through, so there is nothing to flush.
func (r *Remote) giveBack(file fs.Handle, fh nfs4.FH) {
	if gone := r.recallDown(file); gone != nil {
		select {
		case <-gone:
		case <-r.ctx.Done():
			return
		}
	}
	r.uncover(file)
	if err := r.deleg.ReturnDelegation(r.ctx, fh); err != nil && r.ctx.Err() == nil {
		r.log.Warn("a delegation stays at the origin until it takes it away", "err", err)
		return
	}
	r.covers.returned.Add(1)
}

// uncover ends the time in which a file needs no asking.
func (r *Remote) uncover(file fs.Handle) {
	c := &r.covers
	c.mu.Lock()
	x := c.files[file]
	var list map[UpOwner]*closing
	if x != nil {
		delete(c.files, file)
		list = c.takeAll(x)
	}
	c.mu.Unlock()
	r.cache.stale(file)
	if x != nil {
		r.closeParked(r.ctx, x, list)
	}
}

// delegLost is the news that a delegation was revoked, or not given again.
func (r *Remote) delegLost(fh nfs4.FH) {
	r.covers.lost.Add(1)
	file, _, _ := r.seal.seal(fh)
	r.cache.stale(file)
	go func() {
		r.recallDown(file) // what rested on it is worth nothing any more
		r.uncover(file)
	}()
}

// delegAttr answers CB_GETATTR.
func (r *Remote) delegAttr(fh nfs4.FH) (change, size uint64, ok bool) {
	file, _, _ := r.seal.seal(fh)
	if a := r.cache.exact(file); a != nil {
		return a.Change, a.Size, true
	}
	return 0, 0, false
}

// DelegationInfo is a delegation from the origin, for people.
type DelegationInfo struct {
	File     fs.Handle
	Write    bool
	Recalled bool
	Parked   int // opens that only wait to be opened again
	Since    time.Time
}

// Delegations lists what the origin has delegated to this mount.
func (r *Remote) Delegations() []DelegationInfo {
	if r.deleg == nil {
		return nil
	}
	var out []DelegationInfo
	c := &r.covers
	for _, d := range r.deleg.Delegations() {
		file, _, _ := r.seal.seal(d.FH)
		i := DelegationInfo{File: file, Write: d.Kind == nfsup.DelegWrite, Recalled: d.Recalled}
		c.mu.Lock()
		if x := c.files[file]; x != nil {
			i.Parked, i.Since = len(x.parked), x.since
		}
		c.mu.Unlock()
		out = append(out, i)
	}
	return out
}
