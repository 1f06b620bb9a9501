package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func init() {
	// Linux says in its log when a lock is lost, and in these tests one is meant to be.
	expectKernelNoise["TestUnfriendlyOriginEndsGraceEarly"] = true
	expectKernelNoise["TestClientThatNeverComesBack"] = true
	// Linux counts an owner that only waits for a lock among those whose lock is lost (it has no
	// stateid that could have been reclaimed): bob waits for one in this test.
	expectKernelNoise["TestReboot bob"] = true
}

// story is a reboot on a stage: an origin, a re-export, and two kernel clients that mount it.
type story struct {
	t          *testing.T
	dir, mnt   string
	origin     *Daemon
	serve      *Daemon
	port       int
	alice, bob *VM
}

func stage(t *testing.T, fuse bool) *story {
	v := vms(t, "alice", "bob")
	s := &story{t: t, dir: scratch(t, "export"), alice: v[0], bob: v[1]}
	var op int
	s.origin, op = startOrigin(t, s.dir)
	if fuse {
		s.mnt = scratch(t, "mnt")
	}
	s.serve, s.port = startServe(t, op, s.mnt)
	for _, c := range v {
		c.mount(s.port, "/data", "/mnt/r", "vers=4.2")
	}
	return s
}

// An event of the audit trail.
type event struct {
	Seq    uint64 `json:"seq"`
	Type   string `json:"type"`
	Client string `json:"client"`
	Result string `json:"result"`
	Text   string `json:"text"`
}

func (d *Daemon) events() []event {
	d.t.Helper()
	out, err := d.cli("events", "--json")
	if err != nil {
		d.t.Fatal(err)
	}
	var list []event
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			d.t.Fatalf("%v in %q", err, line)
		}
		list = append(list, e)
	}
	return list
}

// count counts events of a type (and result, if not empty) after seq.
func count(list []event, after uint64, kind, result string) int {
	n := 0
	for _, e := range list {
		if e.Seq > after && e.Type == kind && (result == "" || e.Result == result) {
			n++
		}
	}
	return n
}

func last(list []event) uint64 {
	if len(list) == 0 {
		return 0
	}
	return list[len(list)-1].Seq
}

// phase is what status says.
func (d *Daemon) phase() string {
	var s struct {
		Phase string `json:"phase"`
	}
	out, err := d.cli("status", "--json")
	if err != nil {
		return err.Error()
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		return err.Error()
	}
	return s.Phase
}

func TestReboot(t *testing.T) {
	s := stage(t, true)
	a, b, f := s.alice, s.bob, "/mnt/r/f"
	must(t, "whole file", a.hold("whole", "/mnt/r/whole", "write", "0", "0"), "granted")
	// merged from two, split by an unlock, and a part downgraded to shared
	must(t, "ranges", a.hold("ranges", f, "write", "0", "50", "write", "50", "50", "unlock", "20", "10", "read", "60", "20"), "granted")
	must(t, "her data", a.ask("ranges", "put", "0", "before"), "done")
	must(t, "bob is denied the middle", b.probe(f, "write", "40", "5"), "denied")
	must(t, "bob shares the shared part", b.hold("shared", f, "read", "60", "10"), "granted")
	waiting := make(chan string, 1)
	go func() { waiting <- b.probe("/mnt/r/whole", "wait-write", "0", "0", "150") }()
	until(t, 20*time.Second, "bob waits for the whole file", func() bool {
		out, err := s.serve.cli("locks", "--json")
		return err == nil && strings.Contains(out, `"waiting"`)
	})
	before := last(s.origin.events())

	s.serve.kill9()
	// A rival at the origin itself is denied while nobody is there to speak for alice.
	rival := startMount(t, s.origin, "rival")
	must(t, "a rival at the origin", probeHost(t, filepath.Join(rival, "whole"), "write", "0", "0"), "denied")

	go_ := filepath.Join(s.serve.state, "go")
	t.Setenv("HOLDFAST_PAUSE", "serve.fenced:"+go_)
	s.serve.launch()
	t.Cleanup(func() { _ = os.WriteFile(go_, nil, 0o600) })
	until(t, 30*time.Second, "the fenced mount is there, and its root answers statfs", func() bool {
		return strings.Contains(mounts(t), s.mnt+" ") && exec.Command("stat", "-f", s.mnt).Run() == nil
	})
	local := make(chan string, 1)
	began := time.Now()
	app := exec.Command("/usr/bin/python3", "-c", `
import fcntl, os, sys, time
f = open(sys.argv[1], "r+b")
print("opened", flush=True)
try:
    fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    print("GOT IN")
except BlockingIOError:
    print("denied")
`, filepath.Join(s.mnt, "whole"))
	go func() { out, _ := app.CombinedOutput(); local <- string(out) }()
	until(t, 20*time.Second, "the local application waits at the fence", func() bool {
		out, err := s.serve.cli("status", "--json")
		return err == nil && strings.Contains(out, `"phase": "fenced"`) && !strings.Contains(out, `"fence_waiting": 0`)
	})
	select {
	case out := <-local:
		t.Fatalf("the local application passed the fence: %s", out)
	default:
	}
	if err := os.WriteFile(go_, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.serve.waitReady()
	must(t, "the local application after the fence", <-local, "denied")
	t.Logf("the local application waited %v", time.Since(began))

	must(t, "bob during and after grace", b.probe(f, "write", "40", "5"), "denied")
	until(t, 60*time.Second, "grace is over", func() bool { return s.serve.phase() == "serving" })
	must(t, "alice writes under her lock", a.ask("ranges", "put", "0", "after!"), "done")
	for _, p := range [][3]string{
		{"write", "0 20", "denied"}, {"write", "20 10", "granted"}, {"write", "30 10", "denied"},
		{"read", "60 20", "granted"}, {"write", "70 5", "denied"}, {"write", "80 20", "denied"}, {"write", "100 5", "granted"},
	} {
		must(t, "bob asks for "+p[0]+" "+p[1], b.probe(f, append([]string{p[0]}, strings.Fields(p[1])...)...), p[2])
	}
	select {
	case out := <-waiting:
		t.Fatalf("bob got in: %s", out)
	default:
	}
	must(t, "alice gives the whole file back", a.ask("whole", "unlock", "0", "0"), "done")
	must(t, "bob gets it then", <-waiting, "granted")

	var story []string
	completes, self := 0, ""
	for _, e := range s.origin.events() {
		if e.Seq > before && e.Type == "reclaim" && e.Result == "granted" {
			self = e.Client // the only one who has something to reclaim there is serve
		}
	}
	for _, e := range s.origin.events() {
		if e.Seq <= before {
			continue
		}
		story = append(story, fmt.Sprintf("%s %s", e.Type, e.Result))
		if e.Type == "reclaim" && e.Result == "complete" && e.Client == self {
			completes++
			if i := count(s.origin.events(), e.Seq, "reclaim", "granted"); i > 0 {
				t.Errorf("%d reclaims were granted after RECLAIM_COMPLETE", i)
			}
		}
	}
	t.Logf("the origin saw: %s", strings.Join(story, ", "))
	if completes != 1 {
		t.Errorf("%d RECLAIM_COMPLETE after the reboot, want 1", completes)
	}
	if n := count(s.origin.events(), before, "reclaim", "granted"); n < 5 {
		t.Errorf("the origin granted %d reclaims", n)
	}
	out, err := s.serve.cli("events")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("serve's own story:\n%s", out)
}

func TestTwoCrashesInGrace(t *testing.T) {
	s := stage(t, false)
	must(t, "alice", s.alice.hold("a", "/mnt/r/f", "write", "0", "10"), "granted")
	must(t, "bob", s.bob.hold("b", "/mnt/r/f", "write", "10", "10"), "granted")
	for range 3 {
		s.serve.kill9()
		s.serve.boot()
	}
	until(t, 90*time.Second, "grace is over", func() bool { return s.serve.phase() == "serving" })
	must(t, "bob wants alice's", s.bob.probe("/mnt/r/f", "write", "0", "10"), "denied")
	must(t, "alice wants bob's", s.alice.probe("/mnt/r/f", "write", "10", "10"), "denied")
	must(t, "alice writes", s.alice.ask("a", "put", "0", "hello"), "done")
	must(t, "bob writes", s.bob.ask("b", "put", "10", "hello"), "done")
}

func TestClientThatNeverComesBack(t *testing.T) {
	s := stage(t, false)
	must(t, "alice", s.alice.hold("a", "/mnt/r/f", "write", "0", "10"), "granted")
	if out, err := vmCommand("partition", "alice", "on").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := vmCommand("partition", "alice", "off").CombinedOutput(); err != nil {
			t.Errorf("%v %s", err, out)
		}
	})
	s.serve.kill9()
	s.serve.boot()
	if s.serve.phase() != "grace" {
		t.Fatalf("phase is %s while alice is missing", s.serve.phase())
	}
	// He tries all along; his kernel notices the restart within some seconds, and has to wait for the rest of grace.
	must(t, "bob", s.bob.probe("/mnt/r/f", "wait-write", "0", "10", "120"), "granted")
	if s.serve.phase() == "grace" {
		t.Error("bob got the lock in grace")
	}
	if n := count(s.serve.events(), 0, "lost", ""); n == 0 {
		t.Error("no event says that alice lost her lock")
	}
}

func TestUnfriendlyOriginEndsGraceEarly(t *testing.T) {
	v := vms(t, "alice", "knfsd")
	if out, err := vmCommand("knfsd", "knfsd", "--lease", "15", "--grace", "15").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	addr := v[1].run("hostname", "-I")
	p := port(t)
	state := scratch(t, "serve-state")
	serve := start(t, "serve", state, "serve", strings.Fields(addr)[0]+":/mnt/export", "--export", "/mnt/export *(rw,no_root_squash,insecure)",
		"--listen", fmt.Sprintf(":%d", p), "--lease", "20s", "--grace", "20s", "--restart", "grace", "--recovery", "reclaim")
	a := v[0]
	a.mount(p, "/mnt/export", "/mnt/k", "vers=4.2")
	must(t, "alice", a.hold("a", "/mnt/k/f", "write", "0", "10"), "granted")
	serve.kill9()
	serve.boot()
	begin := time.Now()
	until(t, 60*time.Second, "grace is over", func() bool { return serve.phase() == "serving" })
	t.Logf("grace lasted %v", time.Since(begin))
	got := a.ask("a", "put", "0", "hello")
	must(t, "alice's application learns it", got, "EIO")
	must(t, "nothing hangs", a.probe("/mnt/k/g", "write", "0", "10"), "granted")
	if n := count(serve.events(), 0, "lost", ""); n == 0 {
		t.Error("no event says that alice lost her lock")
	}
}

// startMount mounts the origin's /data on the host by `holdfast mount` and returns the directory.
func startMount(t *testing.T, origin *Daemon, name string) string {
	t.Helper()
	dir := scratch(t, name)
	start(t, name, scratch(t, name+"-state"), "mount", origin.address()+":/data", dir, "--instance", name)
	return dir
}

// address is host:port of a daemon.
func (d *Daemon) address() string {
	for i, a := range d.args {
		if a == "--listen" {
			return "127.0.0.1" + d.args[i+1]
		}
	}
	d.t.Fatal("no --listen")
	return ""
}

// probeHost is VM.probe on the host.
func probeHost(t *testing.T, file string, commands ...string) string {
	t.Helper()
	out, _ := lockprobe(append([]string{file}, commands...)...)
	return out
}

// holdHost is VM.hold on the host. The process ends with the test.
func holdHost(t *testing.T, file string, commands ...string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	if out, err := lockprobe(append([]string{"--hold", socket, file}, commands...)...); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := lockprobe("--ask", socket, "quit"); err != nil {
			t.Errorf("the holder of %s does not end: %v %s", file, err, out)
		}
	})
}

// lockprobe runs that program on the host.
func lockprobe(args ...string) (string, error) {
	out, err := exec.Command(filepath.Join(repo, "scripts/vm/bin/lockprobe"), args...).CombinedOutput()
	return string(out), err
}

func mounts(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestMountAloneCompletesBeforeItsFirstLock(t *testing.T) {
	need(t)
	dir := scratch(t, "export")
	origin, _ := startOrigin(t, dir)
	mnt := startMount(t, origin, "lone")
	before := uint64(0)
	if n := count(origin.events(), 0, "reclaim", "complete"); n != 0 {
		t.Fatalf("%d RECLAIM_COMPLETE before any local open or lock", n)
	}
	must(t, "a local lock", probeHost(t, filepath.Join(mnt, "f"), "write", "0", "10"), "granted")
	n := 0
	for _, e := range origin.events() {
		if e.Seq > before && e.Type == "reclaim" && e.Result == "complete" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d RECLAIM_COMPLETE before the first lock, want 1: %+v", n, origin.events())
	}
}

func TestTwoReexportsAndAChain(t *testing.T) {
	v := vms(t, "alice", "bob")
	dir := scratch(t, "export")
	_, op := startOrigin(t, dir)
	one, p1 := startServe(t, op, "")
	_, p2 := startServe(t, op, "")
	chain, p3 := startServe(t, p1, "") // a re-export of a re-export
	v[0].mount(p3, "/data", "/mnt/chain", "vers=4.2")
	v[1].mount(p2, "/data", "/mnt/two", "vers=4.2")
	must(t, "alice through the chain", v[0].hold("c", "/mnt/chain/f", "write", "0", "10"), "granted")
	must(t, "bob through the other", v[1].hold("d", "/mnt/two/f", "write", "10", "10"), "granted")
	check := func(when string) {
		must(t, "bob wants alice's "+when, v[1].probe("/mnt/two/f", "write", "0", "10"), "denied")
		must(t, "alice wants bob's "+when, v[0].probe("/mnt/chain/f", "write", "10", "10"), "denied")
		must(t, "alice writes "+when, v[0].ask("c", "put", "0", "hello"), "done")
	}
	check("at first")
	chain.kill9()
	chain.boot()
	until(t, 90*time.Second, "the chain's grace is over", func() bool { return chain.phase() == "serving" })
	check("after the outer one rebooted")
	one.kill9()
	one.boot()
	until(t, 90*time.Second, "the inner one's grace is over", func() bool { return one.phase() == "serving" })
	check("after the inner one rebooted")
}
