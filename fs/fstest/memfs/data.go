package memfs

import (
	"bytes"
	"context"
	"sort"
	"time"

	"holdfast/fs"
)

// GetAttr reads attributes.
func (f *FS) GetAttr(ctx context.Context, _ *fs.Cred, h fs.Handle) (*fs.Attr, error) {
	if err := f.hook(ctx, "GetAttr"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, _, err := f.find(h)
	if err != nil {
		return nil, err
	}
	return n.copyAttr(), nil
}

// SetAttr changes attributes.
func (f *FS) SetAttr(ctx context.Context, cred *fs.Cred, io fs.IORef, set *fs.SetAttr) (*fs.Attr, error) {
	if err := f.hook(ctx, "SetAttr"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, ino, err := f.find(io.Handle)
	if err != nil {
		return nil, err
	}
	if set.Size != nil {
		if err := f.mayIO(cred, n, ino, io, 2); err != nil {
			return nil, err
		}
	}
	if err := f.apply(cred, n, set, false); err != nil {
		return nil, err
	}
	return n.copyAttr(), nil
}

// mayIO is permission for I/O: by the open, or by the mode.
func (f *FS) mayIO(cred *fs.Cred, n *inode, ino uint64, io fs.IORef, want uint32) error {
	if err := regular(n); err != nil {
		return err
	}
	if !io.Open.IsZero() {
		o := f.opens[ownerFile{io.Open, ino}]
		switch {
		case o == nil:
			return fs.E("", fs.BadStateid, nil)
		case want == 2 && o.access&fs.ShareWrite == 0:
			return fs.E("", fs.OpenMode, nil)
		}
		return nil
	}
	if cred.UID != n.attr.UID && !may(cred, &n.attr, want) {
		return fs.E("", fs.Access, nil)
	}
	return nil
}

// Access judges by the mode.
func (f *FS) Access(ctx context.Context, cred *fs.Cred, h fs.Handle, want uint32) (uint32, error) {
	if err := f.hook(ctx, "Access"); err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, _, err := f.find(h)
	if err != nil {
		return 0, err
	}
	var granted uint32
	if may(cred, &n.attr, 4) {
		granted |= fs.AccessRead | fs.AccessXARead | fs.AccessXAList
	}
	if may(cred, &n.attr, 2) {
		granted |= fs.AccessModify | fs.AccessExtend | fs.AccessDelete | fs.AccessXAWrite
	}
	if may(cred, &n.attr, 1) {
		granted |= fs.AccessLookup | fs.AccessExecute
	}
	return granted & want, nil
}

// FSStat gives made-up numbers.
func (f *FS) FSStat(ctx context.Context, _ *fs.Cred, h fs.Handle) (*fs.FSStat, error) {
	if err := f.hook(ctx, "FSStat"); err != nil {
		return nil, err
	}
	return &fs.FSStat{TotalBytes: 1 << 30, FreeBytes: 1 << 29, AvailBytes: 1 << 28, TotalFiles: 1000, FreeFiles: 900, AvailFiles: 800, NameMax: 255}, nil
}

// FSInfo tells what it can.
func (f *FS) FSInfo(ctx context.Context, h fs.Handle) (*fs.FSInfo, error) {
	if err := f.hook(ctx, "FSInfo"); err != nil {
		return nil, err
	}
	return &fs.FSInfo{MaxRead: 1 << 20, MaxWrite: 1 << 20, MaxFileSize: maxFile, MaxLink: 1000, MaxName: 255, TimeDelta: time.Nanosecond,
		Symlinks: true, Links: true, ChownRestricted: true, NoTrunc: true, Xattrs: true, Monotonic: true}, nil
}

// Read reads.
func (f *FS) Read(ctx context.Context, cred *fs.Cred, io fs.IORef, off uint64, dst []byte) (int, bool, error) {
	if err := f.hook(ctx, "Read"); err != nil {
		return 0, false, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, ino, err := f.find(io.Handle)
	if err != nil {
		return 0, false, err
	}
	if err := f.mayIO(cred, n, ino, io, 4); err != nil {
		return 0, false, err
	}
	if off >= uint64(len(n.data)) {
		return 0, true, nil
	}
	k := copy(dst, n.data[off:])
	return k, off+uint64(k) >= uint64(len(n.data)), nil
}

// Write writes.
func (f *FS) Write(ctx context.Context, cred *fs.Cred, io fs.IORef, off uint64, data []byte, how fs.Stability) (fs.WriteResult, error) {
	if err := f.hook(ctx, "Write"); err != nil {
		return fs.WriteResult{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, ino, err := f.find(io.Handle)
	if err != nil {
		return fs.WriteResult{}, err
	}
	if err := f.mayIO(cred, n, ino, io, 2); err != nil {
		return fs.WriteResult{}, err
	}
	if off > maxFile || off+uint64(len(data)) > maxFile {
		return fs.WriteResult{}, fs.E("WRITE", fs.FBig, nil)
	}
	if end := off + uint64(len(data)); end > uint64(len(n.data)) && len(data) > 0 {
		n.resize(end)
	}
	copy(n.data[min(off, uint64(len(n.data))):], data)
	f.touch(n)
	n.attr.Mtime = n.attr.Ctime
	return fs.WriteResult{N: len(data), Committed: how, Verifier: f.verifier}, nil
}

// Commit has nothing to do.
func (f *FS) Commit(ctx context.Context, _ *fs.Cred, h fs.Handle, _, _ uint64) (fs.WriteVerifier, error) {
	if err := f.hook(ctx, "Commit"); err != nil {
		return fs.WriteVerifier{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	_, _, err := f.file(h)
	return f.verifier, err
}

// Allocate grows the file.
func (f *FS) Allocate(ctx context.Context, cred *fs.Cred, io fs.IORef, off, length uint64) error {
	return f.change2(ctx, "Allocate", cred, io, off, length, func(n *inode) {
		if off+length > uint64(len(n.data)) {
			n.resize(off + length)
		}
	})
}

// Deallocate zeroes a part of the file.
func (f *FS) Deallocate(ctx context.Context, cred *fs.Cred, io fs.IORef, off, length uint64) error {
	return f.change2(ctx, "Deallocate", cred, io, off, length, func(n *inode) {
		if off < uint64(len(n.data)) {
			clear(n.data[off:min(off+length, uint64(len(n.data)))])
		}
	})
}

func (f *FS) change2(ctx context.Context, op string, cred *fs.Cred, io fs.IORef, off, length uint64, do func(*inode)) error {
	if err := f.hook(ctx, op); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, ino, err := f.find(io.Handle)
	if err != nil {
		return err
	}
	if err := f.mayIO(cred, n, ino, io, 2); err != nil {
		return err
	}
	if off > maxFile || length > maxFile || off+length > maxFile {
		return fs.E(op, fs.FBig, nil)
	}
	do(n)
	f.touch(n)
	return nil
}

// holeBlock is the size of what Seek takes for a hole if it is all zeros.
const holeBlock = 4096

// Seek takes aligned blocks of zeros for holes.
func (f *FS) Seek(ctx context.Context, cred *fs.Cred, io fs.IORef, off uint64, hole bool) (uint64, bool, error) {
	if err := f.hook(ctx, "Seek"); err != nil {
		return 0, false, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, ino, err := f.find(io.Handle)
	if err != nil {
		return 0, false, err
	}
	if err := f.mayIO(cred, n, ino, io, 4); err != nil {
		return 0, false, err
	}
	size := uint64(len(n.data))
	if off >= size {
		return 0, false, fs.E("SEEK", fs.NXIO, nil)
	}
	for at := off; at < size; at = (at/holeBlock + 1) * holeBlock {
		start := at / holeBlock * holeBlock
		block := n.data[start:min(start+holeBlock, size)]
		if (len(bytes.Trim(block, "\x00")) == 0) == hole {
			return at, false, nil
		}
	}
	return size, !hole, nil
}

// Copy copies.
func (f *FS) Copy(ctx context.Context, cred *fs.Cred, from, to fs.IORef, fromOff, toOff, length uint64) (fs.WriteResult64, error) {
	if err := f.hook(ctx, "Copy"); err != nil {
		return fs.WriteResult64{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	a, aIno, err := f.find(from.Handle)
	if err != nil {
		return fs.WriteResult64{}, err
	}
	b, bIno, err := f.find(to.Handle)
	if err != nil {
		return fs.WriteResult64{}, err
	}
	if err := f.mayIO(cred, a, aIno, from, 4); err != nil {
		return fs.WriteResult64{}, err
	}
	if err := f.mayIO(cred, b, bIno, to, 2); err != nil {
		return fs.WriteResult64{}, err
	}
	size := uint64(len(a.data))
	if fromOff > size {
		return fs.WriteResult64{}, fs.E("COPY", fs.Inval, nil)
	}
	if length == 0 || length > size-fromOff {
		length = size - fromOff
	}
	if toOff > maxFile || toOff+length > maxFile {
		return fs.WriteResult64{}, fs.E("COPY", fs.FBig, nil)
	}
	part := bytes.Clone(a.data[fromOff : fromOff+length])
	if toOff+length > uint64(len(b.data)) {
		b.resize(toOff + length)
	}
	copy(b.data[toOff:], part)
	f.touch(b)
	return fs.WriteResult64{N: length, Committed: fs.FileSync, Verifier: f.verifier}, nil
}

// Clone copies too.
func (f *FS) Clone(ctx context.Context, cred *fs.Cred, from, to fs.IORef, fromOff, toOff, length uint64) error {
	_, err := f.Copy(ctx, cred, from, to, fromOff, toOff, length)
	return err
}

// GetXattr reads an extended attribute.
func (f *FS) GetXattr(ctx context.Context, _ *fs.Cred, h fs.Handle, name string) ([]byte, error) {
	if err := f.hook(ctx, "GetXattr"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, _, err := f.find(h)
	if err != nil {
		return nil, err
	}
	v, ok := n.xattrs[name]
	if !ok {
		return nil, fs.E("GETXATTR", fs.NoXattr, nil)
	}
	return bytes.Clone(v), nil
}

// SetXattr sets one.
func (f *FS) SetXattr(ctx context.Context, _ *fs.Cred, h fs.Handle, name string, value []byte, how fs.XattrSet) (fs.ChangeInfo, error) {
	if err := f.hook(ctx, "SetXattr"); err != nil {
		return fs.ChangeInfo{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, _, err := f.find(h)
	if err != nil {
		return fs.ChangeInfo{}, err
	}
	_, there := n.xattrs[name]
	switch {
	case how == fs.XattrCreate && there:
		return fs.ChangeInfo{}, fs.E("SETXATTR", fs.Exist, nil)
	case how == fs.XattrReplace && !there:
		return fs.ChangeInfo{}, fs.E("SETXATTR", fs.NoXattr, nil)
	}
	if n.xattrs == nil {
		n.xattrs = map[string][]byte{}
	}
	before := n.attr.Change
	n.xattrs[name] = bytes.Clone(value)
	f.touch(n)
	return fs.ChangeInfo{Atomic: true, Before: before, After: n.attr.Change}, nil
}

// ListXattrs lists the names.
func (f *FS) ListXattrs(ctx context.Context, _ *fs.Cred, h fs.Handle) ([]string, error) {
	if err := f.hook(ctx, "ListXattrs"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, _, err := f.find(h)
	if err != nil {
		return nil, err
	}
	var out []string
	for k := range n.xattrs {
		out = append(out, k)
	}
	sort.Strings(out)
	return out, nil
}

// RemoveXattr removes one.
func (f *FS) RemoveXattr(ctx context.Context, _ *fs.Cred, h fs.Handle, name string) (fs.ChangeInfo, error) {
	if err := f.hook(ctx, "RemoveXattr"); err != nil {
		return fs.ChangeInfo{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, _, err := f.find(h)
	if err != nil {
		return fs.ChangeInfo{}, err
	}
	if _, ok := n.xattrs[name]; !ok {
		return fs.ChangeInfo{}, fs.E("REMOVEXATTR", fs.NoXattr, nil)
	}
	before := n.attr.Change
	delete(n.xattrs, name)
	f.touch(n)
	return fs.ChangeInfo{Atomic: true, Before: before, After: n.attr.Change}, nil
}
