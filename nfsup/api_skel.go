package nfsup

import (
	"context"
	"errors"
	"time"

	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
)

var errSkeleton = errors.New("nfsup: not there yet")

// A Client is one NFSv4.1 client at one server. All methods may be called at once.
type Client struct{}

// Dial connects, makes a client ID and a session, and, unless that is delayed, sends
// RECLAIM_COMPLETE. When it returns the client works. ctx bounds Dial only.
func Dial(ctx context.Context, cfg Config) (*Client, error) { return nil, errSkeleton }

// Close gives back all locks and opens, the session and the client ID, as far as the server answers
// before ctx ends. After it, calls return ErrClosed.
func (c *Client) Close(ctx context.Context) error { return errSkeleton }

// Abandon ends the client like kill -9 would: the server hears nothing.
func (c *Client) Abandon() {}

// Info tells about the client now.
func (c *Client) Info() Info { return Info{} }

// Identity is what a process that takes over must know.
func (c *Client) Identity() Identity { return Identity{} }

// Stats counts operations.
func (c *Client) Stats() map[nfs4.OpNum]OpStat { return nil }

// LeaseExpires is when the lease ends if no request succeeds from now on.
func (c *Client) LeaseExpires() time.Time { return time.Time{} }

// Compound runs ops for cred, after a SEQUENCE of its own. use gets the results, one for each of ops,
// if all succeeded; it may be nil. Otherwise the error is a *StatusError.
//
// NFS4ERR_DELAY is repeated for up to Config.DelayTime if nothing before it had an effect;
// NFS4ERR_GRACE is returned. If ctx ends first, the request may still be executed.
func (c *Client) Compound(ctx context.Context, cred *rpc.Cred, ops []nfs4.Args, use func(res []nfs4.Res) error) error {
	return errSkeleton
}

// CompoundAll is Compound, but use gets the results in any case, as far as the server came: the last one
// may be a failure. Its error is the result.
func (c *Client) CompoundAll(ctx context.Context, cred *rpc.Cred, ops []nfs4.Args, use func(res []nfs4.Res) error) error {
	return errSkeleton
}

// IO is Compound for operations that carry a stateid: ops is called with the newest one for
// (openOwner, lockOwner, fh), as from IOStateid, and again when the state got a new one in a recovery.
// Without such state it fails with ErrNoState, except that two zero owners mean the anonymous stateid.
// If the server says that the state is gone, that is checked, reported by Events.Revoked, and returned.
func (c *Client) IO(ctx context.Context, cred *rpc.Cred, openOwner, lockOwner UpOwner, fh nfs4.FH, ops func(nfs4.Stateid) []nfs4.Args, use func(res []nfs4.Res) error) error {
	return errSkeleton
}

// Open opens a file. A nil error means: the server holds the open, and so do the tables. If ctx ends
// first, whatever the server granted is given back in the background.
func (c *Client) Open(ctx context.Context, cred *rpc.Cred, a *OpenArgs) (*OpenReply, error) {
	return nil, errSkeleton
}

// Downgrade reduces the open of (owner, fh) to the modes given, RFC 8881 18.18. They must be those of
// some of the Opens that made it.
func (c *Client) Downgrade(ctx context.Context, owner UpOwner, fh nfs4.FH, access, deny uint32) error {
	return errSkeleton
}

// CloseFile gives back the locks under the open of (owner, fh), and the open. ErrNoState if there is none.
func (c *Client) CloseFile(ctx context.Context, owner UpOwner, fh nfs4.FH) error { return errSkeleton }

// Lock returns nil if the lock is held now, *DeniedError if it conflicts with another owner's,
// ErrNoState if the open is not there.
func (c *Client) Lock(ctx context.Context, cred *rpc.Cred, a *LockArgs) error { return errSkeleton }

// Unlock gives a range back. Without any lock of that owner it does nothing.
func (c *Client) Unlock(ctx context.Context, lockOwner UpOwner, fh nfs4.FH, r Range) error {
	return errSkeleton
}

// TestLock returns *DeniedError if a Lock by that owner would be denied now.
func (c *Client) TestLock(ctx context.Context, cred *rpc.Cred, lockOwner UpOwner, fh nfs4.FH, r Range, write bool) error {
	return errSkeleton
}

// FreeLockOwner forgets a lock-owner that holds nothing on fh any more: FREE_STATEID.
// NFS4ERR_LOCKS_HELD if it still does.
func (c *Client) FreeLockOwner(ctx context.Context, lockOwner UpOwner, fh nfs4.FH) error {
	return errSkeleton
}

// IOStateid is the stateid for READ, WRITE and SETATTR of size: that of the locks if lockOwner has any on
// fh, else that of the open, else, and if both owners are zero, the anonymous one and false. Its seqid
// is 0, the newest (8.2.2).
func (c *Client) IOStateid(openOwner, lockOwner UpOwner, fh nfs4.FH) (nfs4.Stateid, bool) {
	return nfs4.Stateid{}, false
}

// State lists what is held, in no order.
func (c *Client) State() ([]OpenState, []LockState) { return nil, nil }

// HasOpen tells the modes of an open; false if there is none.
func (c *Client) HasOpen(owner UpOwner, fh nfs4.FH) (access, deny uint32, ok bool) {
	return 0, 0, false
}

// ReclaimComplete promises that no reclaim follows, RFC 8881 18.51. It waits for reclaims that run.
// It is sent once for each client ID; called again, it does nothing (I5).
func (c *Client) ReclaimComplete(ctx context.Context) error { return errSkeleton }
