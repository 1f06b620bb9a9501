package fuse

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/fs"
)

func lockThread() { runtime.LockOSThread() }

func umask() uint32 {
	m := unix.Umask(022)
	unix.Umask(m)
	return uint32(m)
}

// startDaemon mounts dir in another process.
func startDaemon(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleEnv+"="+roleDaemon, dirEnv+"="+dir)
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "mounted: <nil>\n" {
		t.Fatalf("the daemon says %q", line)
	}
	return cmd
}

func TestDeadMountIsTakenAway(t *testing.T) {
	needMount(t)
	dir := filepath.Join(t.TempDir(), "with space")
	if err := os.Mkdir(dir, 0755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	for range 2 { // the second time there is nothing left of the first
		daemon := startDaemon(t, dir)
		// A live one is left alone.
		if m, err := Mount(t.Context(), Config{Dir: dir, Backend: newMem()}); !errors.Is(err, ErrMounted) {
			if err == nil {
				m.ForceUnmount()
			}
			t.Fatalf("mount over a live daemon: %v", err)
		}
		c := newClient(t)
		fd := c.open(dir+"/file", unix.O_RDONLY)
		daemon.Process.Kill()
		daemon.Wait()
		c.fails(unix.ENOTCONN, command{Op: "stat", Path: dir})
		c.fails(unix.ENOTCONN, command{Op: "fstat", FD: fd})
	}
	b := newMem()
	b.make("fresh", "x", 0644)
	m, err := Mount(t.Context(), Config{Dir: dir, Backend: b})
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t)
	c.must(command{Op: "stat", Path: dir + "/fresh"})
	c.kill()
	if err := m.ForceUnmount(); err != nil {
		t.Error(err)
	}
	if top, err := topMount(dir); err != nil || top != nil {
		t.Errorf("left: %+v, %v", top, err)
	}
}

func TestForeignMountsAreLeftAlone(t *testing.T) {
	needMount(t)
	dir := t.TempDir()
	if err := unix.Mount("holdfast", dir, "tmpfs", 0, ""); err != nil {
		t.Skipf("cannot mount a tmpfs: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	if n, err := cleanStale(dir); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

func TestUnmountFromOutside(t *testing.T) {
	b := newMem()
	b.make("file", "x", 0644)
	m, dir := mountMem(t, b, nil)
	c := newClient(t)
	c.must(command{Op: "stat", Path: dir + "/file"})
	c.kill()
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	if err := m.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.Unmount(); err != nil {
		t.Errorf("unmount after the end: %v", err)
	}
}

// umount -f cuts off an origin that hangs; what hangs in the daemon must end too.
func TestForcedUnmountFromOutsideWhileARequestHangs(t *testing.T) {
	b := newMem()
	b.make("file", "x", 0644)
	entered := make(chan struct{}, 1)
	b.hook = func(ctx context.Context, op string) error {
		if op != "Lookup" {
			return nil
		}
		entered <- struct{}{}
		<-ctx.Done()
		return fs.E(op, fs.Interrupted, ctx.Err())
	}
	m, dir := mountMem(t, b, nil)
	c := newClient(t)
	r := c.start(command{Op: "stat", Path: dir + "/file"})
	await(t, "the request", entered)
	if err := unix.Unmount(dir, unix.MNT_FORCE|unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if r := await(t, "the stat", r); r.Errno == 0 {
		t.Error("stat succeeded")
	}
	await(t, "the end of the mount", m.Done())
}

func TestForceUnmountOfADetachedMount(t *testing.T) {
	b := newMem()
	f := b.make("file", "x", 0644)
	m, dir := mountMem(t, b, nil)
	if _, err := os.Stat("/sys/fs/fuse/connections"); err != nil {
		t.Skip("needs fusectl: mount -t fusectl none /sys/fs/fuse/connections")
	}
	c := newClient(t)
	fd := c.open(dir+"/file", unix.O_RDONLY)
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	c.must(command{Op: "read", FD: fd, Len: 1})
	if list, err := os.ReadDir("/sys/fs/fuse/connections"); err != nil || len(list) == 0 {
		c.must(command{Op: "close", FD: fd}) // fusectl is not mounted
	}
	if err := m.ForceUnmount(); err != nil {
		t.Fatal(err)
	}
	if b.openCount(f) != 0 {
		t.Error("an open is left")
	}
}

func TestParseMountInfo(t *testing.T) {
	const text = `24 1 8:1 / / rw - ext4 /dev/sda1 rw
99 24 0:50 / /mnt/with\040space rw,nosuid shared:3 master:1 - fuse.holdfast host:/a\134b rw,user_id=0
broken line
100 24 0:51 / /mnt/x rw - tmpfs tmpfs rw
`
	got, err := parseMountInfo(strings.NewReader(text))
	if err != nil || len(got) != 3 {
		t.Fatalf("%+v, %v", got, err)
	}
	want := mountEntry{device: "0:50", point: "/mnt/with space", typ: fsType, source: `host:/a\b`}
	if got[1] != want {
		t.Errorf("%+v, want %+v", got[1], want)
	}
}

func FuzzParseMountInfo(f *testing.F) {
	f.Add("99 24 0:50 / /mnt/with\\040space rw - fuse.holdfast host:/a\\1 rw\n")
	f.Add("\\ - \\08 \\777")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseMountInfo(strings.NewReader(text))
		if err == nil && len(got) > strings.Count(text, "\n")+1 {
			t.Errorf("%d mounts in %q", len(got), text)
		}
		for _, e := range got {
			if len(e.point) > len(text) {
				t.Errorf("%+v of %q", e, text)
			}
		}
	})
}

func FuzzProcStatus(f *testing.F) {
	f.Add([]byte("State:\tS (sleeping)\nGroups:\t4 24 27\nSigPnd:\t0000000000000100\n"))
	f.Add([]byte("Groups:x\nState:\nSigPnd:zz"))
	f.Fuzz(func(t *testing.T, text []byte) {
		dyingStatus(text)
		if n := len(parseGroups(text)); n > len(text) {
			t.Errorf("%d groups in %q", n, text)
		}
	})
}

func TestProcStatus(t *testing.T) {
	for _, c := range []struct {
		name string
		text string
		want bool
	}{
		{"sleeping", "State:\tS (sleeping)\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000004000\n", false},
		{"SIGKILL pending for the thread", "State:\tD\nSigPnd:\t0000000000000100\n", true},
		{"SIGKILL pending for the process", "State:\tD\nShdPnd:\t0000000000004100\n", true},
		{"a zombie", "State:\tZ (zombie)\n", true},
	} {
		if dyingStatus([]byte(c.text)) != c.want {
			t.Error(c.name)
		}
	}
	if got := parseGroups([]byte("Gid:\t1\nGroups:\t4 24 \n")); len(got) != 2 || got[1] != 24 {
		t.Error(got)
	}
	if dying(uint32(os.Getpid())) || !dying(0) {
		t.Error("dying")
	}
}
