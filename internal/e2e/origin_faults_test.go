package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/nfs4"
	"holdfast/nfsup"
)

func init() {
	// Linux counts an owner that only waits for a lock among those whose lock is lost: here the counters.
	expectKernelNoise["TestOriginRestarts"] = true
}

// counters is traffic of kernel clients: each adds to one number in a file under a lock that all of them
// want, and writes down how often.
type counters struct {
	t    *testing.T
	vms  []*VM
	read func() (string, error) // the file, at the origin
}

// countIn starts one process in each VM.
func countIn(t *testing.T, file string, read func() (string, error), list ...*VM) *counters {
	t.Helper()
	c := &counters{t, list, read}
	for _, v := range list {
		v.sh("rm -f /run/count.stop /run/count; python3 /host" + testdata("counter.py") + " " + file + " /run/count /run/count.stop >/run/count.log 2>&1 &")
		t.Cleanup(func() { v.try("touch", "/run/count.stop") })
	}
	return c
}

// onHost reads a file of this host.
func onHost(file string) func() (string, error) {
	return func() (string, error) {
		b, err := os.ReadFile(file)
		return string(b), err
	}
}

// done is how often a VM has counted so far.
func (c *counters) done(v *VM) int {
	c.t.Helper()
	out, _ := v.try("sh", "-c", "cat /run/count /run/count.log 2>/dev/null; :")
	if strings.HasPrefix(out, "failed") || strings.Contains(out, "Traceback") {
		c.t.Fatalf("%s: the counting application: %s", v.name, out)
	}
	f := strings.Fields(out)
	if len(f) < 2 {
		return 0
	}
	n, err := strconv.Atoi(f[1])
	if err != nil {
		c.t.Fatalf("%s: %q", v.name, out)
	}
	return n
}

// goesOn waits until every VM has counted further.
func (c *counters) goesOn(when string) {
	c.t.Helper()
	begun := time.Now()
	for _, v := range c.vms {
		n := c.done(v)
		until(c.t, 120*time.Second, v.name+" counts on "+when, func() bool { return c.done(v) > n })
	}
	c.t.Logf("all count %s: seen after %v", when, time.Since(begun).Round(100*time.Millisecond))
}

// end stops the traffic, and compares.
func (c *counters) end() {
	c.t.Helper()
	sum := 0
	var told []string
	for _, v := range c.vms {
		v.run("touch", "/run/count.stop")
		until(c.t, 120*time.Second, v.name+" stops", func() bool {
			c.done(v)
			out, err := v.try("cat", "/run/count")
			return err == nil && strings.HasPrefix(out, "done")
		})
		told = append(told, v.name+" "+v.run("cat", "/run/count"))
		sum += c.done(v)
	}
	b, err := c.read()
	if err != nil {
		c.t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimLeft(strings.TrimSpace(b), "0"))
	c.t.Logf("%s; the file at the origin has %d", strings.Join(told, ", "), n)
	if err != nil || n != sum {
		c.t.Errorf("the file at the origin has %q, and the applications counted %d (I1, I7)", b, sum)
	}
}

// holders is a native client that holds locks of many owners on a file.
type holders struct {
	t    *testing.T
	c    *nfsup.Client
	fh   nfs4.FH
	n    int
	lost atomic.Int64
	last sync.Map // lock-owner's number -> what it was told
}

func (h *holders) span(i int) nfsup.Range {
	return nfsup.Range{First: uint64(i) * 10, Last: uint64(i)*10 + 9}
}

// holdNative takes n locks, each for an owner of its own, through port.
func holdNative(t *testing.T, port int, name, file string, n int) *holders {
	t.Helper()
	h := &holders{t: t, n: n}
	c, err := nfsup.Dial(context.Background(), nfsup.Config{
		Addr: fmt.Sprintf("127.0.0.1:%d", port), OwnerID: []byte(name), Verifier: [8]byte{1}, Cred: rootCred,
		Events: nfsup.Events{Revoked: func(r nfsup.Revocation) {
			h.lost.Add(1)
			h.last.Store(r.LockOwner, r)
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Abandon() })
	h.c = c
	dir := dataDir(t, c)
	ctx := context.Background()
	for i := range n {
		a := &nfsup.OpenArgs{Owner: owner(name, i), Access: nfs4.OPEN4_SHARE_ACCESS_BOTH, Dir: dir, Name: file}
		a.How = nfs4.OpenHow{Type: nfs4.OPEN4_CREATE, Mode: nfs4.UNCHECKED4}
		r, err := c.Open(ctx, rootCred, a)
		if err != nil {
			t.Fatal(err)
		}
		h.fh = r.FH
		if err := c.Lock(ctx, rootCred, &nfsup.LockArgs{FH: r.FH, OpenOwner: owner(name, i), LockOwner: owner(name+" lock", i), Range: h.span(i), Write: true}); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// write writes under a lock: nil, or why it is not held.
func (h *holders) write(name string, i int, text string) error {
	ctx, stop := context.WithTimeout(context.Background(), 100*time.Second)
	defer stop()
	return h.c.IO(ctx, rootCred, owner(name, i), owner(name+" lock", i), h.fh, func(sid nfs4.Stateid) []nfs4.Args {
		return []nfs4.Args{&nfs4.PutfhArgs{FH: h.fh}, &nfs4.WriteArgs{Stateid: sid, Offset: uint64(i) * 10, Stable: nfs4.FILE_SYNC4, Data: []byte(text)}}
	}, func([]nfs4.Res) error { return nil })
}

// allHeld fails the test unless every lock is held and can be written under.
func (h *holders) allHeld(name, when string) {
	h.t.Helper()
	_, locks := h.c.State()
	if n := h.lost.Load(); n > 0 || len(locks) != h.n {
		h.t.Fatalf("%s: %d of %d locks, and %d losses were told (I2)", when, len(locks), h.n, n)
	}
	for i := range h.n {
		if err := h.write(name, i, when[:1]); err != nil {
			h.t.Fatalf("%s: write under lock %d: %v", when, i, err)
		}
	}
}

// A rival is a native client of the origin itself that never stops trying to lock what others hold.
type rival struct {
	denied atomic.Int64
	stop   context.CancelFunc
	done   chan struct{}
}

// rivalry begins to try to lock file from first to last at port. A grant fails the test.
func rivalry(t *testing.T, port int, file string, first, last uint64) *rival {
	t.Helper()
	c := native(t, port, "rival at the origin", nil)
	fh := openNative(t, c, "rival", file)
	ctx, stop := context.WithCancel(context.Background())
	r := &rival{stop: stop, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		for ctx.Err() == nil {
			err := c.Lock(ctx, rootCred, &nfsup.LockArgs{FH: fh, OpenOwner: owner("rival", 0), LockOwner: owner("rival lock", 0), Range: nfsup.Range{First: first, Last: last}, Write: true})
			if st, ok := nfsup.StatusOf(err); ok && st == nfs4.NFS4ERR_DENIED {
				r.denied.Add(1)
			} else if err == nil {
				t.Errorf("a rival at the origin was granted what others hold (I1)")
				return
			}
			select { // often, but not so that nobody else has a CPU
			case <-ctx.Done():
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(r.end)
	return r
}

func (r *rival) end() {
	r.stop()
	<-r.done
}

// openNative opens a file of /data that exists, for owner 0 of a name.
func openNative(t *testing.T, c *nfsup.Client, name, file string) nfs4.FH {
	t.Helper()
	r, err := c.Open(context.Background(), rootCred, &nfsup.OpenArgs{Owner: owner(name, 0), Access: nfs4.OPEN4_SHARE_ACCESS_BOTH, Dir: dataDir(t, c), Name: file})
	if err != nil {
		t.Fatal(err)
	}
	return r.FH
}

// TestOriginRestarts: the origin, and then the origin and serve in either order, are killed under traffic.
// End clients see a pause, and lose nothing.
func TestOriginRestarts(t *testing.T) {
	s := stage(t, false)
	op := mustPort(t, s.origin)
	must(t, "alice", s.alice.hold("a", "/mnt/r/f", "write", "0", "10", "read", "20", "10"), "granted")
	must(t, "bob", s.bob.hold("b", "/mnt/r/f", "write", "10", "10", "read", "20", "10"), "granted")
	h := holdNative(t, s.port, "natives", "held", 40)
	r := rivalry(t, op, "held", 0, 399)
	traffic := countIn(t, "/mnt/r/count", onHost(filepath.Join(s.dir, "count")), s.alice, s.bob)
	traffic.goesOn("before")
	for _, round := range []struct {
		name string
		do   func()
	}{
		{"the origin restarts", func() { s.origin.kill9(); s.origin.boot() }},
		{"both restart, the origin first", func() {
			s.origin.kill9()
			s.serve.kill9()
			s.origin.boot()
			s.serve.boot()
		}},
		{"both restart, serve first", func() {
			s.serve.kill9()
			s.origin.kill9()
			s.serve.launch()
			until(t, 60*time.Second, "serve runs without its origin", func() bool { return alive(s.serve) })
			s.origin.boot()
			s.serve.waitReady()
		}},
	} {
		begun, tried := time.Now(), r.denied.Load()
		round.do()
		t.Logf("%s: up after %v", round.name, time.Since(begun).Round(100*time.Millisecond))
		traffic.goesOn("after " + round.name)
		until(t, 90*time.Second, "grace is over", func() bool { return s.serve.phase() == "serving" && s.origin.phase() == "serving" })
		h.allHeld("natives", round.name)
		for _, v := range []struct {
			*VM
			as, own, other string
		}{{s.alice, "a", "0", "10"}, {s.bob, "b", "10", "0"}} {
			out := v.ask(v.as, "put", v.own, "mine", "write", v.other, "10", "write", "20", "10")
			if strings.Count(out, "denied") != 2 || !strings.Contains(out, "done") {
				t.Fatalf("%s: %s writes under its lock, and asks for the other's and for more than a share: %q", round.name, v.name, out)
			}
		}
		until(t, 60*time.Second, "the rival was denied", func() bool { return r.denied.Load() > tried })
		if n := count(s.serve.events(), 0, "lost", ""); n != 0 {
			t.Fatalf("%s: %d losses in serve's events", round.name, n)
		}
	}
	traffic.end()
}

func mustPort(t *testing.T, d *Daemon) int {
	t.Helper()
	a := d.address()
	p, err := strconv.Atoi(a[strings.LastIndex(a, ":")+1:])
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// alive tells that a daemon that was launched answers its commands; one that has ended fails the test.
func alive(d *Daemon) bool {
	d.t.Helper()
	select {
	case <-d.exited:
		d.t.Fatalf("%s ended: %v\n%s", d.name, d.cmd.ProcessState, d.tail())
	default:
	}
	_, err := d.cli("status", "--json")
	return err == nil
}
