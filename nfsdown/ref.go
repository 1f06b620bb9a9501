package nfsdown

import (
	"context"
	"strings"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
)

// A ref is a filehandle with all that is known of it: the current or the saved one. The zero ref is none.
type ref struct {
	handle fs.Handle // as clients and package state know it
	b      fs.Backend
	h      fs.Handle // as b knows it
	x      *export   // nil in the pseudo file system
	// n is the node that a directory is, if it has exports below it; always in the pseudo file system.
	n    *node
	acc  Access
	cred *fs.Cred // squashed as the export says
	// wrongSec tells that the export does not take the flavour of the request.
	wrongSec bool
}

func (r *ref) ok() bool { return r.handle != "" }

// A scope is what decides which files a request sees, and as whom.
type scope struct {
	conn      *conn
	tree      *tree    // as it was when the request came
	cred      *fs.Cred // as the client sent it
	anonymous bool     // AUTH_NONE
}

func (s *Server) scopeOf(cn *conn, cred *rpc.Cred) scope {
	groups := cred.Groups
	if cred.Flavor == rpc.AUTH_SYS {
		groups = s.groupsOf(cred.UID, groups)
	}
	return scope{conn: cn, tree: s.tree.Load(), anonymous: cred.Flavor != rpc.AUTH_SYS,
		cred: &fs.Cred{UID: cred.UID, GID: cred.GID, Groups: groups, Machine: cred.Machine}}
}

// sub is another file of the same export or file system.
func (c *scope) sub(ctx context.Context, r *ref, h fs.Handle) (ref, error) {
	if r.x == nil {
		return c.pseudoRef(h)
	}
	return c.fileRef(ctx, r.x, h)
}

func (c *scope) pseudoRef(h fs.Handle) (ref, error) {
	p := pseudo{c.tree}
	n, err := p.find(h)
	if err != nil {
		return ref{}, err
	}
	return ref{handle: h, b: p, h: h, n: n, acc: Access{}, cred: c.cred}, nil
}

// fileRef is a file of an export. It does not say that there is such a file.
func (c *scope) fileRef(ctx context.Context, x *export, h fs.Handle) (ref, error) {
	n, err := x.nodeOf(ctx, h)
	if err != nil {
		return ref{}, err
	}
	acc := c.conn.access(x)
	return ref{handle: wrap(x.ID, h), b: x.Backend, h: h, x: x, n: n, acc: acc, cred: acc.apply(c.cred, c.anonymous),
		wrongSec: !acc.flavor(c.anonymous)}, nil
}

// enter is the directory that a node is: an export's root, or a pseudo directory.
func (c *scope) enter(ctx context.Context, n *node) (ref, error) {
	if n.exp != nil {
		h, err := n.exp.root(ctx)
		if err != nil {
			return ref{}, err
		}
		return c.fileRef(ctx, n.exp, h)
	}
	if n.within != nil {
		return c.inside(ctx, n)
	}
	return c.pseudoRef(wrapNode(n.id))
}

// inside is the directory of an export that a node within it is.
func (c *scope) inside(ctx context.Context, n *node) (ref, error) {
	at, err := n.within.root(ctx)
	if err != nil {
		return ref{}, err
	}
	for _, name := range strings.Split(strings.TrimPrefix(n.path, n.within.node.path), "/") {
		if name == "" {
			continue
		}
		if at, _, err = n.within.Backend.Lookup(ctx, fs.Root, at, name); err != nil {
			return ref{}, err
		}
	}
	return c.fileRef(ctx, n.within, at)
}

// resolve is PUTFH: the ref of a handle that a client sent.
func (c *scope) resolve(ctx context.Context, h fs.Handle) (ref, error) {
	if _, ok := unwrapNode(h); ok {
		return c.pseudoRef(h)
	}
	id, b, ok := unwrap(h)
	if !ok {
		return ref{}, nfs4.NFS4ERR_BADHANDLE
	}
	x := c.tree.byExp[id]
	if x == nil {
		return ref{}, nfs4.NFS4ERR_STALE
	}
	return c.fileRef(ctx, x, b)
}

// lookup is the entry name of a directory, over the border of an export if there is one.
func (c *scope) lookup(ctx context.Context, dir *ref, name string) (ref, *fs.Attr, error) {
	if child := dir.junction(name); child != nil {
		if !c.visible(child) {
			return ref{}, nil, nfs4.NFS4ERR_NOENT
		}
		r, err := c.enter(ctx, child)
		return r, nil, err
	}
	h, a, err := dir.b.Lookup(ctx, dir.cred, dir.h, name)
	if err != nil {
		return ref{}, nil, err
	}
	r, err := c.sub(ctx, dir, h)
	return r, a, err
}

// junction is the node that the entry name of the directory is, if that is not an ordinary entry.
func (r *ref) junction(name string) *node {
	if r.n == nil {
		return nil
	}
	child := r.n.children[name]
	if child == nil || child.exp == nil && r.x != nil {
		return nil
	}
	return child
}

// isRoot tells whether it is the root of its export.
func (r *ref) isRoot() bool {
	if r.x == nil {
		return r.n.parent == nil
	}
	r.x.rootMu.Lock()
	defer r.x.rootMu.Unlock()
	return r.h == r.x.rootHandle
}

// parent is LOOKUPP.
func (c *scope) parent(ctx context.Context, r *ref) (ref, error) {
	if r.x == nil {
		if r.n.parent == nil {
			return ref{}, nfs4.NFS4ERR_NOENT
		}
		return c.enter(ctx, r.n.parent)
	}
	if _, err := r.x.root(ctx); err != nil {
		return ref{}, err
	}
	if r.isRoot() {
		if r.x.node.parent == nil {
			return ref{}, nfs4.NFS4ERR_NOENT
		}
		return c.enter(ctx, r.x.node.parent)
	}
	h, _, err := r.b.LookupParent(ctx, r.cred, r.h)
	if err != nil {
		return ref{}, err
	}
	return c.fileRef(ctx, r.x, h)
}

// visible tells whether the client may see a node: it is, or leads to, an export for it.
func (c *scope) visible(n *node) bool {
	if n.exp != nil && !c.conn.access(n.exp).Denied {
		return true
	}
	for _, child := range n.children {
		if c.visible(child) {
			return true
		}
	}
	return false
}
