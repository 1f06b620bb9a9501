package nfsdown

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/nfs4"
)

type testIDs struct{}

func (testIDs) UID(n string) (uint32, bool)        { return 7, n == "ann" }
func (testIDs) GID(n string) (uint32, bool)        { return 70, n == "staff" }
func (testIDs) UserName(id uint32) (string, bool)  { return "ann", id == 7 }
func (testIDs) GroupName(id uint32) (string, bool) { return "staff", id == 70 }

func TestOwnerStrings(t *testing.T) {
	for _, domain := range []string{"", "Example.org"} {
		w := newWorld(t, func(c *Config) { c.IDDomain, c.Names = domain, testIDs{} })
		p := w.client("alice")
		fh := p.mkfile("f", nil)
		set := func(owner, group string) []nfs4.Args {
			return []nfs4.Args{put(fh), &nfs4.SetattrArgs{Attrs: nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_OWNER, nfs4.FATTR4_OWNER_GROUP), Owner: owner, OwnerGroup: group}}}
		}
		get := func() (string, string) {
			f := last[*nfs4.GetattrRes](p.ok(put(fh), &nfs4.GetattrArgs{Request: nfs4.Bits(nfs4.FATTR4_OWNER, nfs4.FATTR4_OWNER_GROUP)})).Attrs
			return f.Owner, f.OwnerGroup
		}
		want := [2]string{"7", "70"}
		if domain != "" {
			want = [2]string{"ann@Example.org", "staff@Example.org"}
		}
		for _, in := range [][2]string{{"7", "70"}, {"ann@example.ORG", "staff@example.org"}, {"ann", "staff"}} {
			p.ok(set("1", "1")...)
			p.ok(set(in[0], in[1])...)
			if o, g := get(); o != want[0] || g != want[1] {
				t.Errorf("domain %q: set %q, got %s %s", domain, in, o, g)
			}
		}
		p.ok(set("8", "80")...)
		if o, g := get(); o != "8" || g != "80" {
			t.Errorf("without a name: %s %s", o, g)
		}
		p.fails(nfs4.NFS4ERR_BADOWNER, set("bob@example.org", "staff")...)
		if domain != "" {
			p.fails(nfs4.NFS4ERR_BADOWNER, set("ann@elsewhere", "staff")...)
		}
	}
}

// TestManageGIDs: more groups than AUTH_SYS can carry count, and a group that only the client claims does not.
func TestManageGIDs(t *testing.T) {
	var asked atomic.Int32
	w := newWorld(t, func(c *Config) {
		c.ManageGIDs = true
		c.LookupGroups = func(_ context.Context, uid uint32) ([]uint32, error) {
			asked.Add(1)
			if uid != 1000 {
				return nil, errNoUser
			}
			list := make([]uint32, 40)
			for i := range list {
				list[i] = uint32(2000 + i)
			}
			return list, nil
		}
	})
	root := w.client("root")
	file := func(name string, gid string) nfs4.FH {
		fh := root.mkfile(name, []byte("x"))
		root.ok(put(fh), &nfs4.SetattrArgs{Attrs: nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_OWNER_GROUP, nfs4.FATTR4_MODE), OwnerGroup: gid, Mode: 0o040}})
		return fh
	}
	in, claimed := file("in", "2039"), file("claimed", "3000")
	may := func(p *peer, fh nfs4.FH) bool {
		return last[*nfs4.AccessRes](p.ok(put(fh), &nfs4.AccessArgs{Access: nfs4.ACCESS4_READ})).Access != 0
	}
	before := asked.Load()
	p := w.dial("alice").exchange()
	p.ok(&nfs4.ReclaimCompleteArgs{})
	p.cred = asUser(1000)
	p.cred.Groups = []uint32{3000}
	if !may(p, in) || may(p, claimed) {
		t.Errorf("user 1000: %v %v", may(p, in), may(p, claimed))
	}
	if n := asked.Load() - before; n != 1 {
		t.Errorf("asked %d times for one user", n)
	}
	p.cred.UID = 1001 // not known here: what the client says counts
	if may(p, in) || !may(p, claimed) {
		t.Errorf("user 1001: %v %v", may(p, in), may(p, claimed))
	}
	w.clock.Advance(idLife)
	if got := w.srv.groupsOf(1001, []uint32{5}); !slices.Equal(got, []uint32{5}) {
		t.Errorf("groups of a user who is not known: %v", got)
	}
	if n := asked.Load() - before; n != 3 {
		t.Errorf("asked %d times after the answers were old", n)
	}
}

// TestIDsAreAskedOnce: of many that ask the same one asks the database; one that gives up does not spoil it.
func TestIDsAreAskedOnce(t *testing.T) {
	m := newIDs(clock.NewFake(time.Unix(1, 0)).Now)
	gate := make(chan struct{})
	var n atomic.Int32
	ask := func() idValue {
		n.Add(1)
		<-gate
		return idValue{id: 5, ok: true}
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if v := m.get(context.Background(), idKey{}, ask); v.id != 5 || !v.ok {
				t.Errorf("%+v", v)
			}
		})
	}
	eventually(t, "somebody asks", func() bool { return n.Load() == 1 })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if v := m.get(ctx, idKey{}, ask); v.ok {
		t.Errorf("%+v", v)
	}
	close(gate)
	wg.Wait()
	if n.Load() != 1 {
		t.Errorf("%d asked", n.Load())
	}
}

func TestLookupGroupsOfThisHost(t *testing.T) {
	list, err := lookupGroups(context.Background(), 0)
	if err != nil || !slices.Contains(list, 0) {
		t.Errorf("root: %v %v", list, err)
	}
	if list, err := lookupGroups(context.Background(), 4_000_000_123); !errors.Is(err, errNoUser) {
		t.Errorf("%v %v", list, err)
	}
}
