package fuse

import (
	"context"
	"fmt"
	"syscall"

	"holdfast/fs"
)

// A file that is open must stay readable after it was removed. An NFS origin removes the file
// though, so what is open here is renamed to a hidden name in the same directory, and removed at the
// last close: as every NFS client does. If the host dies first, the hidden name stays; such
// names can be removed by hand.

// hidden is a file that was removed while open.
type hidden struct {
	node *node
	dir  fs.Handle
	name string   // the hidden one
	old  string   // the one before
	cred *fs.Cred // who removed it
	// linked says that the name was added and the old one is still there: before a rename.
	linked bool
	ready  bool // it is under the hidden name; guarded by table.mu
}

// source is the file that a rename moves onto another.
type source struct {
	dir  *node
	name string
}

// isHidden tells whether the node has a name only for us.
func (s *server) isHidden(n *node) bool {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	return n.hidden != nil && n.hidden.ready
}

// hide gives the file a hidden name if it is open here; nil if it is not, and may be removed. For a
// rename onto the file (from is set) the old name stays where the origin has links, so that at no
// time it names nothing; the caller then calls renamed.
func (s *server) hide(r *request, dir *node, name string, from *source) (*hidden, error) {
	if !s.hides {
		return nil, nil
	}
	if _, opens := s.table.size(); opens == 0 {
		return nil, nil
	}
	h, a, err := s.lookup(r, dir, name)
	if fs.CodeOf(err) == fs.NoEnt && from != nil {
		return nil, nil
	}
	if err != nil || a.Type != fs.Regular {
		return nil, err
	}
	hid := &hidden{dir: dir.handle, cred: r.cred(), old: name,
		name: fmt.Sprintf(".nfs%016x%s%x", a.FileID, s.tag, s.serial.Add(1))}
	s.table.mu.Lock()
	n := s.table.byHandle[h]
	switch {
	case n == nil || n.opens == 0:
		s.table.mu.Unlock()
		return nil, nil
	case n.hidden != nil && n.hidden.dir == dir.handle && n.hidden.name == name:
		s.table.mu.Unlock()
		return nil, syscall.EBUSY
	case n.hidden != nil: // another link, so the file stays anyway
		s.table.mu.Unlock()
		return nil, nil
	}
	hid.node = n
	n.hidden = hid
	s.table.mu.Unlock()

	if from != nil {
		same, _, err := s.lookup(r, from.dir, from.name)
		if err != nil || same == h { // two names of one file: rename does nothing
			s.unhide(n)
			return nil, err
		}
		err = r.again(nil, func() error {
			_, err := s.backend.Link(r, r.cred(), h, dir.handle, hid.name)
			return err
		})
		if err == nil {
			hid.linked = true
			return hid, nil
		}
	}
	if err := s.rename(r, dir, name, dir, hid.name); err != nil {
		s.unhide(n)
		return nil, err
	}
	if from == nil {
		s.settle(hid)
	}
	return hid, nil
}

func (s *server) lookup(r *request, dir *node, name string) (h fs.Handle, a *fs.Attr, err error) {
	err = r.again(nil, func() (err error) {
		h, a, err = s.backend.Lookup(r, r.cred(), dir.handle, name)
		return err
	})
	return h, a, err
}

// unhide forgets an attempt.
func (s *server) unhide(n *node) {
	s.table.mu.Lock()
	n.hidden = nil
	s.table.mu.Unlock()
}

// settle makes the hidden name the file's only one. The last close may have come meanwhile.
func (s *server) settle(hid *hidden) {
	s.table.mu.Lock()
	hid.ready = true
	last := hid.node.opens == 0
	if last {
		hid.node.hidden = nil
	}
	s.table.mu.Unlock()
	if last {
		s.later(func(ctx context.Context) { s.removeHidden(ctx, hid) })
		return
	}
	s.inval.add(hid.node, invalAttr) // its link count
}

// renamed ends what hide began before a rename.
func (s *server) renamed(r *request, hid *hidden, ok bool) {
	if ok {
		s.settle(hid)
		return
	}
	s.unhide(hid.node)
	if hid.linked {
		s.later(func(ctx context.Context) { s.removeHidden(ctx, hid) })
		return
	}
	// Nothing was moved there, so the old name is free.
	err := r.again(nil, func() error {
		_, _, err := s.backend.Rename(r, hid.cred, hid.dir, hid.name, hid.dir, hid.old)
		return err
	})
	if err != nil {
		s.log.Error("a file is left under a hidden name", "name", hid.name, "err", err)
	}
}

// removeHidden removes the file at last.
func (s *server) removeHidden(ctx context.Context, hid *hidden) {
	err := retry(ctx, func() error {
		_, err := s.backend.Remove(ctx, hid.cred, hid.dir, hid.name, fs.RemoveFile)
		return err
	})
	if err != nil && fs.CodeOf(err) != fs.NoEnt {
		s.log.Warn("a removed file is left under a hidden name", "name", hid.name, "err", err)
	}
}
