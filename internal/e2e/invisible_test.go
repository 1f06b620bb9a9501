package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// restartView is what status says of the last start.
type restartView struct {
	Mode   string `json:"mode"`
	Reason string `json:"reason"`
	Done   bool   `json:"done"`
	Lost   int    `json:"lost"`
}

func (d *Daemon) restarted() restartView {
	d.t.Helper()
	var v struct {
		Restart restartView `json:"restart"`
	}
	d.query(&v, "status")
	return v.Restart
}

// unseen waits until a restart is over, and fails the test unless it was an invisible one without a loss.
func (d *Daemon) unseen() {
	d.t.Helper()
	until(d.t, 60*time.Second, "state is restored", func() bool { return d.restarted().Done })
	if r := d.restarted(); r.Mode != "invisible" || r.Lost != 0 {
		d.t.Fatalf("restart: %+v", r)
	}
}

// lockLoop locks, writes, reads back and unlocks until the file stop is there; it prints how often and the longest
// time that one turn took, in seconds.
const lockLoop = `
import fcntl, json, os, sys, time
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o644)
turns, longest = 0, 0.0
while not os.path.exists(sys.argv[2]):
    begin = time.monotonic()
    fcntl.lockf(fd, fcntl.LOCK_EX, 100, 100)
    word = b"%d" % turns
    os.pwrite(fd, word, 100)
    os.fsync(fd)
    assert os.pread(fd, len(word), 100) == word
    fcntl.lockf(fd, fcntl.LOCK_UN, 100, 100)
    turns += 1
    longest = max(longest, time.monotonic() - begin)
print(json.dumps({"turns": turns, "longest": longest}))
`

// A looper is a lockLoop that runs.
type looper struct {
	v    *VM
	stop string
	done chan error
	out  string
}

func (v *VM) loop(file, name string) *looper {
	v.t.Helper()
	l := &looper{v: v, stop: "/run/stop-" + name, done: make(chan error, 1)}
	go func() {
		var err error
		l.out, err = v.try("python3", "-c", lockLoop, file, l.stop)
		l.done <- err
	}()
	until(v.t, 30*time.Second, "the loop of "+v.name+" runs", func() bool {
		out, _ := v.try("sh", "-c", "wc -c <"+file)
		return strings.TrimSpace(out) != "" && strings.TrimSpace(out) != "0"
	})
	return l
}

// end stops the loop; that any call of it failed is a failure of the test.
func (l *looper) end() {
	l.v.t.Helper()
	l.v.sh("touch " + l.stop)
	if err := <-l.done; err != nil {
		l.v.t.Fatalf("%s: the loop failed: %v\n%s", l.v.name, err, l.out)
	}
	var sum struct {
		Turns   int
		Longest float64
	}
	if err := json.Unmarshal([]byte(l.out), &sum); err != nil {
		l.v.t.Fatalf("%v in %q", err, l.out)
	}
	l.v.t.Logf("%s: %d turns of lock, write, unlock; the longest took %.2f s", l.v.name, sum.Turns, sum.Longest)
}

// TestInvisibleRestart: serve is killed and started again, twice, under kernels (4.2 and 4.1) that lock and write,
// one of which holds a lock that the other one waits for. No call fails, nobody reclaims, a rival never gets what is
// held, and who waits gets it when it is given back.
func TestInvisibleRestart(t *testing.T) {
	for _, at := range []string{"friendly", "ganesha"} { // restored by reclaims there, by resume here
		t.Run(at, func(t *testing.T) {
			v := vms(t, "alice", "bob")
			a, b := &VM{t, v[0].name}, &VM{t, v[1].name}
			var serve *Daemon
			var p int
			path := "/data"
			if at == "friendly" {
				_, op := startOrigin(t, scratch(t, "export"))
				serve, p = startServe(t, op, "", "--restart", "auto")
			} else {
				path = "/export"
				serve, p = reexport(t, ganesha(t, 15, true).address, scratch(t, "serve-state"), "--restart", "auto")
			}
			a.mount(p, path, "/mnt/i", "vers=4.2")
			b.mount(p, path, "/mnt/i", "vers=4.1")
			must(t, "alice holds", a.hold("held", "/mnt/i/f", "write", "0", "10"), "granted")
			waiting := make(chan string, 1)
			go func() { waiting <- b.probe("/mnt/i/f", "wait-write", "0", "2", "160") }()
			until(t, 20*time.Second, "bob waits", func() bool {
				out, err := serve.cli("locks", "--json")
				return err == nil && strings.Contains(out, `"waiting"`)
			})
			loops := []*looper{a.loop("/mnt/i/loop-a", at), b.loop("/mnt/i/loop-b", at)}
			for n := range 2 {
				serve.kill9()
				serve.boot()
				must(t, "a rival at once", b.probe("/mnt/i/f", "write", "5", "1"), "denied")
				serve.unseen()
				must(t, "alice writes under her lock", a.ask("held", "put", "0", fmt.Sprint("turn ", n)), "done")
			}
			for _, l := range loops {
				l.end()
			}
			list := serve.events()
			if n := count(list, 0, "reclaim", "granted") + count(list, 0, "lost", ""); n != 0 {
				t.Errorf("%d reclaims or losses of clients", n)
			}
			if n := count(list, 0, "restart", "restored"); n < 2 {
				t.Errorf("%d restarts are in the audit trail", n)
			}
			select {
			case out := <-waiting:
				t.Fatalf("bob got in: %s", out)
			default:
			}
			must(t, "alice gives it back", a.ask("held", "unlock", "0", "10"), "done")
			must(t, "bob gets it then", <-waiting, "granted")
		})
	}
}

// unstableWriter lets the kernel write with one UNSTABLE WRITE, and then commit.
const unstableWriter = `
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
size = 64 << 10
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o644)
os.pwrite(fd, sys.argv[2].encode() * size, 0)
if libc.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(size), 2 | 4) != 0:
    raise OSError(ctypes.get_errno(), "sync_file_range")
os.fsync(fd)
`

// served tells how often clients have called an operation since the start.
func (d *Daemon) served(op string) uint64 {
	d.t.Helper()
	var v struct {
		Downstream []struct {
			Op    string `json:"op"`
			Count uint64 `json:"count"`
		} `json:"downstream"`
	}
	d.query(&v, "stats", "-s")
	for _, o := range v.Downstream {
		if o.Op == op {
			return o.Count
		}
	}
	return 0
}

// TestUnstableWritesOverRestarts: what a kernel has written and not committed (UNSTABLE, RFC 8881 18.32) is sent again
// after the origin restarted, and not after serve alone did: the verifier is the origin's. serve dies when it is
// about to pass the COMMIT on. With both of them down at once, clients see no restart either: the origin is in its
// grace period, and takes back all there is.
func TestUnstableWritesOverRestarts(t *testing.T) {
	a := vms(t, "alice")[0]
	dir := scratch(t, "export")
	origin, op := startOrigin(t, dir)
	serve, p := startServe(t, op, "", "--restart", "auto")
	a.mount(p, "/data", "/mnt/u", "vers=4.2")
	must(t, "alice holds", a.hold("u", "/mnt/u/held", "write", "0", "10"), "granted")
	type report struct {
		out string
		err error
	}
	for _, step := range []string{"serve", "both"} {
		serve.kill9()
		t.Setenv("HOLDFAST_CRASH", "remote.commit")
		serve.boot()
		t.Setenv("HOLDFAST_CRASH", "")
		serve.unseen()
		writer := make(chan report, 1)
		go func() {
			out, err := a.try("python3", "-c", unstableWriter, "/mnt/u/"+step, step[:1])
			writer <- report{out, err}
		}()
		select {
		case <-serve.exited:
		case r := <-writer:
			t.Fatalf("%s: the writer ended, and serve did not: %v\n%s", step, r.err, r.out)
		case <-time.After(120 * time.Second):
			t.Fatalf("%s: no COMMIT came", step)
		}
		if step == "both" {
			origin.kill9()
			origin.boot()
		}
		serve.boot()
		serve.unseen()
		if r := <-writer; r.err != nil {
			t.Fatalf("%s: the writer failed: %v\n%s", step, r.err, r.out)
		}
		writes, commits := serve.served("WRITE"), serve.served("COMMIT")
		t.Logf("%s restarted: then came %d WRITE and %d COMMIT", step, writes, commits)
		switch {
		case commits == 0:
			t.Errorf("%s: no COMMIT came again", step)
		case step == "serve" && writes != 0:
			t.Errorf("%d writes were sent again although the origin did not restart", writes)
		case step == "both" && writes == 0:
			t.Error("no write was sent again although the origin restarted (I7)")
		}
		want := bytes.Repeat([]byte(step[:1]), 64<<10)
		if b, err := os.ReadFile(filepath.Join(dir, step)); err != nil || !bytes.Equal(b, want) {
			t.Errorf("%s: the origin has other data: %v, %d bytes", step, err, len(b))
		}
	}
	must(t, "alice writes under her lock", a.ask("u", "put", "0", "still"), "done")
	if n := count(serve.events(), 0, "reclaim", "granted"); n != 0 {
		t.Errorf("clients had to reclaim %d times", n)
	}
}
