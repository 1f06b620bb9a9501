// Package memfs is a [fs.Backend] in memory, for tests: small, exact, and with a hook to fail or to delay
// any call. Files, opens and locks survive nothing but [FS.Restart], which drops opens and locks as a
// restart of an original server does.
package memfs

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"sort"
	"strings"
	"sync"
	"time"

	"holdfast/fs"
)

// FS is a file system in memory. Set Hook before the first call.
type FS struct {
	// Hook is called before every method, by its name, without a mutex. An error is returned in its place.
	Hook func(ctx context.Context, op string) error
	// Now is the clock. Default: time.Now.
	Now func() time.Time

	mu        sync.Mutex
	secret    byte
	next      uint64
	inodes    map[uint64]*inode
	verifier  fs.WriteVerifier
	listeners []fs.Listener
	opens     map[ownerFile]*open
	locks     map[ownerFile]fs.RangeSet
	waits     []wait
	completes int
	change    uint64
}

type ownerFile struct {
	owner fs.Owner
	ino   uint64
}

type open struct{ access, deny fs.Share }

type wait struct {
	owner fs.Owner
	ino   uint64
	r     fs.Range
}

type inode struct {
	attr     fs.Attr
	data     []byte
	target   string
	parent   uint64
	entries  map[string]*entry
	cookies  uint64
	verifier *[8]byte
	xattrs   map[string][]byte
}

type entry struct{ ino, cookie uint64 }

var (
	_ fs.Backend = (*FS)(nil)
	_ fs.Xattrs  = (*FS)(nil)
	_ fs.Sparse  = (*FS)(nil)
	_ fs.Copier  = (*FS)(nil)
	_ fs.Cloner  = (*FS)(nil)
)

const rootIno = 1

// New makes an empty file system whose root is writable by everybody.
func New() *FS {
	f := &FS{Now: time.Now, inodes: map[uint64]*inode{}, opens: map[ownerFile]*open{}, locks: map[ownerFile]fs.RangeSet{}, next: rootIno, secret: 0x5a, change: 1000}
	f.verifier[0] = 1
	r := f.make(fs.Directory, 0o777)
	r.parent = rootIno
	r.attr.Nlink = 2
	return f
}

func (f *FS) hook(ctx context.Context, op string) error {
	if f.Hook != nil {
		return f.Hook(ctx, op)
	}
	return nil
}

// make makes an inode. mu is held, or nobody else knows f.
func (f *FS) make(t fs.FileType, mode uint32) *inode {
	now := f.Now()
	n := &inode{attr: fs.Attr{Type: t, Mode: mode, Nlink: 1, FSID: fs.FSID{Major: 7, Minor: 7}, FileID: f.next, MountedOn: f.next,
		Atime: now, Mtime: now, Ctime: now, Btime: now}}
	f.touch(n)
	if t == fs.Directory {
		n.entries = map[string]*entry{}
	}
	f.inodes[f.next] = n
	f.next++
	return n
}

func (f *FS) touch(n *inode) {
	f.change++
	n.attr.Change = f.change
	n.attr.Ctime = f.Now()
}

// handle is a kind byte, the number, and a checksum that a forger does not guess by accident.
func (f *FS) handle(ino uint64) fs.Handle {
	b := binary.BigEndian.AppendUint64([]byte{0x4d}, ino)
	sum := sha256.Sum256(append(b, f.secret))
	return fs.Handle(append(b, sum[:4]...))
}

func (f *FS) find(h fs.Handle) (*inode, uint64, error) {
	if len(h) != 13 || h[0] != 0x4d {
		return nil, 0, fs.E("", fs.BadHandle, nil)
	}
	ino := binary.BigEndian.Uint64([]byte(h[1:9]))
	if f.handle(ino) != h {
		return nil, 0, fs.E("", fs.BadHandle, nil)
	}
	n := f.inodes[ino]
	if n == nil {
		return nil, 0, fs.E("", fs.Stale, nil)
	}
	return n, ino, nil
}

func (f *FS) dir(h fs.Handle) (*inode, uint64, error) {
	n, ino, err := f.find(h)
	switch {
	case err != nil:
		return nil, 0, err
	case n.attr.Type == fs.Symlink:
		return nil, 0, fs.E("", fs.IsSymlink, nil)
	case n.attr.Type != fs.Directory:
		return nil, 0, fs.E("", fs.NotDir, nil)
	}
	return n, ino, nil
}

func (f *FS) file(h fs.Handle) (*inode, uint64, error) {
	n, ino, err := f.find(h)
	if err != nil {
		return nil, 0, err
	}
	return n, ino, regular(n)
}

func regular(n *inode) error {
	switch n.attr.Type {
	case fs.Regular:
		return nil
	case fs.Directory:
		return fs.E("", fs.IsDir, nil)
	case fs.Symlink:
		return fs.E("", fs.IsSymlink, nil)
	}
	return fs.E("", fs.WrongType, nil)
}

func (n *inode) copyAttr() *fs.Attr {
	a := n.attr
	if n.attr.Type == fs.Regular {
		a.Size, a.Used = uint64(len(n.data)), uint64(len(n.data))
	}
	return &a
}

// may is permission by the mode bits.
func may(c *fs.Cred, a *fs.Attr, want uint32) bool {
	if c.UID == 0 {
		return true
	}
	mode := a.Mode
	switch {
	case c.UID == a.UID:
		mode >>= 6
	case c.InGroup(a.GID):
		mode >>= 3
	}
	return mode&want == want
}

func badName(n string) error {
	switch {
	case n == "":
		return fs.E("", fs.Inval, nil)
	case len(n) > 255:
		return fs.E("", fs.NameTooLong, nil)
	case n == "." || n == ".." || strings.ContainsAny(n, "/\x00"):
		return fs.E("", fs.BadName, nil)
	}
	return nil
}

// Subscribe adds a listener.
func (f *FS) Subscribe(l fs.Listener) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listeners = append(f.listeners, l)
}

// Close does nothing.
func (f *FS) Close(context.Context) error { return nil }

// Restart drops opens and locks and changes the write verifier.
func (f *FS) Restart() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.opens)
	clear(f.locks)
	f.waits, f.listeners, f.completes = nil, nil, 0
	f.verifier[0]++
}

// Completes is how often ReclaimComplete was called.
func (f *FS) Completes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.completes
}

// Held is what an owner has locked on the file of a path.
func (f *FS) Held(owner fs.Owner, h fs.Handle) fs.RangeSet {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ino, err := f.find(h)
	if err != nil {
		return nil
	}
	return f.locks[ownerFile{owner, ino}]
}

// Opens is how many opens there are.
func (f *FS) Opens() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.opens)
}

// Root is the root directory.
func (f *FS) Root(ctx context.Context) (fs.Handle, error) {
	if err := f.hook(ctx, "Root"); err != nil {
		return "", err
	}
	return f.handle(rootIno), nil
}

// Lookup finds an entry.
func (f *FS) Lookup(ctx context.Context, cred *fs.Cred, dir fs.Handle, name string) (fs.Handle, *fs.Attr, error) {
	if err := f.hook(ctx, "Lookup"); err != nil {
		return "", nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d, _, err := f.dir(dir)
	if err != nil {
		return "", nil, err
	}
	if err := badName(name); err != nil {
		return "", nil, err
	}
	if !may(cred, &d.attr, 1) {
		return "", nil, fs.E("LOOKUP", fs.Access, nil)
	}
	e := d.entries[name]
	if e == nil {
		return "", nil, fs.E("LOOKUP", fs.NoEnt, nil)
	}
	return f.handle(e.ino), f.inodes[e.ino].copyAttr(), nil
}

// LookupParent finds the parent.
func (f *FS) LookupParent(ctx context.Context, _ *fs.Cred, dir fs.Handle) (fs.Handle, *fs.Attr, error) {
	if err := f.hook(ctx, "LookupParent"); err != nil {
		return "", nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d, ino, err := f.dir(dir)
	if err != nil {
		return "", nil, err
	}
	if ino == rootIno {
		return "", nil, fs.E("LOOKUPP", fs.NoEnt, nil)
	}
	return f.handle(d.parent), f.inodes[d.parent].copyAttr(), nil
}

// Readlink reads a link.
func (f *FS) Readlink(ctx context.Context, _ *fs.Cred, link fs.Handle) (string, error) {
	if err := f.hook(ctx, "Readlink"); err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, _, err := f.find(link)
	if err != nil {
		return "", err
	}
	if n.attr.Type != fs.Symlink {
		return "", fs.E("READLINK", fs.WrongType, nil)
	}
	return n.target, nil
}

// add enters an inode into a directory.
func (f *FS) add(d *inode, dirIno uint64, name string, n *inode, ino uint64) fs.ChangeInfo {
	before := d.attr.Change
	d.cookies++
	d.entries[name] = &entry{ino: ino, cookie: d.cookies + 2}
	if n.attr.Type == fs.Directory {
		n.parent = dirIno
		d.attr.Nlink++
	}
	f.touch(d)
	d.attr.Mtime = d.attr.Ctime
	return fs.ChangeInfo{Atomic: true, Before: before, After: d.attr.Change}
}

func (f *FS) apply(cred *fs.Cred, n *inode, s *fs.SetAttr, creating bool) error {
	owner := cred.UID == 0 || cred.UID == n.attr.UID
	if !creating {
		timesNow := s.AtimeSet != fs.TimeClient && s.MtimeSet != fs.TimeClient
		if (s.Mode != nil || s.UID != nil || s.GID != nil || !timesNow) && !owner {
			return fs.E("SETATTR", fs.Perm, nil)
		}
		if s.UID != nil && *s.UID != n.attr.UID && cred.UID != 0 {
			return fs.E("SETATTR", fs.Perm, nil)
		}
	}
	if s.Mode != nil {
		m := *s.Mode
		if s.Umask != nil {
			m &^= *s.Umask
		}
		n.attr.Mode = m
	}
	if s.UID != nil {
		n.attr.UID = *s.UID
	}
	if s.GID != nil {
		n.attr.GID = *s.GID
	}
	if s.Size != nil {
		if err := regular(n); err != nil {
			return err
		}
		if *s.Size > maxFile {
			return fs.E("SETATTR", fs.FBig, nil)
		}
		n.resize(*s.Size)
		n.attr.Mtime = f.Now()
	}
	switch s.AtimeSet {
	case fs.TimeServer:
		n.attr.Atime = f.Now()
	case fs.TimeClient:
		n.attr.Atime = s.Atime
	}
	switch s.MtimeSet {
	case fs.TimeServer:
		n.attr.Mtime = f.Now()
	case fs.TimeClient:
		n.attr.Mtime = s.Mtime
	}
	f.touch(n)
	return nil
}

// maxFile bounds the memory of a file.
const maxFile = 1 << 28

func (n *inode) resize(size uint64) {
	if size <= uint64(len(n.data)) {
		n.data = n.data[:size:size]
		return
	}
	n.data = append(n.data, make([]byte, size-uint64(len(n.data)))...)
}

// Create makes anything but a regular file.
func (f *FS) Create(ctx context.Context, cred *fs.Cred, dir fs.Handle, name string, req *fs.CreateRequest) (fs.Handle, *fs.Attr, fs.ChangeInfo, error) {
	var none fs.ChangeInfo
	if err := f.hook(ctx, "Create"); err != nil {
		return "", nil, none, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d, dirIno, err := f.dir(dir)
	if err != nil {
		return "", nil, none, err
	}
	if err := badName(name); err != nil {
		return "", nil, none, err
	}
	if d.entries[name] != nil {
		return "", nil, none, fs.E("CREATE", fs.Exist, nil)
	}
	if !may(cred, &d.attr, 3) {
		return "", nil, none, fs.E("CREATE", fs.Access, nil)
	}
	n := f.make(req.Type, 0o755)
	n.attr.UID, n.attr.GID = cred.UID, cred.GID
	n.target, n.attr.Rdev = req.Target, req.Rdev
	if req.Type == fs.Symlink {
		n.attr.Size = uint64(len(req.Target))
	}
	if req.Type == fs.Directory {
		n.attr.Nlink = 2
	}
	set := req.Attr
	if err := f.apply(cred, n, &set, true); err != nil {
		return "", nil, none, err
	}
	change := f.add(d, dirIno, name, n, n.attr.FileID)
	return f.handle(n.attr.FileID), n.copyAttr(), change, nil
}

// Remove removes an entry.
func (f *FS) Remove(ctx context.Context, cred *fs.Cred, dir fs.Handle, name string, kind fs.RemoveKind) (fs.ChangeInfo, error) {
	var none fs.ChangeInfo
	if err := f.hook(ctx, "Remove"); err != nil {
		return none, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d, _, err := f.dir(dir)
	if err != nil {
		return none, err
	}
	if err := badName(name); err != nil {
		return none, err
	}
	e := d.entries[name]
	if e == nil {
		return none, fs.E("REMOVE", fs.NoEnt, nil)
	}
	if !may(cred, &d.attr, 3) {
		return none, fs.E("REMOVE", fs.Access, nil)
	}
	n := f.inodes[e.ino]
	isDir := n.attr.Type == fs.Directory
	switch {
	case kind == fs.RemoveFile && isDir:
		return none, fs.E("REMOVE", fs.IsDir, nil)
	case kind == fs.RemoveDir && !isDir:
		return none, fs.E("REMOVE", fs.NotDir, nil)
	case isDir && len(n.entries) > 0:
		return none, fs.E("REMOVE", fs.NotEmpty, nil)
	}
	return f.unlink(d, name), nil
}

// unlink takes an entry out. An inode without a name goes, unless it is open.
func (f *FS) unlink(d *inode, name string) fs.ChangeInfo {
	before := d.attr.Change
	e := d.entries[name]
	delete(d.entries, name)
	n := f.inodes[e.ino]
	n.attr.Nlink--
	f.touch(n)
	if n.attr.Type == fs.Directory {
		d.attr.Nlink--
		delete(f.inodes, e.ino)
	}
	f.reap(e.ino)
	f.touch(d)
	d.attr.Mtime = d.attr.Ctime
	return fs.ChangeInfo{Atomic: true, Before: before, After: d.attr.Change}
}

func (f *FS) reap(ino uint64) {
	n := f.inodes[ino]
	if n == nil || n.attr.Nlink > 0 {
		return
	}
	for k := range f.opens {
		if k.ino == ino {
			return
		}
	}
	delete(f.inodes, ino)
}

// Rename moves an entry.
func (f *FS) Rename(ctx context.Context, cred *fs.Cred, fromDir fs.Handle, from string, toDir fs.Handle, to string) (source, target fs.ChangeInfo, err error) {
	if err := f.hook(ctx, "Rename"); err != nil {
		return source, target, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	a, _, err := f.dir(fromDir)
	if err != nil {
		return source, target, err
	}
	b, bIno, err := f.dir(toDir)
	if err != nil {
		return source, target, err
	}
	for _, n := range []string{from, to} {
		if err := badName(n); err != nil {
			return source, target, err
		}
	}
	e := a.entries[from]
	if e == nil {
		return source, target, fs.E("RENAME", fs.NoEnt, nil)
	}
	if !may(cred, &a.attr, 3) || !may(cred, &b.attr, 3) {
		return source, target, fs.E("RENAME", fs.Access, nil)
	}
	n := f.inodes[e.ino]
	if o := b.entries[to]; o != nil {
		on := f.inodes[o.ino]
		switch {
		case o.ino == e.ino:
			return fs.ChangeInfo{Atomic: true, Before: a.attr.Change, After: a.attr.Change}, fs.ChangeInfo{Atomic: true, Before: b.attr.Change, After: b.attr.Change}, nil
		case (on.attr.Type == fs.Directory) != (n.attr.Type == fs.Directory):
			return source, target, fs.E("RENAME", fs.Exist, nil)
		case len(on.entries) > 0:
			return source, target, fs.E("RENAME", fs.NotEmpty, nil)
		}
		f.unlink(b, to)
	}
	for p := bIno; n.attr.Type == fs.Directory; p = f.inodes[p].parent {
		if p == e.ino {
			return source, target, fs.E("RENAME", fs.Inval, nil)
		}
		if p == rootIno {
			break
		}
	}
	source.Before = a.attr.Change
	delete(a.entries, from)
	if n.attr.Type == fs.Directory {
		a.attr.Nlink--
	}
	f.touch(a)
	target = f.add(b, bIno, to, n, e.ino)
	f.touch(n)
	source.Atomic, source.After = true, a.attr.Change
	return source, target, nil
}

// Link makes another name.
func (f *FS) Link(ctx context.Context, cred *fs.Cred, file, dir fs.Handle, name string) (fs.ChangeInfo, error) {
	var none fs.ChangeInfo
	if err := f.hook(ctx, "Link"); err != nil {
		return none, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d, dirIno, err := f.dir(dir)
	if err != nil {
		return none, err
	}
	n, ino, err := f.find(file)
	if err != nil {
		return none, err
	}
	if err := badName(name); err != nil {
		return none, err
	}
	switch {
	case n.attr.Type == fs.Directory:
		return none, fs.E("LINK", fs.IsDir, nil)
	case d.entries[name] != nil:
		return none, fs.E("LINK", fs.Exist, nil)
	case !may(cred, &d.attr, 3):
		return none, fs.E("LINK", fs.Access, nil)
	}
	n.attr.Nlink++
	f.touch(n)
	return f.add(d, dirIno, name, n, ino), nil
}

// ReadDir lists in the order in which entries were made.
func (f *FS) ReadDir(ctx context.Context, cred *fs.Cred, dir fs.Handle, cookie uint64, wantAttr bool, emit func(*fs.DirEntry) bool) (bool, error) {
	if err := f.hook(ctx, "ReadDir"); err != nil {
		return false, err
	}
	f.mu.Lock()
	d, _, err := f.dir(dir)
	if err == nil && !may(cred, &d.attr, 4) {
		err = fs.E("READDIR", fs.Access, nil)
	}
	if err != nil {
		f.mu.Unlock()
		return false, err
	}
	var list []fs.DirEntry
	for name, e := range d.entries {
		if e.cookie > cookie {
			n := f.inodes[e.ino]
			de := fs.DirEntry{Cookie: e.cookie, Name: name, FileID: e.ino, Type: n.attr.Type}
			if wantAttr {
				de.Handle, de.Attr = f.handle(e.ino), n.copyAttr()
			}
			list = append(list, de)
		}
	}
	f.mu.Unlock()
	sort.Slice(list, func(i, j int) bool { return list[i].Cookie < list[j].Cookie })
	for i := range list {
		if !emit(&list[i]) {
			return false, nil
		}
	}
	return true, nil
}

var _ fs.Delegator = (*FS)(nil)

// Delegates is of fs.Delegator: nobody uses the files but the server.
func (f *FS) Delegates(fs.Handle, bool) bool { return true }

// Delegate is of fs.Delegator.
func (f *FS) Delegate(ctx context.Context, _ fs.Owner, _ fs.Handle, _, _ bool) error {
	if f.Hook != nil {
		return f.Hook(ctx, "Delegate")
	}
	return nil
}

// Opened tells whether owner has the file open.
func (f *FS) Opened(owner fs.Owner, h fs.Handle) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ino, err := f.find(h)
	return err == nil && f.opens[ownerFile{owner, ino}] != nil
}
