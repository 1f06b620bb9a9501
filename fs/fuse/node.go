package fuse

import (
	"sync"
	"sync/atomic"
	"syscall"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"holdfast/fs"
)

// A node is a file that the kernel knows, by a number that is not used again in this mount (so the
// generation is always 1).
type node struct {
	id     uint64
	handle fs.Handle     // immutable
	mode   atomic.Uint32 // the last mode seen, with type bits; 0 is none

	// Guarded by table.mu.
	lookups uint64            // how often the kernel was told, minus what it forgot
	opens   int               // opens that are held or being made
	names   map[string]*node  // of a directory: entries that the kernel may cache
	in      map[edge]struct{} // the same from below
	hidden  *hidden           // removed while open, see silly.go

	dirty dirty     // unstable writes, see commit.go
	pages pageCache // what the kernel may keep over an open, see open.go
	locks nodeLocks // see lockowner.go
}

// An edge is an entry of a directory.
type edge struct {
	dir  *node
	name string
}

// table is all nodes. A node lives while the kernel knows it or somebody has it open.
type table struct {
	mu       sync.Mutex
	byID     map[uint64]*node
	byHandle map[fs.Handle]*node
	last     uint64 // the last id given
	opens    int    // sum of all node.opens
}

func newTable() *table {
	return &table{byID: make(map[uint64]*node), byHandle: make(map[fs.Handle]*node), last: gofuse.FUSE_ROOT_ID}
}

// setRoot makes the node that the kernel has known from the start.
func (t *table) setRoot(h fs.Handle) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.byID[gofuse.FUSE_ROOT_ID]; n != nil {
		return n
	}
	n := &node{id: gofuse.FUSE_ROOT_ID, handle: h, lookups: 1}
	t.byID[n.id], t.byHandle[h] = n, n
	return n
}

// get finds the node of an id.
func (t *table) get(id uint64) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byID[id]
}

// find finds the node of a handle that the kernel knows.
func (t *table) find(h fs.Handle) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byHandle[h]
}

// ref is find or make, for an answer that tells the kernel of the node.
func (t *table) ref(h fs.Handle) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.make(h)
	n.lookups++
	return n
}

// make finds or makes a node. t.mu is held.
func (t *table) make(h fs.Handle) *node {
	n := t.byHandle[h]
	if n == nil {
		t.last++
		n = &node{id: t.last, handle: h}
		t.byID[n.id], t.byHandle[h] = n, n
	}
	return n
}

// forget takes back what ref gave.
func (t *table) forget(id, lookups uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byID[id]
	if n == nil || id == gofuse.FUSE_ROOT_ID {
		return
	}
	n.lookups -= min(lookups, n.lookups)
	t.drop(n)
}

// drop ends a node that nobody uses. t.mu is held.
func (t *table) drop(n *node) {
	if n.lookups > 0 || n.opens > 0 {
		return
	}
	for e := range n.in {
		if e.dir.names[e.name] == n {
			delete(e.dir.names, e.name)
		}
	}
	for name, child := range n.names {
		delete(child.in, edge{n, name})
	}
	n.in, n.names = nil, nil
	delete(t.byID, n.id)
	if t.byHandle[n.handle] == n {
		delete(t.byHandle, n.handle)
	}
}

// open counts an open of n, before the backend is asked, so that a remove at the same time knows.
func (t *table) open(n *node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n.opens++
	t.opens++
}

// openHandle is open for a file that was just created, and ref.
func (t *table) openHandle(h fs.Handle) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.make(h)
	n.lookups++
	n.opens++
	t.opens++
	return n
}

// close takes open back. After the last one it returns what silly.go left to be removed.
func (t *table) close(n *node) *hidden {
	t.mu.Lock()
	defer t.mu.Unlock()
	n.opens--
	t.opens--
	var left *hidden
	if n.opens == 0 && n.hidden != nil && n.hidden.ready {
		left, n.hidden = n.hidden, nil
	}
	t.drop(n)
	return left
}

// name remembers that the kernel may cache an entry, so that it can be told when it is old.
func (t *table) name(dir *node, name string, child *node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if dir.names == nil {
		dir.names = make(map[string]*node)
	}
	if old := dir.names[name]; old != nil && old != child {
		delete(old.in, edge{dir, name})
	}
	dir.names[name] = child
	if child.in == nil {
		child.in = make(map[edge]struct{})
	}
	child.in[edge{dir, name}] = struct{}{}
}

// takeNames returns the entries of dir that the kernel may cache, and forgets them.
func (t *table) takeNames(dir *node) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	names := make([]string, 0, len(dir.names))
	for name, child := range dir.names {
		names = append(names, name)
		delete(child.in, edge{dir, name})
	}
	dir.names = nil
	return names
}

// all returns the ids of all nodes.
func (t *table) all() []uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	ids := make([]uint64, 0, len(t.byID))
	for id := range t.byID {
		ids = append(ids, id)
	}
	return ids
}

// size is the number of nodes and of opens.
func (t *table) size() (nodes, opens int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byID), t.opens
}

// node finds the node of an id that came from the kernel. The root's handle is asked from the backend
// when it is first needed: at mount time the origin may be away, and the fence is closed.
func (s *server) node(r *request, id uint64) (*node, error) {
	if n := s.table.get(id); n != nil {
		return n, nil
	}
	if id != gofuse.FUSE_ROOT_ID {
		return nil, syscall.ESTALE
	}
	var h fs.Handle
	err := r.again(nil, func() (err error) {
		h, err = s.backend.Root(r)
		return err
	})
	if err != nil {
		return nil, err
	}
	n := s.table.setRoot(h)
	if a, err := s.backend.GetAttr(r, fs.Root, h); err == nil {
		s.rootFS.Store(&a.FSID)
		n.mode.Store(modeOf(a))
	}
	return n, nil
}
