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

// OpStat is what an operation, or a procedure of another program, did since the server started.
type OpStat struct {
	Op      string `json:"op"`
	Program string `json:"program"` // NFSv4, NFSv3, MOUNT, NLM, NSM
	Count   uint64 `json:"count"`
	Errors  uint64 `json:"errors"`    // answers that were not NFS4_OK, or the program's word for it
	In      uint64 `json:"bytes_in"`  // data of WRITE
	Out     uint64 `json:"bytes_out"` // data of READ
	Nanos   uint64 `json:"exe_ns"`    // time spent in it, in all
}

type opStats [opLimit]counters

func (s *opStats) of(op nfs4.OpNum) *counters {
	if op >= opLimit {
		op = 0
	}
	return &s[op]
}

func (s *opStats) record(op nfs4.OpNum, st nfs4.Status, d time.Duration) {
	s.of(op).record(st != nfs4.NFS4_OK, d)
}

func (c *counters) record(failed bool, d time.Duration) {
	c.count.Add(1)
	if failed {
		c.errors.Add(1)
	}
	c.nanos.Add(uint64(max(0, d)))
}

// stat adds what was counted to a list, if the operation was used.
func (c *counters) stat(list []OpStat, program, op string) []OpStat {
	n := c.count.Load()
	if n == 0 {
		return list
	}
	return append(list, OpStat{op, program, n, c.errors.Load(), c.in.Load(), c.out.Load(), c.nanos.Load()})
}

// snapshot returns the operations that were used, in the order of their numbers.
func (s *opStats) snapshot() []OpStat {
	var out []OpStat
	for i := range s {
		name := nfs4.OpNum(i).String()
		if i == 0 {
			name = nfs4.OP_ILLEGAL.String()
		}
		out = s[i].stat(out, "NFSv4", name)
	}
	return out
}

// ProcStats counts the procedures of a Program. A call that is answered with what an earlier one of the same request was
// answered with is not counted again.
type ProcStats struct {
	s       *Server
	program string
	names   []string
	procs   []counters // one more than names, for calls of what is not there
}

// CountProcs gives a program counters, which OpStats shows under its name. names are those of its procedures, by their
// numbers; empty where there is none. Call it before the first Serve.
func (s *Server) CountProcs(program string, names []string) *ProcStats {
	p := &ProcStats{s: s, program: program, names: names, procs: make([]counters, len(names)+1)}
	s.procStats = append(s.procStats, p)
	return p
}

// of is the counters of a procedure; the last ones if there is no such procedure.
func (p *ProcStats) of(proc uint32) *counters {
	if proc >= uint32(len(p.names)) || p.names[proc] == "" {
		proc = uint32(len(p.names))
	}
	return &p.procs[proc]
}

// Begin is for the beginning of a call. end is for its end, and is told whether its answer was an error.
func (p *ProcStats) Begin(proc uint32) (end func(failed bool)) {
	begun := p.s.now()
	return func(failed bool) { p.of(proc).record(failed, p.s.now().Sub(begun)) }
}

// Data adds to the bytes that clients wrote by a procedure, and read by it.
func (p *ProcStats) Data(proc uint32, in, out int) {
	c := p.of(proc)
	c.in.Add(uint64(in))
	c.out.Add(uint64(out))
}

func (p *ProcStats) snapshot(list []OpStat) []OpStat {
	for i := range p.procs {
		name := nfs4.OP_ILLEGAL.String() // as with NFSv4
		if i < len(p.names) {
			name = p.names[i]
		}
		list = p.procs[i].stat(list, p.program, name)
	}
	return list
}
