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
	return statsOf(up)
}

// statsOf adds up the clients that an upstream is made of.
func statsOf(up upstream) map[nfs4.OpNum]nfsup.OpStat {
	switch u := up.(type) {
	case *nfsup.Client:
		return u.Stats()
	case *shards:
		sum := make(map[nfs4.OpNum]nfsup.OpStat)
		for _, one := range u.list {
			for op, s := range statsOf(one) {
				t := sum[op]
				t.Count, t.Errors, t.RTT, t.Max = t.Count+s.Count, t.Errors+s.Errors, t.RTT+s.RTT, max(t.Max, s.Max)
				sum[op] = t
			}
		}
		return sum
	}
	return nil
}
