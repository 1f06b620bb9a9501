package v3

import (
	"hash/maphash"
	"net/netip"
	"sync"

	"holdfast/internal/rpc"
	"holdfast/nfsdown"
)

// drcEntries is how many answers are remembered. Each is below 1 KiB.
const drcEntries = 8192

// drc is the duplicate request cache: a request that comes again, because its answer was lost with a connection,
// gets that answer and is not run again. Connections change, so the key has the peer's address without its port,
// and a checksum, since two kernels behind one address may use the same xid.
type drc struct {
	mu sync.Mutex
	// +checklocks:mu
	m map[drcKey]*drcEntry
	// +checklocks:mu
	ring []drcKey // those that are done, oldest at next
	// +checklocks:mu
	next int
}

type drcKey struct {
	addr            netip.Addr
	xid, vers, proc uint32
	sum             uint64
}

type drcEntry struct {
	done  chan struct{}
	reply []byte // set before done is closed; nil if it is not to be used
}

func (d *drc) init(n int) {
	d.m = map[drcKey]*drcEntry{}
	d.ring = make([]drcKey, n)
}

// begin finds the request, or notes that it runs from now on: then first is true, and end must follow.
func (d *drc) begin(k drcKey) (e *drcEntry, first bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.m[k]; e != nil {
		return e, false
	}
	e = &drcEntry{done: make(chan struct{})}
	d.m[k] = e
	return e, true
}

// end notes the answer; with nil the request is forgotten.
func (d *drc) end(k drcKey, e *drcEntry, reply []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e.reply = reply
	close(e.done)
	if reply == nil {
		delete(d.m, k)
		return
	}
	if old := d.ring[d.next]; old != (drcKey{}) {
		delete(d.m, old)
	}
	d.ring[d.next] = k
	d.next = (d.next + 1) % len(d.ring)
}

var drcSeed = maphash.MakeSeed()

// drcBytes is how much of the arguments the checksum covers: all but the data of a large WRITE.
const drcBytes = 1024

func drcKeyOf(p *nfsdown.Peer, in *rpc.InCall, args []byte) drcKey {
	var h maphash.Hash
	h.SetSeed(drcSeed)
	maphash.WriteComparable(&h, [4]uint32{uint32(len(args)), in.Cred.Flavor, in.Cred.UID, in.Cred.GID})
	_, _ = h.Write(args[:min(len(args), drcBytes)])
	return drcKey{addr: p.Addr().Addr(), xid: in.Xid, vers: in.Vers, proc: in.Proc, sum: h.Sum64()}
}
