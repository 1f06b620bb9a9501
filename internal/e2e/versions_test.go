package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A party is somebody who locks files of the re-export: a mount in a VM, or the FUSE mount on the cache host.
type party struct {
	name, dir string
	vm        *VM // nil on the host
}

func (p party) probe(t *testing.T, file string, commands ...string) string {
	if p.vm == nil {
		return probeHost(t, filepath.Join(p.dir, file), commands...)
	}
	return p.vm.probe(p.dir+"/"+file, commands...)
}

func (p party) python(script string, args ...string) (string, error) {
	if p.vm != nil {
		return p.vm.try(append([]string{"python3", "-c", script}, args...)...)
	}
	out, err := exec.Command("/usr/bin/python3", append([]string{"-c", script}, args...)...).CombinedOutput()
	return string(out), err
}

// versions mounts a re-export by NFSv3, 4.0, 4.1 and 4.2, and by FUSE; the last party is the FUSE mount.
func versions(t *testing.T, args ...string) (serve *Daemon, all []party) {
	t.Helper()
	v := vms(t, "alice", "bob")
	mnt := scratch(t, "mnt")
	t.Cleanup(func() {
		if strings.Contains(mounts(t), mnt+" ") {
			_ = exec.Command("umount", "-l", mnt).Run() // a failed test left it
		}
	})
	d, p := startV3(t, scratch(t, "export"), append(args, "--mount", mnt)...)
	mount3(v[0], p, "/mnt/v3")
	all = append(all, party{"v3", "/mnt/v3", v[0]})
	for i, vers := range []string{"4.0", "4.1", "4.2"} {
		m := v[(i+1)/2]
		m.mount(p, "/data", "/mnt/v"+vers, "vers="+vers)
		all = append(all, party{"v" + vers, "/mnt/v" + vers, m})
	}
	return d, append(all, party{"fuse", mnt, nil})
}

// counting adds one to the counters at 0 and 8, or to both, each time under a lock of exactly those bytes.
const counting = `
import fcntl, os, random, struct, sys, time
fd = os.open(sys.argv[1], os.O_RDWR)
for n in range(int(sys.argv[2])):
    at, size = ((0, 8), (8, 8), (0, 16))[n % 3]
    while True:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, size, at)
            break
        except BlockingIOError:
            time.sleep(random.uniform(0.01, 0.05))
    b = os.pread(fd, size, at)
    values = struct.unpack("<%dQ" % (size // 8), b)
    os.pwrite(fd, struct.pack("<%dQ" % (size // 8), *[v + 1 for v in values]), at)
    os.fsync(fd)
    fcntl.lockf(fd, fcntl.LOCK_UN, size, at)
`

// A lock is the same lock whatever protocol it was taken by.
func TestAllVersionsContend(t *testing.T) {
	_, all := versions(t)
	fuse := all[len(all)-1]
	if out, err := fuse.python("import sys; open(sys.argv[1], 'wb').write(bytes(16))", filepath.Join(fuse.dir, "counters")); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	rounds := 6
	done := make(chan string, len(all))
	begin := time.Now()
	for _, p := range all {
		go func() {
			out, err := p.python(counting, p.dir+"/counters", fmt.Sprint(rounds))
			if err != nil {
				out += fmt.Sprintf("%s: %v", p.name, err)
			}
			done <- out
		}()
	}
	for range all {
		if out := <-done; out != "" {
			t.Error(out)
		}
	}
	t.Logf("%d increments under %d parties in %v", rounds*len(all), len(all), time.Since(begin))
	want := fmt.Sprintf("(%d, %[1]d)", len(all)*rounds*2/3)
	for _, p := range all {
		// under a lock, because that is when an NFS client asks for what others wrote
		out, err := p.python("import fcntl, os, struct, sys; f=open(sys.argv[1],'r+b'); fcntl.lockf(f,fcntl.LOCK_SH); print(struct.unpack('<2Q',os.pread(f.fileno(),16,0)))", p.dir+"/counters")
		if err != nil || strings.TrimSpace(out) != want {
			t.Errorf("%s reads %s (%v), want %s", p.name, out, err, want)
		}
	}
}

// The re-export server is killed while each version holds a lock. All come back and keep theirs; nobody else,
// by any protocol or on the cache host, gets one in between.
func TestRebootWithAllVersions(t *testing.T) {
	d, all := versions(t, "--restart", "grace")
	fuse := all[len(all)-1]
	holders := all[:len(all)-1]
	var everything []string // one probe for each holder's range
	for i, p := range holders {
		at := fmt.Sprint(10 * i)
		must(t, p.name, p.vm.hold(p.name, p.dir+"/f", "write", at, "10"), "granted")
		everything = append(everything, "write", at, "10")
	}
	deniedAll := func(when string) {
		t.Helper()
		outs := make(chan string, len(all))
		for _, p := range all {
			go func() { outs <- p.name + ": " + p.probe(t, "f", everything...) }()
		}
		for range all {
			if out := <-outs; strings.Contains(out, "granted") || strings.Count(out, "denied") != len(holders) {
				t.Errorf("%s a rival by %s", when, out)
			}
		}
	}
	deniedAll("before the reboot")
	d.kill9()
	d.boot()
	deniedAll("after the reboot")
	until(t, 60*time.Second, "grace is over", func() bool { return d.phase() == "serving" })
	deniedAll("after grace")
	for i, p := range holders {
		at := fmt.Sprint(10 * i)
		must(t, p.name+" writes under its lock", p.vm.ask(p.name, "put", at, p.name), "done")
		must(t, p.name+" gives it back", p.vm.ask(p.name, "unlock", at, "10"), "done")
	}
	if out := fuse.probe(t, "f", everything...); strings.Count(out, "granted") != len(holders) {
		t.Errorf("after all unlocked: %s", out)
	}
	if n := count(d.events(), 0, "lost", ""); n != 0 {
		t.Errorf("%d events say that something was lost", n)
	}
}
