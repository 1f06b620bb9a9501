package nfsdown

import (
	"sync/atomic"
	"time"

	"holdfast/internal/nfs4"
)

// opLimit is one above the highest operation number that is counted; OP_ILLEGAL is counted as 0.
const opLimit = 80

// counters are those of one operation.
type counters struct {
	count, errors, in, out, nanos atomic.Uint64
}

// OpStat is what an operation did since the server started.
type OpStat struct {
	Op     string `json:"op"`
	Count  uint64 `json:"count"`
	Errors uint64 `json:"errors"`    // answers that were not NFS4_OK
	In     uint64 `json:"bytes_in"`  // data of WRITE
	Out    uint64 `json:"bytes_out"` // data of READ
	Nanos  uint64 `json:"exe_ns"`    // time spent in it, in all
}

type opStats [opLimit]counters

func (s *opStats) of(op nfs4.OpNum) *counters {
	if op >= opLimit {
		op = 0
	}
	return &s[op]
}

func (s *opStats) record(op nfs4.OpNum, st nfs4.Status, d time.Duration) {
	c := s.of(op)
	c.count.Add(1)
	if st != nfs4.NFS4_OK {
		c.errors.Add(1)
	}
	c.nanos.Add(uint64(max(0, d)))
}

// snapshot returns the operations that were used, in the order of their numbers.
func (s *opStats) snapshot() []OpStat {
	var out []OpStat
	for i := range s {
		c := &s[i]
		if n := c.count.Load(); n > 0 {
			name := nfs4.OpNum(i).String()
			if i == 0 {
				name = nfs4.OP_ILLEGAL.String()
			}
			out = append(out, OpStat{name, n, c.errors.Load(), c.in.Load(), c.out.Load(), c.nanos.Load()})
		}
	}
	return out
}
