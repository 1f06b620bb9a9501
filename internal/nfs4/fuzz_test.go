package nfs4

import (
	"math/rand/v2"
	"reflect"
	"runtime"
	"testing"

	"holdfast/internal/xdr"
)

// bounded runs f and fails if it allocates more than a constant times the input of n bytes.
func bounded(t *testing.T, n int, f func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	if got, most := after.TotalAlloc-before.TotalAlloc, uint64(256*n+256<<10); got > most {
		t.Fatalf("%d bytes of input made %d bytes of garbage, at most %d are fine", n, got, most)
	}
}

func FuzzCompoundArgs(f *testing.F) {
	r := rand.New(rand.NewPCG(7, 8))
	var ops []Args
	for op := range OpNum(len(newArgs)) {
		if a := NewArgs(op); a != nil {
			random(r, a)
			ops = append(ops, a)
		}
	}
	for i := range ops {
		e := xdr.NewEncoder(nil)
		EncodeCompound(e, "seed", 2, ops[i:i+1])
		f.Add(e.Bytes())
	}
	e := xdr.NewEncoder(nil)
	EncodeCompound(e, "all", 2, ops)
	f.Add(e.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		var h CompoundHeader
		var list []Args
		ok := false
		bounded(t, len(b), func() {
			d := xdr.NewDecoder(b)
			h.XDR(d)
			if d.Err() != nil {
				return
			}
			for range h.NumOps {
				_, a, err := DecodeArgs(d)
				if err != nil || a.Op() == OP_ILLEGAL {
					return
				}
				list = append(list, a)
			}
			ok = true
		})
		if !ok {
			return
		}
		e := xdr.NewEncoder(nil)
		EncodeCompound(e, h.Tag, h.MinorVersion, list)
		if e.Err() != nil {
			t.Fatal(e.Err())
		}
		d := xdr.NewDecoder(e.Bytes())
		h.XDR(d)
		for i, a := range list {
			if _, again, err := DecodeArgs(d); err != nil || !reflect.DeepEqual(a, again) {
				t.Fatalf("operation %d: %+v became %+v, %v", i, a, again, err)
			}
		}
	})
}

func FuzzCompoundRes(f *testing.F) {
	r := rand.New(rand.NewPCG(9, 10))
	for op := range OpNum(len(newRes)) {
		if res := NewRes(op); res != nil {
			random(r, res)
			e := xdr.NewEncoder(nil)
			EncodeCompoundRes(e, NFS4_OK, "", []Res{&SequenceRes{}, res})
			f.Add([]byte{byte(OP_SEQUENCE), byte(op)}, e.Bytes())
		}
	}
	f.Fuzz(func(t *testing.T, asked, b []byte) {
		var ops []Args
		for _, op := range asked {
			if a := NewArgs(OpNum(op)); a != nil {
				ops = append(ops, a)
			}
		}
		var s Status
		var list []Res
		var err error
		bounded(t, len(b)+100*len(ops), func() { s, list, err = DecodeCompoundRes(xdr.NewDecoder(b), ops) })
		if err != nil || len(list) == 0 || list[len(list)-1].Stat() != s {
			return
		}
		e := xdr.NewEncoder(nil)
		EncodeCompoundRes(e, s, "", list)
		s2, again, err := DecodeCompoundRes(xdr.NewDecoder(e.Bytes()), ops)
		if err != nil || s2 != s || !reflect.DeepEqual(list, again) {
			t.Fatalf("%v %+v became %v %+v, %v", s, list, s2, again, err)
		}
	})
}

func FuzzFattr(f *testing.F) {
	r := rand.New(rand.NewPCG(11, 12))
	for range 20 {
		f.Add(random(r, new(Fattr)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var x, y Fattr
		d := xdr.NewDecoder(b)
		bounded(t, len(b), func() { x.XDR(d) })
		if d.Err() != nil {
			return
		}
		decode(t, encode(t, &x), &y)
		if !reflect.DeepEqual(x, y) {
			t.Fatalf("%+v became %+v", x, y)
		}
	})
}

func FuzzCBCompound(f *testing.F) {
	r := rand.New(rand.NewPCG(13, 14))
	for op := range CBOpNum(len(newCBArgs)) {
		if a := NewCBArgs(op); a != nil {
			random(r, a)
			e := xdr.NewEncoder(nil)
			EncodeCBCompound(e, "", 1, 0, []CBArgs{&CBSequenceArgs{}, a})
			f.Add(e.Bytes())
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, len(b), func() {
			d := xdr.NewDecoder(b)
			var h CBCompoundHeader
			h.XDR(d)
			if d.Err() != nil {
				return
			}
			for range h.NumOps {
				if _, a, err := DecodeCBArgs(d); err != nil || a.Op() == OP_CB_ILLEGAL {
					return
				}
			}
		})
	})
}

func BenchmarkLockCompound(b *testing.B) {
	ops := []Args{&SequenceArgs{SlotID: 1}, &PutfhArgs{FH: "0123456789abcdef"}, &LockArgs{LockType: WRITE_LT, Length: 10,
		Locker: Locker{NewLockOwner: true, LockOwner: StateOwner{ClientID: 7, Owner: "0123456789abcdef"}}}}
	e := xdr.NewEncoder(nil)
	EncodeCompound(e, "", 2, ops)
	rec := e.Bytes()
	b.ReportAllocs()
	for b.Loop() {
		var d xdr.Codec
		d.ResetDecoder(rec)
		var h CompoundHeader
		h.XDR(&d)
		for range h.NumOps {
			if _, _, err := DecodeArgs(&d); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkGetattrReply(b *testing.B) {
	res := []Res{&SequenceRes{}, &PutfhRes{}, &GetattrRes{Attrs: Fattr{Mask: Bits(FATTR4_TYPE, FATTR4_CHANGE, FATTR4_SIZE, FATTR4_FSID,
		FATTR4_FILEID, FATTR4_MODE, FATTR4_NUMLINKS, FATTR4_OWNER, FATTR4_OWNER_GROUP, FATTR4_TIME_MODIFY, FATTR4_TIME_METADATA),
		Owner: "1000", OwnerGroup: "1000"}}}
	var e xdr.Codec
	b.ReportAllocs()
	for b.Loop() {
		e.Reuse(1 << 20)
		EncodeCompoundRes(&e, NFS4_OK, "", res)
	}
}
