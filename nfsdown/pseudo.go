package nfsdown

import (
	"context"
	"time"

	"holdfast/fs"
)

// pseudo is the backend of the directories above the exports, RFC 8881 section 7.3. It is read-only and
// knows directories only. Handles within it are those that clients see.
type pseudo struct{ t *tree }

var _ fs.Backend = pseudo{}

// find gives the node of a handle.
func (p pseudo) find(h fs.Handle) (*node, error) {
	id, ok := unwrapNode(h)
	if !ok {
		return nil, fs.E("", fs.BadHandle, nil)
	}
	n := p.t.byID[id]
	if n == nil {
		return nil, fs.E("", fs.Stale, nil)
	}
	return n, nil
}

// refuse is the answer to all that would change something.
func (p pseudo) refuse(h fs.Handle) error {
	if _, err := p.find(h); err != nil {
		return err
	}
	return fs.E("", fs.ROFS, nil)
}

// isDir is the answer to all that wants a file.
func (p pseudo) isDir(h fs.Handle) error {
	if _, err := p.find(h); err != nil {
		return err
	}
	return fs.E("", fs.IsDir, nil)
}

func (p pseudo) Subscribe(fs.Listener) {}

func (p pseudo) Close(context.Context) error { return nil }

func (p pseudo) Root(context.Context) (fs.Handle, error) { return wrapNode(p.t.root.id), nil }

func (p pseudo) Lookup(_ context.Context, _ *fs.Cred, dir fs.Handle, name string) (fs.Handle, *fs.Attr, error) {
	n, err := p.find(dir)
	if err != nil {
		return "", nil, err
	}
	c := n.children[name]
	if c == nil {
		return "", nil, fs.E("LOOKUP", fs.NoEnt, nil)
	}
	return wrapNode(c.id), c.attr(p.t), nil
}

func (p pseudo) LookupParent(_ context.Context, _ *fs.Cred, dir fs.Handle) (fs.Handle, *fs.Attr, error) {
	n, err := p.find(dir)
	if err != nil {
		return "", nil, err
	}
	if n.parent == nil {
		return "", nil, fs.E("LOOKUPP", fs.NoEnt, nil)
	}
	return wrapNode(n.parent.id), n.parent.attr(p.t), nil
}

func (p pseudo) Readlink(_ context.Context, _ *fs.Cred, h fs.Handle) (string, error) {
	if _, err := p.find(h); err != nil {
		return "", err
	}
	return "", fs.E("READLINK", fs.Inval, nil)
}

func (p pseudo) Create(_ context.Context, _ *fs.Cred, dir fs.Handle, _ string, _ *fs.CreateRequest) (fs.Handle, *fs.Attr, fs.ChangeInfo, error) {
	return "", nil, fs.ChangeInfo{}, p.refuse(dir)
}

func (p pseudo) Remove(_ context.Context, _ *fs.Cred, dir fs.Handle, _ string, _ fs.RemoveKind) (fs.ChangeInfo, error) {
	return fs.ChangeInfo{}, p.refuse(dir)
}

func (p pseudo) Rename(_ context.Context, _ *fs.Cred, from fs.Handle, _ string, _ fs.Handle, _ string) (a, b fs.ChangeInfo, err error) {
	return a, b, p.refuse(from)
}

func (p pseudo) Link(_ context.Context, _ *fs.Cred, _, dir fs.Handle, _ string) (fs.ChangeInfo, error) {
	return fs.ChangeInfo{}, p.refuse(dir)
}

// ReadDir has cookies from 3 on in the order of the names. They are good until a reload.
func (p pseudo) ReadDir(_ context.Context, _ *fs.Cred, dir fs.Handle, cookie uint64, _ bool, emit func(*fs.DirEntry) bool) (bool, error) {
	n, err := p.find(dir)
	if err != nil {
		return false, err
	}
	for i, name := range n.names {
		at := uint64(i) + 3
		if at <= cookie {
			continue
		}
		c := n.children[name]
		if !emit(&fs.DirEntry{Cookie: at, Name: name, FileID: c.id, Type: fs.Directory, Handle: wrapNode(c.id), Attr: c.attr(p.t)}) {
			return false, nil
		}
	}
	return true, nil
}

func (p pseudo) GetAttr(_ context.Context, _ *fs.Cred, h fs.Handle) (*fs.Attr, error) {
	n, err := p.find(h)
	if err != nil {
		return nil, err
	}
	return n.attr(p.t), nil
}

func (p pseudo) SetAttr(_ context.Context, _ *fs.Cred, io fs.IORef, _ *fs.SetAttr) (*fs.Attr, error) {
	return nil, p.refuse(io.Handle)
}

func (p pseudo) Access(_ context.Context, _ *fs.Cred, h fs.Handle, want uint32) (uint32, error) {
	_, err := p.find(h)
	return want & (fs.AccessRead | fs.AccessLookup), err
}

func (p pseudo) FSStat(_ context.Context, _ *fs.Cred, h fs.Handle) (*fs.FSStat, error) {
	_, err := p.find(h)
	return &fs.FSStat{NameMax: nameMax}, err
}

func (p pseudo) FSInfo(context.Context, fs.Handle) (*fs.FSInfo, error) {
	return &fs.FSInfo{MaxRead: defaultMaxIO, MaxWrite: defaultMaxIO, MaxFileSize: 1<<63 - 1, MaxLink: 1, MaxName: nameMax,
		TimeDelta: time.Nanosecond, ChownRestricted: true, NoTrunc: true, Monotonic: true}, nil
}

func (p pseudo) Read(_ context.Context, _ *fs.Cred, io fs.IORef, _ uint64, _ []byte) (int, bool, error) {
	return 0, false, p.isDir(io.Handle)
}

func (p pseudo) Write(_ context.Context, _ *fs.Cred, io fs.IORef, _ uint64, _ []byte, _ fs.Stability) (fs.WriteResult, error) {
	return fs.WriteResult{}, p.isDir(io.Handle)
}

func (p pseudo) Commit(_ context.Context, _ *fs.Cred, h fs.Handle, _, _ uint64) (fs.WriteVerifier, error) {
	return fs.WriteVerifier{}, p.isDir(h)
}

func (p pseudo) Open(_ context.Context, _ *fs.Cred, req *fs.OpenRequest) (*fs.OpenResult, error) {
	if req.Name == "" {
		return nil, p.isDir(req.File)
	}
	n, err := p.find(req.Dir)
	switch {
	case err != nil:
		return nil, err
	case n.children[req.Name] != nil:
		return nil, fs.E("OPEN", fs.IsDir, nil)
	case req.Create != fs.NoCreate:
		return nil, fs.E("OPEN", fs.ROFS, nil)
	}
	return nil, fs.E("OPEN", fs.NoEnt, nil)
}

func (p pseudo) Downgrade(_ context.Context, _ fs.Owner, h fs.Handle, _, _ fs.Share) error {
	return p.isDir(h)
}

func (p pseudo) CloseFile(_ context.Context, _ fs.Owner, h fs.Handle) error { return p.isDir(h) }

func (p pseudo) Lock(_ context.Context, _ *fs.Cred, req *fs.LockRequest) error {
	return p.isDir(req.File)
}

func (p pseudo) Unlock(_ context.Context, _ *fs.Cred, _ fs.Owner, h fs.Handle, _ fs.Range) error {
	return p.isDir(h)
}

func (p pseudo) TestLock(_ context.Context, _ *fs.Cred, _ fs.Owner, h fs.Handle, _ fs.Range, _ fs.LockType) error {
	return p.isDir(h)
}

func (p pseudo) ReleaseLockOwner(_ context.Context, _ fs.Owner, _ fs.Handle) error { return nil }

func (p pseudo) CancelWait(fs.Owner, fs.Handle, fs.Range) {}

func (p pseudo) ReclaimComplete(context.Context) error { return nil }
