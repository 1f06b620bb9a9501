package nfsdown

import (
	"context"
	"sync/atomic"
	"testing"

	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/internal/xdr"
)

// bench runs a COMPOUND in as many slots as there are goroutines, over one connection.
func bench(b *testing.B, p *peer, ops ...nfs4.Args) {
	b.Helper()
	b.SetParallelism(4)
	var slots atomic.Uint32
	seq := make([]uint32, p.fore.MaxRequests)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		slot := slots.Add(1) - 1
		if int(slot) >= len(seq) {
			b.Fatalf("%d slots are too few", len(seq))
		}
		list := append([]nfs4.Args{&nfs4.SequenceArgs{SessionID: p.sess, SlotID: slot}}, ops...)
		for pb.Next() {
			seq[slot]++
			list[0].(*nfs4.SequenceArgs).SequenceID = seq[slot]
			err := p.conn.Call(context.Background(), &rpc.Call{Prog: nfs4.Program, Vers: nfs4.Version, Proc: nfs4.ProcCompound, Cred: p.cred},
				func(e *xdr.Codec) { nfs4.EncodeCompound(e, "", 2, list) },
				func(d *xdr.Codec) error {
					var st nfs4.Status
					if st.XDR(d); st != nfs4.NFS4_OK {
						return st
					}
					return d.Err()
				})
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func benchPeer(b *testing.B, size int) (*peer, nfs4.FH) {
	b.Helper()
	w := newWorld(b, nil)
	p := w.client("bench")
	var fh nfs4.FH
	data := make([]byte, size)
	fh = p.mkfile("f", data[:min(size, 1<<19)])
	if size > 1<<19 {
		p.ok(put(fh), &nfs4.WriteArgs{Offset: 1 << 19, Data: data[1<<19:]})
	}
	p.session(nfs4.ChannelAttrs{MaxRequestSize: 2 << 20, MaxResponseSize: 2 << 20, MaxResponseSizeCached: 4096, MaxOperations: 8, MaxRequests: 64})
	return p, fh
}

func BenchmarkGetattr(b *testing.B) {
	p, fh := benchPeer(b, 10)
	b.ResetTimer()
	bench(b, p, put(fh), &nfs4.GetattrArgs{Request: nfs4.Bits(nfs4.FATTR4_TYPE, nfs4.FATTR4_CHANGE, nfs4.FATTR4_SIZE, nfs4.FATTR4_MODE, nfs4.FATTR4_OWNER)})
}

func BenchmarkRead1MiB(b *testing.B) {
	p, fh := benchPeer(b, 1<<20)
	b.SetBytes(1 << 20)
	b.ResetTimer()
	bench(b, p, put(fh), &nfs4.ReadArgs{Count: 1 << 20})
}

func BenchmarkWrite1MiB(b *testing.B) {
	p, fh := benchPeer(b, 1<<20)
	b.SetBytes(1 << 20)
	b.ResetTimer()
	bench(b, p, put(fh), &nfs4.WriteArgs{Data: make([]byte, 1<<20)})
}
