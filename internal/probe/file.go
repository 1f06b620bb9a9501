package probe

import (
	"context"

	"holdfast/internal/nfs4"
	"holdfast/internal/plain"
)

// A client is a plain one with the one file that is tried.
type client struct{ plain.Client }

// A handle is an open file.
type handle struct {
	fh   nfs4.FH
	open nfs4.Stateid
}

// create makes and opens a file for reading and writing.
func (c *client) create(ctx context.Context, dir nfs4.FH, name string) (handle, error) {
	list, err := c.Do(ctx, true, &nfs4.PutfhArgs{FH: dir}, &nfs4.OpenArgs{
		ShareAccess: nfs4.OPEN4_SHARE_ACCESS_BOTH | nfs4.OPEN4_SHARE_ACCESS_WANT_NO_DELEG, Owner: c.stateOwner(),
		How:   nfs4.OpenHow{Type: nfs4.OPEN4_CREATE, Mode: nfs4.GUARDED4, Attrs: nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_MODE), Mode: 0o666}},
		Claim: nfs4.OpenClaim{Type: nfs4.CLAIM_NULL, File: name},
	}, &nfs4.GetfhArgs{})
	if err != nil {
		return handle{}, err
	}
	return handle{list[2].(*nfs4.GetfhRes).FH, list[1].(*nfs4.OpenRes).Stateid}, nil
}

func (c *client) stateOwner() nfs4.StateOwner {
	return nfs4.StateOwner{ClientID: c.ID, Owner: "probe"}
}

// openFH opens a file by handle: claim is CLAIM_FH, or CLAIM_PREVIOUS for a reclaim.
func (c *client) openFH(ctx context.Context, fh nfs4.FH, claim uint32) (handle, error) {
	list, err := c.Do(ctx, claim == nfs4.CLAIM_FH, &nfs4.PutfhArgs{FH: fh}, &nfs4.OpenArgs{
		ShareAccess: nfs4.OPEN4_SHARE_ACCESS_BOTH | nfs4.OPEN4_SHARE_ACCESS_WANT_NO_DELEG, Owner: c.stateOwner(), Claim: nfs4.OpenClaim{Type: claim},
	})
	if err != nil {
		return handle{}, err
	}
	return handle{fh, list[1].(*nfs4.OpenRes).Stateid}, nil
}

// Bytes of the scratch file that are locked.
const (
	lockOffset = 10
	lockLength = 20
)

// lock takes the write lock, as a reclaim or as a new one. A new lock waits for the end of grace.
func (c *client) lock(ctx context.Context, h handle, reclaim bool) (nfs4.Stateid, error) {
	list, err := c.Do(ctx, !reclaim, &nfs4.PutfhArgs{FH: h.fh}, &nfs4.LockArgs{
		LockType: nfs4.WRITE_LT, Reclaim: reclaim, Offset: lockOffset, Length: lockLength,
		Locker: nfs4.Locker{NewLockOwner: true, OpenStateid: h.open, LockOwner: c.stateOwner()},
	})
	if err != nil {
		return nfs4.Stateid{}, err
	}
	return list[1].(*nfs4.LockRes).LockStateid, nil
}

// denied tells whether this client would be denied the lock.
func (c *client) denied(ctx context.Context, fh nfs4.FH) (bool, error) {
	_, err := c.Do(ctx, true, &nfs4.PutfhArgs{FH: fh}, &nfs4.LocktArgs{LockType: nfs4.WRITE_LT, Offset: lockOffset, Length: lockLength, Owner: c.stateOwner()})
	switch s, _ := plain.StatusOf(err); s {
	case nfs4.NFS4ERR_DENIED:
		return true, nil
	case nfs4.NFS4_OK:
		return false, err
	}
	return false, err
}
