package nfsdown

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/fs"
)

// A tree is the name space of all exports, RFC 8881 section 7: above the exports lie read-only directories
// that exist only here. A tree does not change; a reload makes a new one.
type tree struct {
	root  *node
	byID  map[uint64]*node
	byExp map[uint32]*export
	list  []*export         // by path
	parts map[uint32]uint32 // the parts of exports by their ids: Server.part
	// change is the change attribute of all pseudo directories: it differs after every reload.
	change uint64
	born   time.Time
}

// A node is a directory on the way to an export, or an export's root.
type node struct {
	name   string
	path   string
	id     uint64
	parent *node // nil at the root
	exp    *export
	// within is the export that the node lies in, if it does: then it is a directory of that backend
	// on the way to an export nested in it.
	within   *export
	children map[string]*node
	names    []string // sorted
}

// An export is an Export in a tree.
type export struct {
	Export
	node  *node
	rules []rule

	rootMu sync.Mutex
	// +checklocks:rootMu
	rootHandle fs.Handle // "" until the backend told

	// nested are the nodes within the export below which other exports lie, its root included.
	nested []*node
	// inner finds them by backend handle. It is nil until they were looked up.
	inner atomic.Pointer[map[fs.Handle]*node]
}

// newTree builds the name space.
func newTree(ctx context.Context, exports []Export, lookup func(context.Context, string) ([]netip.Addr, error), now time.Time) (*tree, []error, error) {
	t := &tree{byID: map[uint64]*node{}, byExp: map[uint32]*export{}, change: uint64(now.UnixNano()), born: now}
	t.root = t.newNode(nil, "")
	var warnings []error
	for _, e := range exports {
		if e.Backend == nil && len(e.Refer) > 0 {
			e.Backend, e.ReadOnly = absent(now), true
		}
		if e.Backend == nil {
			return nil, nil, fmt.Errorf("export %q has no backend", e.Path)
		}
		e.Path = cleanPath(e.Path)
		if e.ID == 0 {
			e.ID = ExportID(e.Path)
		}
		if o := t.byExp[e.ID]; o != nil {
			return nil, nil, fmt.Errorf("exports %q and %q have the same id %#x", o.Path, e.Path, e.ID)
		}
		x := &export{Export: e}
		var err error
		var unresolved []error
		if x.rules, unresolved, err = rules(ctx, e.Clients, lookup); err != nil {
			return nil, nil, fmt.Errorf("export %q: %w", e.Path, err)
		}
		warnings = append(warnings, unresolved...)
		n := t.root
		for _, name := range strings.Split(e.Path, "/") {
			if name == "" {
				continue
			}
			if len(name) > nameMax {
				return nil, nil, fmt.Errorf("export %q: a name is longer than %d bytes", e.Path, nameMax)
			}
			child := n.children[name]
			if child == nil {
				child = t.newNode(n, name)
			}
			n = child
		}
		if n.exp != nil {
			return nil, nil, fmt.Errorf("two exports at %q", e.Path)
		}
		n.exp, x.node = x, n
		t.byExp[e.ID] = x
		t.list = append(t.list, x)
	}
	sort.Slice(t.list, func(i, j int) bool { return t.list[i].Path < t.list[j].Path })
	t.root.seal(nil)
	return t, warnings, nil
}

func (t *tree) newNode(parent *node, name string) *node {
	n := &node{name: name, parent: parent, path: "/", children: map[string]*node{}}
	if parent != nil {
		n.path = strings.TrimRight(parent.path, "/") + "/" + name
		parent.children[name] = n
	}
	n.id = nodeID(n.path)
	t.byID[n.id] = n
	return n
}

// seal sorts the names and notes which nodes lie within an export.
func (n *node) seal(within *export) {
	n.within = within
	inside := within
	if n.exp != nil {
		inside = n.exp
	}
	if inside != nil && len(n.children) > 0 {
		inside.nested = append(inside.nested, n)
	}
	for name, c := range n.children {
		n.names = append(n.names, name)
		c.seal(inside)
	}
	sort.Strings(n.names)
}

// access is what the client at a may do.
func (x *export) access(w who) Access {
	var out Access
	switch {
	case x.Access != nil:
		out = x.Access(w.addr)
	case len(x.Clients) == 0:
		out = Access{RW: true}
	default:
		out, _ = match(x.rules, w)
	}
	if x.ReadOnly {
		out.RW = false
	}
	return out
}

// root is the handle of the export's root. A backend that is a mount has another one when its origin put another
// directory in the place of what is exported; what lies below it is then looked up again.
func (x *export) root(ctx context.Context) (fs.Handle, error) {
	h, err := x.Backend.Root(ctx)
	if err != nil {
		return "", err
	}
	x.rootMu.Lock()
	defer x.rootMu.Unlock()
	if x.rootHandle != h {
		x.rootHandle = h
		x.inner.Store(nil)
	}
	return h, nil
}

// nodeOf returns the node that a directory of the export is, if another export lies below it.
func (x *export) nodeOf(ctx context.Context, h fs.Handle) (*node, error) {
	if len(x.nested) == 0 {
		return nil, nil
	}
	if m := x.inner.Load(); m != nil {
		return (*m)[h], nil
	}
	root, err := x.root(ctx)
	if err != nil {
		return nil, err
	}
	m := map[fs.Handle]*node{}
	complete := true
	for _, n := range x.nested {
		at := root
		for _, name := range strings.Split(strings.TrimPrefix(n.path, x.node.path), "/") {
			if name == "" {
				continue
			}
			if at, _, err = x.Backend.Lookup(ctx, fs.Root, at, name); err != nil {
				break
			}
		}
		switch {
		case err == nil:
			m[at] = n
		case errors.Is(err, fs.NoEnt), errors.Is(err, fs.NotDir):
			complete = false // it may be made later
		default:
			return nil, err
		}
		err = nil
	}
	if complete {
		x.inner.Store(&m)
	}
	return m[h], nil
}

// attr is the attributes of a pseudo directory.
func (n *node) attr(t *tree) *fs.Attr {
	return &fs.Attr{
		Type: fs.Directory, Mode: 0o555, Nlink: uint32(2 + len(n.children)), Size: 4096, Used: 0,
		FSID: pseudoFSID, FileID: n.id, MountedOn: n.id, Change: t.change, Atime: t.born, Mtime: t.born, Ctime: t.born,
	}
}

// pseudoFSID is the file system of the pseudo directories; that of an export has its id as Major, which is below 2^32.
var pseudoFSID = fs.FSID{Major: 1 << 32, Minor: 0}

// fsid is the file system id that clients see: one per export, and one per file system below it.
func (x *export) fsid(f fs.FSID) fs.FSID {
	const prime = 0x9E3779B97F4A7C15
	return fs.FSID{Major: uint64(x.ID), Minor: f.Major*prime ^ f.Minor}
}
