package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func init() {
	// The sleeper's client sees a server that goes away for good.
	expectKernelNoise["TestSleeperAtKnfsd"] = true
}

// knfsd starts the kernel's NFS server in its VM, an origin that was never changed.
func knfsd(t *testing.T, lease int) (v *VM, address string) {
	t.Helper()
	v = vms(t, "knfsd")[0]
	if out, err := vmCommand("knfsd", "knfsd", "--lease", fmt.Sprint(lease), "--grace", fmt.Sprint(lease)).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	return v, strings.Fields(v.run("hostname", "-I"))[0] + ":/mnt/export"
}

// reexport serves an origin that is no daemon of ours.
func reexport(t *testing.T, origin, state string, args ...string) (*Daemon, int) {
	t.Helper()
	p := port(t)
	_, path, _ := strings.Cut(origin, ":")
	if i := strings.LastIndex(origin, ":"); i >= 0 {
		path = origin[i+1:]
	}
	all := []string{"serve", origin, "--export", path + " *(rw,no_root_squash,insecure)", "--listen", fmt.Sprintf(":%d", p), "--lease", "20s", "--grace", "20s", "--restart", "grace"}
	return start(t, "serve", state, append(all, args...)...), p
}

// An upstreamView is what status says of an origin.
type upstreamView struct {
	Came     string `json:"came"`
	Clients  int    `json:"clients"`
	Dead     string `json:"dead"`
	Reclaims struct {
		Resumed int `json:"resumed_locks"`
		Revoked int `json:"revoked_locks"`
		Refused int `json:"refused"`
	} `json:"reclaims"`
}

func (d *Daemon) upstream() upstreamView {
	d.t.Helper()
	var s struct {
		Origins []upstreamView `json:"origins"`
	}
	d.query(&s, "status")
	if len(s.Origins) != 1 {
		d.t.Fatalf("status has %d origins", len(s.Origins))
	}
	return s.Origins[0]
}

// An outside is an origin that is no daemon of ours, and a way to try locks on the origin itself.
type outside struct {
	address string // host:port:/path or host:/path
	dir     string // the exported directory, as the rival sees it
	rival   func(script string) string
	restart func() // of its server, a crash where that can be had
}

func knfsdOutside(t *testing.T, lease int) outside {
	k, address := knfsd(t, lease)
	return outside{address, "/mnt/export", k.sh, func() {
		t.Helper()
		if out, err := vmCommand("knfsd", "knfsd", "restart", "--lease", fmt.Sprint(lease), "--grace", fmt.Sprint(lease)).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
	}}
}

// long tells that tests may take minutes.
func long() bool { return os.Getenv("HOLDFAST_LONG") != "" }

// TestResumeAtKnfsd: a reboot of serve at an origin that drops restarted clients. All locks are held on,
// a rival on the origin itself is denied at every moment, and nothing is lost.
func TestResumeAtKnfsd(t *testing.T) {
	boots := 1
	if long() {
		boots = 4
	}
	resumeAt(t, knfsdOutside(t, 15), boots)
}

// TestResumeAtKnfsdLong is the same with the lease that servers have, 90 s.
func TestResumeAtKnfsdLong(t *testing.T) {
	if !long() {
		t.Skip("takes minutes: set HOLDFAST_LONG=1")
	}
	need(t)
	v := vms(t, "knfsd")[0]
	v.sh("rpc.nfsd 0 || true") // another lease needs another start
	t.Cleanup(func() { v.try("rpc.nfsd", "0") })
	resumeAt(t, knfsdOutside(t, 90), 3)
}

// TestResumeAtGanesha is the same at nfs-ganesha.
func TestResumeAtGanesha(t *testing.T) {
	need(t)
	boots := 1
	if long() {
		boots = 20 // more connections than it notes for a session
	}
	resumeAt(t, ganesha(t, 15, true), boots)
}

// resumeAt kills serve again and again under lock traffic.
func resumeAt(t *testing.T, o outside, boots int) {
	alice := vms(t, "alice")[0]
	serve, p := reexport(t, o.address, scratch(t, "serve-state"))
	path := o.address[strings.LastIndex(o.address, ":")+1:]
	o.rival("rm -f " + o.dir + "/*")
	alice.mount(p, path, "/mnt/k", "vers=4.2")
	must(t, "alice", alice.hold("whole", "/mnt/k/whole", "write", "0", "0"), "granted")
	must(t, "alice", alice.hold("ranges", "/mnt/k/f", "write", "0", "50", "write", "50", "50", "unlock", "20", "10", "read", "60", "20"), "granted")
	must(t, "her data", alice.ask("ranges", "put", "0", "before"), "done")
	alice.run("sh", "-c", "while :; do lockprobe /mnt/k/traffic write 0 10; lockprobe /mnt/k/traffic write 100 10; done >/run/traffic 2>&1 & echo $! >/run/traffic.pid")
	t.Cleanup(func() { alice.try("sh", "-c", "kill $(cat /run/traffic.pid)") })
	denied := func(when string) {
		t.Helper()
		// one call, since each costs a second: both files, and a part of one that she gave back
		out := o.rival(fmt.Sprintf("set +e; for a in 'whole write 5 5' 'f write 0 10' 'f write 65 5' 'f write 20 10'; do lockprobe %s/$a; done; :", o.dir))
		if strings.Count(out, "denied") != 3 || strings.Count(out, "granted") != 1 {
			t.Fatalf("%s: the rival at the origin got %q (I1)", when, out)
		}
	}
	denied("before")
	for boot := range boots {
		serve.kill9()
		denied("while serve is down")
		began := time.Now()
		serve.boot()
		t.Logf("boot %d: serving after %v", boot, time.Since(began).Round(time.Millisecond))
		if u := serve.upstream(); u.Came != "resumed" || u.Reclaims.Resumed < 4 {
			t.Fatalf("boot %d: %+v", boot, u)
		}
		denied("in grace")
		until(t, 100*time.Second, "grace is over", func() bool { return serve.phase() == "serving" })
		must(t, "alice writes on", alice.ask("ranges", "put", "0", fmt.Sprint("boot", boot)), "done")
		denied("after grace")
	}
	if u := serve.upstream(); u.Reclaims.Revoked+u.Reclaims.Refused != 0 {
		t.Errorf("%+v", u)
	}
	if n := count(serve.events(), 0, "lost", ""); n != 0 {
		t.Errorf("%d locks are said to be lost", n)
	}
	must(t, "her data", o.rival("cat "+o.dir+"/f"), fmt.Sprint("boot", boots-1))
	must(t, "she gives it back", alice.ask("ranges", "unlock", "0", "0"), "done")
	must(t, "the rival gets it", o.rival("lockprobe "+o.dir+"/f write 0 0"), "granted")
}

// TestSleeperAtKnfsd: an incarnation is stopped (a paused VM, say), and another goes on from a copy of its
// journal. What the first does when it wakes up does not arrive: it ends, and says why. A journal that is older
// than the second incarnation, and so is the first one's, cannot be used any more.
func TestSleeperAtKnfsd(t *testing.T) {
	if !long() {
		t.Skip("takes a minute, and nfsup's own tests have the story: set HOLDFAST_LONG=1")
	}
	alice := vms(t, "alice")[0]
	k, origin := knfsd(t, 15)
	k.sh("rm -f /mnt/export/*")
	state := scratch(t, "sleeper-state")
	sleeper, p := reexport(t, origin, state)
	alice.mount(p, "/mnt/export", "/mnt/k", "vers=4.2")
	must(t, "alice", alice.hold("a", "/mnt/k/f", "write", "0", "0"), "granted")
	must(t, "alice", alice.ask("a", "put", "0", "early"), "done")

	if err := sleeper.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	awake := false
	wake := func() {
		if !awake {
			awake = true
			_ = sleeper.cmd.Process.Signal(syscall.SIGCONT)
		}
	}
	t.Cleanup(wake)
	late := make(chan string, 1)
	go func() { late <- alice.ask("a", "put", "0", "late!") }() // it waits in the sleeper's socket
	second := filepath.Join(scratch(t, "second"), "state")
	if out, err := exec.Command("cp", "-a", state, second).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if err := os.Remove(filepath.Join(second, "test.log")); err != nil {
		t.Fatal(err)
	}
	serve, _ := reexport(t, origin, second)
	if u := serve.upstream(); u.Came != "resumed" {
		t.Fatalf("%+v", u)
	}
	must(t, "the rival", k.sh("lockprobe /mnt/export/f write 5 5 || :"), "denied")
	wake()
	select {
	case <-sleeper.exited:
	case <-time.After(60 * time.Second):
		t.Fatalf("the sleeper goes on\n%s", sleeper.tail())
	}
	must(t, "it says why", sleeper.tail(), "later incarnation")
	must(t, "nothing of it arrives", k.run("cat", "/mnt/export/f"), "early")
	must(t, "the rival", k.sh("lockprobe /mnt/export/f write 5 5 || :"), "denied")

	sleeper.launch()
	<-sleeper.exited
	if code := sleeper.cmd.ProcessState.ExitCode(); code != 5 {
		t.Errorf("a start with the old journal ends with %d", code)
	}
	must(t, "it says why", sleeper.tail(), "backup")
	must(t, "the rival", k.sh("lockprobe /mnt/export/f write 5 5 || :"), "denied")
	if u := serve.upstream(); u.Dead != "" || u.Reclaims.Revoked != 0 {
		t.Errorf("the second incarnation noticed: %+v", u)
	}
	alice.try("pkill", "lockprobe")
	<-late
}
