package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"holdfast/internal/loadgen/relay"
)

// A fleet is everything that runs for a section: the daemons, the relay, the peer of the TCP limits.
type fleet struct {
	s       *settings
	rtt     time.Duration
	targets []*target
	peer    string
	notes   []string

	daemons []*daemon
	undo    []func() error // in the order in which they were begun
}

const exportOptions = "(rw,no_root_squash,insecure)"

func (f *fleet) start(ctx context.Context) error {
	data := filepath.Join(f.s.dir, "data")
	if err := os.MkdirAll(data, 0o777); err != nil {
		return err
	}
	if err := f.startPeer(); err != nil {
		return err
	}
	add := func(t *target) {
		if f.s.wants(t.name) {
			f.targets = append(f.targets, t)
		}
	}
	if f.s.wants("origin") || f.s.wants("serve") || f.s.wants("fuse") || f.s.wants("proxy") {
		origin, addr, err := f.holdfast("origin", "origin", data)
		if err != nil {
			return err
		}
		if f.rtt > 0 {
			if _, addr, err = f.startRelay(addr); err != nil {
				return err
			}
		}
		add(&target{name: "origin", addr: addr, path: "/data", daemons: []*daemon{origin}})
		if f.s.wants("serve") || f.s.wants("fuse") {
			host, port, err := net.SplitHostPort(addr)
			if err != nil {
				return err
			}
			mnt := filepath.Join(f.s.dir, "mnt")
			if err := os.MkdirAll(mnt, 0o755); err != nil {
				return err
			}
			// A mount that its daemon left behind would hide the directory.
			f.undo = append(f.undo, func() error { _ = syscall.Unmount(mnt, syscall.MNT_DETACH); return nil })
			serve, addr, err := f.holdfast("serve", "serve", host+":/data", "-o", fmt.Sprintf("port=%s,nconnect=%d", port, f.s.conns), "--mount", mnt)
			if err != nil {
				return err
			}
			add(&target{name: "serve", addr: addr, path: "/data", daemons: []*daemon{serve, origin}})
			add(&target{name: "fuse", dir: mnt, daemons: []*daemon{serve, origin}})
		}
		if f.s.wants("proxy") {
			t, err := f.proxy(addr, origin)
			if err != nil {
				f.notes = append(f.notes, "nfs-ganesha PROXY_V4: "+err.Error())
			} else {
				add(t)
			}
		}
	}
	if f.s.wants("delegated") {
		t, err := f.delegated()
		if err != nil {
			return err
		}
		add(t)
	}
	if f.s.wants("ganesha") && f.rtt == 0 {
		t, err := f.ganesha()
		if err != nil {
			f.notes = append(f.notes, "nfs-ganesha: "+err.Error())
		} else {
			add(t)
		}
	}
	if f.s.other != "" {
		addr, path, _ := strings.Cut(f.s.other, "/")
		f.targets = append(f.targets, &target{name: otherTarget, addr: addr, path: path})
	}
	if f.rtt == 0 {
		add(&target{name: "dir", dir: data})
	}
	if len(f.targets) == 0 {
		return errors.New("nothing to measure")
	}
	return nil
}

// delegated is a serve of its own in front of an origin that delegates what serve opens. Only opens are asked of
// it: all else is as it is without.
func (f *fleet) delegated() (*target, error) {
	data := filepath.Join(f.s.dir, "delegated")
	if err := os.MkdirAll(data, 0o777); err != nil {
		return nil, err
	}
	// Its files are looked at through the server only: "on" may trust in that.
	origin, addr, err := f.holdfast("delegating", "origin", data, "--delegate", "on")
	if err != nil {
		return nil, err
	}
	if f.rtt > 0 {
		if _, addr, err = f.startRelay(addr); err != nil {
			return nil, err
		}
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	serve, addr, err := f.holdfast("delegated", "serve", host+":/data", "-o", fmt.Sprintf("port=%s,nconnect=%d", port, f.s.conns))
	if err != nil {
		return nil, err
	}
	return &target{name: "delegated", addr: addr, path: "/data", daemons: []*daemon{serve, origin}, only: opens}, nil
}

var opens = regexp.MustCompile("^open")

func (f *fleet) stop() error {
	var errs []error
	for i := len(f.undo) - 1; i >= 0; i-- {
		errs = append(errs, f.undo[i]())
	}
	return errors.Join(errs...)
}

// alive is an error if a daemon has ended.
func (f *fleet) alive() error {
	for _, d := range f.daemons {
		select {
		case <-d.exited:
			return fmt.Errorf("%s ended: %v\n%s", d.name, d.cmd.ProcessState, d.tail())
		default:
		}
	}
	return nil
}

func (f *fleet) startPeer() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "worker", "peer")
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	f.undo = append(f.undo, func() error { return errors.Join(in.Close(), cmd.Wait()) })
	line, err := bufio.NewReader(out).ReadString('\n')
	f.peer = strings.TrimSpace(line)
	return err
}

// startRelay makes the way to an address as long as the section wants it.
func (f *fleet) startRelay(to string) (*relay.Relay, string, error) {
	r, addr, stop, err := relay.Start(to, f.rtt)
	if err == nil {
		f.undo = append(f.undo, stop)
	}
	return r, addr, err
}

// A daemon is a process that we started.
type daemon struct {
	name   string
	cmd    *exec.Cmd
	log    string
	exited chan struct{}
}

// launch starts a process whose output goes to a log.
func (f *fleet) launch(name string, cmd *exec.Cmd) (*daemon, error) {
	d := &daemon{name: name, cmd: cmd, log: filepath.Join(f.s.dir, name+".log"), exited: make(chan struct{})}
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	// Ctrl-C is for us: we stop the daemons in their order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = cmd.Wait() // its state tells
		close(d.exited)
	}()
	f.daemons = append(f.daemons, d)
	f.undo = append(f.undo, d.stop)
	return d, nil
}

// stop ends the process, by force if it does not within 30 s, which is an error.
func (d *daemon) stop() error {
	select {
	case <-d.exited:
		return nil
	default:
	}
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-d.exited:
		return nil
	case <-time.After(30 * time.Second):
	}
	// SIGABRT makes a Go program say where it hangs.
	err := fmt.Errorf("%s did not end when it was told to; see %s", d.name, d.log)
	for _, sig := range []syscall.Signal{syscall.SIGABRT, syscall.SIGKILL} {
		err = errors.Join(err, d.cmd.Process.Signal(sig))
		select {
		case <-d.exited:
			return err
		case <-time.After(5 * time.Second):
		}
	}
	return err
}

func (d *daemon) tail() string {
	b, err := os.ReadFile(d.log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4000):])
}

// freePort is a TCP port that nobody listens on.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// holdfast starts a role and waits until it serves.
func (f *fleet) holdfast(name, role string, args ...string) (*daemon, string, error) {
	port, err := freePort()
	if err != nil {
		return nil, "", err
	}
	return f.holdfastAt(fmt.Sprintf("127.0.0.1:%d", port), name, role, args...)
}

// holdfastAt starts a role at an address, on the state that it left if it was there before.
func (f *fleet) holdfastAt(addr, name, role string, args ...string) (*daemon, string, error) {
	state := filepath.Join(f.s.dir, fmt.Sprintf("state-%s-%v", name, f.rtt))
	args = append(append([]string{role}, args...), "--state-dir", state, "--listen", addr, "--export", "/data *"+exportOptions)
	cmd := exec.Command(f.s.binary, args...)
	r, w, err := os.Pipe()
	if err != nil {
		return nil, "", err
	}
	defer r.Close()
	cmd.ExtraFiles = []*os.File{w}
	cmd.Env = append(os.Environ(), "HOLDFAST_READY_FD=3")
	d, err := f.launch(name, cmd)
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, "", err
	}
	if err := r.SetReadDeadline(time.Now().Add(60 * time.Second)); err != nil {
		return nil, "", err
	}
	line, err := bufio.NewReader(r).ReadString('\n')
	if errors.Is(err, io.EOF) {
		<-d.exited
	}
	if strings.TrimSpace(line) != "ready" {
		return nil, "", fmt.Errorf("holdfast %s is not ready: %q %w\n%s", role, line, err, d.tail())
	}
	return d, addr, nil
}
