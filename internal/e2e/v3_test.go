package e2e

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// startV3 re-exports dir, with a portmapper where the VMs look for it.
func startV3(t *testing.T, dir string, args ...string) (serve *Daemon, port3 int) {
	t.Helper()
	_, o := startOrigin(t, dir)
	p := port(t)
	d := start(t, "serve", scratch(t, fmt.Sprintf("serve-state-%d", p)), append([]string{"serve", fmt.Sprintf("127.0.0.1:%d:/data", o),
		"--export", "/data *(rw,no_root_squash,insecure)", "--listen", fmt.Sprintf("%s:%d", bridge, p), "--rpcbind", "auto",
		"--lease", "20s", "--grace", "20s", "--restart", "grace", "--recovery", "reclaim"}, args...)...)
	return d, p
}

func mount3(v *VM, p int, dir string) {
	v.t.Helper()
	v.mount(p, "/data", dir, fmt.Sprintf("vers=3,proto=tcp,mountport=%d,mountproto=tcp", p))
}

func TestServeWithV3Clients(t *testing.T) {
	v := vms(t, "alice", "bob")
	dir := scratch(t, "export")
	_, p := startV3(t, dir)
	if out, err := exec.Command("showmount", "-e", bridge).CombinedOutput(); err != nil || !strings.Contains(string(out), "/data") {
		t.Errorf("showmount -e: %v\n%s", err, out)
	}
	for _, m := range v {
		mount3(&VM{t, m.name}, p, "/mnt/s")
	}
	workList(t, v[0], "/mnt/s", dir, 50)
	twoClients(t, v[0], v[1], "/mnt/s")
}

// A lock of a v3 client is one for a v4.2 client, and the other way round; one who waits gets it.
func TestV3AndV4LocksAreTheSame(t *testing.T) {
	v := vms(t, "alice", "bob")
	a, b := v[0], v[1]
	dir := scratch(t, "export")
	serve, p := startV3(t, dir)
	mount3(a, p, "/mnt/s")
	b.mount(p, "/data", "/mnt/s", "vers=4.2")
	a.sh("echo text >/mnt/s/f; sync")
	must(t, "alice over v3", a.hold("a", "/mnt/s/f", "write", "0", "10"), "granted")
	must(t, "bob over v4.2", b.probe("/mnt/s/f", "write", "5", "1"), "denied")
	must(t, "bob elsewhere", b.hold("b", "/mnt/s/f", "write", "20", "10"), "granted")
	must(t, "alice there", a.probe("/mnt/s/f", "write", "25", "1"), "denied")
	a.ask("a", "unlock", "0", "10")
	must(t, "bob now", b.probe("/mnt/s/f", "write", "5", "1"), "granted")
	stats, err := serve.cli("stats", "-s")
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"NFSv4 LOCK ", "NFSv3 WRITE ", "MOUNT MNT ", "NLM LOCK ", "NLM UNLOCK "} {
		must(t, "stats", stats, word)
	}
}

// The re-export server is killed. A v3 client is told by SM_NOTIFY, reclaims, and keeps its lock; a rival never gets it.
func TestRebootWithV3Locks(t *testing.T) {
	v := vms(t, "alice", "bob")
	a, b := v[0], v[1]
	dir := scratch(t, "export")
	d, p := startV3(t, dir)
	mount3(a, p, "/mnt/s")
	b.mount(p, "/data", "/mnt/s", "vers=4.2")
	a.sh("echo text >/mnt/s/f; sync")
	must(t, "alice over v3", a.hold("a", "/mnt/s/f", "write", "0", "10"), "granted")
	d.kill9()
	d.boot()
	until(t, 60*time.Second, "alice has reclaimed", func() bool {
		out, err := d.cli("events", "--json")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(out, "lock by NLM") && strings.Contains(out, `"granted"`)
	})
	must(t, "a rival", b.probe("/mnt/s/f", "write", "5", "1"), "denied")
	must(t, "alice still has it", a.ask("a", "put", "0", "more"), "")
	a.ask("a", "unlock", "0", "10")
	must(t, "the rival now", b.probe("/mnt/s/f", "write", "5", "1"), "granted")
}
