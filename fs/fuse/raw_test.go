package fuse

import (
	"context"
	"io"
	"log/slog"
	"math"
	"slices"
	"sync"
	"testing"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"holdfast/fs"
)

// raw speaks to a server as the kernel would, without one: for orders of requests that a kernel makes
// only by chance. It needs no privilege.
type raw struct {
	t *testing.T
	s *server
	b *memBackend
}

func newRaw(t *testing.T) *raw {
	b := newMem()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	s := newServer(ctx, &Config{Backend: b}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	b.Subscribe(listener{s})
	return &raw{t, s, b}
}

func (r *raw) ok(st gofuse.Status) {
	r.t.Helper()
	if !st.Ok() {
		r.t.Fatal(st)
	}
}

func head(node uint64) gofuse.InHeader { return gofuse.InHeader{NodeId: node} }

func (r *raw) lookup(name string) uint64 {
	r.t.Helper()
	var out gofuse.EntryOut
	h := head(gofuse.FUSE_ROOT_ID)
	r.ok(r.s.Lookup(nil, &h, name, &out))
	return out.NodeId
}

func (r *raw) open(node uint64, flags uint32) uint64 {
	r.t.Helper()
	var out gofuse.OpenOut
	r.ok(r.s.Open(nil, &gofuse.OpenIn{InHeader: head(node), Flags: flags}, &out))
	return out.Fh
}

func (r *raw) lock(node, fh, owner uint64, typ uint32, flags uint32) gofuse.Status {
	return r.s.SetLk(nil, &gofuse.LkIn{
		InHeader: head(node), Fh: fh, Owner: owner, LkFlags: flags,
		Lk: gofuse.FileLock{Start: 0, End: math.MaxInt64, Typ: typ},
	})
}

func (r *raw) flush(node, fh, owner uint64) {
	r.ok(r.s.Flush(nil, &gofuse.FlushIn{InHeader: head(node), Fh: fh, LockOwner: owner}))
}

func (r *raw) release(node, fh uint64) {
	r.s.Release(nil, &gofuse.ReleaseIn{InHeader: head(node), Fh: fh})
}

// The owner at FLUSH may be another than the one that locked (a descriptor that was passed on).
func TestReleaseDropsLocksThatNoFlushNamed(t *testing.T) {
	r := newRaw(t)
	f := r.b.make("file", "", 0666)
	n := r.lookup("file")
	fh := r.open(n, unix.O_RDWR)
	r.ok(r.lock(n, fh, 7, unix.F_WRLCK, 0))
	r.flush(n, fh, 8)
	if len(r.b.held(f)) != 1 {
		t.Fatal("dropped by a FLUSH of another owner")
	}
	r.release(n, fh)
	r.s.calls.Wait()
	if len(r.b.held(f)) != 0 || r.b.openCount(f) != 0 {
		t.Error("left after RELEASE")
	}
	if len(r.s.owners) != 0 || len(r.s.files) != 0 {
		t.Error("left in our tables")
	}
}

// The kernel uses the number of an owner again, and RELEASE is late.
func TestLateReleaseDoesNotDropLocksOfASuccessor(t *testing.T) {
	r := newRaw(t)
	f := r.b.make("file", "", 0666)
	n := r.lookup("file")
	one, two := r.open(n, unix.O_RDWR), r.open(n, unix.O_RDWR)
	r.ok(r.lock(n, one, 7, unix.F_WRLCK, 0))
	r.flush(n, one, 7)
	r.ok(r.lock(n, two, 7, unix.F_WRLCK, 0))
	r.release(n, one)
	r.s.calls.Wait()
	if len(r.b.held(f)) != 1 {
		t.Errorf("held: %v", r.b.held(f))
	}
}

func TestFlockAndOFDOwnersWithOneNumberAreTwo(t *testing.T) {
	r := newRaw(t)
	r.b.make("file", "", 0666)
	n := r.lookup("file")
	fh := r.open(n, unix.O_RDWR)
	r.ok(r.lock(n, fh, 7, unix.F_WRLCK, gofuse.LK_FLOCK))
	if st := r.lock(n, fh, 7, unix.F_WRLCK, 0); st != gofuse.EAGAIN {
		t.Error(st)
	}
}

// A try that meets a lock on its way out waits for that.
func TestTryWaitsForALockThatIsBeingGivenBack(t *testing.T) {
	r := newRaw(t)
	f := r.b.make("file", "", 0666)
	n := r.lookup("file")
	one, two := r.open(n, unix.O_RDWR), r.open(n, unix.O_RDWR)
	r.ok(r.lock(n, one, 7, unix.F_WRLCK, gofuse.LK_FLOCK))
	hold, denied := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r.b.hook = func(_ context.Context, op string) error {
		switch op {
		case "Unlock":
			<-hold
		case "Lock":
			once.Do(func() { close(denied) })
		}
		return nil
	}
	r.release(n, one)
	got := make(chan gofuse.Status, 1)
	go func() { got <- r.lock(n, two, 9, unix.F_WRLCK, gofuse.LK_FLOCK) }()
	await(t, "the first try", denied)
	close(hold)
	if st := await(t, "the lock", got); !st.Ok() {
		t.Errorf("%v", st)
	}
	if len(r.b.held(f)) != 1 {
		t.Errorf("held: %v", r.b.held(f))
	}
}

func TestForgetAndReleaseInAnyOrder(t *testing.T) {
	r := newRaw(t)
	r.b.make("file", "", 0666)
	n := r.lookup("file")
	if r.lookup("file") != n {
		t.Error("one file, two nodes")
	}
	fh := r.open(n, unix.O_RDWR)
	r.s.Forget(n, 2)
	if r.s.table.get(n) == nil {
		t.Error("an open file was forgotten")
	}
	r.release(n, fh)
	r.s.calls.Wait()
	if nodes, opens := r.s.table.size(); nodes != 1 || opens != 0 {
		t.Errorf("%d nodes, %d opens; only the root should be left", nodes, opens)
	}
	h := head(n)
	if st := r.s.GetAttr(nil, &gofuse.GetAttrIn{InHeader: h}, &gofuse.AttrOut{}); st != gofuse.Status(unix.ESTALE) {
		t.Error(st)
	}
	if m := r.lookup("file"); m == n {
		t.Error("a number was used again")
	}
}

type fakeKernel struct {
	mu     sync.Mutex
	inodes []uint64
	names  []string
	block  chan struct{} // the first call waits for it
}

func (k *fakeKernel) InodeNotify(node uint64, off, length int64) gofuse.Status {
	k.mu.Lock()
	first := len(k.inodes) == 0
	k.inodes = append(k.inodes, node)
	k.mu.Unlock()
	if first && k.block != nil {
		<-k.block
	}
	return gofuse.ENOENT
}

func (k *fakeKernel) EntryNotify(parent uint64, name string) gofuse.Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.names = append(k.names, name)
	return gofuse.OK
}

func (k *fakeKernel) seen() []uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.inodes)
}

func TestInvalidationsAreMergedAndBounded(t *testing.T) {
	r := newRaw(t)
	r.b.make("file", "", 0666)
	r.lookup("file")
	k := &fakeKernel{}
	r.s.inval.kernel = k
	n := r.s.table.get(2)
	for range 10 {
		listener{r.s}.Changed(n.handle)
	}
	if len(r.s.inval.order) != 1 {
		t.Errorf("%d pieces of work for one file", len(r.s.inval.order))
	}
	for i := range 2 * maxInvalid {
		r.s.inval.add(&node{id: uint64(i + 10)}, invalData)
	}
	if len(r.s.inval.pending) > maxInvalid {
		t.Errorf("%d pending", len(r.s.inval.pending))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go r.s.inval.run(ctx)
	// All that is really there is told, and nothing else.
	eventually(t, "the root and the file", func() bool { return len(k.seen()) == 2 })
	if got := k.seen(); !slices.Contains(got, 1) || !slices.Contains(got, 2) {
		t.Errorf("told of %v", got)
	}
}

func TestSlowNotificationDoesNotHoldUpTheOthers(t *testing.T) {
	r := newRaw(t)
	k := &fakeKernel{block: make(chan struct{})}
	defer close(k.block)
	r.s.inval.kernel = k
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range notifiers {
		go r.s.inval.run(ctx)
	}
	for i := range 10 {
		r.s.inval.add(&node{id: uint64(i + 10)}, invalData)
	}
	eventually(t, "all are told", func() bool { return len(k.seen()) == 10 })
}

func TestGraceAtGetLk(t *testing.T) {
	r := newRaw(t)
	r.b.make("file", "", 0666)
	n := r.lookup("file")
	fh := r.open(n, unix.O_RDWR)
	left := 2
	r.b.hook = func(_ context.Context, op string) error {
		if op == "TestLock" && left > 0 {
			left--
			return fs.Delay
		}
		return nil
	}
	var out gofuse.LkOut
	r.ok(r.s.GetLk(nil, &gofuse.LkIn{InHeader: head(n), Fh: fh, Owner: 1, Lk: gofuse.FileLock{End: math.MaxInt64, Typ: unix.F_WRLCK}}, &out))
	if out.Lk.Typ != unix.F_UNLCK || left != 0 {
		t.Errorf("%+v", out.Lk)
	}
}
