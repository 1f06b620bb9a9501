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
}
