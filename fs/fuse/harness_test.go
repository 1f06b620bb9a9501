package fuse

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A process that uses a file system that it serves itself can block itself for good, so whatever
// touches a mount here runs in another process: this test binary again, in one of these roles.
const (
	roleEnv    = "HOLDFAST_FUSE_ROLE"
	roleClient = "client" // obeys commands, see client
	roleDaemon = "daemon" // mounts dirEnv and waits to be killed
	roleTest   = "test"   // runs one of the Child tests on dirEnv
	dirEnv     = "HOLDFAST_FUSE_DIR"
)

// patience is how long we wait for what must come. It is no measure of anything.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case roleClient:
		runClient()
	case roleDaemon:
		runDaemon()
	default:
		os.Exit(m.Run())
	}
}

// needMount skips where nothing can be mounted.
func needMount(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount: run go test as root")
	}
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		t.Skipf("needs /dev/fuse: modprobe fuse (%v)", err)
	} else {
		f.Close()
	}
}

type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// mountMem mounts b for the length of a test.
func mountMem(t testing.TB, b *memBackend, change func(*Config)) (*Mounted, string) {
	t.Helper()
	needMount(t)
	base, err := os.MkdirTemp("", "holdfast-fuse") // other users can pass it, unlike t.TempDir
	if err == nil {
		err = os.Chmod(base, 0755)
	}
	dir := filepath.Join(base, "mnt")
	if err == nil {
		err = os.Mkdir(dir, 0755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Not RemoveAll: what is mounted there must survive a test that fails to unmount.
		if err := errors.Join(os.Remove(dir), os.Remove(base)); err != nil {
			t.Error(err)
		}
	})
	level := slog.LevelWarn
	if os.Getenv("HOLDFAST_FUSE_DEBUG") != "" {
		level = slog.LevelDebug
	}
	cfg := Config{
		Dir: dir, Backend: b, AllowOther: true, FSName: "test:/mem", Incarnation: [8]byte{1, 2, 3, 4, 5, 6, 7, 8},
		Logger: slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: level})),
		Debug:  level == slog.LevelDebug,
	}
	if change != nil {
		change(&cfg)
	}
	m, err := Mount(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.ForceUnmount(); err != nil {
			t.Errorf("unmount: %v", err)
		}
		if top, err := topMount(m.point); err != nil || top != nil {
			t.Errorf("after unmount: %+v, %v", top, err)
		}
	})
	return m, dir
}

// childTest runs a test of this binary in another process, on a mount.
func childTest(t *testing.T, name, dir string, env ...string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+name+"$", "-test.v", "-test.count=1", "-test.timeout=120s")
	cmd.Env = append(append(os.Environ(), roleEnv+"="+roleTest, dirEnv+"="+dir), env...)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+name) {
		t.Errorf("%s on the mount: %v\n%s", name, err, out)
		return
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "--- SKIP") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// childDir is the mount that a Child test works on.
func childDir(t *testing.T) string {
	if os.Getenv(roleEnv) != roleTest {
		t.Skip("runs in a process of its own, started by another test")
	}
	return os.Getenv(dirEnv)
}

// A command is one system call of a client.
type command struct {
	Op     string
	Path   string `json:",omitempty"`
	To     string `json:",omitempty"`
	FD     int    `json:",omitempty"`
	Flags  int    `json:",omitempty"`
	Mode   uint32 `json:",omitempty"`
	Off    int64  `json:",omitempty"`
	Len    int64  `json:",omitempty"`
	Data   string `json:",omitempty"`
	Type   int16  `json:",omitempty"`
	Wait   bool   `json:",omitempty"`
	OFD    bool   `json:",omitempty"`
	UID    int    `json:",omitempty"`
	Groups []int  `json:",omitempty"`
}

// A reply is what came of it.
type reply struct {
	Errno syscall.Errno
	N     int64
	Data  string
	Stat  unix.Stat_t
	Lock  unix.Flock_t
}

// client is a process that obeys.
type client struct {
	t   testing.TB
	cmd *exec.Cmd
	in  *json.Encoder
	out *bufio.Reader
	tid int
	mu  sync.Mutex
}

func newClient(t testing.TB) *client {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleEnv+"="+roleClient)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, cmd: cmd, in: json.NewEncoder(in), out: bufio.NewReader(out)}
	t.Cleanup(c.kill)
	c.tid = int(c.must(command{Op: "hello"}).N)
	return c
}

// start sends a command; the reply comes later.
func (c *client) start(cmd command) <-chan reply {
	ch := make(chan reply, 1)
	c.mu.Lock()
	if err := c.in.Encode(cmd); err != nil {
		c.t.Errorf("client: %v", err)
	}
	c.mu.Unlock()
	go func() {
		line, err := c.out.ReadBytes('\n')
		var r reply
		if err != nil || json.Unmarshal(line, &r) != nil {
			r.Errno = syscall.Errno(9999) // the client is dead
		}
		ch <- r
	}()
	return ch
}

func (c *client) do(cmd command) reply {
	c.t.Helper()
	return await(c.t, fmt.Sprintf("%+v", cmd), c.start(cmd))
}

func (c *client) must(cmd command) reply {
	c.t.Helper()
	r := c.do(cmd)
	if r.Errno != 0 {
		c.t.Fatalf("%+v: %v", cmd, r.Errno)
	}
	return r
}

// fails runs a command that must fail with want.
func (c *client) fails(want syscall.Errno, cmd command) {
	c.t.Helper()
	if r := c.do(cmd); r.Errno != want {
		c.t.Fatalf("%+v: %v, want %v", cmd, r.Errno, want)
	}
}

func (c *client) open(path string, flags int) int {
	c.t.Helper()
	return int(c.must(command{Op: "open", Path: path, Flags: flags, Mode: 0644}).N)
}

func (c *client) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

// signal interrupts the system call of the client.
func (c *client) signal() {
	if err := unix.Tgkill(c.cmd.Process.Pid, c.tid, unix.SIGUSR1); err != nil {
		c.t.Error(err)
	}
}

func await[T any](t testing.TB, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("nothing came of %s", what)
		panic("unreachable")
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		}
	}
}

// stillBlocked looks that nothing has come. It cannot prove that nothing will.
func stillBlocked[T any](t testing.TB, what string, ch <-chan T) {
	t.Helper()
	select {
	case v := <-ch:
		t.Fatalf("%s did not wait: %+v", what, v)
	default:
	}
}

// runClient is the other side. It makes each call itself, on one thread, and lets signals interrupt it.
func runClient() {
	runtime.LockOSThread()
	signal.Notify(make(chan os.Signal, 8), unix.SIGUSR1)
	noRestart(unix.SIGUSR1)
	in := json.NewDecoder(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for {
		var c command
		if err := in.Decode(&c); err != nil {
			os.Exit(0)
		}
		r := obey(&c)
		if err := out.Encode(r); err != nil {
			os.Exit(1)
		}
	}
}

// noRestart takes SA_RESTART from a signal: Go sets it, and the kernel would repeat the call.
func noRestart(sig syscall.Signal) {
	var act struct {
		handler  uintptr
		flags    uint64
		restorer uintptr
		mask     uint64
	}
	const saRestart = 0x10000000
	syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), 0, uintptr(unsafe.Pointer(&act)), 8, 0, 0)
	act.flags &^= saRestart
	syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&act)), 0, 8, 0, 0)
}

func obey(c *command) *reply {
	r := &reply{}
	var err error
	var n int
	switch c.Op {
	case "hello":
		n = unix.Gettid()
	case "open":
		n, err = unix.Open(c.Path, c.Flags|unix.O_CLOEXEC, c.Mode)
	case "close":
		err = unix.Close(c.FD)
	case "read":
		buf := make([]byte, c.Len)
		n, err = unix.Pread(c.FD, buf, c.Off)
		r.Data = string(buf[:max(n, 0)])
	case "write":
		n, err = unix.Pwrite(c.FD, []byte(c.Data), c.Off)
	case "append":
		n, err = unix.Write(c.FD, []byte(c.Data))
	case "fsync":
		err = unix.Fsync(c.FD)
	case "stat":
		err = unix.Lstat(c.Path, &r.Stat)
	case "fstat":
		err = unix.Fstat(c.FD, &r.Stat)
	case "statfs":
		var st unix.Statfs_t
		err = unix.Statfs(c.Path, &st)
		n = int(st.Blocks)
	case "readdir":
		var names []os.DirEntry
		names, err = os.ReadDir(c.Path)
		for _, e := range names {
			r.Data += e.Name() + "\n"
		}
	case "unlink":
		err = unix.Unlink(c.Path)
	case "mkdir":
		err = unix.Mkdir(c.Path, c.Mode)
	case "chmod":
		err = unix.Chmod(c.Path, c.Mode)
	case "truncate":
		err = unix.Truncate(c.Path, c.Len)
	case "rename":
		err = unix.Renameat2(unix.AT_FDCWD, c.Path, unix.AT_FDCWD, c.To, uint(c.Flags))
	case "access":
		err = unix.Access(c.Path, c.Mode)
	case "setlk", "getlk":
		lk := unix.Flock_t{Type: c.Type, Start: c.Off, Len: c.Len}
		cmd := map[[3]bool]int{
			{false, false, false}: unix.F_SETLK, {false, true, false}: unix.F_SETLKW, {true, false, false}: unix.F_GETLK,
			{false, false, true}: unix.F_OFD_SETLK, {false, true, true}: unix.F_OFD_SETLKW, {true, false, true}: unix.F_OFD_GETLK,
		}[[3]bool{c.Op == "getlk", c.Wait, c.OFD}]
		err = unix.FcntlFlock(uintptr(c.FD), cmd, &lk)
		r.Lock = lk
	case "flock":
		err = unix.Flock(c.FD, c.Flags)
	case "child": // starts a process that has the file open; it ends when kill is called
		var child *exec.Cmd
		if c.Wait {
			child = exec.Command("/bin/sh", "-c", "exec 3>&-; exit 0")
		} else {
			child = exec.Command("/bin/sleep", "1000")
		}
		fd, derr := unix.Dup(c.FD)
		if err = derr; err == nil {
			f := os.NewFile(uintptr(fd), "shared")
			child.ExtraFiles = []*os.File{f}
			child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
			if c.Wait {
				err = child.Run()
			} else if err = child.Start(); err == nil {
				n = child.Process.Pid
			}
			// The copy must not be closed through close(2) in this process: that would drop its POSIX locks.
			runtime.SetFinalizer(f, nil)
			kept = append(kept, f)
		}
	case "become": // another user, for file systems only
		if err = unix.Setgroups(c.Groups); err == nil {
			err = unix.Setfsgid(c.UID)
		}
		if err == nil {
			err = unix.Setfsuid(c.UID)
		}
	default:
		err = obeyBench(c)
	}
	if e, ok := err.(syscall.Errno); ok {
		r.Errno = e
	} else if err != nil {
		r.Errno, r.Data = unix.EPROTO, err.Error()
		if pe, ok := err.(*os.PathError); ok {
			r.Errno, _ = pe.Err.(syscall.Errno)
		}
	}
	r.N = int64(n)
	return r
}

var kept []*os.File

// runDaemon serves a file system until it is killed.
func runDaemon() {
	b := newMem()
	b.make("file", "hello", 0644)
	_, err := Mount(context.Background(), Config{Dir: os.Getenv(dirEnv), Backend: b, Incarnation: [8]byte{9}})
	fmt.Println("mounted:", err)
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}
