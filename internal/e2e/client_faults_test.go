package e2e

import (
	"fmt"
	"testing"
	"time"
)

func init() {
	// Alice is to learn that her lock is lost.
	expectKernelNoise["TestClientsOutOfReach alice"] = true
}

// TestClientsOutOfReach: one client is cut off from the network and another loses power, for longer than their
// leases. Who waits for their locks gets them, and not before the leases are over; the client that comes back is told.
func TestClientsOutOfReach(t *testing.T) {
	v := vms(t, "alice", "bob", "carol")
	alice, bob, carol := v[0], v[1], v[2]
	dir := scratch(t, "export")
	_, op := startOrigin(t, dir)
	serve, p := startServe(t, op, "")
	for _, c := range v[:2] {
		c.mount(p, "/data", "/mnt/r", "vers=4.2")
	}
	if out, err := vmCommand("mount", "carol", "host:/data", "/mnt/r", "-o", fmt.Sprintf("vers=4.2,port=%d", p)).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out) // not VM.mount: she is not there any more to unmount
	}
	must(t, "alice", alice.hold("a", "/mnt/r/f", "write", "0", "10"), "granted")
	must(t, "carol", carol.hold("c", "/mnt/r/g", "write", "0", "10"), "granted")
	must(t, "alice, short", alice.hold("s", "/mnt/r/s", "write", "0", "10"), "granted")

	partition := func(how string) {
		t.Helper()
		if out, err := vmCommand("partition", "alice", how).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := vmCommand("partition", "alice", "off").CombinedOutput(); err != nil {
			t.Errorf("%v %s", err, out)
		}
	})
	// Shorter than a lease: nothing is lost.
	partition("on")
	must(t, "bob in a short partition", bob.probe("/mnt/r/f", "wait-write", "0", "10", "3"), "timed out")
	partition("off")
	must(t, "alice after it", alice.ask("a", "put", "0", "early"), "done")

	partition("on")
	if out, err := vmCommand("cut", "carol").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	booted.Delete("carol")
	ended := func(file string) {
		t.Helper()
		begun := time.Now()
		must(t, "bob gets "+file, bob.probe("/mnt/r/"+file, "wait-write", "0", "10", "120"), "granted")
		t.Logf("bob got %s after %v", file, time.Since(begun).Round(100*time.Millisecond))
	}
	must(t, "bob before the leases are over", bob.probe("/mnt/r/f", "write", "0", "10"), "denied")
	ended("f")
	ended("g")
	must(t, "bob", bob.hold("b", "/mnt/r/f", "write", "0", "10", "put", "0", "bob's"), "done")
	partition("off")
	must(t, "alice's application learns it", alice.ask("a", "put", "0", "late!"), "EIO")
	must(t, "she asks again", alice.probe("/mnt/r/f", "write", "0", "10"), "denied")
	must(t, "the file is bob's", bob.ask("b", "get", "0", "5"), "bob's")
	events, err := serve.cli("events", "--type", "lost")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("serve's events:\n%s", events)
	must(t, "the events", events, "alice")
	must(t, "the events", events, "carol")

	// In the whole of a grace period: what she could not reclaim is held for her until it ends, then it is free, and she
	// is told. What bob held he has reclaimed.
	must(t, "alice, once more", alice.hold("h", "/mnt/r/h", "write", "0", "10"), "granted")
	serve.kill9()
	partition("on")
	serve.boot()
	must(t, "bob writes under his lock", bob.ask("b", "put", "0", "bob's"), "done")
	if phase := serve.phase(); phase != "grace" {
		t.Fatalf("bob is back, and the phase is %s", phase)
	}
	must(t, "bob in grace", bob.probe("/mnt/r/h", "wait-write", "0", "10", "2"), "timed out")
	must(t, "bob after grace", bob.probe("/mnt/r/h", "wait-write", "0", "10", "120", "put", "0", "bob's"), "done")
	if events, err = serve.cli("events", "--type", "lost"); err != nil {
		t.Fatal(err)
	}
	must(t, "the events", events, "alice  h  write 0-9")
	partition("off")
	must(t, "alice's application learns that too", alice.ask("h", "put", "0", "late!"), "EIO")
	must(t, "the file keeps what bob wrote", bob.probe("/mnt/r/h", "get", "0", "5"), "bob's")
}
