package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestKnfsdRestarts: the kernel's server restarts under traffic, alone and with serve. It knows no client any more, so
// all is reclaimed in its grace period, in whatever way serve holds its locks there otherwise.
func TestKnfsdRestarts(t *testing.T) { restartsAt(t, knfsdOutside(t, 15)) }

// TestGaneshaRestarts is the same at nfs-ganesha.
func TestGaneshaRestarts(t *testing.T) {
	need(t)
	if !long() {
		t.Skip("takes a minute longer than at knfsd: set HOLDFAST_LONG=1")
	}
	restartsAt(t, ganesha(t, 15, false))
}

func restartsAt(t *testing.T, o outside) {
	v := vms(t, "alice", "bob")
	alice, bob := v[0], v[1]
	o.rival("rm -rf " + o.dir + "/*")
	serve, p := reexport(t, o.address, scratch(t, "serve-state"))
	path := o.address[strings.LastIndex(o.address, ":")+1:]
	for _, c := range v {
		c.mount(p, path, "/mnt/k", "vers=4.2")
	}
	must(t, "alice", alice.hold("a", "/mnt/k/f", "write", "0", "10", "read", "20", "10"), "granted")
	must(t, "bob", bob.hold("b", "/mnt/k/f", "write", "10", "10", "read", "20", "10"), "granted")
	traffic := countIn(t, "/mnt/k/count", func() (string, error) { return o.rival("cat " + o.dir + "/count"), nil }, alice, bob)
	traffic.goesOn("before")
	for _, round := range []struct {
		name string
		do   func()
	}{
		{"the origin restarts", o.restart},
		{"both restart", func() {
			serve.kill9()
			o.restart()
			serve.boot()
		}},
	} {
		if round.name == "both restart" && !long() {
			break // a minute more
		}
		begun := time.Now()
		round.do()
		t.Logf("%s: up after %v", round.name, time.Since(begun).Round(100*time.Millisecond))
		traffic.goesOn("after " + round.name)
		until(t, 90*time.Second, "grace is over", func() bool { return serve.phase() == "serving" })
		for _, h := range []struct {
			*VM
			as, own, other string
		}{{alice, "a", "0", "10"}, {bob, "b", "10", "0"}} {
			out := h.ask(h.as, "put", h.own, "mine", "write", h.other, "10", "write", "20", "10")
			if strings.Count(out, "denied") != 2 || !strings.Contains(out, "done") {
				t.Fatalf("%s: %s writes under its lock, and asks for the other's and for more than a share: %q", round.name, h.name, out)
			}
		}
		out := o.rival(fmt.Sprintf("set +e; for a in '0 10' '10 10' '20 10' '30 5'; do lockprobe %s/f write $a; done; :", o.dir))
		if strings.Count(out, "denied") != 3 || strings.Count(out, "granted") != 1 {
			t.Fatalf("%s: a rival at the origin: %q (I1)", round.name, out)
		}
		if n := count(serve.events(), 0, "lost", ""); n != 0 {
			t.Fatalf("%s: %d losses in serve's events", round.name, n)
		}
	}
	traffic.end()
}
