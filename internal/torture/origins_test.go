package torture_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/nfs4"
	"holdfast/internal/plain"
	"holdfast/internal/stage"
)

// origins is a serve with local mounts in front of two origins: /kind keeps what a restarted client had, /curt drops
// it and takes no reclaims.
type origins struct {
	t     *testing.T
	ctx   context.Context
	down  string
	mount map[string]string
	serve *stage.Proc
}

func newOrigins(t *testing.T, restart string) *origins {
	binary := stage.Need(t)
	base := stage.Dir(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	s := &origins{t: t, ctx: ctx, down: stage.Port(t), mount: map[string]string{}}
	file := "origins:\n"
	mounts := "mounts:\n"
	exports := "exports:\n"
	for _, name := range []string{"kind", "curt"} {
		data := filepath.Join(base, name)
		s.must(os.Mkdir(data, 0o755))
		s.must(os.WriteFile(filepath.Join(data, "f"), []byte("before"), 0o644))
		addr, retain := stage.Port(t), "always"
		if name == "curt" {
			retain = "never"
		}
		export := "/" + name + " *(rw,no_root_squash,insecure)"
		stage.Start(t, binary, base, name, "origin", data, "--listen", addr, "--retain", retain, "--export", export, "--rpcbind", "off")
		s.mount[name] = filepath.Join(base, "mnt-"+name)
		file += fmt.Sprintf("  - {name: %s, server: %q, path: /%s}\n", name, addr, name)
		mounts += fmt.Sprintf("  - {origin: %s, dir: %q, allow_other: true}\n", name, s.mount[name])
		exports += fmt.Sprintf("  - %q\n", export)
	}
	config := filepath.Join(base, "serve.yaml")
	s.must(os.WriteFile(config, []byte(file+exports+mounts), 0o600))
	t.Cleanup(func() {
		for _, dir := range s.mount {
			_ = unix.Unmount(dir, unix.MNT_DETACH) // it may not be there
		}
	})
	s.serve = stage.Start(t, binary, base, "serve", "serve", "--config", config, "--listen", s.down, "--rpcbind", "off", "--recovery", "reclaim", "--restart", restart,
		"--upstream-clients", "1") // one that has something at kind, so that new opens are taken there in grace
	return s
}

func (s *origins) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// grace is what `holdfast grace show` says.
type graceNow struct {
	Phase     string   `json:"phase"`
	OverFor   []string `json:"over_for"`
	Lost      []string `json:"lost"`
	LostEarly []string `json:"lost_early"`
}

func (s *origins) grace() (g graceNow) {
	s.t.Helper()
	out, err := s.serve.Run("grace", "show", "--json")
	s.must(err)
	s.must(json.Unmarshal([]byte(out), &g))
	return g
}

func (s *origins) until(what string, f func(graceNow) bool) {
	s.t.Helper()
	for !f(s.grace()) {
		select {
		case <-s.ctx.Done():
			s.t.Fatalf("still not: %s; %+v", what, s.grace())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// client is a new end client that has nothing to reclaim.
func (s *origins) client(name string) *plain.Client {
	s.t.Helper()
	c, err := plain.New(s.down, 2, name, 0, 0)
	s.must(err)
	s.t.Cleanup(c.Cut)
	_, _, err = c.Join(s.ctx, false)
	s.must(err)
	s.does(c, nfs4.NFS4_OK, &nfs4.ReclaimCompleteArgs{})
	return c
}

// hasBoth is a client with a lock at each origin.
func (s *origins) hasBoth(name string) (c *plain.Client, fh map[string]nfs4.FH, held map[string]nfs4.Stateid) {
	s.t.Helper()
	c, fh, held = s.client(name), map[string]nfs4.FH{}, map[string]nfs4.Stateid{}
	for _, origin := range []string{"kind", "curt"} {
		var open nfs4.Stateid
		fh[origin], open = s.opens(c, origin)
		held[origin] = s.does(c, nfs4.NFS4_OK, put(fh[origin]), lock(open, false))[1].(*nfs4.LockRes).LockStateid
	}
	return c, fh, held
}

// back is what a client does when its server was restarted.
func (s *origins) back(c *plain.Client) {
	s.t.Helper()
	c.Cut()
	_, _, err := c.Join(s.ctx, false)
	s.must(err)
}

// does sends operations, of which the last has this outcome; it gives the answers.
func (s *origins) does(c *plain.Client, want nfs4.Status, ops ...nfs4.Args) []nfs4.Res {
	s.t.Helper()
	list, err := c.Do(s.ctx, false, ops...)
	if got, answered := plain.StatusOf(err); !answered || got != want || len(list) != len(ops) {
		s.t.Fatalf("%v: %v after %d of %d operations, want %v", ops[len(ops)-1].Op(), err, len(list), len(ops), want)
	}
	return list
}

// opens opens the file at an origin.
func (s *origins) opens(c *plain.Client, name string) (nfs4.FH, nfs4.Stateid) {
	s.t.Helper()
	list, err := c.Do(s.ctx, true, &nfs4.PutrootfhArgs{}, &nfs4.LookupArgs{Name: name},
		&nfs4.OpenArgs{ShareAccess: nfs4.OPEN4_SHARE_ACCESS_BOTH, Owner: nfs4.StateOwner{Owner: "o"}, Claim: nfs4.OpenClaim{Type: nfs4.CLAIM_NULL, File: "f"}},
		&nfs4.GetfhArgs{})
	s.must(err)
	return list[3].(*nfs4.GetfhRes).FH, list[2].(*nfs4.OpenRes).Stateid
}

func put(fh nfs4.FH) nfs4.Args { return &nfs4.PutfhArgs{FH: fh} }

func lock(open nfs4.Stateid, reclaim bool) nfs4.Args {
	return &nfs4.LockArgs{LockType: nfs4.WRITE_LT, Offset: 0, Length: 10, Reclaim: reclaim,
		Locker: nfs4.Locker{NewLockOwner: true, OpenStateid: open, LockOwner: nfs4.StateOwner{Owner: "l"}}}
}

func reclaimOpen() nfs4.Args {
	return &nfs4.OpenArgs{ShareAccess: nfs4.OPEN4_SHARE_ACCESS_BOTH, Owner: nfs4.StateOwner{Owner: "o"}, Claim: nfs4.OpenClaim{Type: nfs4.CLAIM_PREVIOUS}}
}

// TestStoriesOfTwoOrigins: serve is killed in front of two origins, of which one takes no reclaims. What end clients
// had there is lost, told and free for others; what they have at the other one is theirs.
func TestStoriesOfTwoOrigins(t *testing.T) {
	s := newOrigins(t, "grace")
	alice, fh, _ := s.hasBoth("alice")
	s.serve.Kill()
	s.serve.Boot()
	s.back(alice)
	if g := s.grace(); g.Phase != "active" || len(g.OverFor) != 0 {
		t.Fatalf("%+v", g)
	}
	s.does(alice, nfs4.NFS4ERR_NO_GRACE, put(fh["curt"]), reclaimOpen())
	s.until("grace is over for /curt", func(g graceNow) bool { return slices.Equal(g.OverFor, []string{"/curt"}) && len(g.LostEarly) == 2 })

	// At curt life goes on, for end clients and for local applications.
	bob := s.client("bob")
	_, bopen := s.opens(bob, "curt")
	if _, err := bob.Do(s.ctx, true, put(fh["curt"]), lock(bopen, false)); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(s.mount["curt"], "f"), os.O_RDWR, 0)
	s.must(err)
	defer f.Close()
	s.must(unix.FcntlFlock(f.Fd(), unix.F_SETLKW, &unix.Flock_t{Type: unix.F_WRLCK, Start: 20, Len: 10}))
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: 0, Len: 10}); err != unix.EAGAIN {
		t.Errorf("a local lock of what bob has: %v", err)
	}
	// At kind grace lasts, and what alice has there is kept for her.
	kfh, bopen := s.opens(bob, "kind")
	s.does(bob, nfs4.NFS4ERR_GRACE, put(kfh), lock(bopen, false))
	if g := s.grace(); g.Phase != "active" {
		t.Fatalf("%+v", g)
	}
	open := s.does(alice, nfs4.NFS4_OK, put(fh["kind"]), reclaimOpen())[1].(*nfs4.OpenRes).Stateid
	held := s.does(alice, nfs4.NFS4_OK, put(fh["kind"]), lock(open, true))[1].(*nfs4.LockRes).LockStateid
	s.does(alice, nfs4.NFS4ERR_NO_GRACE, put(fh["curt"]), reclaimOpen())
	s.does(alice, nfs4.NFS4_OK, &nfs4.ReclaimCompleteArgs{})
	s.until("grace is over", func(g graceNow) bool { return g.Phase == "over" })
	s.does(bob, nfs4.NFS4ERR_DENIED, put(kfh), lock(bopen, false))
	s.does(alice, nfs4.NFS4_OK, put(fh["kind"]), &nfs4.WriteArgs{Stateid: held, Stable: nfs4.FILE_SYNC4, Data: []byte("mine")})
	if g := s.grace(); len(g.Lost) != 2 || len(g.OverFor) != 0 {
		t.Errorf("%+v", g)
	}
	out, err := s.serve.Run("events")
	s.must(err)
	for _, line := range strings.Split(out, "\n") {
		if strings.Contains(line, "grace") || strings.Contains(line, "lost") {
			t.Log(line)
		}
	}
	if !strings.Contains(out, "the origin takes no reclaims for /curt") {
		t.Errorf("not in the events: why\n%s", out)
	}
}

// TestStoriesOfTwoOriginsKilledTwice: serve dies once more, while grace is over for one origin and lasts for the other.
func TestStoriesOfTwoOriginsKilledTwice(t *testing.T) {
	s := newOrigins(t, "grace")
	alice, fh, _ := s.hasBoth("alice")
	s.serve.Kill()
	s.serve.Boot()
	s.back(alice)
	s.does(alice, nfs4.NFS4ERR_NO_GRACE, put(fh["curt"]), reclaimOpen())
	s.until("grace is over for /curt", func(g graceNow) bool { return slices.Equal(g.OverFor, []string{"/curt"}) && len(g.LostEarly) == 2 })
	bob := s.client("bob")
	cfh, bopen := s.opens(bob, "curt")
	if _, err := bob.Do(s.ctx, true, put(cfh), lock(bopen, false)); err != nil {
		t.Fatal(err)
	}
	s.serve.Kill()
	s.serve.Boot()
	// What bob got is in the journal, and alice's is not: it is known that she has nothing there.
	s.back(alice)
	s.does(alice, nfs4.NFS4ERR_RECLAIM_BAD, put(fh["curt"]), reclaimOpen())
	open := s.does(alice, nfs4.NFS4_OK, put(fh["kind"]), reclaimOpen())[1].(*nfs4.OpenRes).Stateid
	s.does(alice, nfs4.NFS4_OK, put(fh["kind"]), lock(open, true))
	s.does(alice, nfs4.NFS4_OK, &nfs4.ReclaimCompleteArgs{})
	s.back(bob)
	s.does(bob, nfs4.NFS4ERR_NO_GRACE, put(cfh), reclaimOpen())
	s.until("grace is over", func(g graceNow) bool { return g.Phase == "over" })
	s.does(bob, nfs4.NFS4_OK, &nfs4.ReclaimCompleteArgs{})
	kfh, bopen := s.opens(bob, "kind")
	s.does(bob, nfs4.NFS4ERR_DENIED, put(kfh), lock(bopen, false))
}

// TestStoriesOfTwoOriginsUnseen: clients are not to see the restart. Who holds something at the origin that gives nothing
// back is told so, by its stateids; there is no grace period for anybody.
func TestStoriesOfTwoOriginsUnseen(t *testing.T) {
	s := newOrigins(t, "auto")
	alice, fh, held := s.hasBoth("alice")
	s.serve.Kill()
	s.serve.Boot()
	alice.Cut()
	s.must(alice.Dial(s.ctx))
	_, err := alice.CreateSession(s.ctx)
	s.must(err)
	write := func(name string) nfs4.Args {
		return &nfs4.WriteArgs{Stateid: held[name], Stable: nfs4.FILE_SYNC4, Data: []byte("mine")}
	}
	s.does(alice, nfs4.NFS4_OK, put(fh["kind"]), write("kind"))
	s.does(alice, nfs4.NFS4ERR_ADMIN_REVOKED, put(fh["curt"]), write("curt"))
	if g := s.grace(); g.Phase != "none" {
		t.Errorf("%+v", g)
	}
	bob := s.client("bob")
	kfh, open := s.opens(bob, "kind")
	s.does(bob, nfs4.NFS4ERR_DENIED, put(kfh), lock(open, false))
	cfh, open := s.opens(bob, "curt")
	s.does(bob, nfs4.NFS4_OK, put(cfh), lock(open, false))
}
