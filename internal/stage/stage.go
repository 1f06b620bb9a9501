// Package stage runs the built program in tests: real processes that are killed and started again.
package stage

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/child"
)

// Need skips a test where no real servers are wanted, and gives the program. Make builds it.
func Need(t testing.TB) string {
	t.Helper()
	if os.Getenv("HOLDFAST_E2E") == "" {
		t.Skip("starts real servers, as root: set HOLDFAST_E2E=1 after make build")
	}
	for dir, err := filepath.Abs("."); err == nil && dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "bin", "holdfast")
		}
	}
	t.Fatal("the test does not run within the module")
	return ""
}

// Port is a TCP port of this host that nobody listens on, as HOST:PORT.
func Port(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// Dir is a scratch directory that all users can pass, which is not emptied while something is mounted in it.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "holdfast-stage")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if b, err := os.ReadFile("/proc/self/mountinfo"); err != nil || bytes.Contains(b, []byte(" "+dir+"/")) {
			t.Errorf("something is still mounted in %s, %v", dir, err)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A Proc is a holdfast.
type Proc struct {
	t      testing.TB
	binary string
	name   string
	State  string // its state directory
	args   []string
	mounts []string
	log    *os.File
	cmd    *exec.Cmd
	exited chan struct{}
}

// readyTime is how long a process may take until it serves.
const readyTime = 60 * time.Second

// Start runs holdfast with the arguments and a state directory below dir, and waits until it serves. It is killed,
// and what it mounted taken away, when the test ends.
func Start(t testing.TB, binary, dir, name string, args ...string) *Proc {
	t.Helper()
	p := &Proc{t: t, binary: binary, name: name, State: filepath.Join(dir, "state-"+name), args: args}
	for i, a := range args[:len(args)-1] {
		if a == "--mount" {
			p.mounts = append(p.mounts, args[i+1])
		}
	}
	var err error
	if p.log, err = os.OpenFile(filepath.Join(dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.end)
	p.Boot()
	return p
}

// Boot starts it again.
func (p *Proc) Boot() {
	p.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(p.binary, append(append([]string(nil), p.args...), "--state-dir", p.State)...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = p.log, p.log, []*os.File{w}
	cmd.Env = append(os.Environ(), "HOLDFAST_READY_FD=3")
	err = child.Start(cmd)
	_ = w.Close() // the child has its own
	if err != nil {
		p.t.Fatal(err)
	}
	p.cmd, p.exited = cmd, make(chan struct{})
	go func(exited chan struct{}) {
		_ = cmd.Wait() // how it ended does not matter
		close(exited)
	}(p.exited)
	if err := r.SetReadDeadline(time.Now().Add(readyTime)); err != nil {
		p.t.Fatal(err)
	}
	b := make([]byte, 4096)
	if n, err := r.Read(b); !strings.HasPrefix(string(b[:n]), "ready") {
		p.t.Fatalf("%s did not start: %q, %v\n%s", p.name, b[:n], err, p.Log())
	}
}

// Kill is kill -9, and waits until it is gone.
func (p *Proc) Kill() {
	_ = p.cmd.Process.Kill() // it may be gone already
	<-p.exited
}

// Log is what it has written.
func (p *Proc) Log() string {
	b, err := os.ReadFile(p.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-8000):])
}

// Run runs a command about the process, as "cache usage", and gives what it prints; the error has what it said.
func (p *Proc) Run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.binary, append(args, "--state-dir", p.State)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("holdfast %s: %w: %s%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String(), nil
}

// PID is the process.
func (p *Proc) PID() int { return p.cmd.Process.Pid }

// Stop is SIGTERM, and waits.
func (p *Proc) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may be gone already
	select {
	case <-p.exited:
	case <-time.After(readyTime):
		p.t.Errorf("%s does not stop", p.name)
		p.Kill()
	}
}

func (p *Proc) end() {
	if p.cmd != nil {
		p.Kill()
	}
	for _, m := range p.mounts {
		_ = unix.Unmount(m, unix.MNT_DETACH) // it may not be there
	}
	log := p.Log()
	for _, word := range []string{"panic:", "fatal error:", "DATA RACE"} {
		if strings.Contains(log, word) {
			p.t.Errorf("%s panicked:\n%s", p.name, log)
		}
	}
	if p.t.Failed() {
		p.t.Logf("the log of %s:\n%s", p.name, log)
	}
	_ = p.log.Close()
}
