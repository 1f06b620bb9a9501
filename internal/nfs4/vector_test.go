package nfs4

import (
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"holdfast/internal/xdr"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestVectors are encodings worked out by hand from the XDR of RFC 5662 and RFC 7863.
func TestVectors(t *testing.T) {
	sid := Stateid{Seqid: 3, Other: [12]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}}
	const sidHex = "00000003 0102030405060708090a0b0c"
	for _, tc := range []struct {
		name string
		x    coder
		hex  string
	}{
		{"OPEN of an existing file by name", &OpenArgs{
			Seqid: 0, ShareAccess: OPEN4_SHARE_ACCESS_BOTH | OPEN4_SHARE_ACCESS_WANT_NO_DELEG, ShareDeny: OPEN4_SHARE_DENY_WRITE,
			Owner: StateOwner{ClientID: 0x1122334455667788, Owner: "own"},
			Claim: OpenClaim{Type: CLAIM_NULL, File: "a.txt"},
		}, `00000000 00000403 00000002 1122334455667788 00000003 6f776e00
			00000000
			00000000 00000005 612e747874 000000`},
		{"OPEN that creates exclusively with attributes", &OpenArgs{
			ShareAccess: OPEN4_SHARE_ACCESS_WRITE,
			Owner:       StateOwner{ClientID: 1, Owner: "o"},
			How: OpenHow{Type: OPEN4_CREATE, Mode: EXCLUSIVE4_1, Verf: Verifier{1, 2, 3, 4, 5, 6, 7, 8},
				Attrs: Fattr{Mask: Bits(FATTR4_MODE), Mode: 0o644}},
			Claim: OpenClaim{Type: CLAIM_NULL, File: "f"},
		}, `00000000 00000002 00000000 0000000000000001 00000001 6f000000
			00000001 00000003 0102030405060708
			00000002 00000000 00000002 00000004 000001a4
			00000000 00000001 66000000`},
		{"OPEN as reclaim", &OpenArgs{
			ShareAccess: OPEN4_SHARE_ACCESS_READ,
			Owner:       StateOwner{ClientID: 1},
			Claim:       OpenClaim{Type: CLAIM_PREVIOUS, DelegateType: OPEN_DELEGATE_NONE},
		}, "00000000 00000001 00000000 0000000000000001 00000000 00000000 00000001 00000000"},
		{"OPEN answered with a write delegation", &OpenRes{
			Stateid: sid, Cinfo: ChangeInfo{Atomic: true, Before: 1, After: 2}, Rflags: OPEN4_RESULT_LOCKTYPE_POSIX,
			Delegation: OpenDelegation{Type: OPEN_DELEGATE_WRITE, Stateid: sid,
				SpaceLimit: SpaceLimit{By: NFS_LIMIT_BLOCKS, NumBlocks: 4, BytesPerBlock: 512}, Permissions: ACE{Mask: 1, Who: "x"}},
		}, "00000000" + sidHex + `00000001 0000000000000001 0000000000000002 00000004 00000000
			00000002` + sidHex + `00000000 00000002 00000004 00000200
			00000000 00000000 00000001 00000001 78000000`},
		{"OPEN answered without a delegation, and why", &OpenRes{
			Stateid: sid, Delegation: OpenDelegation{Type: OPEN_DELEGATE_NONE_EXT, Why: WND4_CONTENTION, Will: true},
		}, "00000000" + sidHex + "00000000 0000000000000000 0000000000000000 00000000 00000000 00000003 00000001 00000001"},
		{"LOCK by a new lock-owner, as reclaim", &LockArgs{
			LockType: WRITE_LT, Reclaim: true, Offset: 16, Length: MaxFileLen,
			Locker: Locker{NewLockOwner: true, OpenSeqid: 1, OpenStateid: sid, LockSeqid: 2, LockOwner: StateOwner{ClientID: 7, Owner: "lo"}},
		}, "00000002 00000001 0000000000000010 ffffffffffffffff 00000001 00000001" + sidHex + "00000002 0000000000000007 00000002 6c6f0000"},
		{"LOCK by a known lock-owner", &LockArgs{
			LockType: READW_LT, Length: 1, Locker: Locker{LockStateid: sid, LockSeqid: 9},
		}, "00000003 00000000 0000000000000000 0000000000000001 00000000" + sidHex + "00000009"},
		{"LOCK denied", &LockRes{
			Status: NFS4ERR_DENIED,
			Denied: LockDenied{Offset: 1, Length: 2, LockType: WRITE_LT, Owner: StateOwner{ClientID: 3, Owner: "rival"}},
		}, "0000271a 0000000000000001 0000000000000002 00000002 0000000000000003 00000005 726976616c 000000"},
		{"LOCKT granted", &LocktRes{}, "00000000"},
		{"SETATTR failed, and still says what it set", &SetattrRes{Status: NFS4ERR_DQUOT, AttrsSet: Bits(FATTR4_SIZE)}, "00000045 00000001 00000010"},
		{"SEQUENCE", &SequenceArgs{SessionID: SessionID{0xaa}, SequenceID: 1, SlotID: 2, HighestSlotID: 3, CacheThis: true},
			"aa000000000000000000000000000000 00000001 00000002 00000003 00000001"},
		{"attributes go in the order of their numbers", &Fattr{
			Mask: Bits(FATTR4_TIME_MODIFY, FATTR4_TYPE, FATTR4_OWNER, FATTR4_FSID, FATTR4_SIZE, FATTR4_CHANGE),
			Type: NF4REG, Change: 5, Size: 6, FSID: FSID{7, 8}, Owner: "0", TimeModify: Time{Sec: -1, Nsec: 9},
		}, `00000002 0000011a 00200010 00000038
			00000001 0000000000000005 0000000000000006 0000000000000007 0000000000000008
			00000001 30000000 ffffffffffffffff 00000009`},
		{"no attributes", &Fattr{}, "00000000 00000000"},
		{"the attributes of the state retention draft", &Fattr{
			Mask: Bits(FATTR4_RETAIN_RECLAIM_CAP, FATTR4_RETAIN_ABSENCE_LIMIT), RetainAbsenceLimit: 90, RetainReclaimCap: 120,
		}, "00000003 00000000 00000000 30000000 00000008 0000005a 00000078"},
		{"times that SETATTR sets", &Fattr{
			Mask: Bits(FATTR4_TIME_ACCESS_SET, FATTR4_TIME_MODIFY_SET), TimeModifySet: SetTime{How: SET_TO_CLIENT_TIME4, Time: Time{1, 2}},
		}, "00000002 00000000 00410000 00000014 00000000 00000001 0000000000000001 00000002"},
		{"READDIR with one entry", &ReaddirRes{
			CookieVerf: Verifier{1}, EOF: true,
			Entries: []DirEntry{{Cookie: 5, Name: "n", Attrs: Fattr{Mask: Bits(FATTR4_FILEID), FileID: 2}}},
		}, `00000000 0100000000000000 00000001 0000000000000005 00000001 6e000000
			00000001 00100000 00000008 0000000000000002 00000000 00000001`},
		{"READ_PLUS of data and a hole", &ReadPlusRes{EOF: true, Contents: []ReadPlusContent{
			{Type: NFS4_CONTENT_DATA, Offset: 0, Data: []byte{1, 2, 3, 4}}, {Type: NFS4_CONTENT_HOLE, Offset: 4, Length: 8}}},
			"00000000 00000001 00000002 00000000 0000000000000000 00000004 01020304 00000001 0000000000000004 0000000000000008"},
		{"CB_RECALL", &CBRecallArgs{Stateid: sid, Truncate: true, FH: "\x01\x02\x03"}, sidHex + "00000001 00000003 01020300"},
	} {
		want := unhex(t, tc.hex)
		if got := encode(t, tc.x); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: encoded\n%x, want\n%x", tc.name, got, want)
		}
		back := fresh(tc.x)
		decode(t, want, back)
		if !reflect.DeepEqual(back, tc.x) {
			t.Errorf("%s: decoded\n%+v, want\n%+v", tc.name, back, tc.x)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, tc := range []struct {
		name string
		x    coder
		hex  string
	}{
		{"a filehandle of 129 bytes", new(PutfhArgs), "00000081" + strings.Repeat("00", 132)},
		{"an owner of 1025 bytes", new(StateOwner), "0000000000000001 00000401" + strings.Repeat("00", 1028)},
		{"a lock type of 5", new(LockArgs), "00000005" + strings.Repeat("00", 80)},
		{"a claim of 7", new(OpenClaim), "00000007 00000000"},
		{"a createmode of 4", new(OpenHow), "00000001 00000004 00000000"},
		{"a stable_how of 3", new(WriteArgs), strings.Repeat("00", 24) + "00000003 00000000"},
		{"attributes with something after them", new(Fattr), "00000001 00000010 0000000c 0000000000000001 00000000"},
		{"attributes cut short", new(Fattr), "00000001 00000010 00000004 00000001"},
		{"a bitmap of 1025 words", new(Bitmap), "00000401" + strings.Repeat("00", 4*1025)},
	} {
		d := xdr.NewDecoder(unhex(t, tc.hex))
		tc.x.XDR(d)
		if d.Err() == nil {
			t.Errorf("%s: decoded", tc.name)
		}
	}
}

// TestUnknownAttribute: RFC 8881 section 5.6 wants NFS4ERR_ATTRNOTSUPP, so the error is told apart.
func TestUnknownAttribute(t *testing.T) {
	for _, mask := range []string{"00000002 00000000 80000000", "00000003 00000000 00000000 80000000", "00000005 00000000 00000000 00000000 00000000 00000001"} {
		d := xdr.NewDecoder(unhex(t, mask+"00000004 00000001"))
		new(Fattr).XDR(d)
		known := mask == "00000002 00000000 80000000"
		if errors.Is(d.Err(), ErrUnknownAttr) == known {
			t.Errorf("mask %s: %v", mask, d.Err())
		}
	}
}

func TestBitmap(t *testing.T) {
	b := Bits(0, 31, 32, 95, 126, 500)
	for _, n := range []uint32{0, 31, 32, 95, 126, 127, 128, 1 << 31} {
		if !b.Has(n) {
			t.Errorf("%d is missing", n)
		}
	}
	if b.Has(1) || b.Has(33) || b.Count() != 6 || b.String() != "{0 31 32 95 126 127}" {
		t.Errorf("%v", b)
	}
	b.Clear(31)
	if b.Has(31) || !b.Has(32) || !b.Contains(Bits(0, 126)) || b.Contains(Bits(0, 31)) {
		t.Errorf("after Clear: %v", b)
	}
	if got := Bits(1, 2).And(Bits(2, 3)); got != Bits(2) {
		t.Error(got)
	}
	if got := Bits(1, 2).Or(Bits(2, 3)).AndNot(Bits(1)); got != Bits(2, 3) {
		t.Error(got)
	}
	if !(Bitmap{}).IsZero() || b.IsZero() {
		t.Error("IsZero")
	}
	if got := encode(t, &Bitmap{}); len(got) != 4 {
		t.Errorf("no bits are encoded as %x", got)
	}
}
