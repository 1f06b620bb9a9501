package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestCommands asks the commands what a script would, and looks at exit codes and JSON.
func TestCommands(t *testing.T) {
	need(t)
	dir := scratch(t, "export")
	origin, op := startOrigin(t, dir)
	serve, sp := startServe(t, op, "")

	code := func(want int, args ...string) string {
		t.Helper()
		out, err := serve.cli(args...)
		if got := exitCode(err); got != want {
			t.Errorf("holdfast %s: exit code %d, want %d: %v", strings.Join(args, " "), got, want, err)
		}
		return out
	}
	must(t, "check", code(0, "status", "--check"), "HOLDFAST OK")
	var status struct {
		Schema  int
		Role    string
		Phase   string
		Origins []struct {
			Retain bool  `json:"retain"`
			Lease  int64 `json:"lease_ns"`
		}
	}
	serve.query(&status, "status")
	if status.Schema != 1 || status.Role != "serve" || status.Phase != "serving" || len(status.Origins) != 1 || !status.Origins[0].Retain || status.Origins[0].Lease != 20e9 {
		t.Errorf("status: %+v", status)
	}
	code(2, "status", "--nonsense")
	code(2, "events", "extra")
	code(2, "config", "check", "--lease", "90")
	must(t, "clients", code(0, "clients"), "CLIENT")
	must(t, "stats", code(0, "stats", "-u"), "TO ")
	must(t, "exports", code(0, "exports", "list", "--config", "/dev/null"), "PATH")
	must(t, "a live journal", code(0, "journal", "show"), "journal: intact")
	code(1, "journal", "verify") // not while it runs
	backup := filepath.Join(t.TempDir(), "backup")
	code(0, "journal", "backup", backup)
	must(t, "doctor", code(0, "doctor", fmt.Sprintf("127.0.0.1:%d:/data", op), "--listen", ":0"), "retains state over our restart")
	code(6, "doctor", "127.0.0.1:1:/data")

	mnt := startMount(t, serve, "client")
	holdHost(t, filepath.Join(mnt, "f"), "write", "0", "10")
	var locks struct {
		Items []struct{ Name, Type, State string }
	}
	serve.query(&locks, "locks")
	if len(locks.Items) != 1 || locks.Items[0].Name != "f" || locks.Items[0].Type != "write" || locks.Items[0].State != "new" {
		t.Errorf("locks: %+v", locks)
	}
	serve.query(&locks, "locks", "other")
	if len(locks.Items) != 0 {
		t.Errorf("locks of another file: %+v", locks)
	}
	// Another client of the origin holds more of it, and somebody asks why.
	direct := startMount(t, origin, "direct")
	holdHost(t, filepath.Join(direct, "f"), "write", "100", "10")
	why := code(0, "why", "/data/f")
	must(t, "why", why, "holds     write 0-9, new")
	must(t, "why", why, "holds     write 100-109: another client of the origin")
	must(t, "why of what is not there", code(0, "why", "/data/none"), "nobody")
	code(2, "why", "/elsewhere/f")
	must(t, "probe", code(0, "probe", fmt.Sprintf("nfs://127.0.0.1:%d/data", op)), "--recovery=reclaim: a reboot may take")
	code(6, "probe", "nfs://127.0.0.1:1/data")

	if out, err := exec.Command(binary, "umount", mnt).CombinedOutput(); err == nil || !strings.Contains(string(out), "-l detaches") {
		t.Errorf("umount of a mount in use: %v %s", err, out)
	}

	// Another process on the same state is refused.
	out, err := exec.Command(binary, "serve", "127.0.0.1:1:/x", "--state-dir", serve.state, "--listen", fmt.Sprintf("127.0.0.1:%d", sp)).CombinedOutput()
	if exitCode(err) != 5 || !strings.Contains(string(out), "another instance") {
		t.Errorf("a second instance: exit code %d, %s", exitCode(err), out)
	}
	serve.kill9()
	code(3, "status")
	if out, err := serve.cli("status", "--check"); exitCode(err) != 3 || !strings.Contains(out, "UNKNOWN") {
		t.Errorf("check of a dead instance: %v %s", err, out)
	}
	must(t, "the dead one's journal", code(0, "journal", "show"), "1 locks")
	must(t, "the dead one's events", code(0, "events"), "client")
	code(0, "journal", "verify")
	if out, err := origin.cli("grace", "show"); err != nil || !strings.Contains(out, "no grace period") {
		t.Errorf("grace show: %v %s", err, out)
	}
	serve.boot()
	serve.query(&status, "status")
	if status.Phase != "grace" && status.Phase != "serving" {
		t.Errorf("phase after a restart: %s", status.Phase)
	}
}
