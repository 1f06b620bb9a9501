package fuse

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"holdfast/fs"
)

// server answers the kernel: it is go-fuse's RawFileSystem. Each operation is a method; those that
// are not here answer ENOSYS, and the kernel then does without.
//
// Lock order: table.mu, nodeLocks.mu, server.mu. None is held across a call to the backend or to
// the kernel.
type server struct {
	gofuse.RawFileSystem

	backend fs.Backend
	xattrs  fs.Xattrs // nil if the backend has none; likewise the next two
	sparse  fs.Sparse
	copier  fs.Copier

	fence        *Fence
	client       string // Client of all our owners
	attrTimeout  time.Duration
	entryTimeout time.Duration
	hides        bool // remove of an open file renames it, see silly.go
	tag          string
	log          *slog.Logger

	ctx        context.Context // ends after the mount
	quit       chan struct{}   // closed when the mount is to end, even while fenced
	quitOnce   sync.Once
	calls      sync.WaitGroup // calls to the backend that outlive their request
	background sync.WaitGroup // what tells the kernel
	conn       *os.File       // /dev/fuse again, to see whether the kernel is still there; may be nil

	table   *table
	rootFS  atomic.Pointer[fs.FSID]
	creds   creds
	inval   *invalidator
	serial  atomic.Uint64 // numbers for file handles and lock-owners
	reclaim reclaimGate

	mu      sync.Mutex
	files   map[uint64]*file                       // open files by handle; guarded by mu
	owners  map[fs.Owner]*lockOwner                // guarded by mu
	waiters map[fs.Handle]map[*lockWaiter]struct{} // guarded by mu
}

// String names the file system to go-fuse.
func (s *server) String() string { return "holdfast" }

// do is the shape of nearly all operations: fence, node, operation, errno.
func (s *server) do(intr <-chan struct{}, head *gofuse.InHeader, op func(r *request, n *node) error) gofuse.Status {
	if st := s.fence.pass(intr, s.quit); !st.Ok() {
		return st
	}
	r := s.begin(intr, head)
	defer r.end()
	n, err := s.node(r, head.NodeId)
	if err == nil {
		err = op(r, n)
	}
	return s.answer(r, err)
}

// answer makes the status of a request, and writes down what is a bug or needs somebody's attention.
func (s *server) answer(r *request, err error) gofuse.Status {
	switch fs.CodeOf(err) {
	case fs.ServerFault:
		if st := status(err); st == gofuse.EIO {
			s.log.Warn("local request failed", "node", r.head.NodeId, "opcode", r.head.Opcode, "err", err)
		}
	case fs.BadStateid, fs.Expired, fs.AdminRevoked, fs.NoGrace, fs.ReclaimBad, fs.ReclaimConflict:
		s.log.Warn("state lost under a local request", "node", r.head.NodeId, "opcode", r.head.Opcode, "err", err)
	}
	return status(err)
}

// later runs what nobody waits for.
func (s *server) later(call func(ctx context.Context)) {
	s.calls.Add(1)
	go func() {
		defer s.calls.Done()
		call(s.ctx)
	}()
}

// gone tells that the mount ends or that the kernel has cut the connection (umount -f): nobody gets an
// answer any more.
func (s *server) gone() bool {
	select {
	case <-s.quit:
		return true
	default:
		return s.conn != nil && disconnected(s.conn)
	}
}

// Forget takes back the references that answers gave.
func (s *server) Forget(nodeid, lookups uint64) { s.table.forget(nodeid, lookups) }

// reclaimGate sends ReclaimComplete before the first open or lock of an application when no
// re-export runs on this mount (invariant I5): then nobody reclaims, and the origin may forget what
// it held for an earlier incarnation. With a fence that is the business of the NFS server.
type reclaimGate struct {
	turn chan struct{} // one at a time; nil: nothing to send
	done atomic.Bool
}

func (s *server) completeReclaim(r *request) error {
	if s.fence != nil || s.reclaim.done.Load() {
		return nil
	}
	select {
	case s.reclaim.turn <- struct{}{}:
		defer func() { <-s.reclaim.turn }()
	case <-r.Done():
		return fs.E("RECLAIM_COMPLETE", fs.Interrupted, nil)
	}
	if s.reclaim.done.Load() {
		return nil
	}
	err := r.again(r.intr, func() error { return s.backend.ReclaimComplete(r) })
	if err == nil {
		s.reclaim.done.Store(true)
	}
	return err
}
