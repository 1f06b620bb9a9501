package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	repo   string // the root of the module
	binary string
	bridge string // the host's address on the VMs' bridge
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	wd, err := os.Getwd()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	repo = filepath.Join(wd, "../..")
	binary = filepath.Join(repo, "bin/holdfast")
	if os.Getenv("HOLDFAST_E2E") == "" {
		return m.Run() // every test skips and says how not to
	}
	if os.Getenv("VM_STATE") == "" {
		if err := os.Setenv("VM_STATE", fmt.Sprintf("/run/holdfast-e2e-%d", os.Getpid())); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	out, err := vmCommand("net", "up").Output()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm net up:", err)
		return 1
	}
	bridge = strings.TrimSpace(string(out))
	code := m.Run()
	if os.Getenv("HOLDFAST_E2E") != "keep" {
		if err := vmCommand("net", "down").Run(); err != nil {
			fmt.Fprintln(os.Stderr, "vm net down:", err)
			code = 1
		}
	}
	return code
}

func need(t *testing.T) {
	t.Helper()
	if os.Getenv("HOLDFAST_E2E") == "" {
		t.Skip("needs VMs and root: run `make e2e`, or set HOLDFAST_E2E=1 after scripts/setup and make build")
	}
	takeTurn(t)
}

func vmCommand(args ...string) *exec.Cmd {
	return exec.Command(filepath.Join(repo, "scripts/vm/vm"), args...)
}

// A VM is a Linux kernel of its own.
type VM struct {
	t    *testing.T
	name string
}

var booted sync.Map // name -> true

// vms boots the VMs that are not up yet; they stay up for all tests of the package.
func vms(t *testing.T, names ...string) []*VM {
	t.Helper()
	need(t)
	var wg sync.WaitGroup
	var list []*VM
	for _, name := range names {
		list = append(list, &VM{t, name})
		if _, up := booted.LoadOrStore(name, true); up {
			continue
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			if out, err := vmCommand("up", name, "--mem", "512M").CombinedOutput(); err != nil {
				t.Errorf("vm up %s: %v\n%s", name, err, out)
			}
		}()
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for _, v := range list {
		v.try("dmesg", "-C")
		t.Cleanup(v.checkLog)
	}
	return list
}

// checkLog fails the test if the VM's kernel complained.
func (v *VM) checkLog() {
	out, _ := v.try("dmesg")
	for _, line := range strings.Split(out, "\n") {
		for _, bad := range []string{"NFS: ", "nfs4_", "WARNING", "BUG", "bad sequence", "Call Trace", "state manager", "lock reclaim failed"} {
			if strings.Contains(line, bad) && !strings.Contains(line, "Loading iSCSI") {
				v.t.Logf("%s: kernel log: %s", v.name, line)
				test, _, _ := strings.Cut(v.t.Name(), "/")
				if !expectKernelNoise[test] && !expectKernelNoise[test+" "+v.name] && !(loseInFlight[test] && strings.HasSuffix(line, "lost 1 locks")) {
					v.t.Errorf("%s: the kernel complained", v.name)
				}
			}
		}
	}
}

// expectKernelNoise names the tests, or a VM in one, in which Linux is to say that a lock is lost.
var expectKernelNoise = map[string]bool{}

// loseInFlight names the tests with traffic over a restart, in which Linux may say that one lock is lost: it counts an
// owner that is on its way to a lock. What is lost in truth the tests find out otherwise.
var loseInFlight = map[string]bool{"TestKnfsdRestarts": true, "TestGaneshaRestarts": true, "TestResumeAtKnfsd": true, "TestResumeAtKnfsdLong": true, "TestResumeAtGanesha": true}

// try runs a command in the VM and gives its output and error.
func (v *VM) try(args ...string) (string, error) {
	ctx, stop := context.WithTimeout(context.Background(), 180*time.Second)
	defer stop()
	cmd := exec.CommandContext(ctx, filepath.Join(repo, "scripts/vm/vm"), append([]string{"exec", "--timeout", "170", v.name, "--"}, args...)...)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// run is try that must succeed.
func (v *VM) run(args ...string) string {
	v.t.Helper()
	out, err := v.try(args...)
	if err != nil {
		v.t.Fatalf("%s: %s: %v\n%s", v.name, strings.Join(args, " "), err, out)
	}
	return out
}

// sh is run with a shell.
func (v *VM) sh(script string) string {
	v.t.Helper()
	return v.run("sh", "-ec", script)
}

// mount mounts from the host's bridge address and unmounts at the end of the test.
func (v *VM) mount(port int, path, dir, options string) {
	v.t.Helper()
	if options != "" {
		options = "," + options
	}
	out, err := vmCommand("mount", v.name, "host:"+path, dir, "-o", fmt.Sprintf("port=%d%s", port, options)).CombinedOutput()
	if err != nil {
		v.t.Fatalf("%s: mount: %v\n%s", v.name, err, out)
	}
	v.t.Cleanup(func() {
		if out, err := v.try("sh", "-c", "pkill lockprobe; umount -f "+dir+" || umount -l "+dir); err != nil {
			v.t.Logf("%s: umount: %v %s", v.name, err, out)
		}
	})
}

// hold starts a process in the VM that takes locks and stays. The result is lockprobe's output.
func (v *VM) hold(as, file string, commands ...string) string {
	v.t.Helper()
	return v.run(append([]string{"lockprobe", "--hold", "/run/vm/" + as, file}, commands...)...)
}

// ask lets that process run commands. A denied lock is no failure of the test; see the output.
func (v *VM) ask(as string, commands ...string) string {
	out, _ := v.try(append([]string{"lockprobe", "--ask", "/run/vm/" + as}, commands...)...)
	return out
}

// probe runs lock commands in a process of their own.
func (v *VM) probe(file string, commands ...string) string {
	out, _ := v.try(append([]string{"lockprobe", file}, commands...)...)
	return out
}

// must fails the test unless got has want.
func must(t *testing.T, what, got, want string) {
	t.Helper()
	if !strings.Contains(got, want) {
		t.Fatalf("%s: got %q, want %q", what, got, want)
	}
}

// A Daemon is a running holdfast.
type Daemon struct {
	t         *testing.T
	name      string
	args      []string
	state     string
	cmd       *exec.Cmd
	log       *os.File
	exited    chan struct{}
	readyPipe *os.File
}

// port returns a TCP port that is free on all addresses.
func port(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// start runs `holdfast ROLE ...` with a state directory of its own and waits until it serves.
func start(t *testing.T, name, state string, args ...string) *Daemon {
	t.Helper()
	if slices.Contains(args, "--rpcbind") {
		ownPortmapper(t)
	}
	need(t)
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	d := &Daemon{t: t, name: name, state: state, args: append(args, "--state-dir", state)}
	d.boot()
	t.Cleanup(d.stop)
	return d
}

// boot starts the process, again after a kill, and waits until it says that it is ready.
func (d *Daemon) boot() {
	d.t.Helper()
	d.launch()
	d.waitReady()
}

// launch starts the process and does not wait.
func (d *Daemon) launch() {
	d.t.Helper()
	log, err := os.OpenFile(filepath.Join(d.state, "test.log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		d.t.Fatal(err)
	}
	d.log = log
	d.cmd = exec.Command(binary, d.args...)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.ExtraFiles = []*os.File{w}
	d.cmd.Env = append(os.Environ(), "HOLDFAST_READY_FD=3", "HOLDFAST_RPCBIND=off")
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	w.Close()
	d.exited = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) { cmd.Wait(); close(done) }(d.cmd, d.exited)
	d.readyPipe = r
}

func (d *Daemon) waitReady() {
	d.t.Helper()
	if err := d.readyPipe.SetReadDeadline(time.Now().Add(120 * time.Second)); err != nil {
		d.t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := d.readyPipe.Read(b)
	if err != nil || !strings.HasPrefix(string(b[:n]), "ready") {
		d.t.Fatalf("%s: not ready: %q %v\n%s", d.name, b[:n], err, d.tail())
	}
}

// kill9 is a crash: nothing is said to anybody.
func (d *Daemon) kill9() {
	d.t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		d.t.Fatal(err)
	}
	<-d.exited
}

// stop is a clean stop; a daemon that does not end is a failure.
func (d *Daemon) stop() {
	select {
	case <-d.exited:
	default:
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-d.exited:
		case <-time.After(40 * time.Second):
			_ = d.cmd.Process.Signal(syscall.SIGABRT)
			<-d.exited
			d.t.Errorf("%s did not stop on SIGTERM\n%s", d.name, d.tail())
		}
	}
	if b, err := os.ReadFile(d.log.Name()); err == nil && bytes.Contains(b, []byte("panic:")) {
		d.t.Errorf("%s panicked\n%s", d.name, d.tail())
	}
	if d.t.Failed() {
		d.t.Logf("%s log:\n%s", d.name, d.tail())
	}
	d.log.Close()
}

func (d *Daemon) tail() string {
	b, err := os.ReadFile(d.log.Name())
	if err != nil {
		return err.Error()
	}
	if len(b) > 6000 {
		b = b[len(b)-6000:]
	}
	return string(b)
}

// cli runs a command against the instance; exit code other than 0 comes as an error.
func (d *Daemon) cli(args ...string) (string, error) {
	var out, errs bytes.Buffer
	cmd := exec.Command(binary, append(args, "--state-dir", d.state)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, errs.String())
	}
	return out.String(), err
}

// query runs a command with --json and decodes what it prints.
func (d *Daemon) query(v any, args ...string) {
	d.t.Helper()
	out, err := d.cli(append(args, "--json")...)
	if err != nil {
		d.t.Fatalf("%s: %v: %v", d.name, args, err)
	}
	if err := json.Unmarshal([]byte(out), v); err != nil {
		d.t.Fatalf("%s: %v: %v\n%s", d.name, args, err, out)
	}
}

// until waits for a condition of the outside world, asked for again and again, at most for limit.
func until(t *testing.T, limit time.Duration, what string, f func() bool) {
	t.Helper()
	end := time.Now().Add(limit)
	for !f() {
		if time.Now().After(end) {
			t.Fatalf("after %v still not: %s", limit, what)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// exitCode of a command's error, -1 if it did not run.
func exitCode(err error) int {
	var e *exec.ExitError
	if errors.As(err, &e) {
		return e.ExitCode()
	}
	if err == nil {
		return 0
	}
	return -1
}
