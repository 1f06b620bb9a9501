//go:build linux

package local

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"holdfast/fs"
)

// model is who has locked which byte, the plain way; the last stands for all that follow.
type model [modelBytes + 1]map[int]fs.LockType

const modelBytes = 48

// conflict tells whether a lock by who would meet another's.
func (m *model) conflict(who int, r fs.Range, t fs.LockType) bool {
	for i := r.First; i <= min(r.Last, modelBytes); i++ {
		for o, has := range m[i] {
			if o != who && has.Conflicts(t) {
				return true
			}
		}
	}
	return false
}

func (m *model) set(who int, r fs.Range, t fs.LockType) {
	for i := r.First; i <= min(r.Last, modelBytes); i++ {
		if m[i] == nil {
			m[i] = make(map[int]fs.LockType)
		}
		delete(m[i], who)
		if t != fs.NoLock {
			m[i][who] = t
		}
	}
}

// seen is what a program of this host sees of all but who.
func (m *model) seen(but int) string {
	out := make([]byte, modelBytes)
	for i := range out {
		out[i] = '-'
		for o, t := range m[i] {
			switch {
			case o == but:
			case t == fs.WriteLock:
				out[i] = 'w'
			case t == fs.ReadLock:
				out[i] = 'r'
			}
		}
	}
	return string(out)
}

func randomRange(rnd *rand.Rand) fs.Range {
	a, b := rnd.Uint64N(modelBytes), rnd.Uint64N(modelBytes) // below the last
	if rnd.IntN(10) == 0 {
		return fs.Range{First: a, Last: math.MaxUint64}
	}
	return fs.Range{First: min(a, b), Last: max(a, b)}
}

// The program of this host is an owner like the others, whom the backend does not know.
const outside = -1

// Many owners lock and unlock, and a program of this host too: each is granted exactly what the model
// grants, and the program sees exactly the union of what the owners hold.
func TestProgramsSeeTheUnion(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			b := start(t, Config{})
			path := b.cfg.Dir + "/f"
			mustWrite(t, path, "x")
			f := lookup(t, b, b.rootHandle, "f")
			p := newProgram(t, path)
			ctx := t.Context()
			const owners = 12
			name := func(i int) fs.Owner { return owner(fmt.Sprint("owner", i)) }
			access := make([]fs.Share, owners) // 0: closed
			var m model
			for step := range 600 {
				who, r := rnd.IntN(owners), randomRange(rnd)
				typ := fs.LockType(1 + rnd.IntN(2))
				what := rnd.IntN(12)
				switch {
				case access[who] == 0:
					// Some open for reading only, so that the file's descriptor has to change.
					access[who] = []fs.Share{fs.ShareRead, fs.ShareBoth}[rnd.IntN(2)]
					if _, err := b.Open(ctx, rootCred, &fs.OpenRequest{Owner: name(who), Access: access[who], File: f}); err != nil {
						t.Fatal(err)
					}
				case what == 0:
					if err := b.CloseFile(ctx, name(who), f); err != nil {
						t.Fatal(err)
					}
					access[who] = 0
					m.set(who, allBytes, fs.NoLock)
				case what == 1:
					want := "ok"
					if m.conflict(outside, r, typ) {
						want = "denied"
					}
					n := uint64(0)
					if r.Last != math.MaxUint64 {
						n = r.Last - r.First + 1
					}
					p.says(want, "lock %s %d %d", map[fs.LockType]string{fs.ReadLock: "r", fs.WriteLock: "w"}[typ], r.First, n)
					if want == "ok" {
						m.set(outside, r, typ)
					}
				case what == 2:
					p.says("ok", "unlock w 0 0")
					m.set(outside, allBytes, fs.NoLock)
				case what < 5:
					if err := b.Unlock(ctx, rootCred, name(who), f, r); err != nil {
						t.Fatal(err)
					}
					m.set(who, r, fs.NoLock)
				case what == 5:
					err := b.TestLock(ctx, rootCred, name(who), f, r, typ)
					if m.conflict(who, r, typ) != errors.Is(err, fs.Denied) {
						t.Fatalf("step %d: test of %d for %v %v: %v", step, who, r, typ, err)
					}
				case access[who] == fs.ShareRead && typ == fs.WriteLock:
				default:
					err := b.Lock(ctx, rootCred, &fs.LockRequest{File: f, OpenOwner: name(who), LockOwner: name(who), Range: r, Type: typ})
					switch {
					case err == nil && !m.conflict(who, r, typ):
						m.set(who, r, typ)
					case err == nil || !errors.Is(err, fs.Denied) || !m.conflict(who, r, typ):
						t.Fatalf("step %d: %d asked for %v %v: %v", step, who, r, typ, err)
					}
				}
				if got, want := p.ask("scan w 0 %d", modelBytes), m.seen(outside); got != want {
					t.Fatalf("step %d: the program sees\n%s, and what is held is\n%s", step, got, want)
				}
			}
			for who, a := range access {
				if a != 0 {
					if err := b.CloseFile(ctx, name(who), f); err != nil {
						t.Error(err)
					}
				}
			}
			if b.files.locks.Load() != 0 || b.states.peek(f) != nil {
				t.Error("something is left of the locks")
			}
		})
	}
}

// The pieces are sorted, disjoint, merged, and say what the owners' own sets say.
func TestUnionIsTheSumOfItsOwners(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 7))
	for range 50 {
		var u union
		var m model
		hs := make([]*holder, 6)
		for i := range hs {
			hs[i] = &holder{}
		}
		for range 200 {
			who, r, typ := rnd.IntN(len(hs)), randomRange(rnd), fs.LockType(rnd.IntN(3))
			h := hs[who]
			if typ != fs.NoLock {
				_, hit := u.conflict(h, h.set, r, typ)
				if hit != m.conflict(who, r, typ) {
					t.Fatalf("%v %v: conflict %v", r, typ, hit)
				}
				if hit {
					continue
				}
			}
			u = u.set(h, h.set, r, typ)
			h.set = h.set.With(r, typ)
			m.set(who, r, typ)
			for i, p := range u {
				if p.First > p.Last || p.kind() == fs.NoLock || p.readers < 0 || p.writer != nil && p.readers > 0 {
					t.Fatalf("piece %+v", p)
				}
				if i > 0 && (u[i-1].Last >= p.First || u[i-1].Last+1 == p.First && u[i-1].same(&p)) {
					t.Fatalf("pieces %+v and %+v", u[i-1], p)
				}
			}
			for i := range uint64(modelBytes) {
				p := u.cut(fs.Range{First: i, Last: i})[0]
				readers, writers := 0, 0
				for _, t := range m[i] {
					if t == fs.ReadLock {
						readers++
					} else {
						writers++
					}
				}
				if p.readers != readers || (p.writer != nil) != (writers == 1) {
					t.Fatalf("byte %d: %+v, want %d readers and %d writers", i, p, readers, writers)
				}
			}
		}
	}
}

// There is one descriptor for a file, however many owners have it open and locked.
func TestOwnersCostNoDescriptors(t *testing.T) {
	b := start(t, Config{MaxFiles: 16})
	mustWrite(t, b.cfg.Dir+"/manyowners", "x")
	f := lookup(t, b, b.rootHandle, "manyowners")
	const owners = 3000
	for i := range uint64(owners) {
		o := owner(fmt.Sprint(i))
		if _, err := b.Open(t.Context(), rootCred, &fs.OpenRequest{Owner: o, Access: fs.ShareBoth, File: f}); err != nil {
			t.Fatal(err)
		}
		if err := b.Lock(t.Context(), rootCred, &fs.LockRequest{File: f, OpenOwner: o, LockOwner: o, Range: fs.Range{First: 10 * i, Last: 10*i + 8}, Type: fs.WriteLock}); err != nil {
			t.Fatal(err)
		}
	}
	if n := openFDs(t, "manyowners"); n != 1 {
		t.Errorf("%d descriptors", n)
	}
	p := newProgram(t, b.cfg.Dir+"/manyowners")
	p.says("wwwwwwwww-wwwwwwwww-", "scan w 1000 20")
	for i := range owners {
		if err := b.CloseFile(t.Context(), owner(fmt.Sprint(i)), f); err != nil {
			t.Fatal(err)
		}
	}
	p.says("ok", "lock w 0 0")
	if n := openFDs(t, "manyowners"); n != 0 {
		t.Errorf("%d descriptors are left", n)
	}
}
