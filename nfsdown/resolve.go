package nfsdown

import (
	"context"
	"errors"
	"strings"

	"holdfast/fs"
)

// ErrNotExported says that a path lies in no export.
var ErrNotExported = errors.New("the path lies in no export")

// A Resolved is a file found by its path.
type Resolved struct {
	Handle fs.Handle // as clients and package state know it
	// Backend and Inner are the export's backend and the handle as it knows it.
	Backend fs.Backend
	Inner   fs.Handle
	Attr    *fs.Attr
}

// Resolve finds a file by its path in the server's name space, as the superuser, for the people who
// run the server. Symbolic links are not followed. ErrNotExported if no export has it.
func (s *Server) Resolve(ctx context.Context, path string) (*Resolved, error) {
	path = cleanPath(path)
	n, rest := s.tree.Load().root, ""
	var x *export
	if n.exp != nil {
		x, rest = n.exp, path
	}
	for p := path; p != "/" && n != nil; {
		name, tail, _ := strings.Cut(p[1:], "/")
		if n = n.children[name]; n != nil && n.exp != nil {
			x, rest = n.exp, "/"+tail
		}
		p = "/" + tail
	}
	if x == nil {
		return nil, ErrNotExported
	}
	h, err := x.root(ctx)
	if err != nil {
		return nil, err
	}
	attr, err := x.Backend.GetAttr(ctx, fs.Root, h)
	for name := range strings.SplitSeq(rest, "/") {
		if err != nil {
			break
		}
		if name != "" {
			h, attr, err = x.Backend.Lookup(ctx, fs.Root, h, name)
		}
	}
	if err != nil {
		return nil, err
	}
	return &Resolved{Handle: wrap(x.ID, h), Backend: x.Backend, Inner: h, Attr: attr}, nil
}
