package remote

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"holdfast/fs"
)

var t0 = time.Unix(1_700_000_000, 0)

func attrAt(change uint64) *fs.Attr { return &fs.Attr{Type: fs.Regular, Change: change} }
func dirAt(change uint64) *fs.Attr  { return &fs.Attr{Type: fs.Directory, Change: change} }

func TestAttributesAgeAsNFSHasIt(t *testing.T) {
	c := newCache(AttrTimes{}, 1000)
	now := t0
	good := func() time.Duration {
		c.seen("f", attrAt(1), c.begin(), now)
		d := time.Duration(0)
		for c.getAttr("f", view{now: now.Add(d)}) != nil {
			d += time.Second
		}
		now = now.Add(d)
		return d
	}
	for _, want := range []time.Duration{3, 6, 12, 24, 48, 60, 60} {
		if got := good(); got != want*time.Second {
			t.Errorf("unchanged attributes are good for %v, want %v s", got, want)
		}
	}
	c.seen("f", attrAt(2), c.begin(), now)
	if c.getAttr("f", view{now: now.Add(3 * time.Second)}) != nil {
		t.Error("after a change they are good for more than acregmin")
	}
	off := newCache(AttrTimes{RegMin: -1, RegMax: -1, DirMin: -1, DirMax: -1}, 1000)
	off.seen("f", attrAt(1), off.begin(), now)
	if off.getAttr("f", view{now: now}) != nil {
		t.Error("noac caches")
	}
}

func TestWhoseChangeItWas(t *testing.T) {
	write := func(before, after uint64) *change {
		return &change{handle: "f", known: true, before: before, attr: attrAt(after)}
	}
	for _, c := range []struct {
		name    string
		do      func(c *cache) bool
		foreign bool
	}{
		{"the first sight of a file is no change", func(c *cache) bool { return c.seen("g", attrAt(9), c.begin(), t0) }, false},
		{"the same change attribute is none", func(c *cache) bool { return c.seen("f", attrAt(10), c.begin(), t0) }, false},
		{"another change attribute is somebody else's", func(c *cache) bool { return c.seen("f", attrAt(11), c.begin(), t0) }, true},
		{"one write of ours", func(c *cache) bool {
			w := write(10, 11)
			w.start = c.beginChange("f")
			return c.endChange(w, t0)
		}, false},
		{"somebody's change before a write of ours", func(c *cache) bool {
			w := write(11, 12)
			w.start = c.beginChange("f")
			return c.endChange(w, t0)
		}, true},
		{"two writes of ours side by side", func(c *cache) bool {
			a, b := write(10, 11), write(11, 12)
			a.start, b.start = c.beginChange("f"), c.beginChange("f")
			return c.endChange(b, t0) || c.endChange(a, t0)
		}, false},
		{"somebody's change between two writes side by side", func(c *cache) bool {
			a, b := write(10, 11), write(12, 13)
			a.start, b.start = c.beginChange("f"), c.beginChange("f")
			return c.endChange(a, t0) || c.endChange(b, t0)
		}, true},
		{"a look at the file while a write of ours runs", func(c *cache) bool {
			w := write(10, 11)
			w.start = c.beginChange("f")
			return c.seen("f", attrAt(11), c.begin(), t0) || c.endChange(w, t0)
		}, false},
		{"a write that may have happened", func(c *cache) bool {
			w := write(10, 11)
			w.start = c.beginChange("f")
			c.beginChange("f")
			c.failChange("f", true)
			return c.endChange(w, t0)
		}, true},
		{"an atomic change of ours and then somebody's in the same answer", func(c *cache) bool {
			w := &change{handle: "f", known: true, atomic: true, before: 10, after: 11, attr: attrAt(12)}
			w.start = c.beginChange("f")
			return c.endChange(w, t0)
		}, true},
	} {
		cc := newCache(AttrTimes{}, 1000)
		cc.seen("f", attrAt(10), cc.begin(), t0)
		if got := c.do(cc); got != c.foreign {
			t.Errorf("%s: foreign is %v", c.name, got)
		}
	}
}

func TestAnOvertakenAnswerBringsNothingOldBack(t *testing.T) {
	c := newCache(AttrTimes{}, 1000)
	slow := c.begin()
	c.seen("f", attrAt(11), c.begin(), t0)
	if c.seen("f", attrAt(10), slow, t0) {
		t.Error("an old answer is taken for a change")
	}
	if a := c.getAttr("f", view{now: t0}); a != nil {
		t.Errorf("after two answers out of order, change %d is good", a.Change)
	}
	if a := c.lastAttr("f"); a.Change != 11 {
		t.Errorf("the change attribute went back to %d", a.Change)
	}
}

func TestNamesBelongToOneStateOfTheDirectory(t *testing.T) {
	c := newCache(AttrTimes{}, 1000)
	see := func(change uint64) { c.seen("d", dirAt(change), c.begin(), t0) }
	see(1)
	c.addAccess("d", "alice", fs.AccessLookup, fs.AccessLookup, 1)
	c.addName("d", "a", "A", 1)
	c.addName("d", "none", "", 1)
	c.addName("d", "late", "L", 0) // its LOOKUP saw an older directory
	hit := func(name, cred string) (fs.Handle, bool) { return c.lookup("d", name, cred, view{now: t0}) }

	if h, ok := hit("a", "alice"); !ok || h != "A" {
		t.Errorf("a is %q, %v", h, ok)
	}
	if h, ok := hit("none", "alice"); !ok || h != "" {
		t.Errorf("a name that is not there is %q, %v", h, ok)
	}
	if _, ok := hit("late", "alice"); ok {
		t.Error("a name from another state of the directory was taken in")
	}
	if _, ok := hit("a", "bob"); ok {
		t.Error("a hit for a credential that is not known to have search permission")
	}
	if _, ok := c.lookup("d", "a", "alice", view{now: t0.Add(time.Hour)}); ok {
		t.Error("a hit beside attributes that are old")
	}
	see(1)
	if _, ok := hit("a", "alice"); !ok {
		t.Error("an unchanged directory lost its names")
	}
	// Our own atomic change keeps the rest.
	ch := &change{handle: "d", known: true, atomic: true, before: 1, after: 2, attr: dirAt(2), edit: func(e *names) { e.set("b", "B") }}
	ch.start = c.beginChange("d")
	c.endChange(ch, t0)
	for name, want := range map[string]fs.Handle{"a": "A", "b": "B", "none": ""} {
		if h, ok := hit(name, "alice"); !ok || h != want {
			t.Errorf("after our own change, %s is %q, %v", name, h, ok)
		}
	}
	// One that was not atomic does not.
	ch = &change{handle: "d", known: true, before: 2, after: 3, attr: dirAt(3), edit: func(e *names) { e.set("c", "C") }}
	ch.start = c.beginChange("d")
	c.endChange(ch, t0)
	if _, ok := hit("a", "alice"); ok {
		t.Error("a change that was not atomic kept names")
	}
	c.addName("d", "a", "A", 3)
	see(4)
	if _, ok := hit("a", "alice"); ok {
		t.Error("somebody else's change kept names")
	}
}

func TestDecisionsAreOnesOwn(t *testing.T) {
	c := newCache(AttrTimes{}, 1000)
	c.seen("f", attrAt(1), c.begin(), t0)
	c.addAccess("f", "alice", fs.AccessRead|fs.AccessModify, fs.AccessRead, 1)
	if g, ok := c.access("f", "alice", fs.AccessRead|fs.AccessModify, view{now: t0}); !ok || g != fs.AccessRead {
		t.Errorf("granted %x, %v", g, ok)
	}
	if _, ok := c.access("f", "alice", fs.AccessExecute, view{now: t0}); ok {
		t.Error("a bit that was never asked for is answered")
	}
	if _, ok := c.access("f", "bob", fs.AccessRead, view{now: t0}); ok {
		t.Error("another credential is answered")
	}
	if _, ok := c.access("f", "alice", fs.AccessRead, view{now: t0.Add(time.Hour)}); ok {
		t.Error("an old decision is given")
	}
	w := &change{handle: "f", known: true, before: 1, attr: attrAt(2)}
	w.start = c.beginChange("f")
	c.endChange(w, t0)
	if _, ok := c.access("f", "alice", fs.AccessRead, view{now: t0}); !ok {
		t.Error("our own write lost the decision")
	}
	w = &change{handle: "f", known: true, before: 2, attr: attrAt(3), resetAccess: true}
	w.start = c.beginChange("f")
	c.endChange(w, t0)
	if _, ok := c.access("f", "alice", fs.AccessRead, view{now: t0}); ok {
		t.Error("a chmod of ours kept the decision")
	}
	c.addAccess("f", "alice", fs.AccessRead, fs.AccessRead, 3)
	c.seen("f", attrAt(4), c.begin(), t0)
	if _, ok := c.access("f", "alice", fs.AccessRead, view{now: t0}); ok {
		t.Error("somebody else's change kept the decision")
	}
}

func TestCredentialsAreNotConfused(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range []*fs.Cred{{UID: 1}, {GID: 1}, {Groups: []uint32{1}}, {UID: 1, GID: 1}, {UID: 1, Groups: []uint32{1}}, {UID: 1, GID: 1, Groups: []uint32{0}}, {}} {
		if k := credKey(c); seen[k] {
			t.Errorf("%+v has the key of another", c)
		} else {
			seen[k] = true
		}
	}
}

// The weight is what is there, whatever happens, and stays within the limit.
func TestMemoryIsBounded(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	c := newCache(AttrTimes{}, 2000)
	now := t0
	for i := range 30_000 {
		d := fs.Handle(fmt.Sprint("d", rnd.IntN(50)))
		at := uint64(rnd.IntN(3))
		name := fmt.Sprint(rnd.IntN(500))
		switch rnd.IntN(8) {
		case 0:
			c.seen(d, dirAt(at), c.begin(), now)
		case 1, 2:
			if a := c.lastAttr(d); a != nil {
				c.addName(d, name, "h", a.Change)
			}
		case 3:
			c.addAccess(d, name, 1, 1, at)
		case 4:
			ch := &change{handle: d, known: true, atomic: rnd.IntN(2) == 0, before: at, after: at + 1, attr: dirAt(at + 1),
				edit: func(e *names) { e.set(name, "x") }, resetAccess: rnd.IntN(3) == 0}
			ch.start = c.beginChange(d)
			c.endChange(ch, now)
		case 5:
			c.addPage(d, &dirPage{start: uint64(rnd.IntN(9)), entries: make([]fs.DirEntry, rnd.IntN(40))}, at)
		case 6:
			c.beginChange(d)
			c.failChange(d, rnd.IntN(2) == 0)
		case 7:
			c.drop(d)
		}
		if i%100 == 0 {
			c.seen(fs.Handle(fmt.Sprint("f", i)), attrAt(1), c.begin(), now)
		}
	}
	for i := range c.shards {
		s := &c.shards[i]
		w, nodes := 0, 0
		for _, n := range s.nodes {
			w += n.weight()
		}
		for n := s.lru.next; n != &s.lru; n = n.next {
			nodes++
		}
		if w != s.weight || nodes != len(s.nodes) {
			t.Errorf("shard %d: weight %d is counted as %d, %d of %d nodes in the list", i, w, s.weight, nodes, len(s.nodes))
		}
		if s.weight > s.limit {
			t.Errorf("shard %d: weight %d is over %d", i, s.weight, s.limit)
		}
	}
}
