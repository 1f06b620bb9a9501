package state

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/journal"
)

var modelBoundsFlag = flag.String("state.model", "", "the bounds that TestModel explores in full, as ranges,requests,reboots; all is 2,2,2; by default 1,1,1")

// TestModel explores everything that can happen to two clients, one file and some ranges of it in some reboots of the
// server: every order of their requests, of the steps of each (the journal's commit, the call of the backend, the
// answer), and of the steps of the end of grace; a crash between any two of them, with any part of what was posted
// to the journal. It runs the real state and journal code, over a disk in memory, and leaves nothing out within its
// bounds. Two worlds are one if server, journal, backend and clients look alike, whichever client and range is
// called which; see modelKey.
//
// Each client asks for so many locks or unlocks of its own accord, and reclaims whatever it believes to hold. One
// step are: a client's connecting and opening of the file, and a reclaim that is refused.
//
// Checked after each step: I1 (nobody's locks conflict, live, held or told), I2 (a client that comes back before its
// locks were forfeited gets them), I3 (a reclaim of what was never asked for is refused), I5 (no reclaim after
// RECLAIM_COMPLETE, which is sent once). I4 is about local applications, which this server does not see.
func TestModel(t *testing.T) {
	b := modelBounds{ranges: 1, requests: 1, crashes: 1}
	switch {
	case *modelBoundsFlag == "all":
		b = modelBounds{ranges: 2, requests: 2, crashes: 2}
	case *modelBoundsFlag != "":
		if _, err := fmt.Sscanf(*modelBoundsFlag, "%d,%d,%d", &b.ranges, &b.requests, &b.crashes); err != nil || b.ranges < 1 || b.ranges > 2 {
			t.Fatalf("-state.model=%s: %v", *modelBoundsFlag, err)
		}
	}
	for _, remote := range []bool{true, false} {
		t.Run(map[bool]string{true: "re-export server", false: "origin"}[remote], func(t *testing.T) {
			x := newExplorer(b, remote)
			if err := x.run(); err != nil {
				t.Fatal(err)
			}
			t.Logf("two clients, %d ranges, %d requests of each, %d reboots: %d states, %d transitions, all of them in %v: %v",
				b.ranges, b.requests, b.crashes, x.states(), x.steps.Load(), time.Since(x.began).Round(time.Millisecond), x.tally())
			for a, n := range x.tally() {
				if n == 0 && (a != doUnlock || b.requests > 1) {
					t.Errorf("%v was never done", a)
				}
			}
		})
	}
}

// TestModelSeesBrokenRules leaves out one rule at a time: the model finds what comes of it.
func TestModelSeesBrokenRules(t *testing.T) {
	for rule, remote := range map[string]bool{
		"answer before the journal": true,  // a grant that is not durable yet
		"complete upstream first":   true,  // RECLAIM_COMPLETE while reclaims are taken
		"no mark":                   false, // the end of grace is not durable: it takes 50,000 states to see that
	} {
		if rule == "no mark" && *modelBoundsFlag == "" {
			continue
		}
		t.Run(rule, func(t *testing.T) {
			x := newExplorer(modelBounds{ranges: 1, requests: 2, crashes: 2}, remote)
			x.broken = rule
			err := x.run()
			if err == nil {
				t.Fatalf("nobody saw it in %d states", x.states())
			}
			t.Logf("seen after %d states: %v", x.states(), err)
		})
	}
}

type modelBounds struct{ ranges, requests, crashes int }

// The actions, and who does them to which range.
type modelStep struct {
	what modelAction
	c, r uint8
}

type modelAction uint8

const (
	doNothing modelAction = iota
	doConnect
	doLock
	doUnlock
	doReclaim
	doNeverHeld
	doComplete
	doJournal
	doBackend
	doAnswer
	doGraceEnds
	doGraceDurable
	doGraceTold
	doGraceOver
	doCrash // r is how many of the batches that were posted are durable
	numActions
)

func (a modelAction) String() string {
	return [...]string{"nothing", "connect", "lock", "unlock", "reclaim", "never-held", "complete", "journal", "backend", "answer",
		"grace-ends", "grace-durable", "grace-told", "grace-over", "crash"}[a]
}

func (s modelStep) String() string {
	switch s.what {
	case doLock, doUnlock, doReclaim, doNeverHeld:
		return fmt.Sprintf("%v %c %d", s.what, 'a'+s.c, s.r)
	case doGraceEnds, doGraceDurable, doGraceTold, doGraceOver:
		return s.what.String()
	case doCrash:
		return fmt.Sprintf("crash keeping %d", s.r)
	}
	return fmt.Sprintf("%v %c", s.what, 'a'+s.c)
}

// explorer goes on from what it finds and comes back to what it left, the earliest first.
type explorer struct {
	modelBounds
	remote bool
	broken string
	began  time.Time
	seen   [64]struct {
		mu   sync.Mutex
		keys map[modelKey]struct{}
	}
	steps atomic.Int64
	done  [numActions]atomic.Int64
	bad   atomic.Pointer[modelFailure]
}

// modelFailure is what a model panics with.
type modelFailure struct{ text string }

func (f *modelFailure) Error() string { return f.text }

// modelNode is a state that is to be explored: what was done since the last boot, and what was not tried yet.
type modelNode struct {
	from  *modelBoot
	path  []modelStep
	steps []modelStep
}

// modelBoot is what a crash leaves: the next life of the server begins with it. It does not change.
type modelBoot struct {
	story   []modelStep
	memory  *journal.Memory // nil: nothing yet
	backend *fakeBackend
	two     [2]modelClient // without what is of a life
	crashes int
}

func newExplorer(b modelBounds, remote bool) *explorer {
	x := &explorer{modelBounds: b, remote: remote, began: time.Now()}
	for i := range x.seen {
		x.seen[i].keys = map[modelKey]struct{}{}
	}
	return x
}

func (x *explorer) states() (n int) {
	for i := range x.seen {
		n += len(x.seen[i].keys)
	}
	return n
}

func (x *explorer) tally() map[modelAction]int64 {
	m := map[modelAction]int64{}
	for a := doNothing + 1; a < numActions; a++ {
		m[a] = x.done[a].Load()
	}
	return m
}

func (x *explorer) run() error {
	first := &modelBoot{crashes: x.crashes}
	for i := range first.two {
		first.two[i].budget = x.requests
	}
	var level []modelNode
	x.try(modelNode{from: first}, func(m *model) {
		var s modelStep
		if s, level = x.arrive(m, first, nil); s != (modelStep{}) {
			level = append(level, modelNode{from: first, steps: []modelStep{s}})
		}
	})
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	for len(level) > 0 && x.bad.Load() == nil {
		var mu sync.Mutex
		var below []modelNode
		var next atomic.Int64
		var wg sync.WaitGroup
		for range runtime.GOMAXPROCS(0) {
			wg.Go(func() {
				var found []modelNode
				for x.bad.Load() == nil {
					i := int(next.Add(1)) - 1
					if i >= len(level) {
						break
					}
					found = x.explore(level[i], found)
				}
				mu.Lock()
				below = append(below, found...)
				mu.Unlock()
			})
		}
		wg.Wait()
		level = below
	}
	if f := x.bad.Load(); f != nil {
		return f
	}
	return nil
}

func (x *explorer) isNew(k modelKey) bool {
	s := &x.seen[k[0]%64]
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.keys)
	s.keys[k] = struct{}{}
	return len(s.keys) > n
}

// try plays a path and calls f; a failure is noted.
func (x *explorer) try(n modelNode, f func(*model)) {
	m := &model{}
	defer func() {
		if r := recover(); r != nil {
			bad, ok := r.(*modelFailure)
			if !ok {
				panic(r)
			}
			var story []string
			for _, s := range append(slices.Clone(n.from.story), m.path...) {
				story = append(story, s.String())
			}
			x.bad.CompareAndSwap(nil, &modelFailure{bad.text + "\n  after: " + strings.Join(story, "; ")})
		}
	}()
	m.play(x, n)
	f(m)
	m.close()
}

// explore tries what was not tried in a state, and goes on from what is new as far as it leads: a world is there
// already, and need not be played again. What it leaves on its way it returns.
func (x *explorer) explore(n modelNode, found []modelNode) []modelNode {
	for _, s := range n.steps {
		x.try(n, func(m *model) { found = x.follow(m, s, found) })
	}
	return found
}

func (x *explorer) follow(m *model, s modelStep, found []modelNode) []modelNode {
	for {
		x.steps.Add(1)
		x.done[s.what].Add(1)
		m.do(s)
		if s.what == doCrash {
			next := modelNode{from: m.left()}
			x.try(next, func(m *model) { s, found = x.arrive(m, next.from, found) })
			if s != (modelStep{}) || x.bad.Load() != nil {
				next.steps = []modelStep{s}
				found = append(found, next)
			}
			return found
		}
		m.check()
		if s, found = x.arrive(m, m.from, found); s == (modelStep{}) {
			return found
		}
	}
}

// arrive looks whether a state is new. It returns what to do first, the zero step if nothing, and leaves the rest.
func (x *explorer) arrive(m *model, from *modelBoot, found []modelNode) (modelStep, []modelNode) {
	if !x.isNew(m.key()) {
		return modelStep{}, found
	}
	steps := m.enabled()
	if len(steps) == 0 {
		return modelStep{}, found
	}
	if len(steps) > 1 {
		found = append(found, modelNode{from, slices.Clone(m.path), steps[1:]})
	}
	return steps[0], found
}

const modelFile = fs.Handle("f")

var modelRange = [2]fs.Range{{First: 0, Last: 9}, {First: 10, Last: 19}}

var modelNames = [2]string{"a", "b"}

// model is the world and what its clients believe.
type model struct {
	*world
	x      *explorer
	from   *modelBoot
	path   []modelStep // since the boot
	two    [2]*modelClient
	left0  int // crashes to come
	ending *GraceEnd
	phase  int // of ending: 1 decided, 2 durable, 3 told upstream
	sent   int // RECLAIM_COMPLETEs of this incarnation
	dead   bool
}

type modelClient struct {
	*tester
	budget    int
	connected bool
	done      bool    // RECLAIM_COMPLETE is answered
	told      [2]bool // may rely on it
	mem       [2]bool // had it before the crash
	forfeit   [2]bool // grace ended, or it said that it is complete, before it reclaimed that
	asked     [2]bool // ever asked for
	pend      *modelPend
}

type modelPend struct {
	what            modelAction // lock, unlock, reclaim, complete
	r               uint8
	lock            *LockPlan
	unlock          *UnlockPlan
	complete        *CompletePlan
	journal, called bool
	jerr, berr      error
	req             *Request
}

// batch is what waits for the journal.
func (p *modelPend) batch() *journal.Batch {
	switch {
	case p.journal:
		return nil
	case p.lock != nil:
		return p.lock.Batch
	case p.unlock != nil:
		return p.unlock.Batch
	}
	return p.complete.Batch
}

// modelTB makes a failure of the world one of the model: there are several at once.
type modelTB struct{ testing.TB }

func (modelTB) Helper()                           {}
func (modelTB) Context() context.Context          { return context.Background() }
func (modelTB) Fatal(args ...any)                 { panic(&modelFailure{fmt.Sprint(args...)}) }
func (modelTB) Fatalf(format string, args ...any) { panic(&modelFailure{fmt.Sprintf(format, args...)}) }
func (modelTB) Error(args ...any)                 { panic(&modelFailure{fmt.Sprint(args...)}) }

var _ testing.TB = modelTB{}

func (m *model) fail(format string, args ...any) { m.t.Fatalf(format, args...) }

func (m *model) must(errs ...error) {
	for _, err := range errs {
		if err != nil {
			m.fail("%v", err)
		}
	}
}

// play begins a life of the server and does a path.
func (m *model) play(x *explorer, n modelNode) {
	m.x, m.from, m.left0 = x, n.from, n.from.crashes
	m.world = &world{t: modelTB{}, now: time.Unix(1e9, 0), cfg: Config{Lease: 90 * time.Second}, clients: map[string]*tester{}, holdBack: true}
	m.cfg.Now = func() time.Time { return m.now }
	if n.from.memory == nil {
		m.memory, m.backend = journal.NewMemory(), newBackend()
		m.backend.remote = x.remote
	} else {
		m.memory, m.backend = n.from.memory.Clone(), n.from.backend.clone()
	}
	m.boot()
	for i, name := range modelNames {
		c := n.from.two[i]
		c.tester = m.client(name)
		m.two[i] = &c
		if n.from.memory == nil {
			m.must(c.connect(), c.complete(), c.open("o", modelFile, fs.ShareBoth, 0, false))
			m.flush()
			m.must(m.journal.Commit(context.Background(), new(journal.Batch)))
			c.connected, c.done = true, true
		}
	}
	for _, s := range n.path {
		m.do(s)
	}
}

func (b *fakeBackend) clone() *fakeBackend {
	return &fakeBackend{remote: b.remote, opens: maps.Clone(b.opens), locks: maps.Clone(b.locks), under: maps.Clone(b.under),
		old: maps.Clone(b.old), oldL: maps.Clone(b.oldL)}
}

func (m *model) close() {
	if !m.dead {
		m.must(m.journal.Close())
	}
}

// busy tells whether a request for a range is on its way: another one for it would wait, and is left out.
func (m *model) busy(r int) bool {
	for _, c := range m.two {
		if c.pend != nil && c.pend.what != doComplete && int(c.pend.r) == r {
			return true
		}
	}
	return false
}

// enabled lists what can happen.
func (m *model) enabled() (list []modelStep) {
	add := func(what modelAction, c, r int) { list = append(list, modelStep{what, uint8(c), uint8(r)}) }
	for i, c := range m.two {
		switch p := c.pend; {
		case p != nil:
			if !p.journal {
				add(doJournal, i, 0)
			}
			if !p.called && (p.journal || p.unlock == nil) { // the record shrinks first
				add(doBackend, i, 0)
			}
			if (p.journal || m.x.broken == "answer before the journal" && p.what == doLock) && p.called {
				add(doAnswer, i, 0)
			}
		case !c.connected:
			add(doConnect, i, 0)
		case !c.done:
			for r := range m.x.ranges {
				if c.mem[r] && !m.busy(r) {
					add(doReclaim, i, r)
				}
				if !c.asked[r] && !m.busy(r) {
					add(doNeverHeld, i, r)
				}
			}
			add(doComplete, i, 0)
		case c.budget > 0:
			for r := range m.x.ranges {
				switch {
				case m.busy(r):
				case c.told[r]:
					add(doUnlock, i, r)
				default:
					add(doLock, i, r)
				}
			}
		}
	}
	switch m.phase {
	case 0:
		if m.srv.Phase() == GraceActive {
			add(doGraceEnds, 0, 0)
		}
	case 1:
		add(doGraceDurable, 0, 0)
	case 2:
		add(doGraceTold, 0, 0)
	case 3:
		add(doGraceOver, 0, 0)
	}
	if m.left0 > 0 {
		for n, v := range m.prefixes() {
			if v != nil {
				add(doCrash, 0, n)
			}
		}
	}
	return list
}

// do does one of them.
func (m *model) do(s modelStep) {
	m.path = append(m.path, s)
	c, r := m.two[s.c], int(s.r)
	switch s.what {
	case doConnect:
		m.must(c.connect())
		c.connected, c.done = true, false
		err := c.open("o", modelFile, fs.ShareBoth, 0, true)
		if err != nil && (c.mem[0] && !c.forfeit[0] || c.mem[1] && !c.forfeit[1]) {
			m.fail("I2: the open of %s cannot be reclaimed: %v", c.name, err)
		}
		if err != nil { // told that all is lost
			c.mem = [2]bool{}
		}
	case doLock, doUnlock, doReclaim, doComplete:
		m.begin(c, s.what, s.r)
	case doNeverHeld:
		if err := c.lock("o", "x", modelFile, modelRange[r], fs.WriteLock, false, true); err == nil {
			m.fail("I3: %s reclaimed range %d, which it never asked for", c.name, r)
		}
	case doJournal:
		p := c.pend
		if p.unlock != nil {
			m.posted = append(m.posted, p.unlock.Batch) // journal.Write: it is in the log, and not synced
		} else {
			p.jerr = m.commit(p.batch())
		}
		p.journal = true
	case doBackend:
		m.call(c.pend)
	case doAnswer:
		m.answer(c)
	case doGraceEnds:
		m.graceEnds()
	case doGraceDurable:
		if m.x.broken != "no mark" {
			m.ending.Record(host{m.backend, m.world})
			m.must(m.commit(m.ending.Batch))
		}
		m.phase = 2
	case doGraceTold:
		m.backend.reclaimComplete()
		m.sent++
		m.phase = 3
	case doGraceOver:
		m.run(m.ending.Done())
		m.phase = 0
	case doCrash:
		for _, b := range m.posted[:r] {
			m.must(m.journal.Post(b))
		}
		m.must(m.journal.Close())
		m.dead = true
	}
}

func (m *model) graceEnds() {
	if m.x.broken == "complete upstream first" {
		m.backend.reclaimComplete()
		m.sent++
	}
	if m.ending = m.srv.EndGrace(true); m.ending != nil {
		m.phase = 1
	}
	// If it does not end yet, because a reclaim is on its way, no other one is taken any more.
	for _, c := range m.two {
		for r := range c.mem {
			reclaims := c.pend != nil && c.pend.what == doReclaim && int(c.pend.r) == r
			c.forfeit[r] = c.forfeit[r] || c.mem[r] && !reclaims
		}
	}
}

// begin is the first half of a request.
func (m *model) begin(c *modelClient, what modelAction, r uint8) {
	q, _, err := c.tester.begin()
	m.must(err)
	p := &modelPend{what: what, r: r, req: q}
	switch what {
	case doComplete:
		p.called = true // there is nothing to ask the backend for
		if p.complete, err = m.srv.PrepareReclaimComplete(c.c, false); err == nfs4.NFS4ERR_DELAY {
			q.Done(nil)
			return
		}
		m.must(err)
		for r := range c.mem {
			c.forfeit[r] = c.forfeit[r] || c.mem[r]
		}
	case doUnlock:
		c.told[r] = false // it gives it up as soon as it asks
		c.budget--
		sid := c.locks[owned("x", modelFile)]
		sid.Seqid = 0
		p.unlock, err = m.srv.PrepareUnlock(context.Background(), c.c, sid, modelFile, modelRange[r])
	default:
		if what == doLock {
			c.budget--
		}
		c.asked[r] = true
		p.lock, err = c.planLock(context.Background(), c.lockRequest("o", "x", modelFile, modelRange[r], fs.WriteLock, false, what == doReclaim))
		if err == nil && p.lock.Batch == nil {
			p.journal = true
		}
	}
	if err != nil {
		q.Done(nil)
		m.refused(c, what, r, err)
		return
	}
	c.pend = p
}

// refused checks that an answer may be a refusal.
func (m *model) refused(c *modelClient, what modelAction, r uint8, err error) {
	if what != doReclaim || err == nfs4.NFS4ERR_DELAY || err == nfs4.NFS4ERR_GRACE {
		return
	}
	if !c.forfeit[r] {
		m.fail("I2: %s cannot reclaim range %d: %v", c.name, r, err)
	}
	c.mem[r] = false // told
}

func (m *model) call(p *modelPend) {
	p.called = true
	switch {
	case p.unlock != nil && p.unlock.Call != CallNone:
		p.berr = m.backend.Unlock(context.Background(), fs.Root, p.unlock.Owner, p.unlock.File, p.unlock.Range)
	case p.lock != nil && p.lock.Call != CallNone:
		m.run(p.lock.Evict)
		req := p.lock.Request
		req.Reclaim = p.lock.Call == CallReclaim
		if req.Reclaim && m.backend.remote && m.sent > 0 {
			m.fail("I5: a reclaim goes upstream after RECLAIM_COMPLETE")
		}
		p.berr = m.backend.Lock(&req)
	}
}

// answer is the last part: the client hears of it.
func (m *model) answer(c *modelClient) {
	p := c.pend
	c.pend = nil
	var sid nfs4.Stateid
	var eff *Effects
	var err error
	switch {
	case p.complete != nil:
		eff, err = p.complete.Settle(p.jerr)
		m.must(err)
		m.run(eff)
		p.req.Done([]byte{1})
		c.mem, c.done = [2]bool{}, true
		if _, ok := c.opens[owned("o", modelFile)]; !ok {
			m.must(c.open("o", modelFile, fs.ShareBoth, 0, false))
		}
		return
	case p.unlock != nil:
		sid, eff, err = p.unlock.Settle(p.berr)
		m.must(err)
	default:
		sid, eff, err = p.lock.Settle(p.berr, p.jerr)
	}
	m.run(eff)
	p.req.Done([]byte{1})
	if err != nil {
		m.refused(c, p.what, p.r, err)
		return
	}
	c.locks[owned("x", modelFile)] = sid
	if p.what != doUnlock {
		c.told[p.r], c.mem[p.r], c.forfeit[p.r] = true, false, false
	}
}

// left is what a crash leaves for the next life.
func (m *model) left() *modelBoot {
	b := &modelBoot{story: slices.Concat(m.from.story, m.path), memory: m.memory, backend: m.backend, crashes: m.left0 - 1}
	if m.backend.remote {
		m.backend.restart()
	} else {
		m.backend.clear()
	}
	for i, c := range m.two {
		k := modelClient{budget: c.budget, mem: c.mem, forfeit: c.forfeit, asked: c.asked}
		for r := range c.told {
			if c.told[r] {
				k.mem[r], k.forfeit[r] = true, false
			}
		}
		b.two[i] = k
	}
	return b
}

// check is what must hold after each step.
func (m *model) check() {
	for r := range modelRange {
		if m.two[0].told[r] && m.two[1].told[r] {
			m.fail("I1: both were told that they hold range %d", r)
		}
	}
	if m.sent > 1 {
		m.fail("I5: RECLAIM_COMPLETE was sent %d times", m.sent)
	}
	locks := m.srv.Locks()
	for i, l := range locks {
		for _, k := range locks[:i] {
			for _, h := range strongest(l.Live, l.Held) {
				if x, ok := strongest(k.Live, k.Held).Conflict(h.Range, h.Type); ok {
					m.fail("I1: %v has %v and %v has %v", l.Owner, h, k.Owner, x)
				}
			}
		}
	}
	for _, c := range m.two {
		for i := range m.x.ranges {
			if c.told[i] && !m.backend.locks[OwnerFile{fs.Owner{Client: c.name, Owner: "x"}, modelFile}].Covers(modelRange[i], fs.WriteLock) {
				m.fail("I2: %s was told that it holds range %d, and the backend does not know", c.name, i)
			}
		}
	}
}
