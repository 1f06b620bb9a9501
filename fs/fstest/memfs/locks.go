package memfs

import (
	"context"

	"holdfast/fs"
)

// Open opens or creates.
func (f *FS) Open(ctx context.Context, cred *fs.Cred, req *fs.OpenRequest) (*fs.OpenResult, error) {
	op := "Open"
	if req.Reclaim {
		op = "Reclaim"
	}
	if err := f.hook(ctx, op); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if req.Reclaim && f.completes > 0 {
		return nil, fs.E("OPEN", fs.NoGrace, nil)
	}
	res := &fs.OpenResult{MayNotify: true}
	n, ino, err := f.target(cred, req, res)
	if err != nil {
		return nil, err
	}
	if err := regular(n); err != nil {
		return nil, err
	}
	if !res.Created && !req.Reclaim {
		var want uint32
		if req.Access&fs.ShareRead != 0 {
			want |= 4
		}
		if req.Access&fs.ShareWrite != 0 {
			want |= 2
		}
		if !may(cred, &n.attr, want) {
			return nil, fs.E("OPEN", fs.Access, nil)
		}
	}
	key := ownerFile{req.Owner, ino}
	for k, o := range f.opens {
		if k.ino == ino && k.owner != req.Owner && (o.deny&req.Access != 0 || o.access&req.Deny != 0) {
			return nil, fs.E("OPEN", fs.ShareDenied, nil)
		}
	}
	if req.Create == fs.Unchecked && !res.Created && req.Attr.Size != nil {
		n.resize(*req.Attr.Size)
		f.touch(n)
	}
	o := f.opens[key]
	if o == nil {
		o = new(open)
		f.opens[key] = o
	}
	o.access |= req.Access
	o.deny |= req.Deny
	res.File, res.Attr = f.handle(ino), n.copyAttr()
	return res, nil
}

// target finds or makes the file of an open.
func (f *FS) target(cred *fs.Cred, req *fs.OpenRequest, res *fs.OpenResult) (*inode, uint64, error) {
	if req.Name == "" {
		return f.find(req.File)
	}
	d, dirIno, err := f.dir(req.Dir)
	if err != nil {
		return nil, 0, err
	}
	if err := badName(req.Name); err != nil {
		return nil, 0, err
	}
	res.Change = fs.ChangeInfo{Atomic: true, Before: d.attr.Change, After: d.attr.Change}
	if e := d.entries[req.Name]; e != nil {
		n := f.inodes[e.ino]
		switch {
		case req.Create == fs.Guarded:
			return nil, 0, fs.E("OPEN", fs.Exist, nil)
		case req.Create == fs.Exclusive && (n.verifier == nil || *n.verifier != req.Verifier):
			return nil, 0, fs.E("OPEN", fs.Exist, nil)
		}
		return n, e.ino, nil
	}
	if req.Create == fs.NoCreate {
		return nil, 0, fs.E("OPEN", fs.NoEnt, nil)
	}
	if !may(cred, &d.attr, 3) {
		return nil, 0, fs.E("OPEN", fs.Access, nil)
	}
	n := f.make(fs.Regular, 0o644)
	n.attr.UID, n.attr.GID = cred.UID, cred.GID
	if req.Create == fs.Exclusive {
		v := req.Verifier
		n.verifier = &v
	}
	set := req.Attr
	if err := f.apply(cred, n, &set, true); err != nil {
		delete(f.inodes, n.attr.FileID)
		return nil, 0, err
	}
	res.Created = true
	res.Change = f.add(d, dirIno, req.Name, n, n.attr.FileID)
	return n, n.attr.FileID, nil
}

// Downgrade reduces an open.
func (f *FS) Downgrade(ctx context.Context, owner fs.Owner, file fs.Handle, access, deny fs.Share) error {
	if err := f.hook(ctx, "Downgrade"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ino, err := f.find(file)
	if err != nil {
		return err
	}
	o := f.opens[ownerFile{owner, ino}]
	if o == nil {
		return fs.E("DOWNGRADE", fs.BadStateid, nil)
	}
	o.access, o.deny = access, deny
	return nil
}

// CloseFile ends an open. Locks of owners of the same client go with it.
func (f *FS) CloseFile(ctx context.Context, owner fs.Owner, file fs.Handle) error {
	if err := f.hook(ctx, "CloseFile"); err != nil {
		return err
	}
	f.mu.Lock()
	_, ino, err := f.find(file)
	if err != nil {
		f.mu.Unlock()
		return err
	}
	key := ownerFile{owner, ino}
	if f.opens[key] == nil {
		f.mu.Unlock()
		return fs.E("CLOSE", fs.BadStateid, nil)
	}
	delete(f.opens, key)
	last := true
	for k := range f.opens {
		last = last && (k.ino != ino || k.owner.Client != owner.Client)
	}
	if last {
		for k := range f.locks {
			if k.ino == ino && k.owner.Client == owner.Client {
				delete(f.locks, k)
			}
		}
	}
	f.reap(ino)
	wake := f.woken(ino)
	f.mu.Unlock()
	wake()
	return nil
}

// Lock locks.
func (f *FS) Lock(ctx context.Context, _ *fs.Cred, req *fs.LockRequest) error {
	op := "Lock"
	if req.Reclaim {
		op = "ReclaimLock"
	}
	if err := f.hook(ctx, op); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ino, err := f.find(req.File)
	if err != nil {
		return err
	}
	if req.Reclaim && f.completes > 0 {
		return fs.E("LOCK", fs.NoGrace, nil)
	}
	if f.opens[ownerFile{req.OpenOwner, ino}] == nil {
		return fs.E("LOCK", fs.BadStateid, nil)
	}
	if err := f.conflict(ino, req.LockOwner, req.Range, req.Type); err != nil {
		if req.Wait {
			f.waits = append(f.waits, wait{req.LockOwner, ino, req.Range})
		}
		return err
	}
	key := ownerFile{req.LockOwner, ino}
	f.locks[key] = f.locks[key].With(req.Range, req.Type)
	return nil
}

func (f *FS) conflict(ino uint64, owner fs.Owner, r fs.Range, t fs.LockType) error {
	for k, set := range f.locks {
		if k.ino == ino && k.owner != owner {
			if l, ok := set.Conflict(r, t); ok {
				return &fs.DeniedError{Range: l.Range, Type: l.Type, Owner: k.owner}
			}
		}
	}
	return nil
}

// Unlock unlocks.
func (f *FS) Unlock(ctx context.Context, _ *fs.Cred, owner fs.Owner, file fs.Handle, r fs.Range) error {
	if err := f.hook(ctx, "Unlock"); err != nil {
		return err
	}
	f.mu.Lock()
	_, ino, err := f.find(file)
	if err != nil {
		f.mu.Unlock()
		return err
	}
	key := ownerFile{owner, ino}
	if set := f.locks[key].With(r, fs.NoLock); len(set) > 0 {
		f.locks[key] = set
	} else {
		delete(f.locks, key)
	}
	wake := f.woken(ino)
	f.mu.Unlock()
	wake()
	return nil
}

// woken takes the waiters of a file out of the queue and returns what tells them.
func (f *FS) woken(ino uint64) func() {
	var list, rest []wait
	for _, w := range f.waits {
		if w.ino == ino {
			list = append(list, w)
		} else {
			rest = append(rest, w)
		}
	}
	f.waits = rest
	listeners := f.listeners
	return func() {
		for _, w := range list {
			for _, l := range listeners {
				l.LockAvailable(f.handle(w.ino), w.owner, w.r)
			}
		}
	}
}

// TestLock tells whether a lock would be denied.
func (f *FS) TestLock(ctx context.Context, _ *fs.Cred, owner fs.Owner, file fs.Handle, r fs.Range, t fs.LockType) error {
	if err := f.hook(ctx, "TestLock"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ino, err := f.find(file)
	if err != nil {
		return err
	}
	return f.conflict(ino, owner, r, t)
}

// ReleaseLockOwner has nothing to forget.
func (f *FS) ReleaseLockOwner(ctx context.Context, _ fs.Owner, _ fs.Handle) error {
	return f.hook(ctx, "ReleaseLockOwner")
}

// CancelWait leaves the queue.
func (f *FS) CancelWait(owner fs.Owner, file fs.Handle, r fs.Range) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ino, err := f.find(file)
	if err != nil {
		return
	}
	var rest []wait
	for _, w := range f.waits {
		if w != (wait{owner, ino, r}) {
			rest = append(rest, w)
		}
	}
	f.waits = rest
}

// ReclaimComplete ends reclaims.
func (f *FS) ReclaimComplete(ctx context.Context) error {
	if err := f.hook(ctx, "ReclaimComplete"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.completes++
	return nil
}
