package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func init() {
	// What alice holds on the file system that is replaced is lost, and Linux says so.
	expectKernelNoise["TestOriginStorage"] = true
}

// storage mounts a small file system of its own on dir.
func storage(t *testing.T, dir string) {
	t.Helper()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=4m,mode=755", "none", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	t.Cleanup(func() {
		for strings.Contains(mounts(t), " "+dir+" ") {
			if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
				t.Errorf("%v %s", err, out)
				return
			}
		}
	})
}

// TestOriginStorage: what is below the origin fills up, becomes read-only, changes its permissions, has a file
// exchanged, and is replaced by another file system. Applications get the right error, other files go on, and
// nobody ever reads or writes the wrong file.
func TestOriginStorage(t *testing.T) {
	need(t)
	v := vms(t, "alice", "bob")
	alice, bob := v[0], v[1]
	dir := scratch(t, "export")
	storage(t, dir)
	at := func(name string) string { return filepath.Join(dir, name) }
	read := func(name string) string {
		b, err := os.ReadFile(at(name))
		if err != nil {
			return err.Error()
		}
		return string(b)
	}
	origin, op := startOrigin(t, dir)
	serve, p := startServe(t, op, "")
	for _, c := range v {
		c.mount(p, "/data", "/mnt/r", "vers=4.2")
	}
	must(t, "alice", alice.hold("a", "/mnt/r/f", "write", "0", "10", "put", "0", "first"), "granted")

	out, err := alice.try("sh", "-c", "dd if=/dev/zero of=/mnt/r/big bs=64k count=100 conv=fsync 2>&1; echo status $?")
	must(t, "a write to the full origin: "+out, out, "No space left on device")
	must(t, "dd fails", out, "status 1")
	if err != nil {
		t.Fatal(err)
	}
	must(t, "her lock while the origin is full", bob.probe("/mnt/r/f", "write", "0", "10"), "denied")
	must(t, "room again", alice.sh("rm /mnt/r/big; dd if=/dev/zero of=/mnt/r/small bs=64k count=10 conv=fsync 2>&1; echo status $?"), "status 0")
	must(t, "she writes", alice.ask("a", "put", "0", "again"), "done")

	user := "setpriv --reuid=1000 --regid=1000 --clear-groups "
	must(t, "an ordinary user reads", bob.sh(user+"cat /mnt/r/f"), "again")
	if err := os.Chmod(at("f"), 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, 120*time.Second, "the user is refused", func() bool {
		out, err := bob.try("sh", "-c", user+"cat /mnt/r/f")
		return err != nil && strings.Contains(out, "Permission denied")
	})
	must(t, "she writes still", alice.ask("a", "put", "0", "third"), "done")

	// The file is exchanged for another one with its name. Hers is open, so it is there still.
	if err := os.WriteFile(at("new"), []byte("other"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(at("new"), at("f")); err != nil {
		t.Fatal(err)
	}
	t.Logf("alice writes to the file that was exchanged: %s", alice.ask("a", "put", "0", "wrong"))
	until(t, 120*time.Second, "bob reads the other file", func() bool { return bob.sh("cat /mnt/r/f") == "other" })
	if got := read("f"); got != "other" {
		t.Fatalf("what alice wrote is in another file now: %q", got)
	}
	alice.ask("a", "quit")

	remount := func(how string) {
		t.Helper()
		origin.kill9()
		if out, err := exec.Command("mount", "-o", "remount,"+how, dir).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		origin.boot()
	}
	remount("ro")
	out, _ = alice.try("sh", "-c", "cat /mnt/r/f; echo x >/mnt/r/none")
	must(t, "reading from the read-only origin", out, "other")
	must(t, "writing to the read-only origin", out, "Read-only file system")
	remount("rw")
	must(t, "alice", alice.hold("a", "/mnt/r/f", "write", "0", "10", "put", "0", "mine!"), "done")

	// Another file system is in the place of this one, with the same names in it.
	origin.kill9()
	storage(t, dir)
	for _, name := range []string{"f", "small"} {
		if err := os.WriteFile(at(name), []byte("of another file system"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	origin.boot()
	got := alice.ask("a", "put", "0", "wrong")
	t.Logf("alice writes to the file system that was replaced: %s", got)
	if strings.Contains(got, "done") {
		t.Error("her write was acknowledged")
	}
	for _, name := range []string{"f", "small"} {
		if got := read(name); got != "of another file system" {
			t.Errorf("what she wrote is in a file of another file system: %q", got)
		}
	}
	if n := count(serve.events(), 0, "lost", ""); n == 0 {
		t.Error("no event says that alice lost her lock")
	}
	// A new mount shows what is there now, and only that.
	bob.mount(p, "/data", "/mnt/again", "vers=4.2,nosharecache")
	until(t, 60*time.Second, "bob reads the file system that is there now", func() bool {
		out, _ := bob.try("cat", "/mnt/again/f")
		if strings.Contains(out, "mine") {
			t.Fatalf("the file system of before is read: %q", out)
		}
		return out == "of another file system"
	})
	must(t, "and locks in it", bob.probe("/mnt/again/f", "write", "0", "10"), "granted")
	events, err := serve.cli("events")
	if err != nil {
		t.Fatal(err)
	}
	must(t, "serve's events", events, "another directory")
}
