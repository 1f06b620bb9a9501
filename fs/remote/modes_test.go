package remote

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
)

// modeRig is a mount in a mode of a tree with a file, a link and an absent name, all of which somebody has
// asked for, and which somebody else then changes at the origin.
type modeRig struct {
	*rig
	file, link fs.Handle
	open       fs.IORef
	fFile      *fakeFile
	fLink      *fakeFile
}

var (
	oldData = pattern(9000, 1)
	newData = pattern(9000, 2)
)

func newModeRig(t *testing.T, mode Consistency, change func(*Config)) *modeRig {
	f := newFake()
	m := &modeRig{fFile: f.file("f", oldData)}
	m.fLink = f.add(f.root, "l", nfs4.NF4LNK)
	m.fLink.link = "old"
	m.rig = newDataRig(t, f, t.TempDir(), func(c *Config) {
		c.Consistency = mode
		c.RelaxedAge = 5 * time.Minute
		if change != nil {
			change(c)
		}
	})
	var err error
	m.file, _, err = m.Lookup(t.Context(), alice, m.root(), "f")
	m.must(err)
	m.link, _, err = m.Lookup(t.Context(), alice, m.root(), "l")
	m.must(err)
	m.open = m.openTo(by("reader"), alice, "f")
	for _, q := range questions {
		if q.ask(m) {
			t.Fatalf("%s: the new thing is there before it was made", q.name)
		}
	}
	return m
}

// change is what somebody else does at the origin.
func (m *modeRig) change() {
	m.f.behind(func() {
		m.fFile.data, m.fFile.mode = newData, 0o600
		m.fFile.change++
		m.fLink.link = "new"
		m.fLink.change++
		m.f.add(m.f.root, "new", nfs4.NF4REG)
		m.f.deny = func(_ *rpc.Cred, x *fakeFile, want uint32) uint32 {
			if x == m.fFile {
				return want & fs.AccessModify
			}
			return 0
		}
	})
}

// A question is asked after the change; isNew tells that the answer is the one of now.
type question struct {
	name string
	dir  bool // the ages are those of directories
	// read: it is answered from data under the version that is known
	read bool
	// stateless: it is asked without an open, so that permission is asked for, too
	stateless bool
	ask       func(m *modeRig) (isNew bool)
}

var questions = []question{
	{name: "getattr", ask: func(m *modeRig) bool {
		a, err := m.GetAttr(context.Background(), alice, m.file)
		m.must(err)
		return a.Mode == 0o600
	}},
	{name: "access", ask: func(m *modeRig) bool {
		granted, err := m.Access(context.Background(), alice, m.file, fs.AccessModify)
		m.must(err)
		return granted == 0
	}},
	{name: "readlink", ask: func(m *modeRig) bool {
		to, err := m.Readlink(context.Background(), alice, m.link)
		m.must(err)
		return to == "new"
	}},
	{name: "an absent name", dir: true, ask: func(m *modeRig) bool {
		_, _, err := m.Lookup(context.Background(), alice, m.root(), "new")
		if err != nil {
			m.wants(err, fs.NoEnt)
		}
		return err == nil
	}},
	{name: "listing", dir: true, ask: func(m *modeRig) bool {
		return slices.Contains(list(m.rig, m.root(), false, 100), "new")
	}},
	{name: "read under an open", read: true, ask: func(m *modeRig) bool {
		return m.isNew(m.open)
	}},
	{name: "read without an open", stateless: true, ask: func(m *modeRig) bool {
		return m.isNew(fs.IORef{Handle: m.file})
	}},
}

func (m *modeRig) isNew(io fs.IORef) bool {
	m.t.Helper()
	b := make([]byte, len(oldData))
	n, _, err := m.Read(context.Background(), alice, io, 0, b)
	m.must(err)
	m.fetching.Wait()
	switch {
	case n == len(b) && string(b) == string(oldData):
		return false
	case n == len(b) && string(b) == string(newData):
		return true
	}
	m.t.Fatalf("neither the old data nor the new")
	return false
}

func TestHowOldAnAnswerMayBeInEachMode(t *testing.T) {
	const ever = 1000 * time.Hour
	// An answer may be older until the first, and must not be from the second on: ages grow while nothing changes.
	type span struct{ may, must time.Duration }
	at := func(d time.Duration) span { return span{d, d} }
	ages := map[Consistency]struct{ file, dir, read, stateless span }{
		Strict:      {at(0), at(0), at(3 * time.Second), at(0)},
		CloseToOpen: {span{3 * time.Second, time.Minute}, span{30 * time.Second, time.Minute}, span{3 * time.Second, time.Minute}, span{3 * time.Second, time.Minute}},
		Relaxed:     {at(5 * time.Minute), at(5 * time.Minute), at(5 * time.Minute), at(5 * time.Minute)},
		Immutable:   {at(ever), at(ever), at(ever), at(ever)},
	}
	for mode, age := range ages {
		for _, q := range questions {
			limit := age.file
			if q.dir {
				limit = age.dir
			}
			if q.read {
				limit = age.read
			}
			if q.stateless {
				limit = age.stateless
			}
			t.Run(fmt.Sprint(mode, "/", q.name), func(t *testing.T) {
				if limit.may > 0 {
					m := newModeRig(t, mode, nil)
					m.change()
					m.clock.Advance(limit.may - time.Second)
					n := m.requests(func() {
						if q.ask(m) {
							t.Error("the new answer without asking?")
						}
					})
					if n != 0 {
						t.Errorf("%d requests to the origin, while an answer may be older", n)
					}
				}
				if limit.must < ever {
					m := newModeRig(t, mode, nil)
					m.change()
					m.clock.Advance(limit.must)
					if !q.ask(m) {
						t.Errorf("the old answer after %v", limit.must)
					}
				}
			})
		}
	}
}

// An open tells what is old, in each mode; only what it did not touch stays.
func TestAnOpenBringsTheNewDataInEachMode(t *testing.T) {
	for _, mode := range Consistencies() {
		t.Run(mode, func(t *testing.T) {
			m := newModeRig(t, Consistency(mode), nil)
			m.change()
			io := m.openTo(by("second"), alice, "f")
			if !m.isNew(io) {
				t.Error("an open after the change reads the old data")
			}
			if !m.isNew(m.open) {
				t.Error("the first open goes on with data that is known to be old")
			}
		})
	}
}

// Under a lock one sees what was written under it before; what is immutable has no such writer.
func TestALockValidatesInEachMode(t *testing.T) {
	for _, mode := range Consistencies() {
		t.Run(mode, func(t *testing.T) {
			m := newModeRig(t, Consistency(mode), nil)
			m.change()
			m.must(m.Lock(t.Context(), alice, &fs.LockRequest{File: m.file, OpenOwner: by("reader"), LockOwner: by("lock"), Range: fs.Range{First: 0, Last: 9}, Type: fs.WriteLock}))
			if got := m.isNew(m.open); got != (Consistency(mode) != Immutable) {
				t.Errorf("reads the new data under a lock: %v", got)
			}
		})
	}
}

// What was changed through this mount is seen at once by everybody here, in each mode, and those with
// caches of their own are told, but for the one who did it.
func TestOwnChangesAreSeenAtOnceInEachMode(t *testing.T) {
	type step struct {
		name    string
		do      func(m *modeRig, ctx context.Context) error
		touched func(m *modeRig) fs.Handle
		seen    func(m *modeRig) error
	}
	is := func(ok bool, what string, a ...any) error {
		if ok {
			return nil
		}
		return fmt.Errorf(what, a...)
	}
	file := func(m *modeRig) fs.Handle { return m.file }
	dir := func(m *modeRig) fs.Handle { return m.root() }
	steps := []step{
		{"write", func(m *modeRig, ctx context.Context) error {
			_, err := m.Write(ctx, alice, m.open, 100, []byte("by us"), fs.FileSync)
			return err
		}, file, func(m *modeRig) error {
			b := make([]byte, 5)
			for _, io := range []fs.IORef{m.open, {Handle: m.file}} {
				if _, _, err := m.Read(context.Background(), alice, io, 100, b); err != nil || string(b) != "by us" {
					return fmt.Errorf("reads %q, %v", b, err)
				}
			}
			a, err := m.GetAttr(context.Background(), alice, m.file)
			return is(err == nil && a.Change == m.fFile.change, "old attributes, %v", err)
		}},
		{"chmod", func(m *modeRig, ctx context.Context) error {
			_, err := m.SetAttr(ctx, alice, fs.IORef{Handle: m.file}, &fs.SetAttr{Mode: ptr(uint32(0o640))})
			return err
		}, file, func(m *modeRig) error {
			a, err := m.GetAttr(context.Background(), alice, m.file)
			return is(err == nil && a.Mode == 0o640, "old mode, %v", err)
		}},
		{"truncate", func(m *modeRig, ctx context.Context) error {
			_, err := m.SetAttr(ctx, alice, m.open, &fs.SetAttr{Size: ptr(uint64(50))})
			return err
		}, file, func(m *modeRig) error {
			n, eof, err := m.Read(context.Background(), alice, m.open, 0, make([]byte, 200))
			return is(err == nil && n == 50 && eof, "reads %d of 50, %v, %v", n, eof, err)
		}},
		{"create", func(m *modeRig, ctx context.Context) error {
			_, err := m.Open(ctx, alice, &fs.OpenRequest{Owner: by("maker"), Access: fs.ShareBoth, Dir: m.root(), Name: "made", Create: fs.Guarded})
			return err
		}, dir, func(m *modeRig) error {
			_, _, err := m.Lookup(context.Background(), bob, m.root(), "made")
			return is(err == nil && slices.Contains(list(m.rig, m.root(), false, 100), "made"), "not there: %v", err)
		}},
		{"remove", func(m *modeRig, ctx context.Context) error {
			_, err := m.Remove(ctx, alice, m.root(), "l", fs.RemoveFile)
			return err
		}, dir, func(m *modeRig) error {
			_, _, err := m.Lookup(context.Background(), alice, m.root(), "l")
			return is(fs.CodeOf(err) == fs.NoEnt && !slices.Contains(list(m.rig, m.root(), false, 100), "l"), "still there: %v", err)
		}},
		{"rename", func(m *modeRig, ctx context.Context) error {
			_, _, err := m.Rename(ctx, alice, m.root(), "f", m.root(), "g")
			return err
		}, dir, func(m *modeRig) error {
			_, _, old := m.Lookup(context.Background(), alice, m.root(), "f")
			h, _, err := m.Lookup(context.Background(), alice, m.root(), "g")
			return is(fs.CodeOf(old) == fs.NoEnt && err == nil && h == m.file, "%v, %v", old, err)
		}},
	}
	for _, mode := range Consistencies() {
		t.Run(mode, func(t *testing.T) {
			for _, s := range steps {
				m := newModeRig(t, Consistency(mode), nil)
				ears := &hereListener{listener: newListener()}
				m.Subscribe(ears)
				us := new(int)
				m.must(s.do(m, fs.From(t.Context(), us)))
				if err := s.seen(m); err != nil {
					t.Errorf("%s: %v", s.name, err)
				}
				if !slices.Contains(ears.of(us), s.touched(m)) {
					t.Errorf("%s: those with caches of their own were not told", s.name)
				}
			}
		})
	}
}

// hereListener has a cache of its own.
type hereListener struct {
	*listener
	here map[any][]fs.Handle
}

func (l *hereListener) ChangedHere(h fs.Handle, source any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.here == nil {
		l.here = map[any][]fs.Handle{}
	}
	l.here[source] = append(l.here[source], h)
}

func (l *hereListener) of(source any) []fs.Handle {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.here[source]
}

// However strict, what one request has learnt it need not ask for again; the next request does.
func TestAStrictRequestAsksOnce(t *testing.T) {
	m := newModeRig(t, Strict, nil)
	ctx := fs.Begin(t.Context())
	n := m.requests(func() {
		_, _, err := m.Lookup(ctx, alice, m.root(), "f")
		m.must(err)
		_, err = m.GetAttr(ctx, alice, m.file)
		m.must(err)
		_, err = m.GetAttr(ctx, alice, m.root())
		m.must(err)
	})
	if n != 1 {
		t.Errorf("LOOKUP, GETATTR and GETATTR of the directory in one COMPOUND: %d requests", n)
	}
	if n := m.requests(func() { _, err := m.GetAttr(fs.Begin(t.Context()), alice, m.file); m.must(err) }); n != 1 {
		t.Errorf("GETATTR in the next one: %d requests", n)
	}
}

func TestTheAgesOfAMode(t *testing.T) {
	for _, c := range []struct {
		name  string
		cfg   Config
		files time.Duration
	}{
		{"nfs(5) without a mode", Config{}, 60 * time.Second},
		{"ages that were given count in relaxed, too", Config{Consistency: Relaxed, RelaxedAge: time.Minute, Times: AttrTimes{RegMin: 7 * time.Second, RegMax: 7 * time.Second}}, 7 * time.Second},
		{"relaxed has a default", Config{Consistency: Relaxed}, DefaultRelaxedAge},
		{"strict has no age", Config{Consistency: Strict}, 0},
	} {
		r := newRig(t, newFake(), func(cfg *Config) {
			cfg.Consistency, cfg.RelaxedAge, cfg.Times = c.cfg.Consistency, c.cfg.RelaxedAge, c.cfg.Times
		})
		if got := r.Status().AgeFiles; got != c.files {
			t.Errorf("%s: %v, want %v", c.name, got, c.files)
		}
	}
	bad := Config{Name: "n", Server: "s", Consistency: "eventual"}
	if err := bad.setDefaults(); err == nil {
		t.Error("a mode that is none is taken")
	}
}
