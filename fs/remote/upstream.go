package remote

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/nfsup"
)

// upstream is the part of nfsup.Client that a Remote needs; tests put a fake in its place.
type upstream interface {
	Compound(ctx context.Context, cred *rpc.Cred, ops []nfs4.Args, use func(res []nfs4.Res) error) error
	CompoundAll(ctx context.Context, cred *rpc.Cred, ops []nfs4.Args, use func(res []nfs4.Res) error) error
	IO(ctx context.Context, cred *rpc.Cred, openOwner, lockOwner UpOwner, fh nfs4.FH, ops func(nfs4.Stateid) []nfs4.Args, use func(res []nfs4.Res) error) error
	IOStateid(openOwner, lockOwner UpOwner, fh nfs4.FH) (nfs4.Stateid, bool)
	Open(ctx context.Context, cred *rpc.Cred, a *nfsup.OpenArgs) (*nfsup.OpenReply, error)
	Downgrade(ctx context.Context, owner UpOwner, fh nfs4.FH, access, deny uint32) error
	CloseFile(ctx context.Context, owner UpOwner, fh nfs4.FH) error
	Lock(ctx context.Context, cred *rpc.Cred, a *nfsup.LockArgs) error
	Unlock(ctx context.Context, lockOwner UpOwner, fh nfs4.FH, r nfsup.Range) error
	TestLock(ctx context.Context, cred *rpc.Cred, lockOwner UpOwner, fh nfs4.FH, r nfsup.Range, write bool) error
	FreeLockOwner(ctx context.Context, lockOwner UpOwner, fh nfs4.FH) error
	ReclaimComplete(ctx context.Context) error
	Info() nfsup.Info
	Identity() nfsup.Identity
	Close(ctx context.Context) error
	Abandon()
}

var _ upstream = (*nfsup.Client)(nil)

var errSoft = errors.New("the origin does not answer, and the mount is soft")

// softUpstream bounds each request in time, for a mount that is not hard. State is not lost by it:
// nfsup gives back in the background what comes too late. CloseFile, Unlock and the rest are not
// bounded, because giving back must not be given up.
type softUpstream struct {
	upstream
	timeout time.Duration
}

// bound runs f under the time limit, and tells an origin that is silent from a caller who went away.
func (s softUpstream) bound(ctx context.Context, f func(context.Context) error) error {
	short, cancel := context.WithTimeoutCause(ctx, s.timeout, errSoft)
	defer cancel()
	err := f(short)
	if err != nil && ctx.Err() == nil && short.Err() != nil {
		return fs.E("", fs.Unreachable, fmt.Errorf("%w for %v", errSoft, s.timeout))
	}
	return err
}

func (s softUpstream) Compound(ctx context.Context, cred *rpc.Cred, ops []nfs4.Args, use func([]nfs4.Res) error) error {
	return s.bound(ctx, func(ctx context.Context) error { return s.upstream.Compound(ctx, cred, ops, use) })
}

func (s softUpstream) CompoundAll(ctx context.Context, cred *rpc.Cred, ops []nfs4.Args, use func([]nfs4.Res) error) error {
	return s.bound(ctx, func(ctx context.Context) error { return s.upstream.CompoundAll(ctx, cred, ops, use) })
}

func (s softUpstream) IO(ctx context.Context, cred *rpc.Cred, openOwner, lockOwner UpOwner, fh nfs4.FH, ops func(nfs4.Stateid) []nfs4.Args, use func([]nfs4.Res) error) error {
	return s.bound(ctx, func(ctx context.Context) error {
		return s.upstream.IO(ctx, cred, openOwner, lockOwner, fh, ops, use)
	})
}

func (s softUpstream) Open(ctx context.Context, cred *rpc.Cred, a *nfsup.OpenArgs) (reply *nfsup.OpenReply, err error) {
	err = s.bound(ctx, func(ctx context.Context) (err error) {
		reply, err = s.upstream.Open(ctx, cred, a)
		return err
	})
	return reply, err
}

func (s softUpstream) Lock(ctx context.Context, cred *rpc.Cred, a *nfsup.LockArgs) error {
	return s.bound(ctx, func(ctx context.Context) error { return s.upstream.Lock(ctx, cred, a) })
}

func (s softUpstream) TestLock(ctx context.Context, cred *rpc.Cred, lockOwner UpOwner, fh nfs4.FH, r nfsup.Range, write bool) error {
	return s.bound(ctx, func(ctx context.Context) error {
		return s.upstream.TestLock(ctx, cred, lockOwner, fh, r, write)
	})
}

// anonymous is who a caller without a credential is.
var anonymous = &fs.Cred{UID: nobody, GID: nobody}

// upCred is the end user's credential as it goes upstream, so that the origin decides. AUTH_SYS has
// room for 16 groups; what is beyond is cut, as every NFS client does, and can only deny.
func (r *Remote) upCred(cred *fs.Cred) *rpc.Cred {
	if cred == nil {
		cred = anonymous
	}
	groups := cred.Groups
	if len(groups) > rpc.MaxGroups {
		groups = groups[:rpc.MaxGroups:rpc.MaxGroups]
	}
	return &rpc.Cred{Flavor: rpc.AUTH_SYS, Machine: r.machine, UID: cred.UID, GID: cred.GID, Groups: groups}
}

// lastStatus is the failure at the end of the results of CompoundAll, or nil.
func lastStatus(res []nfs4.Res) error {
	if len(res) == 0 {
		return nfs4.NFS4ERR_SERVERFAULT
	}
	last := res[len(res)-1]
	if s := last.Stat(); s != nfs4.NFS4_OK {
		return &nfsup.StatusError{Op: last.Op(), Status: s, Index: len(res) - 1}
	}
	return nil
}

// errOp is the operation of the caller's compound that failed; -1 if it is not known.
func errOp(err error) int {
	var s *nfsup.StatusError
	if errors.As(err, &s) {
		return s.Index
	}
	return -1
}

func putfh(fh nfs4.FH) nfs4.Args { return &nfs4.PutfhArgs{FH: fh} }

// The requests without arguments, shared by all calls.
var (
	getfh     nfs4.Args = &nfs4.GetfhArgs{}
	savefh    nfs4.Args = &nfs4.SavefhArgs{}
	restorefh nfs4.Args = &nfs4.RestorefhArgs{}
	getattr   nfs4.Args = &nfs4.GetattrArgs{Request: attrWanted}
	getchange nfs4.Args = &nfs4.GetattrArgs{Request: changeOnly}
)

// fattrAt is the attributes in result i, which is of GETATTR.
func fattrAt(res []nfs4.Res, i int) *nfs4.Fattr { return &res[i].(*nfs4.GetattrRes).Attrs }
