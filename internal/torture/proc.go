package torture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"holdfast/internal/child"
)

// A proc is a holdfast that is killed and started again.
type proc struct {
	name   string
	binary string
	args   []string
	state  string
	addr   string // where it serves, of a re-export server
	log    *os.File

	mu      sync.Mutex
	cmd     *exec.Cmd     // guarded by mu
	exited  chan struct{} // guarded by mu; closed when cmd ended
	ready   chan struct{} // guarded by mu; closed when cmd said that it is ready, or ended before
	isReady bool          // guarded by mu
}

func newProc(name, binary, state string, args ...string) (*proc, error) {
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(filepath.Dir(state), name+".log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	return &proc{name: name, binary: binary, state: state, log: log, args: append(args, "--state-dir", state)}, nil
}

// launch starts the process and does not wait.
func (p *proc) launch(env ...string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd := exec.Command(p.binary, p.args...)
	cmd.Stdout, cmd.Stderr = p.log, p.log
	cmd.ExtraFiles = []*os.File{w}
	cmd.Env = append(append(os.Environ(), "HOLDFAST_READY_FD=3"), env...)
	if err := child.Start(cmd); err != nil {
		return errors.Join(err, r.Close(), w.Close())
	}
	_ = w.Close() // the child has its own
	exited, ready := make(chan struct{}), make(chan struct{})
	p.mu.Lock()
	p.cmd, p.exited, p.ready, p.isReady = cmd, exited, ready, false
	p.mu.Unlock()
	go func() {
		_ = cmd.Wait() // how it ended does not matter; a crash point may have ended it
		close(exited)
	}()
	go func() {
		b := make([]byte, 4096)
		n, _ := r.Read(b) // an error is an end without the word
		p.mu.Lock()
		if p.cmd == cmd {
			p.isReady = strings.HasPrefix(string(b[:n]), "ready")
		}
		p.mu.Unlock()
		close(ready)
		_ = r.Close()
	}()
	return nil
}

// boot is launch until it serves; false if it ended before, as at a crash point, or was too slow.
func (p *proc) boot(limit time.Duration, env ...string) (bool, error) {
	if err := p.launch(env...); err != nil {
		return false, err
	}
	return p.waitReady(limit), nil
}

func (p *proc) waitReady(limit time.Duration) bool {
	p.mu.Lock()
	ready := p.ready
	p.mu.Unlock()
	select {
	case <-ready:
	case <-time.After(limit):
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.isReady
}

// signal sends a signal; it is no error if the process is gone.
func (p *proc) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(s) // ErrProcessDone
	}
}

// kill is kill -9, and waits until it is gone.
func (p *proc) kill() {
	p.signal(syscall.SIGKILL)
	p.mu.Lock()
	exited := p.exited
	p.mu.Unlock()
	<-exited
}

// gone is closed when the process of now has ended.
func (p *proc) gone() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exited
}

// abort kills what is still there.
func (p *proc) abort() {
	p.mu.Lock()
	started := p.cmd != nil
	p.mu.Unlock()
	if started {
		p.kill()
	}
}

// dump has the process say what each of its goroutines does, into its log, and end.
func (p *proc) dump() {
	p.signal(syscall.SIGCONT)
	p.signal(syscall.SIGQUIT)
	select {
	case <-p.gone():
	case <-time.After(10 * time.Second):
		p.kill()
	}
}

// asked is the answer of the process to a command of the program, or why there is none.
func (p *proc) asked(ctx context.Context, args ...string) string {
	ctx, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	out, err := exec.CommandContext(ctx, p.binary, append(args, "--state-dir", p.state)...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s(%v)", out, err)
	}
	return string(out)
}

// stop is a clean stop; an error if it does not end.
func (p *proc) stop() error {
	p.mu.Lock()
	started := p.cmd != nil
	p.mu.Unlock()
	if !started {
		return p.log.Close()
	}
	p.signal(syscall.SIGCONT)
	p.signal(syscall.SIGTERM)
	var err error
	select {
	case <-p.gone():
	case <-time.After(40 * time.Second):
		p.signal(syscall.SIGABRT)
		<-p.gone()
		err = fmt.Errorf("%s did not stop on SIGTERM", p.name)
	}
	return errors.Join(err, p.panicked(), p.log.Close())
}

func (p *proc) panicked() error {
	b, err := os.ReadFile(p.log.Name())
	if err != nil {
		return err
	}
	for _, word := range []string{"panic:", "fatal error:", "WARNING: DATA RACE"} {
		if i := bytes.Index(b, []byte(word)); i >= 0 {
			return fmt.Errorf("%s panicked: %.2000s", p.name, b[i:])
		}
	}
	return nil
}
