package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDelegationFromKnfsd has a kernel's server delegate a file to a mount, which then opens it without a
// round trip, until another client writes: the server's recall is obeyed, and what is read is fresh (I6).
func TestDelegationFromKnfsd(t *testing.T) {
	v := vms(t, "alice", "knfsd")
	if out, err := vmCommand("knfsd", "knfsd", "--lease", "15", "--grace", "15").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	v[1].run("sh", "-c", "echo one >/mnt/export/f; chmod 666 /mnt/export/f")
	from := strings.Fields(v[1].run("hostname", "-I"))[0] + ":/mnt/export"
	dir := scratch(t, "reader")
	reader := start(t, "reader", scratch(t, "reader-state"), "mount", from, dir, "--instance", "reader")
	writer := scratch(t, "writer")
	start(t, "writer", scratch(t, "writer-state"), "mount", from, writer, "--instance", "writer", "--delegations", "off")
	file := filepath.Join(dir, "f")

	opens := func() (n int) {
		var stats struct {
			Upstream map[string][]struct {
				Op    string `json:"op"`
				Count int    `json:"count"`
			} `json:"upstream"`
		}
		reader.query(&stats, "stats", "-u")
		for _, list := range stats.Upstream {
			for _, s := range list {
				if strings.HasSuffix(s.Op, "OPEN") {
					n += s.Count
				}
			}
		}
		return n
	}
	read := func() string {
		t.Helper()
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	must(t, "before", read(), "one")
	var held struct {
		Items []struct{ Type, Side, State string }
	}
	// The server delegates nothing until it has tried the back channel.
	for deadline := time.Now().Add(20 * time.Second); ; {
		reader.query(&held, "delegs")
		if len(held.Items) > 0 || time.Now().After(deadline) {
			break
		}
		must(t, "before", read(), "one")
	}
	if len(held.Items) != 1 || held.Items[0].Type != "read" || held.Items[0].Side != "origin" || held.Items[0].State != "held" {
		t.Fatalf("delegs: %+v", held)
	}
	before := opens()
	if before == 0 {
		t.Fatal("no OPEN was counted")
	}
	for range 50 {
		read()
	}
	// A mount has one open of a program at the origin already; the directory may be looked at again.
	if n := opens() - before; n > 1 {
		t.Errorf("%d OPENs for 50 opens of a delegated file", n)
	}
	begin := time.Now()
	if err := os.WriteFile(filepath.Join(writer, "f"), []byte("two\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("the writer waited %v for the recall", time.Since(begin))
	must(t, "what the writer wrote", read(), "two")
	reader.query(&held, "delegs")
	if len(held.Items) != 0 {
		t.Errorf("after the recall: %+v", held)
	}
}
