package nfsup

import (
	"sync/atomic"
	"time"

	"holdfast/internal/nfs4"
)

// stats counts operations. Operations above the last known one are not counted.
type stats [nfs4.OP_REMOVEXATTR + 1]struct {
	count, errors, rtt, max atomic.Int64
}

func (s *stats) count(list []nfs4.Res, rtt time.Duration) {
	for _, r := range list {
		op := r.Op()
		if int(op) >= len(s) {
			continue
		}
		o := &s[op]
		o.count.Add(1)
		o.rtt.Add(int64(rtt))
		if r.Stat() != nfs4.NFS4_OK {
			o.errors.Add(1)
		}
		for m := o.max.Load(); int64(rtt) > m && !o.max.CompareAndSwap(m, int64(rtt)); m = o.max.Load() {
		}
	}
}

// Stats counts operations, those that were used at least once.
func (c *Client) Stats() map[nfs4.OpNum]OpStat {
	out := make(map[nfs4.OpNum]OpStat)
	for i := range c.stats {
		s := &c.stats[i]
		if n := s.count.Load(); n > 0 {
			out[nfs4.OpNum(i)] = OpStat{
				Count:  uint64(n),
				Errors: uint64(s.errors.Load()),
				RTT:    time.Duration(s.rtt.Load()),
				Max:    time.Duration(s.max.Load()),
			}
		}
	}
	return out
}
