package state

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/journal"
)

// TestModel explores all that can happen to two clients, one file and two ranges of it in up to two reboots
// of the server: every order of their requests, of the halves of each (the journal's commit, the call of the
// backend, the answer), and of the steps of the end of grace; a crash between any two of them, with and without
// what was posted to the journal. It runs the real state and journal code, from the beginning for each step, and
// leaves out what it has seen: two worlds are one if server, journal, backend and clients look alike. It goes
// breadth first, to a number of states; HOLDFAST_MODEL=all lifts that.
//
// Each client asks for at most two locks or unlocks of its own accord, and reclaims whatever it believes to hold.
// Checked after each step: I1 (nobody's locks conflict, live, held or told), I2 (a client that comes back before its
// locks were forfeited gets them), I3 (a reclaim of what was never asked for is refused), I5 (no reclaim after
// RECLAIM_COMPLETE, which is sent once).
func TestModel(t *testing.T) {
	for _, remote := range []bool{true, false} {
		t.Run(map[bool]string{true: "re-export server", false: "origin"}[remote], func(t *testing.T) {
			x := &explorer{t: t, remote: remote, seen: map[string]bool{}, limit: 4000, actions: map[string]int{}}
			if testing.Short() {
				x.limit = 300
			}
			if os.Getenv("HOLDFAST_MODEL") == "all" {
				x.limit = 1 << 30
			}
			x.run()
			t.Logf("%d states, %d transitions, %d left to explore, depth %d: %v", len(x.seen), x.steps, x.left, x.depth, x.actions)
			for _, a := range []string{"connect", "lock", "unlock", "journal", "backend", "answer", "crash", "reclaim", "never-held", "complete", "grace-ends", "grace-durable", "grace-told", "grace-over"} {
				if x.actions[a] == 0 && x.left == 0 {
					t.Errorf("%s was never done", a)
				}
			}
		})
	}
}

type explorer struct {
	t       *testing.T
	remote  bool
	seen    map[string]bool
	limit   int // of states
	steps   int
	left    int
	depth   int
	actions map[string]int
}

// run goes breadth first, so that a failure has a shortest story.
func (x *explorer) run() {
	type state struct{ path, next []string }
	var queue []state
	dir := x.t.TempDir()
	visit := func(path []string) {
		m := x.play(dir, path)
		defer m.close()
		key := m.key()
		if x.seen[key] {
			return
		}
		x.seen[key] = true
		x.depth = max(x.depth, len(path))
		queue = append(queue, state{path, m.enabled()})
	}
	// Not all that is deep is reached within a limit, so it begins at several depths.
	held := strings.Split("lock a 0; journal a; backend a; answer a", "; ")
	back := append(slices.Clone(held), "crash losing", "connect a", "connect b")
	again := append(slices.Clone(back), "reclaim a 0", "journal a", "backend a", "crash losing", "connect a")
	for _, root := range [][]string{nil, held, back, again} {
		visit(root)
	}
	for len(queue) > 0 && len(x.seen) < x.limit {
		s := queue[0]
		queue = queue[1:]
		for _, a := range s.next {
			x.steps++
			x.actions[strings.Fields(a)[0]]++
			visit(append(slices.Clone(s.path), a))
		}
	}
	x.left = len(queue)
}

// play does a path from the beginning.
func (x *explorer) play(dir string, path []string) *model {
	dir, err := os.MkdirTemp(dir, "")
	if err != nil {
		x.t.Fatal(err)
	}
	mem, err := journal.NewMemory(dir)
	if err != nil {
		x.t.Fatal(err)
	}
	w := &world{t: x.t, dir: dir, now: time.Unix(1e9, 0), cfg: Config{Lease: 90 * time.Second}, backend: newBackend(), clients: map[string]*tester{}, memory: mem}
	w.backend.remote = x.remote
	w.cfg.Now = func() time.Time { return w.now }
	w.boot()
	m := &model{world: w, path: path, crashes: 2}
	for _, name := range []string{"a", "b"} {
		c := &modelClient{tester: w.client(name), budget: 2}
		m.two = append(m.two, c)
		m.must(c.connect(), c.complete(), c.open("o", modelFile, fs.ShareBoth, 0, false))
		c.connected, c.done = true, true
	}
	for _, a := range path {
		m.do(a)
		m.check()
		if len(m.posted) < len(m.labels) {
			m.labels = nil // they became durable, or were lost
		}
		for len(m.labels) < len(m.posted) {
			m.labels = append(m.labels, a)
		}
	}
	return m
}

const modelFile = fs.Handle("f")

var modelRange = [2]fs.Range{{First: 0, Last: 9}, {First: 10, Last: 19}}

// model is the world and what its clients believe.
type model struct {
	*world
	path    []string
	two     []*modelClient
	crashes int
	ending  *GraceEnd
	phase   int      // of ending: 1 decided, 2 durable, 3 told upstream
	labels  []string // of posted: what posted it
	sent    int      // RECLAIM_COMPLETEs of this incarnation
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
	what            string // lock, unlock, reclaim
	r               int
	lock            *LockPlan
	unlock          *UnlockPlan
	journal, called bool
	jerr, berr      error
	req             *Request
}

func (m *model) fail(format string, args ...any) {
	m.t.Fatalf("%s\n  after: %s", fmt.Sprintf(format, args...), strings.Join(m.path, "; "))
}

func (m *model) must(errs ...error) {
	for _, err := range errs {
		if err != nil {
			m.fail("%v", err)
		}
	}
}

func (m *model) close() {
	m.must(m.journal.Close(), m.memory.Close(), os.RemoveAll(m.dir))
}

// busy tells whether a request for a range is on its way: another one for it would wait, and is left out.
func (m *model) busy(r int) bool {
	for _, c := range m.two {
		if c.pend != nil && c.pend.r == r {
			return true
		}
	}
	return false
}

// enabled lists what can happen.
func (m *model) enabled() (list []string) {
	for _, c := range m.two {
		switch p := c.pend; {
		case p != nil:
			if !p.journal {
				list = append(list, "journal "+c.name)
			}
			if !p.called {
				list = append(list, "backend "+c.name)
			}
			if p.journal && p.called {
				list = append(list, "answer "+c.name)
			}
		case !c.connected:
			list = append(list, "connect "+c.name)
		case !c.done:
			for r := range modelRange {
				if c.mem[r] && !m.busy(r) {
					list = append(list, fmt.Sprintf("reclaim %s %d", c.name, r))
				}
				if !c.asked[r] && !m.busy(r) {
					list = append(list, fmt.Sprintf("never-held %s %d", c.name, r))
				}
			}
			list = append(list, "complete "+c.name)
		case c.budget > 0:
			for r := range modelRange {
				if m.busy(r) {
					continue
				}
				if c.told[r] {
					list = append(list, fmt.Sprintf("unlock %s %d", c.name, r))
				} else {
					list = append(list, fmt.Sprintf("lock %s %d", c.name, r))
				}
			}
		}
	}
	switch m.phase {
	case 0:
		if m.srv.Phase() == GraceActive {
			list = append(list, "grace-ends")
		}
	case 1:
		list = append(list, "grace-durable")
	case 2:
		list = append(list, "grace-told")
	case 3:
		list = append(list, "grace-over")
	}
	if m.crashes > 0 {
		list = append(list, "crash losing")
		if len(m.posted) > 0 {
			list = append(list, "crash keeping")
		}
	}
	return list
}

// do does one of them.
func (m *model) do(action string) {
	w := strings.Fields(action)
	var c *modelClient
	if len(w) > 1 && len(w[1]) == 1 {
		c = m.two[w[1][0]-'a']
	}
	r := 0
	if len(w) > 2 {
		r = int(w[2][0] - '0')
	}
	switch w[0] {
	case "connect":
		m.must(c.connect())
		c.connected, c.done = true, false
		err := c.open("o", modelFile, fs.ShareBoth, 0, true)
		if err != nil && (c.mem[0] && !c.forfeit[0] || c.mem[1] && !c.forfeit[1]) {
			m.fail("I2: the open of %s cannot be reclaimed: %v", c.name, err)
		}
		if err != nil { // told that all is lost
			c.mem = [2]bool{}
		}
	case "complete":
		if err := c.complete(); err == nfs4.NFS4ERR_DELAY {
			return
		} else {
			m.must(err)
		}
		for r := range c.mem {
			c.forfeit[r] = c.forfeit[r] || c.mem[r]
		}
		c.mem, c.done = [2]bool{}, true
		if _, ok := c.opens[owned("o", modelFile)]; !ok {
			m.must(c.open("o", modelFile, fs.ShareBoth, 0, false))
		}
	case "lock", "reclaim":
		m.begin(c, w[0], r)
	case "never-held":
		if err := c.lock("o", "x", modelFile, modelRange[r], fs.WriteLock, false, true); err == nil {
			m.fail("I3: %s reclaimed range %d, which it never asked for", c.name, r)
		}
	case "unlock":
		c.told[r] = false // it gives it up as soon as it asks
		c.budget--
		m.begin(c, w[0], r)
	case "journal":
		c.pend.journal = true
		if c.pend.lock != nil {
			c.pend.jerr = m.commit(c.pend.lock.Batch)
		}
	case "backend":
		m.call(c.pend)
	case "answer":
		m.answer(c)
	case "grace-ends":
		if m.ending = m.srv.EndGrace(true); m.ending == nil {
			return // a reclaim is on its way
		}
		m.phase = 1
		for _, c := range m.two {
			for r := range c.mem {
				c.forfeit[r] = c.forfeit[r] || c.mem[r]
			}
		}
	case "grace-durable":
		m.must(m.commit(m.ending.Batch))
		m.phase = 2
	case "grace-told":
		m.backend.reclaimComplete()
		m.sent++
		m.phase = 3
	case "grace-over":
		m.run(m.ending.Done())
		m.phase = 0
	case "crash":
		m.crashed(w[1] == "keeping")
	}
}

// begin is the first half of a request.
func (m *model) begin(c *modelClient, what string, r int) {
	q, _, err := c.tester.begin()
	m.must(err)
	p := &modelPend{what: what, r: r, req: q}
	if what == "unlock" {
		sid := c.locks[owned("x", modelFile)]
		sid.Seqid = 0
		p.journal = true // nothing to wait for
		p.unlock, err = m.srv.PrepareUnlock(context.Background(), c.c, sid, modelFile, modelRange[r])
	} else {
		if what == "lock" {
			c.budget--
		}
		c.asked[r] = true
		p.lock, err = c.planLock(context.Background(), c.lockRequest("o", "x", modelFile, modelRange[r], fs.WriteLock, false, what == "reclaim"))
	}
	if err != nil {
		q.Done(nil)
		m.refused(c, what, r, err)
		return
	}
	c.pend = p
}

// refused checks that an answer may be a refusal.
func (m *model) refused(c *modelClient, what string, r int, err error) {
	if what != "reclaim" || err == nfs4.NFS4ERR_DELAY || err == nfs4.NFS4ERR_GRACE {
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
		if req.Reclaim && m.remote() && m.sent > 0 {
			m.fail("I5: a reclaim goes upstream after RECLAIM_COMPLETE")
		}
		p.berr = m.backend.Lock(&req)
	}
}

func (m *model) remote() bool { return m.backend.remote }

// answer is the last part: the client hears of it.
func (m *model) answer(c *modelClient) {
	p := c.pend
	c.pend = nil
	var sid nfs4.Stateid
	var eff *Effects
	var err error
	if p.unlock != nil {
		sid, eff, err = p.unlock.Settle(p.berr)
		m.must(err)
	} else {
		sid, eff, err = p.lock.Settle(p.berr, p.jerr)
	}
	m.run(eff)
	p.req.Done([]byte{1})
	if err != nil {
		m.refused(c, p.what, p.r, err)
		return
	}
	c.locks[owned("x", modelFile)] = sid
	if p.what != "unlock" {
		c.told[p.r], c.mem[p.r], c.forfeit[p.r] = true, false, false
	}
}

// crashed is a reboot of the server. What was posted is durable or not.
func (m *model) crashed(keep bool) {
	m.crashes--
	if keep {
		m.flush()
	}
	m.posted = nil
	m.crash()
	m.ending, m.phase, m.sent = nil, 0, 0
	for _, c := range m.two {
		c.connected, c.done, c.pend = false, false, nil
		for r := range c.told {
			if c.told[r] {
				c.mem[r], c.forfeit[r] = true, false
			}
		}
		c.told = [2]bool{}
	}
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
	for i, l := range m.srv.Locks() {
		for _, k := range m.srv.Locks()[:i] {
			for _, h := range strongest(l.Live, l.Held) {
				if x, ok := strongest(k.Live, k.Held).Conflict(h.Range, h.Type); ok {
					m.fail("I1: %v has %v and %v has %v", l.Owner, h, k.Owner, x)
				}
			}
		}
	}
}

// key is what the future depends on.
func (m *model) key() string {
	var b strings.Builder
	for _, c := range m.two {
		fmt.Fprintf(&b, "%s %d %v %v %v %v %v %v", c.name, c.budget, c.connected, c.done, c.told, c.mem, c.forfeit, c.asked)
		if _, ok := c.opens[owned("o", modelFile)]; ok {
			b.WriteString(" open")
		}
		if p := c.pend; p != nil {
			fmt.Fprintf(&b, " %s %d %v %v %v", p.what, p.r, p.journal, p.called, p.berr)
		}
		b.WriteByte('\n')
	}
	for _, l := range m.srv.Locks() {
		fmt.Fprintf(&b, "%v %v %v\n", l.Owner, ranges(l.Live), ranges(l.Held))
	}
	fmt.Fprintf(&b, "%v %d %d %d %v\n", m.srv.Phase(), m.phase, m.crashes, m.sent, m.srv.GraceInfo().Missing)
	snap, err := m.journal.Load()
	m.must(err)
	epoch := m.journal.Epoch()
	for _, c := range snap.Clients {
		fmt.Fprintf(&b, "client %s %v %v %v\n", c.Owner, epoch-c.Epoch, epoch-c.CompleteEpoch, c.Expired)
	}
	for _, o := range snap.Opens {
		fmt.Fprintf(&b, "open %v %v\n", o.Owner, epoch-o.Epoch)
	}
	for _, l := range snap.Locks {
		fmt.Fprintf(&b, "lock %v %v %v\n", l.Owner, epoch-l.Epoch, ranges(l.Ranges))
	}
	fmt.Fprintf(&b, "ended %d posted %v\n", epoch-snap.EndedGrace, m.labels)
	var held []string
	for k, set := range m.backend.locks {
		held = append(held, fmt.Sprint("has ", k, ranges(set)))
	}
	for k, set := range m.backend.oldL {
		held = append(held, fmt.Sprint("keeps ", k, ranges(set)))
	}
	for k, v := range m.backend.opens {
		held = append(held, fmt.Sprint("open ", k, v))
	}
	for k, v := range m.backend.old {
		held = append(held, fmt.Sprint("was open ", k, v))
	}
	slices.Sort(held)
	return b.String() + strings.Join(held, "\n")
}
