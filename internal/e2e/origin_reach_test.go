package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/faultnet"
	"holdfast/internal/nfs4"
	"holdfast/nfsup"
)

func init() {
	// Linux says in its log that a lock is lost: alice's is meant to be.
	expectKernelNoise["TestOriginOutOfReach alice"] = true
}

// linkTo is a network to a port of this host, that can be cut.
func linkTo(t *testing.T, target int) (*faultnet.Link, int) {
	t.Helper()
	need(t)
	l, err := faultnet.Listen(fmt.Sprintf("127.0.0.1:%d", target))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	p, err := strconv.Atoi(l.Addr()[strings.LastIndex(l.Addr(), ":")+1:])
	if err != nil {
		t.Fatal(err)
	}
	return l, p
}

// TestOriginOutOfReach: the origin is silent for less than a lease, and nothing is lost; then it is cut off until
// a rival there has got a lock. Whoever held that is told: an application on a kernel client gets EIO, and a
// native client hears of it by the flags of SEQUENCE and TEST_STATEID, and says which ranges. What else is lost with it
// is told in the same way; what serve holds as another client of the origin is held on. The events of serve name client,
// file and range.
func TestOriginOutOfReach(t *testing.T) {
	v := vms(t, "alice", "bob")
	alice, bob := v[0], v[1]
	dir := scratch(t, "export")
	_, op := startOrigin(t, dir, "--lease", "12s", "--grace", "12s")
	link, lp := linkTo(t, op)
	serve, p := startServe(t, lp, "")
	for _, c := range v {
		c.mount(p, "/data", "/mnt/r", "vers=4.2")
	}
	must(t, "alice", alice.hold("a", "/mnt/r/f", "write", "100", "50"), "granted")
	must(t, "bob", bob.hold("b", "/mnt/r/g", "write", "0", "10"), "granted")
	h := holdNative(t, p, "natives", "held", 6)
	traffic := countIn(t, "/mnt/r/count", onHost(filepath.Join(dir, "count")), alice, bob)
	traffic.goesOn("before")
	r := rivalry(t, op, "f", 0, 1000)
	until(t, 60*time.Second, "the rival is denied", func() bool { return r.denied.Load() > 0 })

	// Less than a lease. The rival asks all the time.
	link.Set(faultnet.Fault{StallUp: true, StallDown: true})
	<-time.After(4 * time.Second)
	link.Set(faultnet.Fault{})
	traffic.goesOn("after a silence of 4 s")
	must(t, "alice writes", alice.ask("a", "put", "100", "early"), "done")
	must(t, "bob writes", bob.ask("b", "put", "0", "early"), "done")
	h.allHeld("natives", "short silence")
	if n := count(serve.events(), 0, "lost", ""); n != 0 {
		t.Fatalf("%d losses in serve's events after a silence shorter than a lease", n)
	}
	traffic.end() // what follows may take the lock of the counters too

	// Longer than a lease.
	r.end()
	c := native(t, op, "late rival at the origin", nil)
	link.Set(faultnet.Fault{Cut: true})
	began := time.Now()
	take := func(file string, first, last uint64) {
		t.Helper()
		fh := openNative(t, c, "late rival", file)
		until(t, 120*time.Second, "the rival gets "+file, func() bool {
			err := c.Lock(context.Background(), rootCred, &nfsup.LockArgs{FH: fh, OpenOwner: owner("late rival", 0), LockOwner: owner("late rival lock", 0),
				Range: nfsup.Range{First: first, Last: last}, Write: true})
			if st, ok := nfsup.StatusOf(err); err != nil && (!ok || st != nfs4.NFS4ERR_DENIED) {
				t.Fatalf("the rival: %v", err)
			}
			return err == nil
		})
		t.Logf("the rival got %s after %v", file, time.Since(began).Round(100*time.Millisecond))
	}
	take("f", 100, 120)
	take("held", 20, 25)
	link.Set(faultnet.Fault{})

	must(t, "alice's application learns it", alice.ask("a", "put", "100", "late!"), "EIO")
	until(t, 60*time.Second, "the native client is told", func() bool { return h.lost.Load() > 0 })
	lost := map[int]bool{}
	for i := range h.n {
		told, gone := h.last.Load(owner("natives lock", i))
		err := h.write("natives", i, "z")
		if gone {
			lost[i] = true
			if rev := told.(nfsup.Revocation); len(rev.Ranges) != 1 || rev.Ranges[0].Range != h.span(i) {
				t.Errorf("lock %d: told of the loss of %+v", i, rev.Ranges)
			}
		}
		if gone != (err != nil) {
			t.Errorf("lock %d: told of a loss: %v; a write under it: %v (I2)", i, gone, err)
		}
	}
	if !lost[2] {
		t.Error("the rival has lock 2, and the native client was not told (I1)")
	}
	out := bob.ask("b", "put", "0", "late!")
	// Bob is told what his kernel says in its log where serve holds his locks as the client that was lost.
	expectKernelNoise["TestOriginOutOfReach bob"] = strings.Contains(out, "EIO")
	t.Logf("of the native client's locks these were lost: %v; bob's, of which the rival wanted nothing: %s", lost, out)
	events, err := serve.cli("events", "--type", "lost")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("serve's events:\n%s", events)
	var named bool
	for _, line := range strings.Split(events, "\n") {
		named = named || strings.Contains(line, "alice") && strings.Contains(line, "100-149") && strings.Contains(line, "f")
	}
	if !named {
		t.Error("no event names alice, her file and her range")
	}
	if strings.Contains(events, "bob") != strings.Contains(out, "EIO") {
		t.Errorf("what bob is told and what the events say differ: %q", out)
	}
	must(t, "alice goes on with another lock", alice.hold("c", "/mnt/r/f", "write", "0", "10", "put", "0", "again", "put", "0", "and again"), "done")
	must(t, "alice writes under it", alice.ask("c", "put", "0", "more", "stat", "3", "put", "0", "and more"), "done")
	must(t, "alice asks for what the rival has", alice.probe("/mnt/r/f", "write", "110", "5"), "denied")
}
