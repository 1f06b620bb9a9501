package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestNestedMountsOfOurOrigin: what is mounted below the directory of `holdfast origin` is not exported. Clients of
// serve see and change the directory that is covered, which belongs to the file system of the export.
func TestNestedMountsOfOurOrigin(t *testing.T) {
	v := vms(t, "alice")
	alice := v[0]
	dir := scratch(t, "export")
	inner, later := filepath.Join(dir, "inner"), filepath.Join(dir, "later")
	for _, d := range []string{inner, later} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, "covered"), []byte("covered"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	over := func(d string) {
		t.Helper()
		storage(t, d)
		if err := os.WriteFile(filepath.Join(d, "secret"), []byte("secret"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	over(inner)
	_, o := startOrigin(t, dir)
	over(later)
	_, p := startServe(t, o, "")
	alice.mount(p, "/data", "/mnt/n", "vers=4.2")
	alice.mount(p, "/data", "/mnt/n3", fmt.Sprintf("vers=3,nolock,proto=tcp,mountport=%d,mountproto=tcp", p))
	for _, at := range []string{"/mnt/n", "/mnt/n3"} {
		for _, d := range []string{"inner", "later"} {
			must(t, at+"/"+d, alice.sh(fmt.Sprintf("cd %s/%s; echo $(ls -A)", at, d)), "covered")
			if out, err := alice.try("cat", at+"/"+d+"/secret"); err == nil || !strings.Contains(out, "No such file") {
				t.Errorf("what is mounted on %s is seen in %s: %v %s", d, at, err, out)
			}
			got := strings.Fields(alice.sh(fmt.Sprintf("stat -c %%d %s %[1]s/%s %[1]s/%[2]s/..", at, d)))
			if len(got) != 3 || got[0] != got[1] || got[0] != got[2] {
				t.Errorf("%s/%s: file systems %v", at, d, got)
			}
		}
		must(t, "the numbers in the listing are those of the directories", alice.run("python3", "-c",
			"import os; print(all(e.inode() == os.stat(e.path).st_ino for e in os.scandir('"+at+"')))"), "True")
		must(t, "one step above", alice.sh("cd "+at+"/inner; echo $(ls -A ..)"), "inner later")
	}
	alice.sh("echo new >/mnt/n/inner/new; mv /mnt/n/inner/covered /mnt/n/later/moved; sync")
	for _, d := range []string{inner, later} {
		if _, err := os.Stat(filepath.Join(d, "secret")); err != nil {
			t.Error(err)
		}
		for _, name := range []string{"new", "moved"} {
			if _, err := os.Stat(filepath.Join(d, name)); err == nil {
				t.Errorf("%s came into the file system on %s", name, d)
			}
		}
		if out, err := exec.Command("umount", d).CombinedOutput(); err != nil {
			t.Fatalf("%v %s: the origin keeps what it does not export busy", err, out)
		}
	}
	for _, name := range []string{"inner/new", "later/moved", "later/covered"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

// TestNestedMountsOfKnfsd: a file system that the kernel's server exports below another one is found, and re-exported
// with a file system id of its own; locks in it survive a reboot of serve.
func TestNestedMountsOfKnfsd(t *testing.T) {
	k, address := knfsd(t, 15)
	alice := vms(t, "alice")[0]
	k.sh("rm -rf /mnt/export/*; mkdir /mnt/export/inner; echo covered >/mnt/export/inner/covered; mount -t tmpfs inner /mnt/export/inner; " +
		"echo mounted >/mnt/export/inner/mounted; exportfs -o rw,no_root_squash,insecure,no_subtree_check,fsid=77,nohide '*:/mnt/export/inner'")
	t.Cleanup(func() {
		// Opens of the lease that serve had may keep it in use for a while.
		if out, err := k.try("sh", "-ec", "exportfs -u '*:/mnt/export/inner'; exportfs -f; umount -l /mnt/export/inner; rm -rf /mnt/export/inner"); err != nil {
			t.Errorf("%v %s", err, out)
		}
	})
	serve, p := reexport(t, address, scratch(t, "serve-state"))
	alice.mount(p, "/mnt/export", "/mnt/n", "vers=4.2")
	alice.sh("echo outside >/mnt/n/f; sync")
	must(t, "inside", alice.sh("echo $(ls -A /mnt/n/inner)"), "mounted")
	must(t, "a mount of its own", alice.sh("grep -c ' /mnt/n' /proc/mounts"), "2")
	got := strings.Fields(alice.sh("stat -c %d /mnt/n /mnt/n/inner /mnt/n/inner/.. /mnt/n/inner/mounted"))
	if len(got) != 4 || got[0] == got[1] || got[0] != got[2] || got[1] != got[3] {
		t.Errorf("file systems of the export, the directory in it, one above and a file: %v", got)
	}
	// The listing has mounted_on_fileid, the number of what is covered (RFC 8881 5.8.2.23).
	number := k.sh("mkdir -p /tmp/outer; mount --bind /mnt/export /tmp/outer; stat -c %i /tmp/outer/inner; umount /tmp/outer")
	must(t, "the number in the listing", alice.run("python3", "-c", "import os; print(*[e.inode() for e in os.scandir('/mnt/n') if e.name == 'inner'])"), number) // ls asks stat
	if out, err := alice.try("ln", "/mnt/n/f", "/mnt/n/inner/f"); err == nil || !strings.Contains(out, "cross-device") {
		t.Errorf("a link from one into the other: %v %s", err, out)
	}
	must(t, "alice", alice.hold("a", "/mnt/n/inner/f", "write", "0", "10"), "granted")
	must(t, "a rival at the origin", k.probe("/mnt/export/inner/f", "write", "5", "1"), "denied")
	serve.kill9()
	serve.boot()
	must(t, "a rival at the origin, after the reboot", k.probe("/mnt/export/inner/f", "write", "5", "1"), "denied")
	until(t, 60*time.Second, "grace is over", func() bool { return serve.phase() == "serving" })
	must(t, "alice writes under her lock", alice.ask("a", "put", "0", "mine"), "done")
	must(t, "a rival at the origin, after grace", k.probe("/mnt/export/inner/f", "write", "5", "1"), "denied")
	alice.ask("a", "unlock", "0", "10")
	must(t, "a rival at the origin, now", k.probe("/mnt/export/inner/f", "write", "5", "1"), "granted")
	must(t, "names as before", alice.sh("echo $(ls -A /mnt/n/inner)"), "f mounted")
	alice.ask("a", "quit")
}
