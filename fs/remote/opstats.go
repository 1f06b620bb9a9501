package remote

import (
	"holdfast/internal/nfs4"
	"holdfast/nfsup"
)

// OpStats counts the operations that were sent to the origin, over the life of the mount.
func (r *Remote) OpStats() map[nfs4.OpNum]nfsup.OpStat {
	up := r.up
	if s, ok := up.(softUpstream); ok {
		up = s.upstream
	}
	if c, ok := up.(*nfsup.Client); ok {
		return c.Stats()
	}
	return nil
}
