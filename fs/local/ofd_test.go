//go:build linux

package local

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/fs"
	"holdfast/internal/clock"
)

// TestMain plays a program of this host if the environment says so.
func TestMain(m *testing.M) {
	if path := os.Getenv("LOCAL_TEST_LOCKER"); path != "" {
		localProgram(path)
		return
	}
	if os.Getenv("LOCAL_TEST_UNPRIVILEGED") != "" {
		unprivilegedProgram()
		return
	}
	os.Exit(m.Run())
}

// localProgram obeys lines "lock|unlock|test r|w first length" on a file with POSIX locks, as fcntl(2) has
// had them for ever, and answers "ok", "denied" or an error. "scan" with a type, an offset and a number of
// bytes answers a letter for each of these: w or r where another has a lock of that type, - where none has.
func localProgram(path string) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var verb, typ string
		fl := unix.Flock_t{}
		if _, err := fmt.Sscan(in.Text(), &verb, &typ, &fl.Start, &fl.Len); err != nil {
			fmt.Println(err)
			continue
		}
		if verb == "scan" {
			fmt.Println(scan(f, fl.Start, fl.Len))
			continue
		}
		fl.Type = map[string]int16{"r": unix.F_RDLCK, "w": unix.F_WRLCK}[typ]
		cmd := unix.F_SETLK
		switch verb {
		case "unlock":
			fl.Type = unix.F_UNLCK
		case "test":
			cmd = unix.F_GETLK
		}
		err := unix.FcntlFlock(f.Fd(), cmd, &fl)
		switch {
		case errors.Is(err, unix.EAGAIN) || verb == "test" && fl.Type != unix.F_UNLCK:
			fmt.Println("denied")
		case err != nil:
			fmt.Println(err)
		default:
			fmt.Println("ok")
		}
	}
}

// scan looks at each byte alone.
func scan(f *os.File, first, n int64) string {
	out := make([]byte, n)
	for i := range out {
		fl := unix.Flock_t{Type: unix.F_WRLCK, Start: first + int64(i), Len: 1}
		if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &fl); err != nil {
			return err.Error()
		}
		out[i] = map[int16]byte{unix.F_UNLCK: '-', unix.F_RDLCK: 'r', unix.F_WRLCK: 'w'}[fl.Type]
	}
	return string(out)
}

// program is another process with the file open.
type program struct {
	t   testing.TB
	in  io.Writer
	out *bufio.Reader
}

func newProgram(t testing.TB, path string) *program {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "LOCAL_TEST_LOCKER="+path)
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
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return &program{t, in, bufio.NewReader(out)}
}

// ask sends a line and returns the answer.
func (p *program) ask(format string, args ...any) string {
	p.t.Helper()
	if _, err := fmt.Fprintf(p.in, format+"\n", args...); err != nil {
		p.t.Fatal(err)
	}
	got, err := p.out.ReadString('\n')
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.TrimSpace(got)
}

func (p *program) says(want, format string, args ...any) {
	p.t.Helper()
	if got := p.ask(format, args...); got != want {
		p.t.Errorf("the local program: %s: %q, want %s", fmt.Sprintf(format, args...), got, want)
	}
}

type ears struct {
	mu    sync.Mutex
	heard []fs.Owner // guarded by mu
}

func (l *ears) LockAvailable(_ fs.Handle, o fs.Owner, _ fs.Range) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = append(l.heard, o)
}
func (l *ears) Changed(fs.Handle)                               {}
func (l *ears) Revoked(fs.Owner, fs.Handle, fs.RangeSet, error) {}

func (l *ears) take() []fs.Owner {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.heard
	l.heard = nil
	return h
}

func TestLocksMeetLocalPrograms(t *testing.T) {
	both(t, func(t *testing.T, cfg Config) {
		now := clock.NewFake(time.Unix(1e9, 0))
		cfg.Clock = now
		b, base := world(t, cfg)
		path := base + "/export/f"
		mustWrite(t, path, "0123456789")
		f := lookup(t, b, b.rootHandle, "f")
		ctx := t.Context()
		for _, o := range []string{"a", "b"} {
			if _, err := b.Open(ctx, rootCred, &fs.OpenRequest{Owner: owner(o), Access: fs.ShareBoth, File: f}); err != nil {
				t.Fatal(err)
			}
		}
		lock := func(o string, first, last uint64, typ fs.LockType, wait bool) error {
			return b.Lock(ctx, rootCred, &fs.LockRequest{File: f, OpenOwner: owner(o), LockOwner: owner(o), Range: fs.Range{First: first, Last: last}, Type: typ, Wait: wait})
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Error(err)
			}
		}
		p := newProgram(t, path)
		// What clients hold, programs see.
		must(lock("a", 0, 9, fs.WriteLock, false))
		must(lock("b", 20, 29, fs.ReadLock, false))
		p.says("denied", "lock r 5 1")
		p.says("denied", "test w 9 5")
		p.says("ok", "test r 20 5")
		p.says("denied", "lock w 25 1")
		p.says("ok", "lock w 100 10")
		must(b.Unlock(ctx, rootCred, owner("a"), f, fs.Range{First: 0, Last: 4}))
		p.says("ok", "lock w 0 5")
		p.says("denied", "lock w 0 6")

		// What programs hold, clients see; the holder is nobody.
		var d *fs.DeniedError
		err := lock("a", 100, 100, fs.ReadLock, false)
		if !errors.As(err, &d) || !d.Owner.IsZero() || d.Range != (fs.Range{First: 100, Last: 109}) || d.Type != fs.WriteLock {
			t.Errorf("got %v", err)
		}
		err = b.TestLock(ctx, rootCred, owner("c"), f, fs.Range{First: 0, Last: math.MaxUint64}, fs.WriteLock)
		if !errors.As(err, &d) {
			t.Errorf("got %v", err)
		}
		must(b.TestLock(ctx, rootCred, owner("c"), f, fs.Range{First: 22, Last: 22}, fs.ReadLock))

		// A reclaim that a program came before is lost, and is said to be.
		err = b.Lock(ctx, rootCred, &fs.LockRequest{File: f, OpenOwner: owner("a"), LockOwner: owner("a"), Range: fs.Range{First: 100, Last: 100}, Type: fs.WriteLock, Reclaim: true})
		if fs.CodeOf(err) != fs.ReclaimConflict {
			t.Errorf("reclaim: %v", err)
		}

		// Waiting for a program.
		heard := &ears{}
		b.Subscribe(heard)
		if err := lock("a", 100, 100, fs.WriteLock, true); !errors.Is(err, fs.Denied) {
			t.Errorf("got %v", err)
		}
		for range 20 {
			now.Advance(pollLast)
		}
		if h := heard.take(); len(h) != 0 {
			t.Errorf("heard %v before the lock was free", h)
		}
		p.says("ok", "unlock w 100 10")
		now.Advance(pollLast)
		if h := heard.take(); len(h) != 1 || h[0] != owner("a") {
			t.Errorf("heard %v", h)
		}
		now.Advance(10 * pollLast)
		if h := heard.take(); len(h) != 0 {
			t.Errorf("heard again: %v", h)
		}
		must(lock("a", 100, 100, fs.WriteLock, true))

		// Closing gives all back.
		must(b.CloseFile(ctx, owner("a"), f))
		must(b.CloseFile(ctx, owner("b"), f))
		p.says("ok", "lock w 0 0")
		p.says("ok", "unlock w 0 0")
		if n := b.files.locks.Load(); n != 0 {
			t.Errorf("%d files with locks are left", n)
		}
	})
}

// Locks beyond what the kernel can say are kept all the same, and let go.
func TestLocksBeyondTheKernel(t *testing.T) {
	b := start(t, Config{})
	ctx := t.Context()
	r, err := b.Open(ctx, rootCred, &fs.OpenRequest{Owner: owner("a"), Access: fs.ShareBoth, Dir: b.rootHandle, Name: "f", Create: fs.Unchecked})
	if err != nil {
		t.Fatal(err)
	}
	far := fs.Range{First: 1 << 63, Last: 1<<63 + 9}
	req := fs.LockRequest{File: r.File, OpenOwner: owner("a"), LockOwner: owner("a"), Range: far, Type: fs.WriteLock}
	if err := b.Lock(ctx, rootCred, &req); err != nil {
		t.Fatal(err)
	}
	if err := b.TestLock(ctx, rootCred, owner("b"), r.File, far, fs.ReadLock); !errors.Is(err, fs.Denied) {
		t.Errorf("got %v", err)
	}
	p := newProgram(t, b.cfg.Dir+"/f")
	p.says("ok", "lock w 0 0")
	if err := b.Unlock(ctx, rootCred, owner("a"), r.File, far); err != nil {
		t.Fatal(err)
	}
}

// NLM locks are under no open.
func TestLockWithoutOpen(t *testing.T) {
	b := start(t, Config{})
	mustWrite(t, b.cfg.Dir+"/f", "")
	f := lookup(t, b, b.rootHandle, "f")
	req := fs.LockRequest{File: f, LockOwner: owner("nlm"), Range: fs.Range{First: 0, Last: 9}, Type: fs.WriteLock}
	if err := b.Lock(t.Context(), rootCred, &req); err != nil {
		t.Fatal(err)
	}
	newProgram(t, b.cfg.Dir+"/f").says("denied", "lock r 0 1")
	if b.id.able {
		stranger := req
		stranger.LockOwner = owner("stranger")
		stranger.Range = fs.Range{First: 100, Last: 100}
		if err := b.Lock(t.Context(), &fs.Cred{UID: 12345, GID: 12345}, &stranger); fs.CodeOf(err) != fs.Access {
			t.Errorf("who may not write: %v", err)
		}
	}
	if err := b.Unlock(t.Context(), rootCred, owner("nlm"), f, req.Range); err != nil {
		t.Fatal(err)
	}
}

// A backend that is not root says so, or does everything as itself.
func TestUnprivileged(t *testing.T) {
	needRoot(t)
	base, err := os.MkdirTemp("", "unprivileged") // a place that others may reach
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(base)
	exe, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(base, 0o777), os.WriteFile(base+"/exe", exe, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(base + "/exe")
	cmd.Dir = base
	cmd.Env = append(os.Environ(), "LOCAL_TEST_UNPRIVILEGED=1")
	cmd.SysProcAttr = &syscallSysProcAttr{Credential: &credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "good\n" {
		t.Errorf("%v\n%s", err, out)
	}
}
