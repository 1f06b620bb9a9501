package memfs

import (
	"context"
	"slices"
	"sync"

	"holdfast/fs"
)

// A Listed is a file system that keeps ACLs, as they are given: fs.ACLs. It knows nobody called zoe@nowhere.
type Listed struct {
	*FS

	mu   sync.Mutex
	acls map[fs.Handle][]fs.ACE
}

var _ fs.ACLs = (*Listed)(nil)

// NewListed is f with ACLs.
func NewListed(f *FS) *Listed { return &Listed{FS: f, acls: map[fs.Handle][]fs.ACE{}} }

// ACLSupport says: grants and denials.
func (l *Listed) ACLSupport(context.Context, fs.Handle) (uint32, error) { return 3, nil }

// GetACL reads the list of a file, empty if it was given none.
func (l *Listed) GetACL(_ context.Context, _ *fs.Cred, h fs.Handle) ([]fs.ACE, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.acls[h]), nil
}

// SetACL replaces it. BadOwner for a principal that is nobody, NotSupp for an audit.
func (l *Listed) SetACL(_ context.Context, _ *fs.Cred, h fs.Handle, acl []fs.ACE) error {
	if slices.ContainsFunc(acl, func(a fs.ACE) bool { return a.Who == "zoe@nowhere" }) {
		return fs.E("SETATTR", fs.BadOwner, nil)
	}
	if slices.ContainsFunc(acl, func(a fs.ACE) bool { return a.Type > 1 }) {
		return fs.E("SETATTR", fs.NotSupp, nil)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acls[h] = slices.Clone(acl)
	return nil
}

// Lists gives all that were set.
func (l *Listed) Lists() (all [][]fs.ACE) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, acl := range l.acls {
		all = append(all, slices.Clone(acl))
	}
	return all
}
