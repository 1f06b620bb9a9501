package state

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/journal"
)

// TestPlansInAnyOrder runs requests of several clients side by side. Each of their calls, of the
// backend, of the journal, and of Effects, stops at a gate, and the gates are opened in an order that
// is drawn. So anything may come between a plan's halves: another request, an error without an
// answer, our crash, the client's.
func TestPlansInAnyOrder(t *testing.T) { anyOrder(t, false) }

// TestPlansOverInvisibleRestarts is the same where our crash is a kill -9 that clients do not see: I1 to
// I3 hold, what they were told stays theirs by the same stateids, and nothing is left over.
func TestPlansOverInvisibleRestarts(t *testing.T) { anyOrder(t, true) }

func anyOrder(t *testing.T, invisible bool) {
	outside := newWorker()
	defer outside.stop()
	rapid.Check(t, func(rt *rapid.T) {
		choices := rapid.SliceOfN(rapid.Byte(), 60, 400).Draw(rt, "choices")
		var err error
		synctest.Test(t, func(t *testing.T) {
			s := newSim(t, outside, choices)
			s.invisible = invisible
			err = s.run()
		})
		if err != nil {
			rt.Fatal(err)
		}
	})
}

// TestBrokenRulesAreSeen breaks the rules of an invisible restart, one at a time: the sim sees each.
func TestBrokenRulesAreSeen(t *testing.T) {
	outside := newWorker()
	defer outside.stop()
	gen := rapid.SliceOfN(rapid.Byte(), 200, 400)
	for _, rule := range []string{"CLOSE first", "LOCKU first", "OPEN_DOWNGRADE first", "commit", "before"} {
		t.Run(rule, func(t *testing.T) {
			for seed := range 2000 {
				choices := gen.Example(seed)
				var err error
				synctest.Test(t, func(t *testing.T) {
					s := newSim(t, outside, choices)
					s.invisible, s.broken = true, rule
					err = s.run()
				})
				if err != nil {
					what, _, _ := strings.Cut(err.Error(), "\n")
					t.Logf("seen in run %d: %s", seed+1, what)
					return
				}
			}
			t.Error("nobody saw it")
		})
	}
}

// worker runs what must not be in a synctest bubble: the journal has goroutines and timers of its own.
type worker struct {
	mu    sync.Mutex
	calls chan func()
	acks  chan struct{}
}

func newWorker() *worker {
	w := &worker{calls: make(chan func()), acks: make(chan struct{})}
	go func() {
		for f := range w.calls {
			f()
			w.acks <- struct{}{}
		}
	}()
	return w
}

func (w *worker) do(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls <- f
	<-w.acks
}

func (w *worker) stop() { close(w.calls) }

var errCrashed = errors.New("the server crashed")

// sim is the world of one run. Its fields are touched by whoever was let through a gate: one at a time.
type sim struct {
	t       *testing.T
	outside *worker
	memory  *journal.Memory
	choices []byte
	journal *journal.Journal
	inc     *incarnation
	origin  *origin
	now     time.Time
	clients []*simClient
	gates   []*gate
	trace   []string
	bad     error
	mu      sync.Mutex // a leaf: several goroutines may be under way between two gates
	know    sync.Mutex // for what the clients know
	calm    bool       // no more errors
	// invisible: restarts are by kill -9 and clients do not see them. What was posted survives.
	invisible bool
	broken    string // a rule that is broken on purpose
}

// incarnation is one life of the server.
type incarnation struct {
	*sim
	srv    *Server
	posted []*journal.Batch // not durable yet
	ctx    context.Context  // ends with it
	die    context.CancelCauseFunc
}

func (inc *incarnation) dead() bool { return inc.ctx.Err() != nil }

type gate struct {
	inc  *incarnation
	name string
	open chan struct{}
}

type simClient struct {
	*sim
	name     string
	verifier uint64
	inc      *incarnation
	c        *Client
	ss       *Session
	slots    [8]struct {
		seq  uint32
		busy bool
	}
	opens map[OwnerFile]nfs4.Stateid
	locks map[OwnerFile]nfs4.Stateid
	busy  map[OwnerFile]bool        // a LOCK or LOCKU of the owner is on its way
	life  map[OwnerFile]int         // counts the CLOSEs of an open
	told  map[OwnerFile]fs.RangeSet // what it may rely on now
	under map[OwnerFile]string      // lock-owner -> open-owner
	mem   map[OwnerFile]fs.RangeSet // from before a restart, not reclaimed yet
	modes map[OwnerFile]fs.Share    // of its opens, told
	memM  map[OwnerFile]fs.Share
	maybe map[OwnerFile]fs.RangeSet // asked for and not answered
	asked map[OwnerFile]fs.Share    // modes of OPENs that were not answered
}

func newSim(t *testing.T, outside *worker, choices []byte) *sim {
	s := &sim{t: t, outside: outside, memory: journal.NewMemory(), choices: choices, now: time.Unix(1e9, 0), origin: newOrigin()}
	for i := range 3 {
		s.clients = append(s.clients, &simClient{sim: s, name: fmt.Sprint("c", i), verifier: 1})
	}
	return s
}

// pick draws a number below n.
func (s *sim) pick(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.choices) == 0 || n <= 1 {
		return 0
	}
	c := s.choices[0]
	s.choices = s.choices[1:]
	return int(c) % n
}

func (s *sim) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trace = append(s.trace, fmt.Sprintf(format, args...))
}

func (s *sim) fail(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bad == nil {
		s.bad = fmt.Errorf(format, args...)
	}
}

// boot begins a life of the server.
func (s *sim) boot() {
	ctx, die := context.WithCancelCause(context.Background())
	s.outside.do(func() {
		j, _, err := s.memory.Open(journal.Options{})
		if err != nil {
			s.fail("%v", err)
			return
		}
		snap, err := j.Load()
		if err != nil {
			s.fail("%v", err)
			return
		}
		s.journal = j
		s.inc = &incarnation{sim: s, ctx: ctx, die: die}
		s.inc.srv = New(Config{Now: func() time.Time { return s.now }, Epoch: j.Epoch(), CourtesyLimit: time.Hour, Restore: s.invisible}, snap)
		if s.invisible && !snap.Whole {
			s.fail("the journal is not whole: %s", snap.Partial)
		}
		for _, c := range s.clients { // I2
			for k, set := range c.told {
				var have fs.RangeSet
				for _, l := range snap.Locks {
					if l.Owner == k.Owner && l.File == k.File {
						have = l.Ranges
					}
				}
				for _, l := range set {
					if !coversAtLeast(have, l.Range, l.Type) {
						s.fail("I2: %v was told it has %v, the journal says %v", k, set, have)
					}
				}
			}
		}
	})
}

// crash ends it: what was posted and is not durable is lost, and nothing that runs comes to anything.
func (s *sim) crash() {
	s.note("crash")
	s.inc.die(errCrashed)
	s.drain(func(g *gate) bool { return g.inc.dead() })
	s.outside.do(func() {
		for _, b := range s.inc.posted {
			if s.invisible {
				if err := s.journal.Post(b); err != nil {
					s.fail("%v", err)
				}
			}
		}
		_ = s.journal.Close()
	})
	s.origin.restart()
	s.boot()
	if s.invisible {
		s.comeBack()
		return
	}
	for _, c := range s.clients {
		c.lost()
		if s.bad == nil && c.c != nil {
			go c.connect()
			s.settle()
		}
	}
	if s.bad == nil {
		s.recover()
	}
}

// lost is a restart of somebody: what it had is to be reclaimed.
func (c *simClient) lost() {
	if c.mem == nil {
		c.mem, c.memM = map[OwnerFile]fs.RangeSet{}, map[OwnerFile]fs.Share{}
		c.maybe = map[OwnerFile]fs.RangeSet{}
	}
	for k, set := range c.told {
		c.mem[k] = strongest(c.mem[k], set)
	}
	for k, m := range c.modes {
		c.memM[k] |= m
	}
	c.opens, c.locks, c.busy = map[OwnerFile]nfs4.Stateid{}, map[OwnerFile]nfs4.Stateid{}, map[OwnerFile]bool{}
	c.life, c.told, c.modes = map[OwnerFile]int{}, map[OwnerFile]fs.RangeSet{}, map[OwnerFile]fs.Share{}
	if c.under == nil {
		c.under = map[OwnerFile]string{}
	}
}

func (c *simClient) connect() {
	inc := c.sim.inc
	a := &nfs4.ExchangeIDArgs{Owner: nfs4.ClientOwner{ID: c.name}}
	binary.BigEndian.PutUint64(a.Owner.Verifier[:], c.verifier)
	res, eff := inc.srv.ExchangeID(a, Caller{})
	inc.spawn(eff)
	cs, ss, eff := inc.srv.CreateSession(sessionArgs8(res.ClientID, res.SequenceID), Caller{})
	inc.run(eff)
	if cs.Status != nfs4.NFS4_OK {
		c.know.Lock()
		defer c.know.Unlock()
		c.c = nil
		c.note("%s connect %v", c.name, cs.Status)
		return
	}
	c.know.Lock()
	defer c.know.Unlock()
	c.inc, c.ss, c.c = inc, ss, ss.Client()
	for i := range c.slots {
		c.slots[i].seq, c.slots[i].busy = 0, false
	}
	c.note("%s connected", c.name)
}

func sessionArgs8(id uint64, seq uint32) *nfs4.CreateSessionArgs {
	ch := nfs4.ChannelAttrs{MaxRequestSize: 4096, MaxResponseSize: 4096, MaxResponseSizeCached: 1024, MaxOperations: 8, MaxRequests: 8}
	return &nfs4.CreateSessionArgs{ClientID: id, Sequence: seq, ForeChan: ch, BackChan: ch}
}

// compound runs f in a COMPOUND of its own goroutine; the effects of f run after the answer.
func (c *simClient) compound(what string, f func(inc *incarnation, cl *Client) (*Effects, error)) {
	slot := -1
	for i := range c.slots {
		if !c.slots[i].busy {
			slot = i
			break
		}
	}
	if slot < 0 || c.c == nil {
		return
	}
	inc, cl, ss := c.inc, c.c, c.ss
	c.slots[slot].seq++
	c.slots[slot].busy = true
	seq := c.slots[slot].seq
	r, err := inc.srv.Sequence(&nfs4.SequenceArgs{SessionID: ss.ID(), SequenceID: seq, SlotID: uint32(slot)}, uint64(seq))
	if err != nil {
		c.note("%s sequence %v", c.name, err)
		c.c = nil
		return
	}
	c.note("%s %s", c.name, what)
	go func() {
		eff, err := f(inc, cl)
		if !inc.dead() {
			c.note("%s %s => %v", c.name, what, err)
			c.know.Lock()
			if c.ss == ss {
				c.slots[slot].busy = false
			}
			c.know.Unlock()
		}
		r.Request.Done(nil)
		inc.run(eff)
	}()
}

// gate stops until it is opened; false if the server crashed meanwhile.
func (inc *incarnation) gate(name string) bool {
	if inc.dead() {
		return false
	}
	g := &gate{inc, name, make(chan struct{})}
	inc.mu.Lock()
	inc.gates = append(inc.gates, g)
	inc.mu.Unlock()
	<-g.open
	return !inc.dead()
}

// wait waits until everybody stands at a gate, or for another. What they did is seen then.
func (s *sim) wait() {
	synctest.Wait()
	for _, mu := range []*sync.Mutex{&s.mu, &s.know, &s.origin.mu} {
		func() {
			mu.Lock()
			defer mu.Unlock() // what happened under it happened before
		}()
	}
}

// step opens one gate.
func (s *sim) step(i int) {
	g := s.gates[i]
	s.gates = append(s.gates[:i], s.gates[i+1:]...)
	close(g.open)
	s.wait()
}

// drain opens all gates, one after another, until there are no more.
func (s *sim) drain(which func(*gate) bool) {
	s.wait()
	for again := true; again; {
		again = false
		for i, g := range s.gates {
			if which(g) {
				s.step(i)
				again = true
				break
			}
		}
	}
}

func (s *sim) settle() { s.drain(func(*gate) bool { return true }) }

// commit is the journal's.
func (inc *incarnation) commit(b *journal.Batch) error {
	if b == nil || b.Empty() {
		return nil
	}
	if !inc.gate("commit") {
		return errCrashed
	}
	if inc.broken == "commit" { // an answer that does not wait for it
		go func() {
			if inc.gate("late commit") {
				_ = inc.flush(b)
			}
		}()
		return nil
	}
	return inc.flush(b)
}

func (inc *incarnation) flush(b *journal.Batch) (err error) {
	inc.outside.do(func() {
		for _, p := range inc.posted {
			err = errors.Join(err, inc.journal.Post(p))
		}
		inc.posted = nil
		err = errors.Join(err, inc.journal.Commit(context.Background(), b))
	})
	return err
}

// run runs effects, after a gate.
func (inc *incarnation) run(e *Effects) {
	if !e.Empty() && inc.gate("effects") {
		e.Run(context.Background(), inc)
	}
}

// first is journal.Write, before the backend is asked.
func (inc *incarnation) first(op string, b *journal.Batch) {
	if inc.broken != op+" first" {
		inc.Post(b)
	}
}

func (inc *incarnation) spawn(e *Effects) {
	if !e.Empty() {
		go inc.run(e)
	}
}

func (inc *incarnation) Post(b *journal.Batch) {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	if !inc.dead() {
		inc.posted = append(inc.posted, b)
	}
}

// record posts the records before the answer, as journal.Write does.
func (inc *incarnation) record(e *Effects) {
	if e != nil && !inc.dead() {
		e.Record(inc)
	}
}

// comeBack is an invisible restart: the server asks the origin for what the clients have, and they go on.
func (s *sim) comeBack() {
	if s.bad != nil {
		return
	}
	inc := s.inc
	items, stale, ok := inc.srv.Restored()
	if !ok {
		s.fail("the restart is not invisible")
		return
	}
	stale.Run(context.Background(), inc)
	for i := range items {
		inc.restoreItem(&items[i])
	}
	inc.origin.reclaimComplete()
	inc.srv.EndRestore()
	for _, c := range s.clients {
		c.busy = map[OwnerFile]bool{}
		if c.c == nil {
			continue
		}
		id := c.c.ID()
		go c.connect()
		s.settle()
		if c.c == nil || c.c.ID() != id {
			s.fail("%s is no longer %x", c.name, id)
			continue
		}
		for k, m := range c.asked { // it repeats what was not answered
			c.open(k.Owner.Owner, k.File, m, 0, false)
			s.settle()
		}
	}
	s.check()
	s.recover()
}

// restoreItem is what nfsdown does for an item.
func (inc *incarnation) restoreItem(i *RestoreItem) {
	run := func(e *Effects) { e.Run(context.Background(), inc) }
	open := func(a, d fs.Share) error {
		return inc.origin.Open(&fs.OpenRequest{Owner: i.Owner, File: i.File, Access: a, Deny: d, Reclaim: true})
	}
	err := open(i.Access, i.Deny)
	if err != nil && i.Pending && inc.broken != "before" {
		if i.BeforeAccess != 0 {
			err = open(i.BeforeAccess, i.BeforeDeny)
		}
		if err == nil || i.BeforeAccess == 0 {
			run(inc.srv.NotGranted(i))
			if i.BeforeAccess == 0 {
				return
			}
		}
	}
	if err != nil {
		inc.fail("I2: open %v of %v: %v", i.Owner, i.File, err)
		return
	}
	for _, l := range i.Locks {
		var has, gone fs.RangeSet
		whole := true
		for _, p := range l.Parts() {
			got := fs.NoLock
			for n, t := range p.Types {
				if n > 0 && inc.broken == "before" {
					break
				}
				if inc.origin.Lock(&fs.LockRequest{File: i.File, OpenOwner: i.Owner, LockOwner: l.Owner, Range: p.Range, Type: t, Reclaim: true}) == nil {
					got = t
					break
				}
			}
			if whole = whole && got == p.Types[0]; got != fs.NoLock {
				has = has.With(p.Range, got)
			}
			if got < p.Need {
				gone = append(gone, fs.Lock{Range: p.Range, Type: p.Need})
			}
		}
		if l.Pending && !whole {
			run(inc.srv.LockNotGranted(i.File, l.Owner, has))
		}
		if len(gone) > 0 {
			inc.fail("I2: locks %v of %v on %v were not given back: %v", l.Ranges, l.Owner, i.File, gone)
		}
	}
}

func (inc *incarnation) NotifyLock(LockNotice) {}
func (inc *incarnation) Recall(r *Recall)      { r.Asked(true) }
func (inc *incarnation) Interrupt(*Session)    {}
func (inc *incarnation) Closed(*Session)       {}
func (inc *incarnation) GraceMayEnd()          {}
func (inc *incarnation) Each(n int, f func(int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

// call is a call of the backend: it may fail before, or after it was done.
func (inc *incarnation) call(name string, certain bool, f func() error) error {
	if !inc.gate(name) {
		return errCrashed
	}
	if !inc.calm {
		switch inc.pick(12) {
		case 11:
			return fs.Delay
		case 10:
			if !certain {
				inc.note("%s: no answer, not done", name)
				return fs.Unreachable
			}
		case 9:
			if !certain {
				inc.note("%s: no answer, done", name)
				_ = f()
				inc.gate(name + " answer")
				return fs.Interrupted
			}
		}
	}
	err := f()
	if !inc.gate(name + " answer") {
		return errCrashed
	}
	return err
}

func (inc *incarnation) Downgrade(_ context.Context, owner fs.Owner, file fs.Handle, access, deny fs.Share) error {
	return inc.call("downgrade", false, func() error { return inc.origin.Downgrade(context.Background(), owner, file, access, deny) })
}

func (inc *incarnation) CloseFile(_ context.Context, owner fs.Owner, file fs.Handle) error {
	return inc.call("close", false, func() error { return inc.origin.CloseFile(context.Background(), owner, file) })
}

func (inc *incarnation) Unlock(_ context.Context, _ *fs.Cred, owner fs.Owner, file fs.Handle, r fs.Range) error {
	return inc.call("unlock", false, func() error { return inc.origin.Unlock(context.Background(), nil, owner, file, r) })
}

func (inc *incarnation) ReleaseLockOwner(context.Context, fs.Owner, fs.Handle) error { return nil }
func (inc *incarnation) CancelWait(fs.Owner, fs.Handle, fs.Range)                    {}

// both commits and calls side by side.
func (inc *incarnation) both(b *journal.Batch, call func() error) (berr, jerr error) {
	var wg sync.WaitGroup
	wg.Go(func() { jerr = inc.commit(b) })
	if call != nil {
		berr = call()
	}
	wg.Wait()
	return berr, jerr
}

// origin is the backend: the friendly origin, which keeps what it has over our restart.
type origin = fakeBackend

func newOrigin() *origin {
	b := newBackend()
	b.remote = true
	return b
}

func (c *simClient) key(owner string, f fs.Handle) OwnerFile {
	return OwnerFile{fs.Owner{Client: c.name, Owner: owner}, f}
}

func (c *simClient) open(owner string, f fs.Handle, access, deny fs.Share, reclaim bool) {
	k := c.key(owner, f)
	life := c.life[k]
	if c.asked == nil {
		c.asked = map[OwnerFile]fs.Share{}
	}
	if !reclaim {
		c.asked[k] |= access
	}
	c.compound(fmt.Sprintf("open %s %s %d!%d reclaim %v", owner, f, access, deny, reclaim), func(inc *incarnation, cl *Client) (*Effects, error) {
		p, eff, err := inc.srv.PrepareOpen(inc.ctx, cl, &OpenRequest{Owner: owner, File: f, Access: access, Deny: deny, Reclaim: reclaim, Cred: fs.Root})
		inc.run(eff)
		if err != nil {
			return nil, err
		}
		inc.run(p.Evict)
		var call func() error
		if p.Call != CallNone {
			req := p.Request
			req.Reclaim = p.Call == CallReclaim
			call = func() error {
				return inc.call("open", reclaim, func() error { return inc.origin.Open(&req) })
			}
		}
		berr, jerr := inc.both(p.Batch, call)
		sid, eff, err := p.Settle(berr, jerr)
		inc.record(eff)
		c.know.Lock()
		defer c.know.Unlock()
		if !inc.dead() {
			delete(c.asked, k)
		}
		if err == nil && !inc.dead() && c.c == cl {
			if life == c.life[k] {
				c.opens[k] = sid
				c.modes[k] |= access
			}
			if reclaim && c.memM[k]&access != access {
				c.fail("I3: %v reclaimed modes %d, it had %d", k, access, c.memM[k])
			}
		}
		return eff, err
	})
}

func (c *simClient) lock(open, owner string, f fs.Handle, r fs.Range, t fs.LockType, reclaim bool) {
	k, ok := c.key(owner, f), c.key(open, f)
	life := c.life[ok]
	sid, there := c.opens[ok]
	if !there || c.busy[k] || c.busy[ok] {
		return
	}
	if u := c.under[k]; u != "" && u != open {
		return
	}
	c.busy[k] = true
	c.under[k] = open
	req := &LockRequest{File: f, Range: r, Type: t, Reclaim: reclaim, Stateid: sid, NewOwner: true, LockOwner: owner}
	req.Stateid.Seqid = 0
	weaker := t == fs.ReadLock && len(c.told[k])+len(c.maybe[k]) > 0
	if t == fs.ReadLock { // it no longer relies on more
		for _, l := range overlapOf(c.told[k], r) {
			c.told[k] = c.told[k].With(l.Range, fs.ReadLock)
		}
	}
	if !reclaim {
		c.maybe[k] = strongest(c.maybe[k], fs.RangeSet{{Range: r, Type: t}})
	}
	allowed := strongest(strongest(c.mem[k], c.told[k]), c.maybe[k])
	c.compound(fmt.Sprintf("lock %s %s %v %v reclaim %v", owner, f, r, t, reclaim), func(inc *incarnation, cl *Client) (*Effects, error) {
		p, eff, err := inc.srv.PrepareLock(inc.ctx, cl, req)
		inc.run(eff)
		if err == nil {
			inc.run(p.Evict)
			var call func() error
			if p.Call != CallNone {
				breq := p.Request
				breq.Reclaim = p.Call == CallReclaim
				call = func() error {
					return inc.call("lock", reclaim || weaker, func() error { return inc.origin.Lock(&breq) })
				}
			}
			berr, jerr := inc.both(p.Batch, call)
			sid, eff, err = p.Settle(berr, jerr)
			inc.record(eff)
		}
		c.know.Lock()
		defer c.know.Unlock()
		if inc.dead() || c.c != cl {
			return eff, err
		}
		c.busy[k] = false
		switch {
		case err == nil:
			c.granted(k, ok, life, sid, r, t, reclaim, allowed)
		case reclaim && coversAtLeast(c.mem[k], r, t) && (errors.Is(err, nfs4.NFS4ERR_NO_GRACE) || errors.Is(err, nfs4.NFS4ERR_RECLAIM_BAD) ||
			errors.Is(err, nfs4.NFS4ERR_RECLAIM_CONFLICT) || errors.Is(err, fs.ReclaimBad)):
			c.fail("I2: %v had %v and may not reclaim %v %v: %v", k, c.mem[k], r, t, err)
		}
		return eff, err
	})
}

// granted notes a lock that the client was told of, and what others had of it.
func (c *simClient) granted(k, open OwnerFile, life int, sid nfs4.Stateid, r fs.Range, t fs.LockType, reclaim bool, allowed fs.RangeSet) {
	if reclaim && !coversAtLeast(allowed, r, t) {
		c.fail("I3: %v reclaimed %v %v, it had %v", k, r, t, allowed)
	}
	for _, o := range c.clients {
		for ko, set := range o.told {
			if _, clash := set.Conflict(r, t); clash && ko.File == k.File && ko.Owner != k.Owner {
				c.fail("I1: %v was told %v %v, %v has %v", k, r, t, ko, set)
			}
		}
		for ko, set := range o.mem {
			if _, clash := set.Conflict(r, t); clash && ko.File == k.File && ko.Owner != k.Owner {
				o.mem[ko] = set.With(r, fs.NoLock)
			}
		}
	}
	if !reclaim { // it took anew what it had there
		c.mem[k] = c.mem[k].With(r, fs.NoLock)
	}
	if life == c.life[open] {
		c.told[k] = c.told[k].With(r, t)
		c.locks[k] = sid
	}
}

func (c *simClient) unlock(owner string, f fs.Handle, r fs.Range) {
	k := c.key(owner, f)
	sid, there := c.locks[k]
	if !there || c.busy[k] {
		return
	}
	c.busy[k] = true
	sid.Seqid = 0
	c.told[k] = c.told[k].With(r, fs.NoLock)
	c.compound(fmt.Sprintf("unlock %s %s %v", owner, f, r), func(inc *incarnation, cl *Client) (*Effects, error) {
		p, err := inc.srv.PrepareUnlock(inc.ctx, cl, sid, f, r)
		var eff *Effects
		if err == nil {
			var berr error
			inc.first("LOCKU", p.Batch)
			if p.Call != CallNone {
				berr = inc.Unlock(context.Background(), nil, p.Owner, p.File, p.Range)
			}
			_, eff, err = p.Settle(berr)
			inc.record(eff)
		}
		c.know.Lock()
		defer c.know.Unlock()
		if !inc.dead() && c.c == cl {
			c.busy[k] = false
		}
		return eff, err
	})
}

func (c *simClient) close(owner string, f fs.Handle) {
	k := c.key(owner, f)
	sid, there := c.opens[k]
	if !there || c.busy[k] {
		return
	}
	sid.Seqid = 0
	ends := func() { // what comes under it from now on may go with it
		c.life[k]++
		delete(c.modes, k)
		for l, u := range c.under {
			if u == owner && l.File == f {
				delete(c.told, l)
			}
		}
	}
	ends()
	c.busy[k] = true // no LOCK under it until it is answered
	c.compound("close "+owner+" "+string(f), func(inc *incarnation, cl *Client) (*Effects, error) {
		p, err := inc.srv.PrepareClose(inc.ctx, cl, sid, f)
		if err != nil {
			return nil, err
		}
		inc.first("CLOSE", p.Batch)
		_, eff, err := p.Settle(inc.CloseFile(context.Background(), p.Owner, p.File))
		inc.record(eff)
		c.know.Lock()
		defer c.know.Unlock()
		if !inc.dead() && c.c == cl {
			ends()
			c.busy[k] = false
			if err == nil && c.opens[k].Other == sid.Other {
				delete(c.opens, k)
			}
		}
		return eff, err
	})
}

func (c *simClient) downgrade(owner string, f fs.Handle, access fs.Share) {
	k := c.key(owner, f)
	sid, there := c.opens[k]
	if !there || c.busy[k] || c.modes[k]&access != access || c.modes[k] == access {
		return
	}
	sid.Seqid = 0
	c.busy[k] = true
	c.modes[k] = access
	c.compound(fmt.Sprintf("downgrade %s %s %d", owner, f, access), func(inc *incarnation, cl *Client) (*Effects, error) {
		p, err := inc.srv.PrepareDowngrade(inc.ctx, cl, sid, f, access, 0)
		var eff *Effects
		if err == nil {
			inc.first("OPEN_DOWNGRADE", p.Batch)
			var berr error
			if p.Call != CallNone {
				berr = inc.Downgrade(context.Background(), p.Owner, p.File, p.Access, p.Deny)
			}
			_, eff, err = p.Settle(berr)
			inc.record(eff)
		}
		c.know.Lock()
		defer c.know.Unlock()
		if !inc.dead() && c.c == cl {
			c.busy[k] = false
		}
		return eff, err
	})
}

func (c *simClient) complete() {
	c.compound("complete", func(inc *incarnation, cl *Client) (*Effects, error) {
		p, err := inc.srv.PrepareReclaimComplete(cl, false)
		if err != nil {
			return nil, err
		}
		eff, err := p.Settle(inc.commit(p.Batch))
		c.know.Lock()
		defer c.know.Unlock()
		if err == nil && !inc.dead() && c.c == cl {
			clear(c.mem)
			clear(c.memM)
			clear(c.maybe)
		}
		return eff, err
	})
}

// recover lets each client reclaim what it remembers, or some of it, in any order with the others.
func (s *sim) recover() {
	s.settle()
	for _, c := range s.clients {
		for k, m := range c.memM {
			if m != 0 && c.c != nil && !c.c.Complete() {
				c.open(k.Owner.Owner, k.File, m, 0, true)
				s.wait() // the next looks for a free slot
			}
		}
	}
	s.mix()
	for _, c := range s.clients {
		for k, set := range c.mem {
			for _, l := range set {
				c.lock(c.under[k], k.Owner.Owner, k.File, l.Range, l.Type, true)
				s.mix()
			}
		}
		if c.c != nil { // and what it never had
			c.lock("o0", "l0", "f0", s.simRange(), fs.WriteLock, true)
		}
	}
	if s.pick(5) == 4 {
		return // a crash may come in the middle of grace
	}
	for again := 0; again < 5; again++ {
		s.settle()
		for _, c := range s.clients {
			if c.c != nil && !c.c.Complete() {
				c.complete()
			}
		}
	}
	s.settle()
	s.endGrace()
}

// endGrace ends grace whoever is missing.
func (s *sim) endGrace() {
	g := s.inc.srv.EndGrace(true)
	if g == nil {
		return
	}
	inc := s.inc
	go func() {
		g.Record(inc)
		if inc.commit(g.Batch) == nil {
			inc.origin.reclaimComplete()
			inc.run(g.Done())
		}
	}()
	s.settle()
	for _, c := range s.clients {
		clear(c.mem)
		clear(c.memM)
	}
}

// mix opens some gates.
func (s *sim) mix() {
	s.wait()
	for n := s.pick(4); n > 0 && len(s.gates) > 0; n-- {
		s.step(s.pick(len(s.gates)))
	}
}

func (s *sim) simRange() fs.Range {
	first := uint64(s.pick(8))
	return fs.Range{First: first, Last: first + uint64(s.pick(5))}
}

func (s *sim) run() error {
	s.boot()
	for _, c := range s.clients {
		c.lost()
		go c.connect()
		s.settle()
		c.complete()
		s.settle()
	}
	lower := s.pick(4) == 3 || s.broken == "OPEN_DOWNGRADE first" // more of a rare request
	for len(s.choices) > 0 && s.bad == nil {
		c := s.clients[s.pick(len(s.clients))]
		o := s.pick(2)
		open, f := fmt.Sprint("o", o), fs.Handle(fmt.Sprint("f", s.pick(2)))
		lock := fmt.Sprint("l", 2*o+s.pick(2))
		what := s.pick(32)
		c.know.Lock() // what of its requests still runs may come to its end meanwhile
		switch {
		case what < 3 && s.pick(8) == 7:
			c.open(open, f, fs.ShareRead, fs.ShareWrite, false)
		case what < 3:
			c.open(open, f, fs.ShareRead+fs.Share(2*s.pick(2)), 0, false)
		case what == 19, what > 11 && what < 20 && lower:
			c.downgrade(open, f, fs.ShareRead)
		case what < 20:
			if _, there := c.opens[c.key(open, f)]; !there {
				c.open(open, f, fs.ShareBoth, 0, false)
			} else {
				c.lock(open, lock, f, s.simRange(), fs.ReadLock+fs.LockType(s.pick(2)), false)
			}
		case what < 27:
			c.unlock(lock, f, s.simRange())
		case what < 28:
			c.close(open, f)
		}
		c.know.Unlock()
		switch {
		case what < 28:
		case what < 29:
			s.inc.spawn(s.inc.srv.Expire())
		case what < 30:
			s.crash()
		default:
			if c.c == nil || what == 31 { // the client restarts
				s.note("%s restarts", c.name)
				s.settle() // its requests have ended
				c.verifier++
				c.lost()
				inc := s.inc
				go c.connect()
				s.settle()
				if inc == s.inc && c.c != nil {
					s.recover()
				}
			}
		}
		s.mix()
		if s.invisible && s.bad == nil && s.pick(10) == 9 {
			s.crash()
		}
		s.check()
	}
	s.end()
	for _, c := range s.clients {
		c.c = nil
	}
	s.inc.die(errCrashed)
	s.settle()
	s.outside.do(func() { _ = s.journal.Close() })
	if s.bad != nil {
		return fmt.Errorf("%w\n%v", s.bad, joined(s.trace))
	}
	return nil
}

func joined(lines []string) string {
	out := ""
	for _, l := range lines[max(0, len(lines)-80):] {
		out += l + "\n"
	}
	return out
}

// check looks at what the clients were told: the origin has it.
func (s *sim) check() {
	for _, c := range s.clients {
		for k, set := range c.told {
			for _, l := range set {
				if !coversAtLeast(s.origin.locks[k], l.Range, l.Type) {
					s.fail("%v was told it has %v, the origin has %v", k, set, s.origin.locks[k])
				}
			}
		}
	}
}

// end lets everything come to its end, and then nothing is left over anywhere.
func (s *sim) end() {
	s.calm = true
	s.settle()
	for range 3 {
		s.inc.spawn(s.inc.srv.Expire())
		s.settle()
	}
	s.check()
	s.idle()
	for _, c := range s.clients {
		for k := range c.opens {
			c.close(k.Owner.Owner, k.File)
			s.wait()
		}
		s.settle()
		if c.c != nil && !c.c.Complete() {
			c.complete()
		}
		s.settle()
	}
	if s.bad != nil {
		return
	}
	s.endGrace()
	s.now = s.now.Add(2 * time.Hour)
	for range 3 {
		s.inc.spawn(s.inc.srv.Expire())
		s.settle()
	}
	if n := len(s.origin.opens) + len(s.origin.locks); n > 0 {
		s.fail("left at the origin: %v %v", s.origin.opens, s.origin.locks)
	}
	for _, f := range s.inc.srv.files.all() {
		s.fail("file %s is left: %d opens, %d locks, %d waiters", f.handle, len(f.opens), len(f.locks), len(f.waiters))
	}
	b := &journal.Batch{}
	b.AddEvent(&journal.Event{Type: "test"})
	if err := s.inc.flush(b); err != nil {
		s.fail("%v", err)
	}
	s.outside.do(func() {
		if snap, err := s.journal.Load(); err != nil || len(snap.Opens)+len(snap.Locks) > 0 {
			s.fail("left in the journal: %v %v %v", err, snap.Opens, snap.Locks)
		}
	})
}

// idle looks for what a plan has left behind, and for what the origin has and is not wanted.
func (s *sim) idle() {
	srv := s.inc.srv
	if srv.grace.refs != 0 {
		s.fail("%d reclaims have not left grace", srv.grace.refs)
	}
	for _, c := range s.clients {
		for i := range c.slots {
			if c.c != nil && c.slots[i].busy {
				s.fail("a request of %s hangs", c.name)
			}
		}
	}
	for _, f := range srv.files.all() {
		for _, o := range f.opens {
			if o.users != 0 || o.pend != nil || o.release != nil || o.turn.alone || o.turn.shared != 0 {
				s.fail("open %v: %d users, pend %v, release %v, turn %v/%d", o.owner, o.users, o.pend, o.release, o.turn.alone, o.turn.shared)
			}
			a, d := o.wanted()
			if has := s.origin.opens[OwnerFile{o.owner, f.handle}]; has[0] != a || has[1] != d {
				s.fail("open %v of %s: wanted %d!%d, the origin has %v", o.owner, f.handle, a, d, has)
			}
		}
		for _, l := range f.locks {
			if l.users != 0 || l.pend != nil || l.release != nil || l.turn.alone {
				s.fail("lock %v: %d users, pend %v, release %v, turn %v", l.owner, l.users, l.pend, l.release, l.turn.alone)
			}
			has := s.origin.locks[OwnerFile{l.owner, f.handle}]
			for _, w := range l.wanted() {
				if !coversAtLeast(has, w.Range, w.Type) {
					s.fail("lock %v of %s: wanted %v, the origin has %v", l.owner, f.handle, l.wanted(), has)
				}
			}
			if rest := minus(has, l.wanted()); len(rest) > 0 {
				s.fail("lock %v of %s: the origin has %v, wanted %v", l.owner, f.handle, has, l.wanted())
			}
		}
		srv.files.put(f)
	}
}
