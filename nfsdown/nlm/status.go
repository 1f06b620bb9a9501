package nlm

import (
	"context"
	"errors"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/internal/nlm"
	"holdfast/nfsdown/state"
)

// stat is the status that an error becomes. "Later" is DENIED_GRACE_PERIOD: clients ask again after a while.
func (c *call) stat(err error) nlm.Stat {
	st := toStat(err)
	if st > nlm.Deadlock && !c.v4 {
		st = nlm.DeniedNolock
	}
	if st == nlm.DeniedNolock {
		c.s.log.Info("an NLM request was refused", "proc", c.in.Proc, "addr", c.p.Addr().Addr(), "err", err)
	}
	return st
}

func toStat(err error) nlm.Stat {
	if err == nil {
		return nlm.Granted
	}
	var n nlm.Stat
	if errors.As(err, &n) {
		return n
	}
	if isDenied(err) {
		return nlm.Denied
	}
	if s, ok := state.StatusIn(err); ok {
		switch s {
		case nfs4.NFS4ERR_GRACE, nfs4.NFS4ERR_DELAY, nfs4.NFS4ERR_BADSESSION:
			return nlm.DeniedGrace
		case nfs4.NFS4ERR_NO_GRACE, nfs4.NFS4ERR_RECLAIM_BAD, nfs4.NFS4ERR_RECLAIM_CONFLICT, nfs4.NFS4ERR_SHARE_DENIED:
			return nlm.Denied
		}
		return nlm.DeniedNolock
	}
	switch fs.CodeOf(err) {
	case fs.Grace, fs.Delay, fs.Unreachable, fs.Interrupted:
		return nlm.DeniedGrace
	case fs.NoGrace, fs.ReclaimBad, fs.ReclaimConflict, fs.ShareDenied:
		return nlm.Denied
	case fs.Stale, fs.BadHandle, fs.FHExpired:
		return nlm.StaleFH
	case fs.ROFS:
		return nlm.ROFS
	case fs.Deadlock:
		return nlm.Deadlock
	case fs.BadRange, fs.FBig:
		return nlm.FBig
	}
	return nlm.DeniedNolock
}

// isDenied tells whether somebody else has a lock that conflicts.
func isDenied(err error) bool {
	var d *state.DeniedError
	return errors.As(err, &d) || errors.Is(err, fs.Denied)
}

// isLater tells whether it is to be tried again soon.
func isLater(err error) bool { return err != nil && toStat(err) == nlm.DeniedGrace }

// isLost tells whether the open that we had is no more: it was revoked.
func isLost(err error) bool {
	var s nfs4.Status
	if !errors.As(err, &s) {
		return false
	}
	switch s {
	case nfs4.NFS4ERR_BAD_STATEID, nfs4.NFS4ERR_OLD_STATEID, nfs4.NFS4ERR_EXPIRED, nfs4.NFS4ERR_ADMIN_REVOKED:
		return true
	}
	return false
}

// keep is a context for what must be done even if the server stops meanwhile.
func keep(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }
