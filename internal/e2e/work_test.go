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

// scratch is a directory for one test, on the host, readable by all as an export is.
func scratch(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	for d := dir; d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		if d == dir {
			if err := os.MkdirAll(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// startOrigin serves dir as /data.
func startOrigin(t *testing.T, dir string, args ...string) (*Daemon, int) {
	t.Helper()
	p := port(t)
	d := start(t, "origin", scratch(t, fmt.Sprintf("origin-state-%d", p)), append([]string{"origin", dir, "--export", "/data *(rw,no_root_squash,insecure)",
		"--listen", fmt.Sprintf(":%d", p), "--lease", "20s", "--grace", "20s", "--restart", "grace", "--retain", "always"}, args...)...)
	return d, p
}

// startServe re-exports the origin at port as /data, with a FUSE mount if dir is not empty.
func startServe(t *testing.T, origin int, dir string, args ...string) (*Daemon, int) {
	t.Helper()
	p := port(t)
	all := []string{"serve", fmt.Sprintf("127.0.0.1:%d:/data", origin), "--export", "/data *(rw,no_root_squash,insecure)",
		"--listen", fmt.Sprintf(":%d", p), "--lease", "20s", "--grace", "20s", "--restart", "grace", "--recovery", "reclaim"}
	if dir != "" {
		all = append(all, "--mount", dir)
		t.Cleanup(func() {
			if strings.Contains(mounts(t), dir+" ") {
				_ = exec.Command("umount", "-l", dir).Run() // a failed test left it
			}
		})
	}
	d := start(t, "serve", scratch(t, fmt.Sprintf("serve-state-%d", p)), append(all, args...)...)
	return d, p
}

func testdata(name string) string { return filepath.Join(repo, "internal/e2e/testdata", name) }

// workList does real work on a mount in a VM, and on the host's side of it where that is asked for.
// files is how large the tree is: VMs take 10 to 30 ms for a file.
func workList(t *testing.T, v *VM, mnt, host string, files int) {
	t.Run("work", func(t *testing.T) {
		w := &VM{t, v.name}
		w.sh("mkdir " + mnt + "/work; chmod 755 " + mnt + "/work")
		out := w.run("python3", "/host"+testdata("work.py"), mnt+"/work")
		t.Log(strings.ReplaceAll(out, "\n", "; "))
		w.sh("rmdir " + mnt + "/work")
	})
	t.Run("tree", func(t *testing.T) {
		w := &VM{t, v.name}
		tree := filepath.Join(host, "..", fmt.Sprintf("tree-source-%d", files))
		if _, err := os.Stat(tree); err != nil {
			if out, err := exec.Command(testdata("tree.py"), "make", tree, fmt.Sprint(files)).CombinedOutput(); err != nil {
				t.Fatalf("%v %s", err, out)
			}
		}
		want, err := exec.Command(testdata("tree.py"), "sum", tree).Output()
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		w.sh("mkdir " + mnt + "/tree; cd /host" + tree + "; tar cf - . | tar xpf - -C " + mnt + "/tree; sync")
		t.Logf("%d files in %v", files, time.Since(begin))
		got, err := exec.Command(testdata("tree.py"), "sum", filepath.Join(host, "tree")).Output()
		if err != nil || string(got) != string(want) {
			t.Errorf("at the origin: %s, want %s (%v)", got, want, err)
		}
		if got := w.run("python3", "/host"+testdata("tree.py"), "sum", mnt+"/tree"); got != strings.TrimSpace(string(want)) {
			t.Errorf("through the mount: %s, want %s", got, want)
		}
		w.sh("rm -r " + mnt + "/tree")
		if _, err := os.Stat(filepath.Join(host, "tree")); err == nil {
			t.Error("rm left the tree at the origin")
		}
	})
	entries := min(200*files, 100_000)
	t.Run(fmt.Sprintf("directory of %d entries", entries), func(t *testing.T) {
		w := &VM{t, v.name}
		big := filepath.Join(host, "big")
		if err := os.Mkdir(big, 0o755); err != nil {
			t.Fatal(err)
		}
		for n := range entries {
			if err := os.WriteFile(filepath.Join(big, fmt.Sprintf("entry-%06d", n)), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		begin := time.Now()
		must(t, "entries", w.sh("ls -f "+mnt+"/big | grep -c entry-"), fmt.Sprint(entries))
		t.Logf("listed in %v", time.Since(begin))
		one := fmt.Sprintf("entry-%06d", entries*7/9)
		must(t, "one of them", w.sh("ls "+mnt+"/big/"+one), one)
		if err := os.RemoveAll(big); err != nil {
			t.Fatal(err)
		}
	})
}

// twoClients lets two kernels share one database and one appended file.
func twoClients(t *testing.T, a, b *VM, mnt string) {
	t.Run("sqlite from two clients", func(t *testing.T) {
		w := &VM{t, a.name}
		db := mnt + "/shared.sqlite"
		w.run("python3", "-c", "import sqlite3; d=sqlite3.connect('"+db+"'); d.execute('create table t(who text, n integer)'); d.commit()")
		script := func(who string) string {
			return fmt.Sprintf(`import sqlite3
d = sqlite3.connect(%q, timeout=120)
for n in range(15):
    d.execute("begin immediate")
    d.execute("insert into t values (?, ?)", (%q, n))
    d.commit()
`, db, who)
		}
		done := make(chan string, 2)
		for _, v := range []*VM{a, b} {
			go func() {
				out, err := v.try("python3", "-c", script(v.name))
				if err != nil {
					out += err.Error()
				}
				done <- out
			}()
		}
		for range 2 {
			if out := <-done; out != "" {
				t.Errorf("a writer failed: %s", out)
			}
		}
		must(t, "rows", w.run("python3", "-c", "import sqlite3; d=sqlite3.connect('"+db+"'); print(d.execute('select count(*) from t').fetchone()[0], d.execute('pragma integrity_check').fetchone()[0])"), "30 ok")
		w.sh("rm " + db)
	})
	t.Run("appenders on two clients under a lock", func(t *testing.T) {
		w := &VM{t, a.name}
		script := func(who string) string {
			return fmt.Sprintf(`import os, fcntl
for n in range(20):
    fd = os.open(%q, os.O_RDWR|os.O_CREAT|os.O_APPEND, 0o644)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    os.write(fd, b"%s %%02d\n" %% n)
    os.fsync(fd)
    fcntl.lockf(fd, fcntl.LOCK_UN)
    os.close(fd)
`, mnt+"/appended", who)
		}
		done := make(chan string, 2)
		for _, v := range []*VM{a, b} {
			go func() {
				out, err := v.try("python3", "-c", script(v.name))
				if err != nil {
					out += err.Error()
				}
				done <- out
			}()
		}
		for range 2 {
			if out := <-done; out != "" {
				t.Errorf("an appender failed: %s", out)
			}
		}
		must(t, "lines", w.sh("wc -l <"+mnt+"/appended; sort -u "+mnt+"/appended | wc -l; rm "+mnt+"/appended"), "40\n40")
	})
}

func TestOriginWithKernelClients(t *testing.T) {
	v := vms(t, "alice", "bob")
	dir := scratch(t, "export")
	_, p := startOrigin(t, dir)
	for _, vers := range []string{"4.1", "4.2"} {
		t.Run("v"+vers, func(t *testing.T) {
			for _, m := range v {
				(&VM{t, m.name}).mount(p, "/data", "/mnt/o", "vers="+vers)
			}
			workList(t, v[0], "/mnt/o", dir, 500)
			twoClients(t, v[0], v[1], "/mnt/o")
		})
	}
}

func TestServeWithKernelClients(t *testing.T) {
	v := vms(t, "alice", "bob")
	dir := scratch(t, "export")
	_, o := startOrigin(t, dir)
	_, p := startServe(t, o, "")
	for _, vers := range []string{"4.0", "4.1", "4.2"} {
		t.Run("v"+vers, func(t *testing.T) {
			for _, m := range v {
				(&VM{t, m.name}).mount(p, "/data", "/mnt/s", "vers="+vers)
			}
			workList(t, v[0], "/mnt/s", dir, map[string]int{"4.0": 10, "4.1": 500, "4.2": 5000}[vers])
			if vers != "4.0" { // those two meet others in TestAllVersionsContend
				twoClients(t, v[0], v[1], "/mnt/s")
			}
		})
	}
}

func TestServeWithLocalApplications(t *testing.T) {
	need(t)
	dir, mnt := scratch(t, "export"), scratch(t, "mnt")
	_, o := startOrigin(t, dir)
	startServe(t, o, mnt)
	if err := os.Mkdir(filepath.Join(mnt, "work"), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("/usr/bin/python3", testdata("work.py"), filepath.Join(mnt, "work")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Log(strings.ReplaceAll(string(out), "\n", "; "))
}
