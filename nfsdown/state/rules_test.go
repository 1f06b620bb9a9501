package state

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("rapid.checks"); f != nil && f.Value.String() == f.DefValue {
		f.Value.Set("200")
	}
	os.Exit(m.Run())
}

// believer is what the clients know: what they were told that they hold, and what of it they have
// not reclaimed since somebody restarted. A reclaim may be granted only for that (I3), and a byte
// that another was granted meanwhile is gone from it for good (RFC 8881 8.4.3).
type believer struct {
	w     *world
	now   map[OwnerFile]fs.RangeSet // told since the last restart
	mem   map[OwnerFile]fs.RangeSet // from before it
	heard map[string]time.Time      // the last request of a client
}

func key(c, owner string, f fs.Handle) OwnerFile {
	return OwnerFile{fs.Owner{Client: c, Owner: owner}, f}
}

// granted notes a grant, and that nobody who is there lost anything by it (I2).
func (b *believer) granted(k OwnerFile, r fs.Range, t fs.LockType, reclaim bool) error {
	if reclaim && !coversAtLeast(strongest(b.mem[k], b.now[k]), r, t) {
		return fmt.Errorf("I3: %v reclaimed %v %v of %s; it had %v and %v", k.Owner, t, r, k.File, b.mem[k], b.now[k])
	}
	b.now[k] = b.now[k].With(r, t)
	b.mem[k] = b.mem[k].With(r, fs.NoLock)
	for _, m := range []map[OwnerFile]fs.RangeSet{b.now, b.mem} {
		for o, set := range m {
			if o == k || o.File != k.File {
				continue
			}
			for _, l := range overlapOf(set, r) {
				if !l.Type.Conflicts(t) {
					continue
				}
				if idle := b.w.now.Sub(b.heard[o.Owner.Client]); len(overlapOf(b.now[o], l.Range)) > 0 && idle <= b.w.cfg.Lease {
					return fmt.Errorf("I2: %v got %v %v of %s, which %v was told it has; it was heard of %v ago", k.Owner, t, r, k.File, o.Owner, idle)
				}
				m[o] = m[o].With(l.Range, fs.NoLock)
			}
		}
	}
	return nil
}

// forget moves what a client, or all of them, were told into what is to be reclaimed.
func (b *believer) restarted(client string) {
	for k, set := range b.now {
		if client == "" || k.Owner.Client == client {
			b.mem[k] = strongest(b.mem[k], set)
			delete(b.now, k)
		}
	}
}

func (b *believer) drop(client string, f fs.Handle, also map[OwnerFile]fs.RangeSet) {
	for k := range also {
		if k.Owner.Client == client && (f == "" || k.File == f) {
			delete(also, k)
		}
	}
}

// TestRules does whatever comes to mind to a server, its clients, its journal and its backend, and
// looks after each step.
func TestRules(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cfg := Config{
			Lease:         90 * time.Second,
			Retain:        rapid.SampledFrom([]RetainPolicy{RetainAlways, RetainNegotiated, RetainNever}).Draw(rt, "retain"),
			CourtesyLimit: rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(rt, "courtesy"),
		}
		w := newWorld(t, cfg)
		defer w.journal.Close()
		w.backend.remote = rapid.Bool().Draw(rt, "remote")
		b := &believer{w: w, now: map[OwnerFile]fs.RangeSet{}, mem: map[OwnerFile]fs.RangeSet{}, heard: map[string]time.Time{}}
		names := []string{"a", "b", "c"}
		who := func() *tester { return w.client(rapid.SampledFrom(names).Draw(rt, "client")) }
		file := func() fs.Handle { return fs.Handle(rapid.SampledFrom([]string{"f", "g"}).Draw(rt, "file")) }
		owner := func() string { return rapid.SampledFrom([]string{"x", "y"}).Draw(rt, "owner") }
		span := func() fs.Range {
			first := rapid.Uint64Range(0, 12).Draw(rt, "first")
			return fs.Range{First: first, Last: first + rapid.Uint64Range(0, 6).Draw(rt, "length")}
		}
		typ := func() fs.LockType {
			return rapid.SampledFrom([]fs.LockType{fs.ReadLock, fs.WriteLock}).Draw(rt, "type")
		}
		heard := func(c *tester, err error) {
			if !errors.Is(err, nfs4.NFS4ERR_BADSESSION) {
				b.heard[c.name] = w.now
			}
		}
		fail := func(err error) {
			if err != nil {
				rt.Fatal(err)
			}
		}
		connect := func(c *tester) {
			if c.connect() == nil {
				b.heard[c.name] = w.now
			}
		}
		for _, n := range names {
			c := w.client(n)
			connect(c)
			fail(c.complete())
		}
		rt.Repeat(map[string]func(*rapid.T){
			"": func(*rapid.T) { fail(w.checkInvariants()) },
			"open": func(*rapid.T) {
				c := who()
				heard(c, c.open("o", file(), fs.ShareBoth, 0, false))
			},
			"lock": func(*rapid.T) {
				c, o, f, r, t := who(), owner(), file(), span(), typ()
				err := c.lock("o", o, f, r, t, rapid.Bool().Draw(rt, "wait"), false)
				heard(c, err)
				if err == nil {
					fail(b.granted(key(c.name, o, f), r, t, false))
				}
			},
			"unlock": func(*rapid.T) {
				c, o, f, r := who(), owner(), file(), span()
				err := c.unlock(o, f, r)
				heard(c, err)
				if k := key(c.name, o, f); err == nil {
					b.now[k], b.mem[k] = b.now[k].With(r, fs.NoLock), b.mem[k].With(r, fs.NoLock)
				}
			},
			"close": func(*rapid.T) {
				c, f := who(), file()
				locks := c.locks
				c.locks = map[string]nfs4.Stateid{}
				err := c.close("o", f)
				heard(c, err)
				for k, sid := range locks {
					if err != nil || k[len(k)-1:] != string(f) {
						c.locks[k] = sid
					}
				}
				if err == nil {
					b.drop(c.name, f, b.now)
					b.drop(c.name, f, b.mem)
				}
			},
			"reclaim": func(*rapid.T) {
				c := who()
				for k, set := range b.mem {
					if k.Owner.Client != c.name {
						continue
					}
					heard(c, c.open("o", k.File, fs.ShareBoth, 0, true))
					for _, l := range set {
						err := c.lock("o", k.Owner.Owner, k.File, l.Range, l.Type, false, true)
						heard(c, err)
						if err == nil {
							fail(b.granted(k, l.Range, l.Type, true))
						}
					}
				}
			},
			"reclaim anything": func(*rapid.T) {
				c, o, f, r, t := who(), owner(), file(), span(), typ()
				if err := c.open("o", f, fs.ShareBoth, 0, true); err == nil {
					err = c.lock("o", o, f, r, t, false, true)
					if err == nil {
						fail(b.granted(key(c.name, o, f), r, t, true))
					}
				}
				heard(c, nil)
			},
			"complete": func(*rapid.T) {
				c := who()
				err := c.complete()
				heard(c, err)
				if err == nil {
					b.drop(c.name, "", b.mem)
				}
			},
			"connect": func(*rapid.T) {
				c := who()
				old := c.c
				connect(c)
				if c.c != old {
					b.restarted(c.name) // its client ID was gone
				}
			},
			"client restarts": func(*rapid.T) {
				c := who()
				c.verifier++
				c.retain = rapid.Bool().Draw(rt, "asks")
				b.restarted(c.name)
				connect(c)
			},
			"server restarts": func(*rapid.T) {
				w.crash()
				b.restarted("")
			},
			"time": func(*rapid.T) {
				w.now = w.now.Add(rapid.SampledFrom([]time.Duration{time.Second, 50 * time.Second, 95 * time.Second}).Draw(rt, "passes"))
			},
			"renew": func(*rapid.T) {
				c := who()
				heard(c, c.compound(func() error { return nil }))
			},
			"expire":    func(*rapid.T) { w.run(w.srv.Expire()) },
			"end grace": func(*rapid.T) { w.endGrace(rapid.Bool().Draw(rt, "force")) },
		})
	})
}

// TestRangeArithmetic compares with a byte-by-byte model.
func TestRangeArithmetic(t *testing.T) {
	const n = 12
	type bytes [n]fs.LockType
	flat := func(s fs.RangeSet) (b bytes) {
		for _, l := range s {
			for i := l.Range.First; i <= l.Range.Last; i++ {
				b[i] = l.Type
			}
		}
		return b
	}
	rapid.Check(t, func(rt *rapid.T) {
		set := func(label string) (s fs.RangeSet, b bytes) {
			for range rapid.IntRange(0, 5).Draw(rt, label) {
				first := rapid.Uint64Range(0, n-1).Draw(rt, "first")
				last := rapid.Uint64Range(first, n-1).Draw(rt, "last")
				t := rapid.SampledFrom([]fs.LockType{fs.ReadLock, fs.WriteLock}).Draw(rt, "type")
				s = s.With(fs.Range{First: first, Last: last}, t)
				for i := first; i <= last; i++ {
					b[i] = t
				}
			}
			return s, b
		}
		s, sb := set("s")
		o, ob := set("o")
		if flat(s) != sb {
			rt.Fatalf("%v is not %v", s, sb)
		}
		var strong, less bytes
		for i := range n {
			strong[i] = max(sb[i], ob[i])
			if ob[i] == fs.NoLock {
				less[i] = sb[i]
			}
		}
		if got := flat(strongest(s, o)); got != strong {
			rt.Fatalf("strongest of %v and %v is %v", s, o, got)
		}
		if got := flat(minus(s, o)); got != less {
			rt.Fatalf("%v minus %v is %v", s, o, got)
		}
		first := rapid.Uint64Range(0, n-1).Draw(rt, "first")
		r := fs.Range{First: first, Last: rapid.Uint64Range(first, n-1).Draw(rt, "last")}
		for _, t := range []fs.LockType{fs.ReadLock, fs.WriteLock} {
			want := true
			for i := r.First; i <= r.Last; i++ {
				want = want && sb[i] >= t
			}
			if got := coversAtLeast(s, r, t); got != want {
				rt.Fatalf("%v covers %v %v at least: %v", s, r, t, got)
			}
		}
	})
}

// FuzzStateid: no stateid that a client can send is anything but its own state or an error.
func FuzzStateid(f *testing.F) {
	w := newWorld(f, Config{})
	c := w.client("alice")
	opened(w, c)
	sid := c.opens["o f"]
	f.Add(sid.Seqid, sid.Other[:])
	f.Add(uint32(0), make([]byte, 12))
	f.Add(uint32(1<<32-1), onesOther[:])
	f.Fuzz(func(t *testing.T, seqid uint32, other []byte) {
		s := nfs4.Stateid{Seqid: seqid}
		copy(s.Other[:], other)
		ours := s.Other == sid.Other && (seqid == 0 || seqid == sid.Seqid)
		if st := w.srv.TestStateid(c.c, s); (st == nfs4.NFS4_OK) != ours {
			t.Errorf("%v is %v", s, st)
		}
		_, err := w.srv.ResolveIO(c.c, s, "f", IOWrite)
		special := s.Other == zeroOther && seqid == 0 || s.Other == onesOther && seqid == 1<<32-1
		if (err == nil) != (ours || special) {
			t.Errorf("WRITE under %v: %v", s, err)
		}
		if _, err := w.srv.FreeStateid(c.c, s); err == nil {
			t.Errorf("%v could be freed", s)
		}
	})
}

// The strange words of stateids: seqid 0 is the newest, others must match.
// An open that denies nothing more than before need not be on disk before its client is told; any other must be.
func TestOnlyAnOpenThatDeniesNothingIsWeak(t *testing.T) {
	w := newWorld(t, Config{})
	c := w.client("alice")
	if err := c.connect(); err != nil {
		t.Fatal(err)
	}
	if err := c.complete(); err != nil {
		t.Fatal(err)
	}
	for i, x := range []struct {
		owner        string
		access, deny fs.Share
		weak, record bool
	}{
		{"o", fs.ShareRead, 0, true, true},
		{"o", fs.ShareRead, 0, false, false}, // nothing new
		{"q", fs.ShareWrite, fs.ShareWrite, false, true},
		{"q", fs.ShareRead, 0, true, true}, // no more than it denies already
		{"p", fs.ShareRead, 0, true, true},
	} {
		p, err := c.planOpen(t.Context(), x.owner, "f", x.access, x.deny, false)
		if err != nil {
			t.Fatal(i, err)
		}
		if p.Weak != x.weak || (p.Batch != nil) != x.record {
			t.Errorf("open %d: weak %v, a record %v", i, p.Weak, p.Batch != nil)
		}
		if err := c.doOpen(p); err != nil {
			t.Fatal(i, err)
		}
	}
}

// What a host denies to others it does itself, under the open that denies it and only if that is for it.
func TestAHostDoesWhatItDenies(t *testing.T) {
	w := newWorld(t, Config{})
	a, b := w.client("alice"), w.client("bob")
	for _, c := range []*tester{a, b} {
		confirmed(w, c)
		if err := c.complete(); err != nil {
			t.Fatal(err)
		}
	}
	owner := func(c *tester, o string) fs.Owner { return fs.Owner{Client: c.c.party.owner, Owner: o} }
	ask := func(what, host string, io IO, under fs.Owner, want error) {
		t.Helper()
		ref, err := w.srv.ResolveHostIO(host, "f", io)
		if err != want || want == nil && ref.Open != under {
			t.Errorf("%s: %+v %v, want %+v %v", what, ref, err, under, want)
		}
	}
	ask("nothing is open", "alice", IOWrite, fs.Owner{}, nil)
	if err := a.open("w", "f", fs.ShareRead|fs.ShareWrite, fs.ShareWrite, false); err != nil {
		t.Fatal(err)
	}
	ask("alice writes", "alice", IOWrite, owner(a, "w"), nil)
	ask("alice sets the size", "alice", IOSetSize, owner(a, "w"), nil)
	ask("alice reads, which nobody denies", "alice", IORead, fs.Owner{}, nil)
	ask("bob writes", "bob", IOWrite, fs.Owner{}, nfs4.NFS4ERR_LOCKED)
	ask("nobody writes", "", IOWrite, fs.Owner{}, nfs4.NFS4ERR_LOCKED)
	if err := b.open("r", "f", fs.ShareRead, fs.ShareRead, false); err == nil {
		t.Fatal("bob denies what alice has")
	}
	if err := a.open("q", "f", fs.ShareRead, 0, false); err != nil {
		t.Fatal(err)
	}
	if err := a.open("d", "g", fs.ShareRead, fs.ShareWrite, false); err != nil {
		t.Fatal(err)
	}
	if ref, err := w.srv.ResolveHostIO("alice", "g", IOWrite); err != nfs4.NFS4ERR_LOCKED {
		t.Errorf("alice writes under an open for reading: %+v %v", ref, err)
	}
	// Of two that deny, one of her own and one of somebody else, that of somebody else counts.
	if err := b.open("d", "g", fs.ShareRead, fs.ShareWrite, false); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"alice", "bob"} {
		if ref, err := w.srv.ResolveHostIO(host, "g", IOWrite); err != nfs4.NFS4ERR_LOCKED {
			t.Errorf("%s writes what both deny: %+v %v", host, ref, err)
		}
	}
}

func TestStateidSeqid(t *testing.T) {
	w := newWorld(t, Config{})
	c := w.client("alice")
	opened(w, c)
	first := c.opens["o f"]
	if err := c.open("o", "f", fs.ShareRead, 0, false); err != nil {
		t.Fatal(err)
	}
	second := c.opens["o f"]
	if first.Other != second.Other || second.Seqid != first.Seqid+1 {
		t.Fatalf("%v after %v", second, first)
	}
	ahead, newest, foreign := second, second, second
	ahead.Seqid++
	newest.Seqid = 0
	foreign.Other[11]++
	for sid, want := range map[nfs4.Stateid]nfs4.Status{first: nfs4.NFS4ERR_OLD_STATEID, second: nfs4.NFS4_OK, newest: nfs4.NFS4_OK,
		ahead: nfs4.NFS4ERR_BAD_STATEID, foreign: nfs4.NFS4ERR_BAD_STATEID, {}: nfs4.NFS4ERR_BAD_STATEID} {
		if got := w.srv.TestStateid(c.c, sid); got != want {
			t.Errorf("%v: %v, want %v", sid, got, want)
		}
	}
	if _, err := w.srv.ResolveIO(c.c, second, "another", IORead); err != nfs4.NFS4ERR_BAD_STATEID {
		t.Errorf("a stateid of another file: %v", err)
	}
	other := w.client("bob")
	confirmed(w, other)
	if got := w.srv.TestStateid(other.c, second); got != nfs4.NFS4ERR_BAD_STATEID {
		t.Errorf("a stateid of another client: %v", got)
	}
}
