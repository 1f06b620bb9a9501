package nfsup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
)

// Tests against a real server. They make a directory of their own below the export.

// origin is where HOLDFAST_ORIGIN points to.
type origin struct {
	addr string
	path []string
}

func realOrigin(t *testing.T) origin {
	t.Helper()
	s := os.Getenv("HOLDFAST_ORIGIN")
	if s == "" {
		t.Skip("set HOLDFAST_ORIGIN=host:port:/export to run against a real NFSv4.1 server that grants us root")
	}
	addr, path, ok := strings.Cut(s, ":/")
	if !ok {
		t.Fatalf("HOLDFAST_ORIGIN=%q is not host:port:/export", s)
	}
	o := origin{addr: addr}
	for _, p := range strings.Split(path, "/") {
		if p != "" {
			o.path = append(o.path, p)
		}
	}
	return o
}

// restart restarts the server; how is "kill" or "stop" for the command in the environment.
func (o origin) restart(t *testing.T) {
	t.Helper()
	cmd := os.Getenv("HOLDFAST_ORIGIN_RESTART")
	if cmd == "" {
		t.Skip("set HOLDFAST_ORIGIN_RESTART to a command that kills and restarts the server")
	}
	out, err := exec.Command("sh", "-c", cmd).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

var root = &rpc.Cred{Flavor: rpc.AUTH_SYS, Machine: "holdfast-test"}

func (o origin) config(t *testing.T, name string) Config {
	cfg := Config{
		Addr:    o.addr,
		OwnerID: fmt.Appendf(nil, "holdfast-test-%s-%s-%x", t.Name(), name, rand.Uint64()),
		Cred:    root,
	}
	for i := range cfg.Verifier {
		cfg.Verifier[i] = byte(rand.Uint32())
	}
	if testing.Verbose() {
		cfg.Logger = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return cfg
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	defer func() { _ = recover() }() // a goroutine that logs after the test has ended
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func (o origin) dial(t *testing.T, name string, change ...func(*Config)) *Client {
	t.Helper()
	cfg := o.config(t, name)
	for _, f := range change {
		f(&cfg)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := Dial(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			t.Errorf("close %s: %v", name, err)
		}
	})
	return c
}

// dir makes a fresh directory in the export and returns its handle.
func (o origin) dir(t *testing.T, c *Client) nfs4.FH {
	t.Helper()
	ops := []nfs4.Args{&nfs4.PutrootfhArgs{}}
	for _, p := range o.path {
		ops = append(ops, &nfs4.LookupArgs{Name: p})
	}
	ops = append(ops, &nfs4.CreateArgs{
		Type:  nfs4.CreateType{Type: nfs4.NF4DIR},
		Name:  fmt.Sprintf("nfsup-%x", rand.Uint64()),
		Attrs: nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_MODE), Mode: 0o777},
	}, &nfs4.GetfhArgs{})
	var fh nfs4.FH
	err := c.Compound(t.Context(), root, ops, func(res []nfs4.Res) error {
		fh = res[len(res)-1].(*nfs4.GetfhRes).FH
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return fh
}

func create(dir nfs4.FH, name string, owner UpOwner) *OpenArgs {
	return &OpenArgs{
		Owner: owner, Access: nfs4.OPEN4_SHARE_ACCESS_BOTH, Dir: dir, Name: name,
		How: nfs4.OpenHow{Type: nfs4.OPEN4_CREATE, Mode: nfs4.UNCHECKED4,
			Attrs: nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_MODE), Mode: 0o666}},
		Attrs: nfs4.Bits(nfs4.FATTR4_CHANGE, nfs4.FATTR4_SIZE, nfs4.FATTR4_FILEID),
	}
}

func owner(i int) (o UpOwner) {
	copy(o[:], fmt.Sprintf("owner-%026d", i))
	return o
}

// patiently repeats f while the server is in grace.
func patiently(t *testing.T, f func() error) error {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; {
		err := f()
		if s, _ := StatusOf(err); s != nfs4.NFS4ERR_GRACE && s != nfs4.NFS4ERR_DELAY || time.Now().After(end) {
			return err
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-t.Context().Done():
			return t.Context().Err()
		}
	}
}

func mustOpen(t *testing.T, c *Client, a *OpenArgs) *OpenReply {
	t.Helper()
	var r *OpenReply
	err := patiently(t, func() (err error) { r, err = c.Open(t.Context(), root, a); return })
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return r
}

func write(ctx context.Context, c *Client, o, l UpOwner, fh nfs4.FH, off uint64, data []byte) error {
	return c.IO(ctx, root, o, l, fh, func(s nfs4.Stateid) []nfs4.Args {
		return []nfs4.Args{&nfs4.PutfhArgs{FH: fh}, &nfs4.WriteArgs{Stateid: s, Offset: off, Stable: nfs4.FILE_SYNC4, Data: data}}
	}, nil)
}

func read(ctx context.Context, c *Client, o, l UpOwner, fh nfs4.FH, off uint64, n int) (data []byte, err error) {
	err = c.IO(ctx, root, o, l, fh, func(s nfs4.Stateid) []nfs4.Args {
		return []nfs4.Args{&nfs4.PutfhArgs{FH: fh}, &nfs4.ReadArgs{Stateid: s, Offset: off, Count: uint32(n)}}
	}, func(res []nfs4.Res) error {
		data = append(data, res[1].(*nfs4.ReadRes).Data...)
		return nil
	})
	return data, err
}

func TestOriginBasics(t *testing.T) {
	o := realOrigin(t)
	c := o.dial(t, "a")
	d := o.dial(t, "b")
	ctx := t.Context()
	dir := o.dir(t, c)
	a := owner(1)
	f := mustOpen(t, c, create(dir, "f", a))
	if f.FH == "" || f.Attrs.Mask.IsZero() {
		t.Fatalf("open gave %+v", f)
	}
	if err := patiently(t, func() error { return write(ctx, c, a, UpOwner{}, f.FH, 0, []byte("hello")) }); err != nil {
		t.Fatal(err)
	}
	if got, err := read(ctx, c, a, UpOwner{}, f.FH, 0, 100); string(got) != "hello" || err != nil {
		t.Fatalf("read %q, %v", got, err)
	}

	lock := func(c *Client, o, l int, first, last uint64, w bool) error {
		return patiently(t, func() error {
			return c.Lock(ctx, root, &LockArgs{FH: f.FH, OpenOwner: owner(o), LockOwner: owner(l), Range: Range{first, last}, Write: w})
		})
	}
	if err := lock(c, 1, 10, 0, 99, true); err != nil {
		t.Fatal(err)
	}
	// Another lock-owner of the same client, and another client.
	var den *DeniedError
	if err := lock(c, 1, 11, 50, 60, false); !errors.As(err, &den) || !den.Ours || den.Holder != owner(10) || !den.Write {
		t.Fatalf("overlapping lock: %v (%+v)", err, den)
	}
	mustOpen(t, d, &OpenArgs{Owner: owner(2), Access: 3, FH: f.FH})
	if err := lock(d, 2, 10, 99, 99, true); !errors.As(err, &den) || den.Ours {
		t.Fatalf("lock of another client: %v", err)
	}
	if err := d.TestLock(ctx, root, owner(10), f.FH, Range{0, 0}, false); !errors.As(err, &den) {
		t.Fatalf("test: %v", err)
	}
	// Split, downgrade, and let the others in.
	if err := c.Unlock(ctx, owner(10), f.FH, Range{40, 59}); err != nil {
		t.Fatal(err)
	}
	if err := lock(c, 1, 10, 60, 99, false); err != nil {
		t.Fatal(err)
	}
	if err := lock(d, 2, 10, 40, 59, true); err != nil {
		t.Fatal(err)
	}
	if err := lock(d, 2, 10, 70, 80, false); err != nil {
		t.Fatal(err)
	}
	if err := lock(d, 2, 10, 30, 40, false); !errors.As(err, &den) {
		t.Fatalf("%v", err)
	}
	if err := write(ctx, c, a, owner(10), f.FH, 5, []byte(" world")); err != nil {
		t.Fatal(err)
	}
	if err := c.FreeLockOwner(ctx, owner(10), f.FH); !errors.Is(err, nfs4.NFS4ERR_LOCKS_HELD) {
		t.Fatalf("free: %v", err)
	}
	if err := c.Unlock(ctx, owner(10), f.FH, Range{0, ^uint64(0)}); err != nil {
		t.Fatal(err)
	}
	if err := c.FreeLockOwner(ctx, owner(10), f.FH); err != nil {
		t.Fatalf("free: %v", err)
	}
	if err := lock(d, 2, 10, 0, 39, true); err != nil {
		t.Fatal(err)
	}
	// A close drops the locks.
	if err := d.CloseFile(ctx, owner(2), f.FH); err != nil {
		t.Fatal(err)
	}
	if err := lock(c, 1, 11, 0, ^uint64(0), true); err != nil {
		t.Fatal(err)
	}

	// Deny modes, upgrade and downgrade.
	mustOpen(t, d, &OpenArgs{Owner: owner(3), Access: 1, FH: f.FH})
	mustOpen(t, d, &OpenArgs{Owner: owner(3), Access: 2, FH: f.FH})
	if acc, _, _ := d.HasOpen(owner(3), f.FH); acc != 3 {
		t.Fatalf("access %d", acc)
	}
	if err := d.Downgrade(ctx, owner(3), f.FH, 1, 0); err != nil {
		t.Fatal(err)
	}
	if err := d.CloseFile(ctx, owner(3), f.FH); err != nil {
		t.Fatal(err)
	}
	if err := d.CloseFile(ctx, owner(3), f.FH); !errors.Is(err, ErrNoState) {
		t.Fatalf("second close: %v", err)
	}
	_, err := d.Open(ctx, root, &OpenArgs{Owner: owner(4), Access: 1, Deny: 2, FH: f.FH})
	if !errors.Is(err, nfs4.NFS4ERR_SHARE_DENIED) {
		t.Fatalf("deny: %v", err)
	}

	err = c.Compound(ctx, root, []nfs4.Args{
		&nfs4.PutfhArgs{FH: dir}, &nfs4.SavefhArgs{}, &nfs4.RenameArgs{OldName: "f", NewName: "g"}, &nfs4.RemoveArgs{Name: "g"},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = c.Compound(ctx, root, []nfs4.Args{&nfs4.PutfhArgs{FH: dir}, &nfs4.LookupArgs{Name: "g"}}, nil)
	var se *StatusError
	if !errors.As(err, &se) || se.Index != 1 || se.Op != nfs4.OP_LOOKUP || se.Status != nfs4.NFS4ERR_NOENT {
		t.Fatalf("lookup: %v", err)
	}
	i := c.Info()
	t.Logf("%+v", i)
	if i.Lease == 0 || i.SlotsInUse != 0 || !i.ReclaimComplete {
		t.Errorf("info: %+v", i)
	}
}

// breaker makes connections that can be broken.
type breaker struct {
	mu    sync.Mutex
	conns map[net.Conn]bool
}

func (b *breaker) dial(ctx context.Context, addr string) (net.Conn, error) {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conns == nil {
		b.conns = make(map[net.Conn]bool)
	}
	b.conns[nc] = true
	return nc, nil
}

func (b *breaker) breakAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for nc := range b.conns {
		_ = nc.Close()
	}
	clear(b.conns)
}

// Connections break all the time; every request is executed exactly once all the same.
func TestOriginExactlyOnce(t *testing.T) {
	o := realOrigin(t)
	var b breaker
	c := o.dial(t, "a", func(cfg *Config) { cfg.Dial, cfg.NConnect = b.dial, 3 })
	dir := o.dir(t, c)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
				b.breakAll()
			}
		}
	}()
	for w := range 16 {
		wg.Go(func() {
			for i := range 60 {
				name := fmt.Sprintf("%d-%d", w, i)
				err := c.Compound(t.Context(), root, []nfs4.Args{&nfs4.PutfhArgs{FH: dir}, &nfs4.CreateArgs{
					Type: nfs4.CreateType{Type: nfs4.NF4DIR}, Name: name,
				}}, nil)
				if err == nil {
					err = c.Compound(t.Context(), root, []nfs4.Args{&nfs4.PutfhArgs{FH: dir}, &nfs4.RemoveArgs{Name: name}}, nil)
				}
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	<-done
	i := c.Info()
	t.Logf("reconnects %d, replays %d", i.Reconnects, i.Replays)
	if i.Reconnects == 0 {
		t.Error("no connection was broken")
	}
}

// The server is killed in the middle of lock traffic. Every lock is reclaimed; nobody else gets one.
func TestOriginRestart(t *testing.T) {
	o := realOrigin(t)
	if os.Getenv("HOLDFAST_ORIGIN_RESTART") == "" {
		t.Skip("set HOLDFAST_ORIGIN_RESTART to a command that kills and restarts the server")
	}
	var revoked, restarts atomic.Int32
	recovered := make(chan Recovery, 8)
	ev := Events{
		Revoked:         func(r Revocation) { revoked.Add(1); t.Logf("revoked: %+v", r) },
		ServerRestarted: func() { restarts.Add(1) },
		LeaseLost:       func() { restarts.Add(1) },
		Recovered:       func(r Recovery) { recovered <- r },
	}
	c := o.dial(t, "a", func(cfg *Config) { cfg.NConnect, cfg.Events = 2, ev })
	dir := o.dir(t, c)
	const files, owners = 8, 8
	var fh [files]nfs4.FH
	for i := range fh {
		fh[i] = mustOpen(t, c, create(dir, fmt.Sprint("f", i), owner(i))).FH
		for j := range owners {
			err := patiently(t, func() error {
				return c.Lock(t.Context(), root, &LockArgs{FH: fh[i], OpenOwner: owner(i), LockOwner: owner(100 + 10*i + j),
					Range: Range{uint64(j) * 100, uint64(j)*100 + 9}, Write: j%2 == 0})
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	// Traffic: each lock-owner locks and unlocks a range beside the one it keeps.
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var ops atomic.Int64
	for i := range files {
		for j := range owners {
			wg.Go(func() {
				r := Range{uint64(j)*100 + 20, uint64(j)*100 + 29}
				for {
					select {
					case <-stop:
						return
					default:
					}
					err := patiently(t, func() error {
						return c.Lock(t.Context(), root, &LockArgs{FH: fh[i], OpenOwner: owner(i), LockOwner: owner(100 + 10*i + j), Range: r, Write: true})
					})
					if err == nil {
						err = c.Unlock(t.Context(), owner(100+10*i+j), fh[i], r)
					}
					if err != nil {
						t.Errorf("file %d owner %d: %v", i, j, err)
						return
					}
					ops.Add(1)
				}
			})
		}
	}
	for range 2 {
		o.restart(t)
		select {
		case r := <-recovered:
			t.Logf("%+v after %d lock/unlock pairs", r, ops.Load())
			if r.Opens != files || r.Locks < files*owners || r.LostOpens+r.LostLocks != 0 || !r.Completed {
				t.Errorf("recovery: %+v", r)
			}
		case <-time.After(2 * time.Minute):
			t.Fatalf("no recovery: %+v", c.Info())
		}
	}
	n := ops.Load()
	for end := time.Now().Add(2 * time.Minute); ops.Load() == n && time.Now().Before(end); {
		<-time.After(100 * time.Millisecond) // traffic goes on after grace
	}
	close(stop)
	wg.Wait()
	if revoked.Load() != 0 || restarts.Load() != 2 {
		t.Errorf("%d revoked, %d restarts", revoked.Load(), restarts.Load())
	}
	d := o.dial(t, "b")
	for i := range fh {
		mustOpen(t, d, &OpenArgs{Owner: owner(900), Access: 3, FH: fh[i]})
		for j := range owners {
			err := patiently(t, func() error {
				return d.Lock(t.Context(), root, &LockArgs{FH: fh[i], OpenOwner: owner(900), LockOwner: owner(901), Range: Range{uint64(j) * 100, uint64(j) * 100}, Write: true})
			})
			if !errors.Is(err, nfs4.NFS4ERR_DENIED) {
				t.Errorf("file %d range %d: %v", i, j, err)
			}
		}
	}
}

// A denied lock that would wait is announced when it becomes free, if the server promises that.
func TestOriginNotifyLock(t *testing.T) {
	o := realOrigin(t)
	free := make(chan UpOwner, 8)
	c := o.dial(t, "a")
	d := o.dial(t, "b", func(cfg *Config) {
		cfg.Events.LockAvailable = func(_ nfs4.FH, l UpOwner) { free <- l }
	})
	ctx := t.Context()
	dir := o.dir(t, c)
	f := mustOpen(t, c, create(dir, "f", owner(1)))
	r := mustOpen(t, d, &OpenArgs{Owner: owner(2), Access: 3, FH: f.FH})
	if !r.MayNotify() {
		t.Skip("the server does not promise CB_NOTIFY_LOCK")
	}
	a := &LockArgs{FH: f.FH, OpenOwner: owner(1), LockOwner: owner(3), Range: Range{0, 9}, Write: true}
	if err := patiently(t, func() error { return c.Lock(ctx, root, a) }); err != nil {
		t.Fatal(err)
	}
	b := &LockArgs{FH: f.FH, OpenOwner: owner(2), LockOwner: owner(4), Range: Range{5, 5}, Write: true, Wait: true}
	if err := d.Lock(ctx, root, b); !errors.Is(err, nfs4.NFS4ERR_DENIED) {
		t.Fatal(err)
	}
	if err := c.Unlock(ctx, owner(3), f.FH, Range{0, 9}); err != nil {
		t.Fatal(err)
	}
	select {
	case l := <-free:
		if l != owner(4) {
			t.Errorf("announced to %x", l)
		}
	case <-time.After(20 * time.Second):
		t.Error("not announced")
	}
	if err := d.Lock(ctx, root, b); err != nil {
		t.Fatal(err)
	}
}

// A client that is killed keeps its locks at the server for a lease; a delayed RECLAIM_COMPLETE
// refuses nothing to anybody.
func TestOriginDelayedComplete(t *testing.T) {
	o := realOrigin(t)
	c := o.dial(t, "a", func(cfg *Config) { cfg.DelayReclaimComplete = true })
	if c.Info().ReclaimComplete {
		t.Fatal("sent already")
	}
	dir := o.dir(t, c)
	_, err := c.Open(t.Context(), root, &OpenArgs{Owner: owner(1), Access: 1, FH: dir, Reclaim: true})
	if s, ok := StatusOf(err); !ok || err == nil {
		t.Errorf("reclaim of nothing: %v", err)
	} else {
		t.Logf("reclaim of nothing: %v", s)
	}
	for range 2 {
		if err := c.ReclaimComplete(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := c.Stats()[nfs4.OP_RECLAIM_COMPLETE].Count; n != 1 {
		t.Errorf("%d RECLAIM_COMPLETE", n)
	}
	_, err = c.Open(t.Context(), root, &OpenArgs{Owner: owner(1), Access: 1, FH: dir, Reclaim: true})
	if !errors.Is(err, nfs4.NFS4ERR_NO_GRACE) {
		t.Errorf("reclaim after RECLAIM_COMPLETE: %v", err)
	}
	mustOpen(t, c, create(dir, "f", owner(1)))
}

// A partition longer than the lease. Either the server was courteous and all is still held, or every
// holder is told. Never neither (I2).
func TestOriginLeaseLost(t *testing.T) {
	o := realOrigin(t)
	var w witness
	var b breaker
	var cut atomic.Bool
	c := o.dial(t, "a", func(cfg *Config) {
		cfg.Events = w.events()
		cfg.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			if cut.Load() {
				return nil, errors.New("partition")
			}
			return b.dial(ctx, addr)
		}
	})
	lease := c.Info().Lease
	if lease > 30*time.Second {
		t.Skipf("the server's lease of %v is too long for this test; set it to 30 s or less", lease)
	}
	dir := o.dir(t, c)
	f := mustOpen(t, c, create(dir, "f", owner(1)))
	if err := patiently(t, func() error { return c.Lock(t.Context(), root, lockOf(f.FH, 1, 2, 0, 9)) }); err != nil {
		t.Fatal(err)
	}
	cut.Store(true)
	b.breakAll()
	select {
	case <-time.After(lease * 5 / 2):
	case <-t.Context().Done():
	}
	// A rival asks for the lock meanwhile, so that a courteous server has to decide.
	d := o.dial(t, "b")
	mustOpen(t, d, openFH(f.FH, 3, 3, 0))
	rival := patiently(t, func() error { return d.Lock(t.Context(), root, lockOf(f.FH, 3, 4, 0, 9)) })
	cut.Store(false)
	err := patiently(t, func() error { return write(t.Context(), c, owner(1), owner(2), f.FH, 0, []byte("x")) })
	w.mu.Lock()
	defer w.mu.Unlock()
	t.Logf("rival: %v; write: %v; %d revoked, %d leases lost", rival, err, len(w.revoked), w.lost)
	switch {
	case rival == nil && (err == nil || len(w.revoked) != 2 || w.lost == 0):
		t.Errorf("the rival got the lock, and we were not told")
	case rival != nil && (err != nil || len(w.revoked) != 0):
		t.Errorf("the rival did not get the lock, and we do not have it")
	}
}

func BenchmarkOrigin(b *testing.B) {
	s := os.Getenv("HOLDFAST_ORIGIN")
	if s == "" {
		b.Skip("set HOLDFAST_ORIGIN=host:port:/export")
	}
	addr, _, _ := strings.Cut(s, ":/")
	cfg := Config{Addr: addr, OwnerID: fmt.Appendf(nil, "bench-%x", rand.Uint64()), Cred: root, NConnect: 2}
	c, err := Dial(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close(context.Background())
	ops := []nfs4.Args{&nfs4.PutrootfhArgs{}, &nfs4.GetattrArgs{Request: nfs4.Bits(nfs4.FATTR4_SIZE, nfs4.FATTR4_CHANGE)}}
	b.Run("getattr-1", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := c.Compound(b.Context(), root, ops, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("getattr-64", func(b *testing.B) {
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := c.Compound(context.Background(), root, ops, nil); err != nil {
					b.Error(err)
				}
			}
		})
	})
}
