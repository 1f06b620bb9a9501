package fuse

import (
	"context"
	"encoding/binary"
	"math"
	"sort"
	"sync"
	"time"

	"holdfast/fs"
)

// memBackend is a file system in memory that behaves as an origin behind NFS: a removed file is gone,
// open or not (unless keepsOpen), locks are per owner and file, and news comes through a Listener.
type memBackend struct {
	source    any // of the last request; guarded by mu
	keepsOpen bool
	mayNotify bool
	// hook, if set, is called before each operation without a lock; its error is the answer.
	hook func(ctx context.Context, op string) error

	mu        sync.Mutex
	listeners []fs.Listener
	files     map[uint64]*memFile
	last      uint64
	change    uint64
	verifier  fs.WriteVerifier
	commits   int
	reclaimed int
	calls     map[string]int
	creds     map[string]*fs.Cred // by operation, the last one
}

type memFile struct {
	id      uint64
	attr    fs.Attr
	data    []byte
	target  string
	names   map[string]*memEntry
	parent  uint64
	xattrs  map[string][]byte
	opens   map[fs.Owner]fs.Share
	locks   map[fs.Owner]fs.RangeSet
	waiting map[fs.Owner]fs.Range
}

type memEntry struct {
	cookie uint64
	id     uint64
}

var (
	_ fs.Backend = (*memBackend)(nil)
	_ fs.Xattrs  = (*memBackend)(nil)
	_ fs.Sparse  = (*memBackend)(nil)
	_ fs.Copier  = (*memBackend)(nil)
)

func newMem() *memBackend {
	b := &memBackend{files: make(map[uint64]*memFile), calls: make(map[string]int), creds: make(map[string]*fs.Cred), last: 1}
	root := b.add(fs.Directory, 0777, fs.Root)
	root.parent = root.id
	return b
}

func (b *memBackend) handle(id uint64) fs.Handle {
	return fs.Handle(binary.BigEndian.AppendUint64([]byte("mem"), id))
}

// start is the beginning of every operation; the caller then holds b.mu.
func (b *memBackend) start(ctx context.Context, op string, cred *fs.Cred) error {
	if b.hook != nil {
		if err := b.hook(ctx, op); err != nil {
			return err
		}
	}
	b.mu.Lock()
	b.calls[op]++
	b.source = fs.SourceOf(ctx)
	if cred != nil {
		b.creds[op] = cred
	}
	return nil
}

// lastSource is whom the last request came from.
func (b *memBackend) lastSource() any {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.source
}

func (b *memBackend) count(op string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls[op]
}

func (b *memBackend) get(h fs.Handle) (*memFile, error) {
	if len(h) != 11 {
		return nil, fs.BadHandle
	}
	f := b.files[binary.BigEndian.Uint64([]byte(h[3:]))]
	if f == nil {
		return nil, fs.Stale
	}
	return f, nil
}

func (b *memBackend) dir(h fs.Handle, name string) (*memFile, error) {
	f, err := b.get(h)
	switch {
	case err != nil:
		return nil, err
	case f.attr.Type != fs.Directory:
		return nil, fs.NotDir
	case len(name) > 255:
		return nil, fs.NameTooLong
	case name == "." || name == "..":
		return nil, fs.BadName
	}
	return f, nil
}

func (b *memBackend) touch(f *memFile, data bool) {
	b.change++
	f.attr.Change = b.change
	f.attr.Ctime = time.Now()
	if data {
		f.attr.Mtime = f.attr.Ctime
	}
	f.attr.Size = uint64(len(f.data))
	if f.attr.Type == fs.Symlink {
		f.attr.Size = uint64(len(f.target))
	}
	f.attr.Used = (f.attr.Size + 511) &^ 511
}

func (b *memBackend) add(t fs.FileType, mode uint32, cred *fs.Cred) *memFile {
	b.last++
	f := &memFile{id: b.last, xattrs: make(map[string][]byte), opens: make(map[fs.Owner]fs.Share),
		locks: make(map[fs.Owner]fs.RangeSet), waiting: make(map[fs.Owner]fs.Range)}
	f.attr = fs.Attr{Type: t, Mode: mode, Nlink: 1, UID: cred.UID, GID: cred.GID, FileID: f.id, MountedOn: f.id, Atime: time.Now()}
	if t == fs.Directory {
		f.names = make(map[string]*memEntry)
		f.attr.Nlink = 2
	}
	b.files[f.id] = f
	b.touch(f, true)
	return f
}

func (b *memBackend) put(dir *memFile, name string, f *memFile) {
	b.change++
	dir.names[name] = &memEntry{cookie: b.change + 2, id: f.id}
	if f.attr.Type == fs.Directory {
		f.parent = dir.id
		dir.attr.Nlink++
	}
	b.touch(dir, true)
}

// drop takes a name out, and the file after its last.
func (b *memBackend) drop(dir *memFile, name string) {
	f := b.files[dir.names[name].id]
	delete(dir.names, name)
	if f.attr.Type == fs.Directory {
		dir.attr.Nlink--
		f.attr.Nlink = 1
	}
	f.attr.Nlink--
	b.touch(f, false)
	b.touch(dir, true)
	b.reap(f)
}

func (b *memBackend) reap(f *memFile) {
	if f.attr.Nlink == 0 && (!b.keepsOpen || len(f.opens) == 0) {
		delete(b.files, f.id)
	}
}

func masked(a *fs.SetAttr) uint32 {
	if a.Umask != nil {
		return *a.Mode &^ *a.Umask
	}
	return *a.Mode
}

// may checks permission by mode.
func may(f *memFile, cred *fs.Cred, bits uint32) bool {
	if cred.UID == 0 {
		return true
	}
	shift := 0
	switch {
	case cred.UID == f.attr.UID:
		shift = 6
	case cred.InGroup(f.attr.GID):
		shift = 3
	}
	return f.attr.Mode>>shift&bits == bits
}

func copyAttr(f *memFile) *fs.Attr { a := f.attr; return &a }

func (b *memBackend) Subscribe(l fs.Listener)         { b.listeners = append(b.listeners, l) }
func (b *memBackend) Close(ctx context.Context) error { return nil }

func (b *memBackend) Root(ctx context.Context) (fs.Handle, error) {
	if err := b.start(ctx, "Root", nil); err != nil {
		return "", err
	}
	defer b.mu.Unlock()
	return b.handle(2), nil
}

func (b *memBackend) Lookup(ctx context.Context, cred *fs.Cred, dir fs.Handle, name string) (fs.Handle, *fs.Attr, error) {
	if err := b.start(ctx, "Lookup", cred); err != nil {
		return "", nil, err
	}
	defer b.mu.Unlock()
	d, err := b.dir(dir, name)
	if err != nil {
		return "", nil, err
	}
	if !may(d, cred, 1) {
		return "", nil, fs.Access
	}
	e := d.names[name]
	if e == nil {
		return "", nil, fs.NoEnt
	}
	return b.handle(e.id), copyAttr(b.files[e.id]), nil
}

func (b *memBackend) LookupParent(ctx context.Context, cred *fs.Cred, dir fs.Handle) (fs.Handle, *fs.Attr, error) {
	if err := b.start(ctx, "LookupParent", cred); err != nil {
		return "", nil, err
	}
	defer b.mu.Unlock()
	d, err := b.get(dir)
	if err != nil || d.parent == d.id {
		return "", nil, fs.NoEnt
	}
	return b.handle(d.parent), copyAttr(b.files[d.parent]), nil
}

func (b *memBackend) Readlink(ctx context.Context, cred *fs.Cred, h fs.Handle) (string, error) {
	if err := b.start(ctx, "Readlink", cred); err != nil {
		return "", err
	}
	defer b.mu.Unlock()
	f, err := b.get(h)
	if err != nil {
		return "", err
	}
	return f.target, nil
}

func (b *memBackend) Create(ctx context.Context, cred *fs.Cred, dir fs.Handle, name string, req *fs.CreateRequest) (fs.Handle, *fs.Attr, fs.ChangeInfo, error) {
	var ci fs.ChangeInfo
	if err := b.start(ctx, "Create", cred); err != nil {
		return "", nil, ci, err
	}
	defer b.mu.Unlock()
	d, err := b.dir(dir, name)
	if err != nil {
		return "", nil, ci, err
	}
	if !may(d, cred, 3) {
		return "", nil, ci, fs.Access
	}
	if d.names[name] != nil {
		return "", nil, ci, fs.Exist
	}
	f := b.add(req.Type, masked(&req.Attr), cred)
	f.target, f.attr.Rdev = req.Target, req.Rdev
	b.touch(f, true)
	b.put(d, name, f)
	return b.handle(f.id), copyAttr(f), ci, nil
}

func (b *memBackend) Remove(ctx context.Context, cred *fs.Cred, dir fs.Handle, name string, kind fs.RemoveKind) (fs.ChangeInfo, error) {
	var ci fs.ChangeInfo
	if err := b.start(ctx, "Remove", cred); err != nil {
		return ci, err
	}
	defer b.mu.Unlock()
	d, err := b.dir(dir, name)
	if err != nil {
		return ci, err
	}
	e := d.names[name]
	if e == nil {
		return ci, fs.NoEnt
	}
	f := b.files[e.id]
	switch {
	case !may(d, cred, 3):
		return ci, fs.Access
	case kind == fs.RemoveDir && f.attr.Type != fs.Directory:
		return ci, fs.NotDir
	case kind == fs.RemoveFile && f.attr.Type == fs.Directory:
		return ci, fs.IsDir
	case len(f.names) > 0:
		return ci, fs.NotEmpty
	}
	b.drop(d, name)
	return ci, nil
}

func (b *memBackend) Rename(ctx context.Context, cred *fs.Cred, fromDir fs.Handle, from string, toDir fs.Handle, to string) (ci, ci2 fs.ChangeInfo, err error) {
	if err := b.start(ctx, "Rename", cred); err != nil {
		return ci, ci2, err
	}
	defer b.mu.Unlock()
	d, err := b.dir(fromDir, from)
	if err != nil {
		return ci, ci2, err
	}
	t, err := b.dir(toDir, to)
	if err != nil {
		return ci, ci2, err
	}
	e := d.names[from]
	if e == nil {
		return ci, ci2, fs.NoEnt
	}
	f := b.files[e.id]
	if old := t.names[to]; old != nil {
		o := b.files[old.id]
		switch {
		case o == f:
			return ci, ci2, nil
		case o.attr.Type == fs.Directory && f.attr.Type != fs.Directory:
			return ci, ci2, fs.IsDir
		case o.attr.Type != fs.Directory && f.attr.Type == fs.Directory:
			return ci, ci2, fs.NotDir
		case len(o.names) > 0:
			return ci, ci2, fs.NotEmpty
		}
		b.drop(t, to)
	}
	delete(d.names, from)
	if f.attr.Type == fs.Directory {
		d.attr.Nlink--
	}
	b.touch(d, true)
	b.put(t, to, f)
	b.touch(f, false)
	return ci, ci2, nil
}

func (b *memBackend) Link(ctx context.Context, cred *fs.Cred, file, dir fs.Handle, name string) (fs.ChangeInfo, error) {
	var ci fs.ChangeInfo
	if err := b.start(ctx, "Link", cred); err != nil {
		return ci, err
	}
	defer b.mu.Unlock()
	f, err := b.get(file)
	if err != nil {
		return ci, err
	}
	d, err := b.dir(dir, name)
	if err != nil {
		return ci, err
	}
	if d.names[name] != nil {
		return ci, fs.Exist
	}
	f.attr.Nlink++
	b.touch(f, false)
	b.put(d, name, f)
	return ci, nil
}

func (b *memBackend) ReadDir(ctx context.Context, cred *fs.Cred, dir fs.Handle, cookie uint64, wantAttr bool, emit func(*fs.DirEntry) bool) (bool, error) {
	if err := b.start(ctx, "ReadDir", cred); err != nil {
		return false, err
	}
	var list []fs.DirEntry
	d, err := b.dir(dir, "")
	if err != nil {
		b.mu.Unlock()
		return false, err
	}
	for name, e := range d.names {
		if e.cookie > cookie {
			f := b.files[e.id]
			entry := fs.DirEntry{Cookie: e.cookie, Name: name, FileID: e.id, Type: f.attr.Type}
			if wantAttr {
				entry.Handle, entry.Attr = b.handle(e.id), copyAttr(f)
			}
			list = append(list, entry)
		}
	}
	b.mu.Unlock()
	sort.Slice(list, func(i, j int) bool { return list[i].Cookie < list[j].Cookie })
	for i := range list {
		if !emit(&list[i]) {
			return false, nil
		}
	}
	return true, nil
}

func (b *memBackend) GetAttr(ctx context.Context, cred *fs.Cred, h fs.Handle) (*fs.Attr, error) {
	if err := b.start(ctx, "GetAttr", cred); err != nil {
		return nil, err
	}
	defer b.mu.Unlock()
	f, err := b.get(h)
	if err != nil {
		return nil, err
	}
	return copyAttr(f), nil
}

func (b *memBackend) SetAttr(ctx context.Context, cred *fs.Cred, io fs.IORef, set *fs.SetAttr) (*fs.Attr, error) {
	if err := b.start(ctx, "SetAttr", cred); err != nil {
		return nil, err
	}
	defer b.mu.Unlock()
	f, err := b.get(io.Handle)
	if err != nil {
		return nil, err
	}
	if (set.Mode != nil || set.UID != nil) && cred.UID != 0 && cred.UID != f.attr.UID {
		return nil, fs.Perm
	}
	if set.Size != nil {
		if io.Open.IsZero() {
			if !may(f, cred, 2) {
				return nil, fs.Access
			}
		} else if f.opens[io.Open]&fs.ShareWrite == 0 {
			return nil, fs.OpenMode
		}
		f.resize(*set.Size)
	}
	if set.Mode != nil {
		f.attr.Mode = *set.Mode
	}
	if set.UID != nil {
		f.attr.UID = *set.UID
	}
	if set.GID != nil {
		f.attr.GID = *set.GID
	}
	b.touch(f, set.Size != nil)
	stamp := func(how fs.TimeSet, v time.Time, t *time.Time) {
		switch how {
		case fs.TimeServer:
			*t = time.Now()
		case fs.TimeClient:
			*t = v
		}
	}
	stamp(set.AtimeSet, set.Atime, &f.attr.Atime)
	stamp(set.MtimeSet, set.Mtime, &f.attr.Mtime)
	return copyAttr(f), nil
}

func (f *memFile) resize(size uint64) {
	for uint64(len(f.data)) < size {
		f.data = append(f.data, make([]byte, size-uint64(len(f.data)))...)
	}
	f.data = f.data[:size]
}

func (b *memBackend) Access(ctx context.Context, cred *fs.Cred, h fs.Handle, want uint32) (uint32, error) {
	if err := b.start(ctx, "Access", cred); err != nil {
		return 0, err
	}
	defer b.mu.Unlock()
	f, err := b.get(h)
	if err != nil {
		return 0, err
	}
	var granted uint32
	for bit, need := range map[uint32]uint32{fs.AccessRead: 4, fs.AccessLookup: 1, fs.AccessModify: 2, fs.AccessExtend: 2, fs.AccessDelete: 2, fs.AccessExecute: 1} {
		if want&bit != 0 && may(f, cred, need) {
			granted |= bit
		}
	}
	return granted, nil
}

func (b *memBackend) FSStat(ctx context.Context, cred *fs.Cred, h fs.Handle) (*fs.FSStat, error) {
	if err := b.start(ctx, "FSStat", cred); err != nil {
		return nil, err
	}
	defer b.mu.Unlock()
	return &fs.FSStat{TotalBytes: 1 << 30, FreeBytes: 1 << 29, AvailBytes: 1 << 28, TotalFiles: 1000, FreeFiles: 500, AvailFiles: 400, NameMax: 255}, nil
}

func (b *memBackend) FSInfo(context.Context, fs.Handle) (*fs.FSInfo, error) {
	return &fs.FSInfo{MaxRead: 1 << 20, MaxWrite: 1 << 20}, nil
}

// check is the permission of I/O.
func (b *memBackend) check(io fs.IORef, need fs.Share) (*memFile, error) {
	f, err := b.get(io.Handle)
	if err != nil {
		return nil, err
	}
	if !io.Open.IsZero() && f.opens[io.Open]&need == 0 {
		return nil, fs.BadStateid
	}
	return f, nil
}

func (b *memBackend) Read(ctx context.Context, cred *fs.Cred, io fs.IORef, off uint64, dst []byte) (int, bool, error) {
	if err := b.start(ctx, "Read", cred); err != nil {
		return 0, false, err
	}
	defer b.mu.Unlock()
	f, err := b.check(io, fs.ShareRead)
	if err != nil {
		return 0, false, err
	}
	if off >= uint64(len(f.data)) {
		return 0, true, nil
	}
	n := copy(dst, f.data[off:])
	if n > 100000 {
		n = 100000 // as an origin with a small MaxRead
	}
	return n, off+uint64(n) >= uint64(len(f.data)), nil
}

func (b *memBackend) Write(ctx context.Context, cred *fs.Cred, io fs.IORef, off uint64, data []byte, how fs.Stability) (fs.WriteResult, error) {
	if err := b.start(ctx, "Write", cred); err != nil {
		return fs.WriteResult{}, err
	}
	defer b.mu.Unlock()
	f, err := b.check(io, fs.ShareWrite)
	if err != nil {
		return fs.WriteResult{}, err
	}
	if len(data) > 100000 {
		data = data[:100000]
	}
	if end := off + uint64(len(data)); end > uint64(len(f.data)) {
		f.resize(end)
	}
	copy(f.data[off:], data)
	b.touch(f, true)
	return fs.WriteResult{N: len(data), Committed: how, Verifier: b.verifier}, nil
}

func (b *memBackend) Commit(ctx context.Context, cred *fs.Cred, h fs.Handle, off, count uint64) (fs.WriteVerifier, error) {
	if err := b.start(ctx, "Commit", cred); err != nil {
		return fs.WriteVerifier{}, err
	}
	defer b.mu.Unlock()
	_, err := b.get(h)
	b.commits++
	return b.verifier, err
}

func (b *memBackend) Open(ctx context.Context, cred *fs.Cred, req *fs.OpenRequest) (*fs.OpenResult, error) {
	if err := b.start(ctx, "Open", cred); err != nil {
		return nil, err
	}
	defer b.mu.Unlock()
	var f *memFile
	var err error
	created := false
	if req.Name != "" {
		d, err := b.dir(req.Dir, req.Name)
		if err != nil {
			return nil, err
		}
		if e := d.names[req.Name]; e != nil {
			f = b.files[e.id]
			if req.Create >= fs.Guarded {
				return nil, fs.Exist
			}
		} else if req.Create == fs.NoCreate {
			return nil, fs.NoEnt
		} else if !may(d, cred, 3) {
			return nil, fs.Access
		} else {
			f = b.add(fs.Regular, masked(&req.Attr), cred)
			b.put(d, req.Name, f)
			created = true
		}
	} else if f, err = b.get(req.File); err != nil {
		return nil, err
	}
	switch f.attr.Type {
	case fs.Regular:
	case fs.Directory:
		return nil, fs.IsDir
	default:
		return nil, fs.IsSymlink
	}
	if !created && (req.Access&fs.ShareRead != 0 && !may(f, cred, 4) || req.Access&fs.ShareWrite != 0 && !may(f, cred, 2)) {
		return nil, fs.Access
	}
	if !created && req.Attr.Size != nil {
		f.resize(*req.Attr.Size)
		b.touch(f, true)
	}
	f.opens[req.Owner] |= req.Access
	return &fs.OpenResult{File: b.handle(f.id), Attr: copyAttr(f), Created: created, MayNotify: b.mayNotify}, nil
}

func (b *memBackend) Downgrade(context.Context, fs.Owner, fs.Handle, fs.Share, fs.Share) error {
	return nil
}

func (b *memBackend) CloseFile(ctx context.Context, owner fs.Owner, h fs.Handle) error {
	if err := b.start(ctx, "CloseFile", nil); err != nil {
		return err
	}
	defer b.mu.Unlock()
	f, err := b.get(h)
	if err != nil {
		return err
	}
	if _, ok := f.opens[owner]; !ok {
		return fs.BadStateid
	}
	delete(f.opens, owner)
	b.reap(f)
	return nil
}

func (b *memBackend) conflict(f *memFile, owner fs.Owner, r fs.Range, t fs.LockType) error {
	for o, set := range f.locks {
		if l, ok := set.Conflict(r, t); ok && o != owner {
			return &fs.DeniedError{Range: l.Range, Type: l.Type, Owner: o}
		}
	}
	return nil
}

func (b *memBackend) Lock(ctx context.Context, cred *fs.Cred, req *fs.LockRequest) error {
	if err := b.start(ctx, "Lock", cred); err != nil {
		return err
	}
	defer b.mu.Unlock()
	f, err := b.get(req.File)
	if err != nil {
		return err
	}
	need := fs.ShareRead
	if req.Type == fs.WriteLock {
		need = fs.ShareWrite
	}
	if f.opens[req.OpenOwner]&need == 0 {
		return fs.OpenMode
	}
	if err := b.conflict(f, req.LockOwner, req.Range, req.Type); err != nil {
		if req.Wait {
			f.waiting[req.LockOwner] = req.Range
		}
		return err
	}
	delete(f.waiting, req.LockOwner)
	f.locks[req.LockOwner] = f.locks[req.LockOwner].With(req.Range, req.Type)
	return nil
}

func (b *memBackend) Unlock(ctx context.Context, cred *fs.Cred, owner fs.Owner, h fs.Handle, r fs.Range) error {
	if err := b.start(ctx, "Unlock", cred); err != nil {
		return err
	}
	f, err := b.get(h)
	if err != nil {
		b.mu.Unlock()
		return err
	}
	f.locks[owner] = f.locks[owner].With(r, fs.NoLock)
	if f.locks[owner] == nil {
		delete(f.locks, owner)
	}
	waiting := make(map[fs.Owner]fs.Range)
	if b.mayNotify {
		for o, r := range f.waiting {
			waiting[o] = r
		}
	}
	b.mu.Unlock()
	for o, r := range waiting {
		for _, l := range b.listeners {
			l.LockAvailable(h, o, r)
		}
	}
	return nil
}

func (b *memBackend) TestLock(ctx context.Context, cred *fs.Cred, owner fs.Owner, h fs.Handle, r fs.Range, t fs.LockType) error {
	if err := b.start(ctx, "TestLock", cred); err != nil {
		return err
	}
	defer b.mu.Unlock()
	f, err := b.get(h)
	if err != nil {
		return err
	}
	return b.conflict(f, owner, r, t)
}

func (b *memBackend) ReleaseLockOwner(ctx context.Context, owner fs.Owner, h fs.Handle) error {
	return nil
}

func (b *memBackend) CancelWait(owner fs.Owner, h fs.Handle, r fs.Range) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f, err := b.get(h); err == nil {
		delete(f.waiting, owner)
	}
	b.calls["CancelWait"]++
}

func (b *memBackend) ReclaimComplete(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reclaimed++
	return nil
}

func (b *memBackend) GetXattr(ctx context.Context, cred *fs.Cred, h fs.Handle, name string) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f, err := b.get(h)
	if err != nil {
		return nil, err
	}
	v, ok := f.xattrs[name]
	if !ok {
		return nil, fs.NoXattr
	}
	return v, nil
}

func (b *memBackend) SetXattr(ctx context.Context, cred *fs.Cred, h fs.Handle, name string, value []byte, how fs.XattrSet) (fs.ChangeInfo, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f, err := b.get(h)
	if err != nil {
		return fs.ChangeInfo{}, err
	}
	_, ok := f.xattrs[name]
	switch {
	case how == fs.XattrCreate && ok:
		return fs.ChangeInfo{}, fs.Exist
	case how == fs.XattrReplace && !ok:
		return fs.ChangeInfo{}, fs.NoXattr
	}
	f.xattrs[name] = append([]byte(nil), value...)
	return fs.ChangeInfo{}, nil
}

func (b *memBackend) ListXattrs(ctx context.Context, cred *fs.Cred, h fs.Handle) ([]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f, err := b.get(h)
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range f.xattrs {
		names = append(names, name)
	}
	sort.Strings(names)
	return names, nil
}

func (b *memBackend) RemoveXattr(ctx context.Context, cred *fs.Cred, h fs.Handle, name string) (fs.ChangeInfo, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f, err := b.get(h)
	if err != nil {
		return fs.ChangeInfo{}, err
	}
	if _, ok := f.xattrs[name]; !ok {
		return fs.ChangeInfo{}, fs.NoXattr
	}
	delete(f.xattrs, name)
	return fs.ChangeInfo{}, nil
}

func (b *memBackend) Allocate(ctx context.Context, cred *fs.Cred, io fs.IORef, off, length uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	f, err := b.check(io, fs.ShareWrite)
	if err != nil {
		return err
	}
	if off+length > uint64(len(f.data)) {
		f.resize(off + length)
	}
	b.touch(f, true)
	return nil
}

func (b *memBackend) Deallocate(ctx context.Context, cred *fs.Cred, io fs.IORef, off, length uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	f, err := b.check(io, fs.ShareWrite)
	if err != nil {
		return err
	}
	end := min(off+length, uint64(len(f.data)))
	if off < end {
		clear(f.data[off:end])
	}
	b.touch(f, true)
	return nil
}

func (b *memBackend) Seek(ctx context.Context, cred *fs.Cred, io fs.IORef, off uint64, hole bool) (uint64, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f, err := b.check(io, fs.ShareBoth)
	if err != nil {
		return 0, false, err
	}
	size := uint64(len(f.data))
	if off >= size {
		return 0, false, fs.NXIO
	}
	if hole {
		return size, true, nil
	}
	return off, false, nil
}

func (b *memBackend) Copy(ctx context.Context, cred *fs.Cred, from, to fs.IORef, fromOff, toOff, length uint64) (fs.WriteResult64, error) {
	if err := b.start(ctx, "Copy", cred); err != nil {
		return fs.WriteResult64{}, err
	}
	defer b.mu.Unlock()
	src, err := b.check(from, fs.ShareRead)
	if err != nil {
		return fs.WriteResult64{}, err
	}
	dst, err := b.check(to, fs.ShareWrite)
	if err != nil {
		return fs.WriteResult64{}, err
	}
	n := min(length, uint64(len(src.data))-min(fromOff, uint64(len(src.data))))
	if toOff+n > uint64(len(dst.data)) {
		dst.resize(toOff + n)
	}
	copy(dst.data[toOff:toOff+n], src.data[fromOff:])
	b.touch(dst, true)
	return fs.WriteResult64{N: n, Verifier: b.verifier}, nil
}

// The rest is what another client of the origin would do.

// find returns a file by path of names.
func (b *memBackend) find(names ...string) *memFile {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.files[2]
	for _, name := range names {
		e := f.names[name]
		if e == nil {
			return nil
		}
		f = b.files[e.id]
	}
	return f
}

// names lists the root.
func (b *memBackend) names() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for name := range b.files[2].names {
		out = append(out, name)
	}
	sort.Strings(out)
	return out
}

// make puts a file into the root.
func (b *memBackend) make(name, data string, mode uint32) *memFile {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.add(fs.Regular, mode, fs.Root)
	f.data = []byte(data)
	b.touch(f, true)
	b.put(b.files[2], name, f)
	return f
}

// set replaces the data; announce says whether listeners hear of it.
func (b *memBackend) set(f *memFile, data string, announce bool) {
	b.mu.Lock()
	f.data = []byte(data)
	b.touch(f, true)
	b.mu.Unlock()
	if announce {
		for _, l := range b.listeners {
			l.Changed(b.handle(f.id))
		}
	}
}

func (b *memBackend) content(f *memFile) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(f.data)
}

// held is all locks of a file.
func (b *memBackend) held(f *memFile) map[fs.Owner]fs.RangeSet {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make(map[fs.Owner]fs.RangeSet)
	for o, set := range f.locks {
		out[o] = set
	}
	return out
}

// queued is how many denied requests stand in the queue of a file.
func (b *memBackend) queued(f *memFile) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(f.waiting)
}

func (b *memBackend) openCount(f *memFile) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(f.opens)
}

// lockAs is a lock of another client.
func (b *memBackend) lockAs(f *memFile, owner fs.Owner, t fs.LockType) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f.locks[owner] = f.locks[owner].With(fs.Range{First: 0, Last: math.MaxUint64}, t)
}
