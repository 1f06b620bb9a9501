package remote

import (
	"bytes"
	"context"
	"encoding/binary"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/internal/clock"
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/nfsup"
)

// A fake is an origin in memory, behind the interface that nfsup.Client has. It executes compounds on
// a tree, keeps opens and locks by owner, counts requests, and does what it is told to do wrong.
type fake struct {
	mu         sync.Mutex
	pad        int // added to each filehandle, to make it long
	next       uint64
	files      map[nfs4.FH]*fakeFile
	root       *fakeFile
	count      map[nfs4.OpNum]int
	calls      int
	opens      map[fakeKey]uint32
	locks      map[fakeKey]fs.RangeSet
	held       map[fakeKey]fs.RangeSet // of the last incarnation, for reclaims
	heldOp     map[fakeKey]uint32
	done       bool // RECLAIM_COMPLETE was sent
	dones      int
	info       nfsup.Info
	notify     bool
	fail       func(op nfs4.OpNum) nfs4.Status // asked before each operation
	block      chan struct{}                   // if set, each request waits for it
	maxRead    int                             // a READ gives at most so much
	verf       nfs4.Verifier
	dirVerf    nfs4.Verifier
	cookies    bool // cookies are tied to dirVerf
	creds      []rpc.Cred
	closes     int
	lastHow    nfs4.OpenHow
	changeType uint32                                                // change_attr_type, if it is not 0
	monotonic  bool                                                  // it is 0, and that is said
	deny       func(cred *rpc.Cred, f *fakeFile, want uint32) uint32 // what is not granted
}

type fakeKey struct {
	owner UpOwner
	fh    nfs4.FH
}

type fakeFile struct {
	fh      nfs4.FH
	id      uint64
	typ     nfs4.FileType
	mode    uint32
	uid     string
	fsid    uint64
	change  uint64
	nlink   uint32
	data    []byte
	link    string
	xattrs  map[string]string
	entries map[string]*fakeFile
	order   []string
	parent  *fakeFile
	ctime   int64
}

func newFake() *fake {
	f := &fake{
		files: make(map[nfs4.FH]*fakeFile), count: make(map[nfs4.OpNum]int),
		opens: make(map[fakeKey]uint32), locks: make(map[fakeKey]fs.RangeSet),
		info: nfsup.Info{MinorVersion: 2, MaxRead: 1 << 16, MaxWrite: 1 << 16, MaxOps: 32, Lease: 90 * time.Second, ServerScope: "scope"},
	}
	f.root = f.add(nil, "", nfs4.NF4DIR)
	f.root.ctime = 1000 // so that it is later than that at the origin
	return f
}

func (f *fake) add(dir *fakeFile, name string, typ nfs4.FileType) *fakeFile {
	f.next++
	fh := binary.BigEndian.AppendUint64(nil, f.next)
	fh = append(fh, strings.Repeat("x", f.pad)...)
	x := &fakeFile{fh: nfs4.FH(fh), id: 100 + f.next, typ: typ, mode: 0o755, uid: "1000", fsid: 7, change: 1, nlink: 1, parent: dir}
	if typ == nfs4.NF4DIR {
		x.entries = make(map[string]*fakeFile)
	}
	f.files[x.fh] = x
	if dir != nil {
		dir.entries[name] = x
		dir.order = append(dir.order, name)
		dir.change++
		x.fsid = dir.fsid
	}
	return x
}

// behind lets somebody else change the origin.
func (f *fake) behind(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

func (f *fake) attrs(x *fakeFile, want nfs4.Bitmap) nfs4.Fattr {
	a := nfs4.Fattr{
		Type: x.typ, Change: x.change, Size: uint64(len(x.data)), FSID: nfs4.FSID{Major: x.fsid}, FileID: x.id, Mode: x.mode,
		NumLinks: x.nlink, Owner: x.uid, OwnerGroup: "100", MountedOnFileID: x.id, Filehandle: x.fh,
		LinkSupport: true, SymlinkSupport: true, MaxName: 255, MaxRead: 1 << 16, MaxWrite: 1 << 16, SpaceTotal: 1 << 40,
		SuppattrExclcreat: nfs4.Bits(nfs4.FATTR4_MODE),
		TimeMetadata:      nfs4.Time{Sec: x.ctime}, SpaceUsed: uint64(len(x.data)), ChangeAttrType: f.changeType,
	}
	a.SupportedAttrs = attrWanted.Or(capsWanted).Or(nfs4.Bits(nfs4.FATTR4_MODE_UMASK))
	have := a.SupportedAttrs.Or(statWanted).Or(nfs4.Bits(nfs4.FATTR4_FILEHANDLE))
	have.Clear(nfs4.FATTR4_TIME_CREATE)
	if f.changeType != 0 || f.monotonic {
		have.Set(nfs4.FATTR4_CHANGE_ATTR_TYPE)
		a.SupportedAttrs.Set(nfs4.FATTR4_CHANGE_ATTR_TYPE)
	}
	a.Mask = want.And(have)
	return a
}

func (f *fake) Compound(ctx context.Context, cred *rpc.Cred, ops []nfs4.Args, use func([]nfs4.Res) error) error {
	return f.CompoundAll(ctx, cred, ops, func(res []nfs4.Res) error {
		if err := lastStatus(res); err != nil {
			return err
		}
		if use == nil {
			return nil
		}
		return use(res)
	})
}

func (f *fake) CompoundAll(ctx context.Context, cred *rpc.Cred, ops []nfs4.Args, use func([]nfs4.Res) error) error {
	f.mu.Lock()
	block := f.block
	f.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f.mu.Lock()
	f.calls++
	f.creds = append(f.creds, *cred)
	run := fakeRun{f: f, cred: cred}
	var res []nfs4.Res
	for _, op := range ops {
		f.count[op.Op()]++
		var r nfs4.Res
		if f.fail != nil {
			if s := f.fail(op.Op()); s != nfs4.NFS4_OK {
				r = nfs4.ErrRes(op.Op(), s)
			}
		}
		if r == nil {
			r = run.do(op)
		}
		res = append(res, r)
		if r.Stat() != nfs4.NFS4_OK {
			break
		}
	}
	f.mu.Unlock()
	return use(res)
}

type fakeRun struct {
	f          *fake
	cred       *rpc.Cred
	cur, saved *fakeFile
}

func (r *fakeRun) do(op nfs4.Args) nfs4.Res {
	f, bad := r.f, func(s nfs4.Status) nfs4.Res { return nfs4.ErrRes(op.Op(), s) }
	dir := func() bool { return r.cur.typ == nfs4.NF4DIR }
	switch a := op.(type) {
	case *nfs4.PutrootfhArgs:
		r.cur = f.root
		return &nfs4.PutrootfhRes{}
	case *nfs4.PutfhArgs:
		if r.cur = f.files[a.FH]; r.cur == nil {
			return bad(nfs4.NFS4ERR_STALE)
		}
		return &nfs4.PutfhRes{}
	case *nfs4.SavefhArgs:
		r.saved = r.cur
		return &nfs4.SavefhRes{}
	case *nfs4.RestorefhArgs:
		r.cur = r.saved
		return &nfs4.RestorefhRes{}
	case *nfs4.GetfhArgs:
		return &nfs4.GetfhRes{FH: r.cur.fh}
	case *nfs4.GetattrArgs:
		return &nfs4.GetattrRes{Attrs: f.attrs(r.cur, a.Request)}
	case *nfs4.LookupArgs:
		if !dir() {
			return bad(nfs4.NFS4ERR_NOTDIR)
		}
		if f.deny != nil && f.deny(r.cred, r.cur, nfs4.ACCESS4_LOOKUP) != 0 {
			return bad(nfs4.NFS4ERR_ACCESS)
		}
		if r.cur = r.cur.entries[a.Name]; r.cur == nil {
			return bad(nfs4.NFS4ERR_NOENT)
		}
		return &nfs4.LookupRes{}
	case *nfs4.LookuppArgs:
		if r.cur = r.cur.parent; r.cur == nil {
			return bad(nfs4.NFS4ERR_NOENT)
		}
		return &nfs4.LookuppRes{}
	case *nfs4.AccessArgs:
		granted := a.Access
		if f.deny != nil {
			granted &^= f.deny(r.cred, r.cur, a.Access)
		}
		return &nfs4.AccessRes{Supported: a.Access, Access: granted}
	case *nfs4.ReadlinkArgs:
		return &nfs4.ReadlinkRes{Link: r.cur.link}
	case *nfs4.VerifyArgs:
		if r.cur.typ != a.Attrs.Type {
			return bad(nfs4.NFS4ERR_NOT_SAME)
		}
		return &nfs4.VerifyRes{}
	case *nfs4.NverifyArgs:
		if r.cur.typ == a.Attrs.Type {
			return bad(nfs4.NFS4ERR_SAME)
		}
		return &nfs4.NverifyRes{}
	case *nfs4.CreateArgs:
		if r.cur.entries[a.Name] != nil {
			return bad(nfs4.NFS4ERR_EXIST)
		}
		before := r.cur.change
		x := f.add(r.cur, a.Name, a.Type.Type)
		x.link, x.mode = a.Type.Link, a.Attrs.Mode
		ci := nfs4.ChangeInfo{Atomic: true, Before: before, After: r.cur.change}
		r.cur = x
		return &nfs4.CreateRes{Cinfo: ci}
	case *nfs4.RemoveArgs:
		x := r.cur.entries[a.Name]
		if x == nil {
			return bad(nfs4.NFS4ERR_NOENT)
		}
		if len(x.entries) > 0 {
			return bad(nfs4.NFS4ERR_NOTEMPTY)
		}
		return &nfs4.RemoveRes{Cinfo: f.unlink(r.cur, a.Name)}
	case *nfs4.RenameArgs:
		x := r.saved.entries[a.OldName]
		if x == nil {
			return bad(nfs4.NFS4ERR_NOENT)
		}
		to := nfs4.ChangeInfo{Atomic: true, Before: r.cur.change}
		src := f.unlink(r.saved, a.OldName)
		f.files[x.fh] = x
		if r.cur.entries[a.NewName] != nil {
			f.unlink(r.cur, a.NewName)
		}
		r.cur.entries[a.NewName] = x
		r.cur.order = append(r.cur.order, a.NewName)
		r.cur.change++
		x.change++
		to.After = r.cur.change
		if r.cur == r.saved {
			src, to = nfs4.ChangeInfo{Atomic: true, Before: to.Before, After: to.After}, nfs4.ChangeInfo{Atomic: true, Before: to.Before, After: to.After}
		}
		return &nfs4.RenameRes{SourceCinfo: src, TargetCinfo: to}
	case *nfs4.LinkArgs:
		before := r.cur.change
		r.cur.entries[a.NewName] = r.saved
		r.cur.order = append(r.cur.order, a.NewName)
		r.cur.change++
		r.saved.nlink++
		r.saved.change++
		return &nfs4.LinkRes{Cinfo: nfs4.ChangeInfo{Atomic: true, Before: before, After: r.cur.change}}
	case *nfs4.SetattrArgs:
		if a.Attrs.Mask.Has(nfs4.FATTR4_MODE) {
			r.cur.mode = a.Attrs.Mode
		}
		if a.Attrs.Mask.Has(nfs4.FATTR4_SIZE) {
			r.cur.data = append(r.cur.data, make([]byte, a.Attrs.Size)...)[:a.Attrs.Size]
		}
		r.cur.change++
		return &nfs4.SetattrRes{AttrsSet: a.Attrs.Mask}
	case *nfs4.ReadArgs:
		data := r.cur.data
		if a.Offset >= uint64(len(data)) {
			return &nfs4.ReadRes{EOF: true}
		}
		data = data[a.Offset:]
		n := min(len(data), int(a.Count))
		if f.maxRead > 0 {
			n = min(n, f.maxRead)
		}
		return &nfs4.ReadRes{Data: bytes.Clone(data[:n]), EOF: n == len(data)}
	case *nfs4.WriteArgs:
		end := int(a.Offset) + len(a.Data)
		if end > len(r.cur.data) {
			r.cur.data = append(r.cur.data, make([]byte, end-len(r.cur.data))...)
		}
		copy(r.cur.data[a.Offset:], a.Data)
		r.cur.change++
		return &nfs4.WriteRes{Count: uint32(len(a.Data)), Committed: a.Stable, Verf: f.verf}
	case *nfs4.CommitArgs:
		return &nfs4.CommitRes{Verf: f.verf}
	case *nfs4.ReaddirArgs:
		return r.readdir(a)
	case *nfs4.GetxattrArgs:
		v, ok := r.cur.xattrs[a.Name]
		if !ok {
			return bad(nfs4.NFS4ERR_NOXATTR)
		}
		return &nfs4.GetxattrRes{Value: []byte(v)}
	case *nfs4.SetxattrArgs:
		if r.cur.xattrs == nil {
			r.cur.xattrs = map[string]string{}
		}
		r.cur.xattrs[a.Name] = string(a.Value)
		r.cur.change++
		return &nfs4.SetxattrRes{Cinfo: nfs4.ChangeInfo{Atomic: true, Before: r.cur.change - 1, After: r.cur.change}}
	case *nfs4.ListxattrsArgs:
		var names []string
		for n := range r.cur.xattrs {
			names = append(names, n)
		}
		sort.Strings(names)
		if int(a.Cookie) >= len(names) {
			return &nfs4.ListxattrsRes{EOF: true}
		}
		return &nfs4.ListxattrsRes{Names: names[a.Cookie : a.Cookie+1], Cookie: a.Cookie + 1, EOF: int(a.Cookie)+1 == len(names)}
	}
	return bad(nfs4.NFS4ERR_NOTSUPP)
}

func (f *fake) unlink(dir *fakeFile, name string) nfs4.ChangeInfo {
	x := dir.entries[name]
	delete(dir.entries, name)
	for i, n := range dir.order {
		if n == name {
			dir.order = append(dir.order[:i:i], dir.order[i+1:]...)
		}
	}
	dir.change++
	x.change++
	if x.nlink--; x.nlink == 0 {
		delete(f.files, x.fh)
		x.nlink = 1
	}
	return nfs4.ChangeInfo{Atomic: true, Before: dir.change - 1, After: dir.change}
}

// readdir uses the file id as cookie, so that it stays good when the directory changes.
func (r *fakeRun) readdir(a *nfs4.ReaddirArgs) nfs4.Res {
	if r.f.cookies && a.Cookie != 0 && a.CookieVerf != r.f.dirVerf {
		return nfs4.ErrRes(nfs4.OP_READDIR, nfs4.NFS4ERR_NOT_SAME)
	}
	names := append([]string(nil), r.cur.order...)
	sort.Slice(names, func(i, j int) bool { return r.cur.entries[names[i]].id < r.cur.entries[names[j]].id })
	out := &nfs4.ReaddirRes{CookieVerf: r.f.dirVerf, EOF: true}
	for _, n := range names {
		x := r.cur.entries[n]
		if x.id <= a.Cookie {
			continue
		}
		if len(out.Entries)*300 > int(a.MaxCount) {
			out.EOF = false
			break
		}
		out.Entries = append(out.Entries, nfs4.DirEntry{Cookie: x.id, Name: n, Attrs: r.f.attrs(x, a.Request)})
	}
	return out
}

func (f *fake) IO(ctx context.Context, cred *rpc.Cred, open, lock UpOwner, fh nfs4.FH, ops func(nfs4.Stateid) []nfs4.Args, use func([]nfs4.Res) error) error {
	id, ok := f.IOStateid(open, lock, fh)
	if !ok && open != (UpOwner{}) {
		return nfsup.ErrNoState
	}
	return f.Compound(ctx, cred, ops(id), use)
}

func (f *fake) IOStateid(open, lock UpOwner, fh nfs4.FH) (nfs4.Stateid, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.opens[fakeKey{open, fh}] == 0 {
		return nfs4.Stateid{}, false
	}
	var id nfs4.Stateid
	copy(id.Other[:], open[:])
	return id, true
}

func (f *fake) Open(ctx context.Context, cred *rpc.Cred, a *nfsup.OpenArgs) (*nfsup.OpenReply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count[nfs4.OP_OPEN]++
	f.calls++
	f.lastHow = a.How
	status := func(s nfs4.Status) error { return &nfsup.StatusError{Op: nfs4.OP_OPEN, Status: s, Index: 1} }
	if f.fail != nil {
		if s := f.fail(nfs4.OP_OPEN); s != nfs4.NFS4_OK {
			return nil, status(s)
		}
	}
	x := f.files[a.FH]
	reply := new(nfsup.OpenReply)
	if a.Name != "" {
		dir := f.files[a.Dir]
		x = dir.entries[a.Name]
		reply.Change = nfs4.ChangeInfo{Atomic: true, Before: dir.change, After: dir.change}
		switch {
		case x == nil && a.How.Type == nfs4.OPEN4_NOCREATE:
			return nil, status(nfs4.NFS4ERR_NOENT)
		case x != nil && a.How.Type == nfs4.OPEN4_CREATE && a.How.Mode == nfs4.GUARDED4:
			return nil, status(nfs4.NFS4ERR_EXIST)
		case x == nil:
			x = f.add(dir, a.Name, nfs4.NF4REG)
			reply.Change.After = dir.change
			reply.AttrSet = a.How.Attrs.Mask
			if a.How.Attrs.Mask.Has(nfs4.FATTR4_MODE) {
				x.mode = a.How.Attrs.Mode
			}
			if a.How.Mode == nfs4.EXCLUSIVE4_1 {
				reply.AttrSet.Set(nfs4.FATTR4_TIME_MODIFY)
			}
		}
	}
	if x == nil {
		return nil, status(nfs4.NFS4ERR_STALE)
	}
	k := fakeKey{a.Owner, x.fh}
	if a.Reclaim {
		if f.done {
			return nil, status(nfs4.NFS4ERR_NO_GRACE)
		}
		if a.Access&^f.heldOp[k] != 0 {
			return nil, status(nfs4.NFS4ERR_RECLAIM_BAD)
		}
	}
	f.opens[k] |= a.Access
	reply.FH, reply.Attrs = x.fh, f.attrs(x, a.Attrs)
	if f.notify {
		reply.Rflags |= nfs4.OPEN4_RESULT_MAY_NOTIFY_LOCK
	}
	return reply, nil
}

func (f *fake) Downgrade(ctx context.Context, owner UpOwner, fh nfs4.FH, access, deny uint32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opens[fakeKey{owner, fh}] = access
	return nil
}

func (f *fake) CloseFile(ctx context.Context, owner UpOwner, fh nfs4.FH) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closes++
	if f.opens[fakeKey{owner, fh}] == 0 {
		return nfsup.ErrNoState
	}
	delete(f.opens, fakeKey{owner, fh})
	return nil
}

func (f *fake) conflict(owner UpOwner, fh nfs4.FH, r nfsup.Range, write bool) error {
	t := fs.ReadLock
	if write {
		t = fs.WriteLock
	}
	for k, set := range f.locks {
		if k.owner == owner || k.fh != fh {
			continue
		}
		if l, bad := set.Conflict(fs.Range(r), t); bad {
			return &nfsup.DeniedError{Range: nfsup.Range(l.Range), Write: l.Type == fs.WriteLock, Ours: true, Holder: k.owner,
				Owner: nfs4.StateOwner{ClientID: 9, Owner: string(k.owner[:])}}
		}
	}
	return nil
}

func (f *fake) Lock(ctx context.Context, cred *rpc.Cred, a *nfsup.LockArgs) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count[nfs4.OP_LOCK]++
	if f.fail != nil {
		if s := f.fail(nfs4.OP_LOCK); s != nfs4.NFS4_OK {
			return &nfsup.StatusError{Op: nfs4.OP_LOCK, Status: s, Index: 1}
		}
	}
	if f.opens[fakeKey{a.OpenOwner, a.FH}] == 0 {
		return nfsup.ErrNoState
	}
	k := fakeKey{a.LockOwner, a.FH}
	t := fs.ReadLock
	if a.Write {
		t = fs.WriteLock
	}
	if a.Reclaim {
		switch {
		case f.done:
			return &nfsup.StatusError{Op: nfs4.OP_LOCK, Status: nfs4.NFS4ERR_NO_GRACE}
		case !f.held[k].Covers(fs.Range(a.Range), t):
			return &nfsup.StatusError{Op: nfs4.OP_LOCK, Status: nfs4.NFS4ERR_RECLAIM_BAD}
		}
	} else if err := f.conflict(a.LockOwner, a.FH, a.Range, a.Write); err != nil {
		return err
	}
	f.locks[k] = f.locks[k].With(fs.Range(a.Range), t)
	return nil
}

func (f *fake) Unlock(ctx context.Context, owner UpOwner, fh nfs4.FH, r nfsup.Range) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := fakeKey{owner, fh}
	f.locks[k] = f.locks[k].With(fs.Range(r), fs.NoLock)
	return nil
}

func (f *fake) TestLock(ctx context.Context, cred *rpc.Cred, owner UpOwner, fh nfs4.FH, r nfsup.Range, write bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count[nfs4.OP_LOCKT]++
	return f.conflict(owner, fh, r, write)
}

func (f *fake) FreeLockOwner(ctx context.Context, owner UpOwner, fh nfs4.FH) error { return nil }

func (f *fake) ReclaimComplete(ctx context.Context) error {
	f.mu.Lock()
	block := f.block
	f.mu.Unlock()
	if block != nil {
		<-block
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		if s := f.fail(nfs4.OP_RECLAIM_COMPLETE); s != nfs4.NFS4_OK {
			return &nfsup.StatusError{Op: nfs4.OP_RECLAIM_COMPLETE, Status: s}
		}
	}
	f.done = true
	f.dones++
	return nil
}

func (f *fake) Info() nfsup.Info            { return f.info }
func (f *fake) Identity() nfsup.Identity    { return nfsup.Identity{} }
func (f *fake) Close(context.Context) error { return nil }
func (f *fake) Abandon()                    {}

// listener collects what a Remote says.
type listener struct {
	mu        sync.Mutex
	changed   []fs.Handle
	available chan fs.Owner
	revoked   []string
}

func newListener() *listener { return &listener{available: make(chan fs.Owner, 100)} }

func (l *listener) LockAvailable(file fs.Handle, owner fs.Owner, r fs.Range) { l.available <- owner }

func (l *listener) Changed(h fs.Handle) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changed = append(l.changed, h)
}

func (l *listener) Revoked(owner fs.Owner, file fs.Handle, locks fs.RangeSet, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.revoked = append(l.revoked, owner.Owner)
}

func (l *listener) takeChanged() []fs.Handle {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.changed
	l.changed = nil
	return c
}

// rig is a Remote over a fake, and what tests need of it.
type rig struct {
	*Remote
	t     testing.TB
	f     *fake
	l     *listener
	clock *clock.Fake
}

var (
	alice = &fs.Cred{UID: 1000, GID: 100, Groups: []uint32{5, 6}}
	bob   = &fs.Cred{UID: 1001, GID: 100}
)

func newRig(t testing.TB, f *fake, change func(*Config)) *rig {
	t.Helper()
	return newRigOf(t, f, f, change)
}

// newRigOf has an upstream that does more than the fake in it.
func newRigOf(t testing.TB, f *fake, up upstream, change func(*Config)) *rig {
	t.Helper()
	fc := clock.NewFake(time.Unix(1_700_000_000, 0))
	cfg := Config{Name: "filer", Server: "origin:2049", Reexport: true, Clock: fc}
	if change != nil {
		change(&cfg)
	}
	if err := cfg.setDefaults(); err != nil {
		t.Fatal(err)
	}
	r, err := newRemote(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.attach(context.Background(), up); err != nil {
		t.Fatal(err)
	}
	l := newListener()
	r.Subscribe(l)
	t.Cleanup(r.Abandon)
	return &rig{Remote: r, t: t, f: f, l: l, clock: fc}
}

// requests is how many requests do made.
func (r *rig) requests(do func()) int {
	r.f.mu.Lock()
	before := r.f.calls
	r.f.mu.Unlock()
	do()
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	return r.f.calls - before
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) wants(err error, code fs.Code) {
	r.t.Helper()
	if fs.CodeOf(err) != code {
		r.t.Fatalf("got %v, want %v", err, code)
	}
}
