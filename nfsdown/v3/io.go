package v3

import (
	"context"
	"errors"
	"math"

	"holdfast/fs"
	"holdfast/internal/nfs3"
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/nfsdown"
	"holdfast/nfsdown/state"
)

// io asks the deny modes of those who have the file open. A host is not denied what it denies to others by SHARE: such I/O
// is done under that open.
func (c *call) io(f *nfsdown.File, io state.IO) (fs.IORef, error) {
	st := c.s.down.State()
	ref, err := st.ResolveIO(nil, nfs4.AnonymousStateid, f.Handle, io)
	if errors.Is(err, nfs4.NFS4ERR_LOCKED) && c.in.Cred.Machine != "" {
		ref, err = st.ResolveHostIO(fs.LockManagerOwner(c.from.String(), c.in.Cred.Machine), f.Handle, io)
	}
	ref.Handle = f.Inner
	return ref, err
}

// owns tells whether I/O that was refused is to be done all the same, because the file is the caller's: he may have
// opened it before its mode changed, or created it without the permission to write it. There is no OPEN here that
// would remember; RFC 1813 4.4.
func (c *call) owns(ctx context.Context, f *nfsdown.File, err error) bool {
	if !errors.Is(err, fs.Access) {
		return false
	}
	a, err := f.Backend.GetAttr(ctx, f.Cred, f.Inner)
	return err == nil && a.Type == fs.Regular && a.UID == f.Cred.UID
}

// runs tells whether reading that was refused is that of a program which the caller may execute: RFC 1813 4.4.
func (c *call) runs(ctx context.Context, f *nfsdown.File, err error) bool {
	if !errors.Is(err, fs.Access) {
		return false
	}
	a, err := f.Backend.GetAttr(ctx, f.Cred, f.Inner)
	if err != nil || a.Type != fs.Regular {
		return false
	}
	got, err := f.Backend.Access(ctx, f.Cred, f.Inner, fs.AccessExecute)
	return err == nil && got&fs.AccessExecute != 0
}

// read is READ, RFC 1813 3.3.6. The data lies in a pooled buffer until the reply is written.
func read(ctx context.Context, c *call, a *nfs3.ReadArgs, r *nfs3.ReadRes) error {
	f, err := c.file(ctx, a.FH)
	if err != nil {
		return err
	}
	ref, err := c.io(f, state.IORead)
	if err != nil {
		return err
	}
	done, err := c.touch(ctx, f, state.TouchLook)
	if err != nil {
		return err
	}
	defer done()
	buf := rpc.GetBuffer(int(min(a.Count, c.s.maxIO)))
	c.in.Release(buf.Free)
	n, eof, err := f.Backend.Read(ctx, f.Cred, ref, a.Offset, buf.B)
	if c.owns(ctx, f, err) || c.runs(ctx, f, err) {
		n, eof, err = f.Backend.Read(ctx, fs.Root, ref, a.Offset, buf.B)
	}
	r.Attr = attrs(ctx, f)
	r.Data, r.EOF = buf.B[:n], eof
	c.s.stats.Data(nfs3.ProcRead, 0, n)
	return err
}

// write is WRITE, RFC 1813 3.3.7.
func write(ctx context.Context, c *call, a *nfs3.WriteArgs, r *nfs3.WriteRes) error {
	f, err := c.writable(ctx, a.FH)
	if err != nil {
		return err
	}
	if int(a.Count) > len(a.Data) {
		return nfs3.ErrInval
	}
	data := a.Data[:min(a.Count, c.s.maxIO)]
	if uint64(len(data)) > math.MaxInt64-min(a.Offset, math.MaxInt64) {
		return nfs3.ErrFBig
	}
	ref, err := c.io(f, state.IOWrite)
	if err != nil {
		return err
	}
	done, err := c.touch(ctx, f, state.TouchChange)
	if err != nil {
		return err
	}
	defer done()
	w, err := f.Backend.Write(ctx, f.Cred, ref, a.Offset, data, fs.Stability(a.Stable))
	if c.owns(ctx, f, err) {
		w, err = f.Backend.Write(ctx, fs.Root, ref, a.Offset, data, fs.Stability(a.Stable))
	}
	c.s.stats.Data(nfs3.ProcWrite, w.N, 0)
	r.Wcc.After = attrs(ctx, f)
	r.Count, r.Committed, r.Verf = uint32(w.N), uint32(w.Committed), nfs3.Verf(w.Verifier)
	return err
}

// commit is COMMIT, RFC 1813 3.3.21.
func commit(ctx context.Context, c *call, a *nfs3.CommitArgs, r *nfs3.CommitRes) error {
	f, err := c.writable(ctx, a.FH)
	if err != nil {
		return err
	}
	if a.Offset > math.MaxUint64-uint64(a.Count) {
		return nfs3.ErrInval
	}
	v, err := f.Backend.Commit(ctx, f.Cred, f.Inner, a.Offset, uint64(a.Count))
	if c.owns(ctx, f, err) {
		v, err = f.Backend.Commit(ctx, fs.Root, f.Inner, a.Offset, uint64(a.Count))
	}
	r.Wcc.After = attrs(ctx, f)
	r.Verf = nfs3.Verf(v)
	return err
}
