package v3

import (
	"sync/atomic"
	"time"

	"holdfast/internal/nfs3"
)

// stats counts the procedures.
type stats [nfs3.NumProcs]struct{ count, nanos atomic.Uint64 }

func (s *stats) begin(proc uint32) (end func()) {
	start := time.Now()
	return func() {
		s[proc].count.Add(1)
		s[proc].nanos.Add(uint64(time.Since(start)))
	}
}

// ProcStat is what a procedure did since the server started.
type ProcStat struct {
	Proc  string
	Count uint64
	Time  time.Duration // in all
}

// Stats returns the counters of the procedures that were used, in the order of their numbers.
func (s *Server) Stats() []ProcStat {
	var out []ProcStat
	for i := range s.stats {
		if n := s.stats[i].count.Load(); n > 0 {
			out = append(out, ProcStat{nfs3.ProcNames[i], n, time.Duration(s.stats[i].nanos.Load())})
		}
	}
	return out
}
