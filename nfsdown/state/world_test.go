package state

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/internal/clock"
	"holdfast/internal/nfs4"
	"holdfast/journal"
)

// world is a server with all around it, for tests: a journal, a backend, clients, a clock.
type world struct {
	t       testing.TB
	now     time.Time
	cfg     Config
	journal *journal.Journal
	srv     *Server
	backend *fakeBackend
	clients map[string]*tester
	notices []string
	recalls []*Recall
	mayEnd  atomic.Bool

	memory *journal.Memory // its disk
	// For the model: what was posted is held back until a commit.
	holdBack bool
	posted   []*journal.Batch
}

func newWorld(t testing.TB, cfg Config) *world {
	w := &world{t: t, memory: journal.NewMemory(), now: time.Unix(1e9, 0), cfg: cfg, backend: newBackend(), clients: map[string]*tester{}}
	w.cfg.Now = func() time.Time { return w.now }
	w.boot()
	t.Cleanup(func() { w.journal.Close() })
	return w
}

// boot opens the journal and makes a server of it.
func (w *world) boot() {
	w.t.Helper()
	j, _, err := w.memory.Open(journal.Options{Clock: clock.NewFake(w.now)})
	if err != nil {
		w.t.Fatal(err)
	}
	snap, err := j.Load()
	if err != nil {
		w.t.Fatal(err)
	}
	w.journal, w.cfg.Epoch = j, j.Epoch()
	w.mayEnd.Store(false)
	w.srv = New(w.cfg, snap)
}

// crash ends the server, with what was posted durable: the order of things makes less no safer.
// A local backend forgets everything; a remote one is the origin, which keeps it.
func (w *world) crash() {
	w.t.Helper()
	if err := w.journal.Close(); err != nil {
		w.t.Fatal(err)
	}
	if w.backend.remote {
		w.backend.restart()
	} else {
		w.backend.clear()
	}
	w.boot()
}

// commit is the journal's; a nil batch is nothing.
func (w *world) commit(b *journal.Batch) error {
	if b == nil || b.Empty() {
		return nil
	}
	w.flush()
	return w.journal.Commit(w.t.Context(), b)
}

// flush posts what the model held back.
func (w *world) flush() {
	if len(w.posted) == 0 {
		return // many clients at once come here only without a model
	}
	for _, b := range w.posted {
		if err := w.journal.Post(b); err != nil {
			w.t.Error(err)
		}
	}
	w.posted = nil
}

func (w *world) run(e *Effects) {
	e.Run(context.Background(), host{w.backend, w})
}

// endGrace ends grace the way nfsdown does.
func (w *world) endGrace(force bool) []Lost {
	w.t.Helper()
	g := w.srv.EndGrace(force)
	if g == nil {
		return nil
	}
	g.Record(host{w.backend, w})
	if err := w.commit(g.Batch); err != nil {
		w.t.Fatal(err)
	}
	w.backend.reclaimComplete()
	w.run(g.Done())
	return g.Lost
}

// endPart ends grace for the parts that may, the way nfsdown does; after some steps the server dies instead.
func (w *world) endPart(steps int) (lost []Lost) {
	w.t.Helper()
	for e := w.srv.EndGraceAt(); e != nil; e = w.srv.EndGraceAt() {
		lost = append(lost, e.Lost...)
		if steps > 0 {
			if err := e.Record(w.t.Context(), host{w.backend, w}); err != nil {
				w.t.Fatal(err)
			}
			if err := w.commit(e.Batch); err != nil {
				w.t.Fatal(err)
			}
		}
		if steps > 1 {
			w.backend.completeAt(e.Part)
		}
		if steps > 2 {
			w.run(e.Done())
		}
	}
	return lost
}

// partOf is Config.Part in tests: files named "p/f" and "p/g" are at one origin, p.
func partOf(h fs.Handle) uint32 {
	if len(h) > 1 && h[1] == '/' {
		return uint32(h[0])
	}
	return 0
}

// host runs effects on the world.
type host struct {
	*fakeBackend
	w *world
}

func (h host) Post(b *journal.Batch) {
	if h.w.holdBack {
		h.w.posted = append(h.w.posted, b)
		return
	}
	if err := h.w.journal.Post(b); err != nil {
		h.w.t.Error(err)
	}
}

func (h host) NotifyLock(n LockNotice) {
	h.fakeBackend.mu.Lock()
	defer h.fakeBackend.mu.Unlock()
	h.w.notices = append(h.w.notices, n.Client.Owner()+"/"+n.LockOwner)
}
func (h host) Recall(r *Recall)   { h.w.recalls = append(h.w.recalls, r) }
func (h host) Interrupt(*Session) {}
func (h host) Closed(*Session)    {}
func (h host) GraceMayEnd()       { h.w.mayEnd.Store(true) }
func (h host) Each(n int, f func(int)) {
	for i := range n {
		f(i)
	}
}

// fakeBackend has opens and locks by owner, and refuses conflicts as a kernel would.
type fakeBackend struct {
	mu     sync.Mutex
	remote bool // it is an origin: it keeps our state over our restart, and takes only reclaims of it
	fail   error
	noGr   bool
	noGrAt uint32 // the part where it takes no reclaims
	opens  map[OwnerFile][2]fs.Share
	locks  map[OwnerFile]fs.RangeSet
	under  map[OwnerFile]fs.Owner // lock -> open-owner
	old    map[OwnerFile][2]fs.Share
	oldL   map[OwnerFile]fs.RangeSet
	calls  int
	seen   []string
}

func newBackend() *fakeBackend {
	b := &fakeBackend{}
	b.clear()
	return b
}

func (b *fakeBackend) clear() {
	b.opens, b.locks, b.under = map[OwnerFile][2]fs.Share{}, map[OwnerFile]fs.RangeSet{}, map[OwnerFile]fs.Owner{}
	b.old, b.oldL = map[OwnerFile][2]fs.Share{}, map[OwnerFile]fs.RangeSet{}
}

// restart is our restart as the friendly origin sees it: what was held, and what is still held from
// the restart before.
func (b *fakeBackend) restart() {
	for k, v := range b.opens {
		o := b.old[k]
		b.old[k] = [2]fs.Share{o[0] | v[0], o[1] | v[1]}
	}
	for k, v := range b.locks {
		b.oldL[k] = strongest(b.oldL[k], v)
	}
	b.opens, b.locks = map[OwnerFile][2]fs.Share{}, map[OwnerFile]fs.RangeSet{}
}

func (b *fakeBackend) reclaimComplete() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.old, b.oldL = map[OwnerFile][2]fs.Share{}, map[OwnerFile]fs.RangeSet{}
}

// completeAt is reclaimComplete at the origin of a part.
func (b *fakeBackend) completeAt(part uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.old, func(k OwnerFile, _ [2]fs.Share) bool { return partOf(k.File) == part })
	maps.DeleteFunc(b.oldL, func(k OwnerFile, _ fs.RangeSet) bool { return partOf(k.File) == part })
}

func (b *fakeBackend) takesNone(h fs.Handle) bool {
	return b.noGr || b.noGrAt != 0 && b.noGrAt == partOf(h)
}

// Open is by handle.
func (b *fakeBackend) Open(req *fs.OpenRequest) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls++
	if b.fail != nil {
		return b.fail
	}
	key := OwnerFile{req.Owner, req.File}
	if req.Reclaim {
		if b.takesNone(req.File) {
			return fs.NoGrace
		}
		if h := b.old[key]; b.remote && (req.Access&^h[0] != 0 || req.Deny&^h[1] != 0) {
			return fs.ReclaimBad
		}
	}
	for _, m := range []map[OwnerFile][2]fs.Share{b.opens, b.old} {
		for k, v := range m {
			if k.File == req.File && k.Owner != req.Owner && (v[0]&req.Deny != 0 || v[1]&req.Access != 0) {
				return fs.ShareDenied
			}
		}
	}
	v := b.opens[key]
	b.opens[key] = [2]fs.Share{v[0] | req.Access, v[1] | req.Deny}
	return nil
}

func (b *fakeBackend) Lock(req *fs.LockRequest) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls++
	if b.fail != nil {
		return b.fail
	}
	key := OwnerFile{req.LockOwner, req.File}
	if req.Reclaim {
		if b.takesNone(req.File) {
			return fs.NoGrace
		}
		if b.remote && !coversAtLeast(b.oldL[key], req.Range, req.Type) {
			return fs.ReclaimBad
		}
	}
	if _, ok := b.opens[OwnerFile{req.OpenOwner, req.File}]; !ok {
		return fs.BadStateid
	}
	for _, m := range []map[OwnerFile]fs.RangeSet{b.locks, b.oldL} {
		for k, set := range m {
			if l, ok := set.Conflict(req.Range, req.Type); ok && k.File == req.File && k.Owner != req.LockOwner {
				return &fs.DeniedError{Range: l.Range, Type: l.Type, Owner: k.Owner}
			}
		}
	}
	b.locks[key] = b.locks[key].With(req.Range, req.Type)
	b.oldL[key] = b.oldL[key].With(req.Range, fs.NoLock)
	b.under[key] = req.OpenOwner
	return nil
}

func (b *fakeBackend) Downgrade(_ context.Context, owner fs.Owner, file fs.Handle, access, deny fs.Share) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return b.fail
	}
	key := OwnerFile{owner, file}
	if _, ok := b.opens[key]; !ok {
		return fs.BadStateid
	}
	b.opens[key] = [2]fs.Share{access, deny}
	return nil
}

func (b *fakeBackend) CloseFile(_ context.Context, owner fs.Owner, file fs.Handle) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return b.fail
	}
	key := OwnerFile{owner, file}
	if _, ok := b.opens[key]; !ok {
		return fs.BadStateid
	}
	delete(b.opens, key)
	delete(b.old, key)
	for k, o := range b.under {
		if o == owner && k.File == file {
			delete(b.locks, k)
			delete(b.oldL, k)
			delete(b.under, k)
		}
	}
	return nil
}

func (b *fakeBackend) Unlock(_ context.Context, _ *fs.Cred, owner fs.Owner, file fs.Handle, r fs.Range) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return b.fail
	}
	key := OwnerFile{owner, file}
	b.locks[key] = b.locks[key].With(r, fs.NoLock)
	b.oldL[key] = b.oldL[key].With(r, fs.NoLock)
	if len(b.locks[key]) == 0 {
		delete(b.locks, key)
	}
	return nil
}

func (b *fakeBackend) ReleaseLockOwner(context.Context, fs.Owner, fs.Handle) error { return nil }
func (b *fakeBackend) CancelWait(o fs.Owner, f fs.Handle, r fs.Range) {
	b.seen = append(b.seen, fmt.Sprintf("cancel %s %v", o.Owner, r))
}

// tester is an end client.
type tester struct {
	w         *world
	name      string
	verifier  uint64
	retain    bool
	principal string
	ss        *Session
	c         *Client
	seq       uint32
	flags     uint32 // of the last EXCHANGE_ID
	opens     map[string]nfs4.Stateid
	locks     map[string]nfs4.Stateid
}

func (w *world) client(name string) *tester {
	c := w.clients[name]
	if c == nil {
		c = &tester{w: w, name: name, verifier: 1}
		w.clients[name] = c
	}
	return c
}

func (c *tester) who() Caller { return Caller{Principal: c.principal} }

func (c *tester) exchangeArgs() *nfs4.ExchangeIDArgs {
	a := &nfs4.ExchangeIDArgs{Owner: nfs4.ClientOwner{ID: c.name}}
	binary.BigEndian.PutUint64(a.Owner.Verifier[:], c.verifier)
	if c.retain {
		a.Flags |= nfs4.EXCHGID4_FLAG_RETAIN_STATE
	}
	return a
}

func sessionArgs(id uint64, seq uint32) *nfs4.CreateSessionArgs {
	ch := nfs4.ChannelAttrs{MaxRequestSize: 4096, MaxResponseSize: 4096, MaxResponseSizeCached: 1024, MaxOperations: 8, MaxRequests: 4}
	return &nfs4.CreateSessionArgs{ClientID: id, Sequence: seq, ForeChan: ch, BackChan: ch}
}

// connect is EXCHANGE_ID and CREATE_SESSION.
func (c *tester) connect() error {
	res, eff := c.w.srv.ExchangeID(c.exchangeArgs(), c.who())
	c.w.run(eff)
	if res.Status != nfs4.NFS4_OK {
		return res.Status
	}
	c.flags = res.Flags
	cs, ss, eff := c.w.srv.CreateSession(sessionArgs(res.ClientID, res.SequenceID), c.who())
	c.w.run(eff)
	if cs.Status != nfs4.NFS4_OK {
		return cs.Status
	}
	if c.c != ss.Client() {
		c.opens, c.locks = map[string]nfs4.Stateid{}, map[string]nfs4.Stateid{}
	}
	c.ss, c.c, c.seq = ss, ss.Client(), 0
	return nil
}

// begin sends a SEQUENCE; the request is to be ended.
func (c *tester) begin() (*Request, uint32, error) {
	if c.ss == nil {
		return nil, 0, nfs4.NFS4ERR_BADSESSION
	}
	res, err := c.w.srv.Sequence(&nfs4.SequenceArgs{SessionID: c.ss.ID(), SequenceID: c.seq + 1, CacheThis: true}, uint64(c.seq))
	if err != nil {
		return nil, 0, err
	}
	c.seq++
	return res.Request, res.Res.StatusFlags, nil
}

// compound runs f as a COMPOUND.
func (c *tester) compound(f func() error) error {
	r, _, err := c.begin()
	if err != nil {
		return err
	}
	defer r.Done([]byte{1})
	return f()
}

func (c *tester) complete() error {
	return c.compound(func() error {
		p, err := c.w.srv.PrepareReclaimComplete(c.c, false)
		if err != nil {
			return err
		}
		eff, err := p.Settle(c.w.commit(p.Batch))
		c.w.run(eff)
		return err
	})
}

func owned(open string, f fs.Handle) string { return open + " " + string(f) }

// planOpen is the first half of an open by handle.
func (c *tester) planOpen(ctx context.Context, owner string, f fs.Handle, access, deny fs.Share, reclaim bool) (*OpenPlan, error) {
	req := &OpenRequest{Owner: owner, File: f, Access: access, Deny: deny, Reclaim: reclaim, Cred: fs.Root}
	if c.ss != nil {
		req.Session = c.ss.ID()
	}
	p, eff, err := c.w.srv.PrepareOpen(ctx, c.c, req)
	c.w.run(eff)
	return p, err
}

// doOpen is the second half.
func (c *tester) doOpen(p *OpenPlan) error {
	c.w.run(p.Evict)
	jerr := c.w.commit(p.Batch)
	var berr error
	if p.Call != CallNone {
		req := p.Request
		req.Reclaim = p.Call == CallReclaim
		berr = c.w.backend.Open(&req)
	}
	sid, eff, err := p.Settle(berr, jerr)
	c.w.run(eff)
	if err == nil {
		c.opens[owned(p.Request.Owner.Owner, p.Request.File)] = sid
	}
	return err
}

func (c *tester) open(owner string, f fs.Handle, access, deny fs.Share, reclaim bool) error {
	return c.compound(func() error {
		p, err := c.planOpen(context.Background(), owner, f, access, deny, reclaim)
		if err != nil {
			return err
		}
		return c.doOpen(p)
	})
}

func (c *tester) lockRequest(open, owner string, f fs.Handle, r fs.Range, t fs.LockType, wait, reclaim bool) *LockRequest {
	req := &LockRequest{File: f, Range: r, Type: t, Wait: wait, Reclaim: reclaim}
	if sid, ok := c.locks[owned(owner, f)]; ok {
		req.Stateid = sid
		req.Stateid.Seqid = 0
	} else {
		req.Stateid, req.NewOwner, req.LockOwner = c.opens[owned(open, f)], true, owner
		req.Stateid.Seqid = 0
	}
	return req
}

func (c *tester) planLock(ctx context.Context, req *LockRequest) (*LockPlan, error) {
	p, eff, err := c.w.srv.PrepareLock(ctx, c.c, req)
	c.w.run(eff)
	return p, err
}

func (c *tester) doLock(p *LockPlan) error {
	c.w.run(p.Evict)
	jerr := c.w.commit(p.Batch)
	var berr error
	if p.Call != CallNone {
		req := p.Request
		req.Reclaim = p.Call == CallReclaim
		berr = c.w.backend.Lock(&req)
	}
	sid, eff, err := p.Settle(berr, jerr)
	c.w.run(eff)
	if err == nil {
		c.locks[owned(p.Request.LockOwner.Owner, p.Request.File)] = sid
	}
	return err
}

func (c *tester) lock(open, owner string, f fs.Handle, r fs.Range, t fs.LockType, wait, reclaim bool) error {
	return c.compound(func() error {
		p, err := c.planLock(context.Background(), c.lockRequest(open, owner, f, r, t, wait, reclaim))
		if err != nil {
			return err
		}
		return c.doLock(p)
	})
}

func (c *tester) unlock(owner string, f fs.Handle, r fs.Range) error {
	return c.compound(func() error {
		sid := c.locks[owned(owner, f)]
		sid.Seqid = 0
		p, err := c.w.srv.PrepareUnlock(context.Background(), c.c, sid, f, r)
		if err != nil {
			return err
		}
		var berr error
		if p.Call != CallNone {
			berr = c.w.backend.Unlock(context.Background(), fs.Root, p.Owner, p.File, p.Range)
		}
		sid, eff, err := p.Settle(berr)
		c.w.run(eff)
		if err == nil {
			c.locks[owned(owner, f)] = sid
		}
		return err
	})
}

func (c *tester) close(owner string, f fs.Handle) error {
	return c.compound(func() error {
		sid := c.opens[owned(owner, f)]
		sid.Seqid = 0
		p, err := c.w.srv.PrepareClose(context.Background(), c.c, sid, f)
		if err != nil {
			return err
		}
		_, eff, err := p.Settle(c.w.backend.CloseFile(context.Background(), p.Owner, p.File))
		c.w.run(eff)
		if err == nil {
			delete(c.opens, owned(owner, f))
			clear(c.locks) // of this file; the tests have one file for each owner
		}
		return err
	})
}

func (c *tester) downgrade(owner string, f fs.Handle, access, deny fs.Share) error {
	return c.compound(func() error {
		sid := c.opens[owned(owner, f)]
		sid.Seqid = 0
		p, err := c.w.srv.PrepareDowngrade(context.Background(), c.c, sid, f, access, deny)
		if err != nil {
			return err
		}
		var berr error
		if p.Call != CallNone {
			berr = c.w.backend.Downgrade(context.Background(), p.Owner, p.File, p.Access, p.Deny)
		}
		sid, eff, err := p.Settle(berr)
		c.w.run(eff)
		if err == nil {
			c.opens[owned(owner, f)] = sid
		}
		return err
	})
}

// word is an outcome for people.
func word(err error) string {
	var st nfs4.Status
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &st):
		return st.String()[len("NFS4ERR_"):]
	}
	return err.Error()
}

// checkInvariants looks at everything there is: I1 over live and held, and that the backend has what
// is live, and nothing that is neither live, nor held, nor going.
func (w *world) checkInvariants() error {
	type holder struct {
		owner fs.Owner
		set   fs.RangeSet
	}
	for _, f := range w.srv.files.all() {
		f.mu.Lock()
		var hs []holder
		for _, l := range f.locks {
			hs = append(hs, holder{l.owner, strongest(l.live, strongest(l.heldSet(false), l.heldSet(true)))})
			if has := w.backend.locks[OwnerFile{l.owner, f.handle}]; len(minus(l.live, has)) > 0 {
				f.mu.Unlock()
				return fmt.Errorf("%v is said to hold %v on %s, the backend has %v", l.owner, l.live, f.handle, has)
			}
		}
		for i, a := range hs {
			for _, b := range hs[:i] {
				for _, k := range a.set {
					if x, ok := b.set.Conflict(k.Range, k.Type); ok {
						f.mu.Unlock()
						return fmt.Errorf("I1: on %s %v has %v and %v has %v", f.handle, a.owner, k, b.owner, x)
					}
				}
			}
		}
		for _, o := range f.opens {
			has := w.backend.opens[OwnerFile{o.owner, f.handle}]
			if o.access&^has[0] != 0 || o.deny&^has[1] != 0 {
				f.mu.Unlock()
				return fmt.Errorf("%v is said to have %s open %v/%v, the backend has %v", o.owner, f.handle, o.access, o.deny, has)
			}
			for _, x := range f.opens {
				if x != o && (o.access&x.deny != 0 || o.deny&x.access != 0) {
					f.mu.Unlock()
					return fmt.Errorf("opens of %v and %v conflict", o.owner, x.owner)
				}
			}
		}
		f.mu.Unlock()
		w.srv.files.put(f)
	}
	return w.checkLeaks()
}

// checkLeaks looks for what the backend has and nobody wants.
func (w *world) checkLeaks() error {
	for k := range maps.Keys(w.backend.opens) {
		f := w.srv.files.peek(k.File)
		var o *open
		if f != nil {
			f.mu.Lock()
			o = f.opens[k.Owner]
			f.mu.Unlock()
			w.srv.files.put(f)
		}
		if o == nil {
			return fmt.Errorf("the backend has an open of %v on %s that nobody wants", k.Owner, k.File)
		}
	}
	for k, set := range w.backend.locks {
		f := w.srv.files.peek(k.File)
		var want fs.RangeSet
		if f != nil {
			f.mu.Lock()
			if l := f.locks[k.Owner]; l != nil {
				want = strongest(strongest(l.wanted(), l.gone), l.heldSet(true))
			}
			f.mu.Unlock()
			w.srv.files.put(f)
		}
		if left := minus(set, want); len(left) > 0 {
			return fmt.Errorf("the backend has locks of %v on %s that nobody wants: %v", k.Owner, k.File, left)
		}
	}
	return nil
}

// records are the locks in the journal as the next boot would see them.
func (w *world) records() []string {
	b := &journal.Batch{}
	b.AddEvent(&journal.Event{Type: "test"})
	if err := w.commit(b); err != nil { // what was posted is durable with it
		w.t.Fatal(err)
	}
	snap, err := w.journal.Load()
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, l := range snap.Locks {
		out = append(out, fmt.Sprintf("%s/%s %s %s", l.Owner.Client, l.Owner.Owner, l.File, ranges(l.Ranges)))
	}
	slices.Sort(out)
	return out
}

func ranges(s fs.RangeSet) string {
	out := ""
	for _, l := range s {
		out += fmt.Sprintf("%v%.1s ", l.Range, l.Type)
	}
	if out == "" {
		return "none"
	}
	return out[:len(out)-1]
}
