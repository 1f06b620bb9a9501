package nfs4

import (
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"holdfast/internal/xdr"
)

func TestCompound(t *testing.T) {
	ops := []Args{&SequenceArgs{SlotID: 1}, &PutrootfhArgs{}, &LookupArgs{Name: "dir"}, &GetfhArgs{}}
	e := xdr.NewEncoder(nil)
	EncodeCompound(e, "tag", 2, ops)
	d := xdr.NewDecoder(e.Bytes())
	var h CompoundHeader
	h.XDR(d)
	if h != (CompoundHeader{Tag: "tag", MinorVersion: 2, NumOps: 4}) {
		t.Fatalf("%+v", h)
	}
	for i := range h.NumOps {
		op, a, err := DecodeArgs(d)
		if err != nil || op != ops[i].Op() || !reflect.DeepEqual(a, ops[i]) {
			t.Errorf("operation %d: %v %+v %v", i, op, a, err)
		}
	}
	if d.Len() != 0 {
		t.Errorf("%d bytes left", d.Len())
	}
}

func TestUnknownOperation(t *testing.T) {
	d := xdr.NewDecoder([]byte{0, 0, 0x12, 0x34, 1, 2, 3})
	op, a, err := DecodeArgs(d)
	if err != nil || op != 0x1234 || a.Op() != OP_ILLEGAL {
		t.Errorf("%v %v %v", op, a, err)
	}
	cop, ca, err := DecodeCBArgs(xdr.NewDecoder([]byte{0, 0, 0, 2}))
	if err != nil || cop != 2 || ca.Op() != OP_CB_ILLEGAL {
		t.Errorf("%v %v %v", cop, ca, err)
	}
}

func TestCompoundRes(t *testing.T) {
	ops := []Args{&SequenceArgs{}, &PutfhArgs{}, &GetattrArgs{}}
	seq, putfh, getattr := &SequenceRes{}, &PutfhRes{}, &GetattrRes{Attrs: Fattr{Mask: Bits(FATTR4_SIZE), Size: 7}}
	for _, tc := range []struct {
		name    string
		s       Status
		answers []Res
		err     string
	}{
		{"all succeeded", NFS4_OK, []Res{seq, putfh, getattr}, ""},
		{"the second failed", NFS4ERR_STALE, []Res{seq, ErrRes(OP_PUTFH, NFS4ERR_STALE)}, ""},
		{"none was executed", NFS4ERR_MINOR_VERS_MISMATCH, nil, ""},
		{"the server does not know the last", NFS4ERR_OP_ILLEGAL, []Res{seq, putfh, ErrRes(OP_ILLEGAL, NFS4ERR_OP_ILLEGAL)}, ""},
		{"an answer to something else", NFS4_OK, []Res{seq, getattr, getattr}, "answer 1 is to GETATTR, not to PUTFH"},
		{"too many answers", NFS4_OK, []Res{seq, putfh, getattr, getattr}, "4 answers to 3 operations"},
		{"too few answers", NFS4_OK, []Res{seq, putfh}, "only 2 answers to 3 operations"},
		{"went on after a failure", NFS4_OK, []Res{seq, ErrRes(OP_PUTFH, NFS4ERR_STALE), getattr}, "answer 1 of 3 to PUTFH is NFS4ERR_STALE"},
	} {
		e := xdr.NewEncoder(nil)
		EncodeCompoundRes(e, tc.s, "t", tc.answers)
		s, list, err := DecodeCompoundRes(xdr.NewDecoder(e.Bytes()), ops)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: %v", tc.name, err)
			}
			continue
		}
		if err != nil || s != tc.s || len(list) != len(tc.answers) {
			t.Errorf("%s: %v, %d answers, %v", tc.name, s, len(list), err)
			continue
		}
		for i := range list {
			if !reflect.DeepEqual(list[i], tc.answers[i]) {
				t.Errorf("%s: answer %d is %+v, want %+v", tc.name, i, list[i], tc.answers[i])
			}
		}
	}
}

func TestCBCompound(t *testing.T) {
	ops := []CBArgs{&CBSequenceArgs{SequenceID: 4}, &CBRecallArgs{FH: "fh"}}
	e := xdr.NewEncoder(nil)
	EncodeCBCompound(e, "", 1, 9, ops)
	d := xdr.NewDecoder(e.Bytes())
	var h CBCompoundHeader
	h.XDR(d)
	if h != (CBCompoundHeader{MinorVersion: 1, CallbackIdent: 9, NumOps: 2}) {
		t.Fatalf("%+v", h)
	}
	for i := range h.NumOps {
		if op, a, err := DecodeCBArgs(d); err != nil || op != ops[i].Op() || !reflect.DeepEqual(a, ops[i]) {
			t.Errorf("operation %d: %v %+v %v", i, op, a, err)
		}
	}
	e = xdr.NewEncoder(nil)
	EncodeCBCompoundRes(e, NFS4_OK, "", []CBRes{&CBSequenceRes{}, CBErrRes(OP_CB_RECALL, NFS4ERR_DELAY)})
	s, list, err := DecodeCBCompoundRes(xdr.NewDecoder(e.Bytes()), ops)
	if err != nil || s != NFS4ERR_DELAY || len(list) != 2 || list[1].Stat() != NFS4ERR_DELAY {
		t.Errorf("%v %v %v", s, list, err)
	}
}

// TestReaddirAppend: RFC 8881 section 18.23.3, maxcount covers READDIR4resok.
func TestReaddirAppend(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 50 {
		maxCount := 100 + r.IntN(3000)
		res := &ReaddirRes{CookieVerf: Verifier{1}}
		var want []DirEntry
		for {
			e := DirEntry{Cookie: r.Uint64(), Name: string(randBytes(r, 200)), Attrs: Fattr{Mask: Bits(FATTR4_FILEID), FileID: r.Uint64()}}
			ok, err := res.Append(&e, maxCount)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			want = append(want, e)
		}
		b := encode(t, res)
		if len(b)-4 > maxCount || len(b)-4 != res.Size() || res.Appended() != (len(want) > 0) {
			t.Errorf("READDIR4resok has %d bytes, Size %d, maxcount %d", len(b)-4, res.Size(), maxCount)
		}
		back := new(ReaddirRes)
		decode(t, b, back)
		if len(want) != len(back.Entries) || len(want) > 0 && !reflect.DeepEqual(back.Entries, want) {
			t.Errorf("%d entries became %d", len(want), len(back.Entries))
		}
	}
	res := new(ReaddirRes)
	good := DirEntry{Name: "good"}
	if ok, err := res.Append(&good, 1000); !ok || err != nil {
		t.Fatal(ok, err)
	}
	bad := DirEntry{Name: "bad", Attrs: Fattr{Mask: Bits(120)}}
	if ok, err := res.Append(&bad, 1000); ok || err == nil {
		t.Error("an entry that cannot be encoded was taken")
	}
	if ok, err := res.Append(&good, 1000); !ok || err != nil {
		t.Error("nothing is taken after an entry that cannot be encoded")
	}
	back := new(ReaddirRes)
	decode(t, encode(t, res), back)
	if len(back.Entries) != 2 {
		t.Errorf("%d entries, want 2", len(back.Entries))
	}
}
