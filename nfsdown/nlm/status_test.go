package nlm

import (
	"fmt"
	"testing"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/internal/nlm"
)

// What an origin has said is the cause of a backend's error, not its meaning.
func TestStatusOfAnOriginIsNotOurs(t *testing.T) {
	for _, c := range []struct {
		err  error
		want nlm.Stat
	}{
		{fs.E("OPEN", fs.Stale, nfs4.NFS4ERR_STALE), nlm.StaleFH},
		{fs.E("OPEN", fs.ROFS, fmt.Errorf("OPEN: %w", nfs4.NFS4ERR_ROFS)), nlm.ROFS},
		{fs.E("LOCK", fs.Unreachable, nfs4.NFS4ERR_DEADSESSION), nlm.DeniedGrace},
		{fmt.Errorf("in grace: %w", nfs4.NFS4ERR_GRACE), nlm.DeniedGrace},
		{nfs4.NFS4ERR_RECLAIM_BAD, nlm.Denied},
		{nfs4.NFS4ERR_BAD_STATEID, nlm.DeniedNolock},
	} {
		if got := toStat(c.err); got != c.want {
			t.Errorf("%v is %v, want %v", c.err, got, c.want)
		}
	}
}
