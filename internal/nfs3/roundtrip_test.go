package nfs3

import (
	"bytes"
	"reflect"
	"runtime"
	"testing"

	"holdfast/internal/xdr"
)

func p[T any](v T) *T { return &v }

// samples are values of the types, each arm of each union in one of them.
func samples() []Args {
	at := &Fattr{Type: 1, Mode: 0o644, Nlink: 1, UID: 2, GID: 3, Size: 4, Used: 5, Rdev: Spec{6, 7}, FSID: 8, FileID: 9, Atime: Time{1, 2}, Mtime: Time{3, 4}, Ctime: Time{5, 6}}
	wcc := Wcc{Before: &PreAttr{Size: 1, Mtime: Time{1, 2}, Ctime: Time{3, 4}}, After: at}
	where := Dirop{Dir: "dir-handle", Name: "caf\xe9"}
	sattr := Sattr{Mode: p(uint32(0o600)), UID: p(uint32(1)), Size: p(uint64(7)), Atime: SetTime{How: SetToServerTime}, Mtime: SetTime{How: SetToClientTime, Time: Time{9, 9}}}
	return []Args{
		&FHArgs{FH: "h"}, &GetattrRes{Attr: *at}, &GetattrRes{Status: ErrStale},
		&SetattrArgs{FH: "h", Attr: sattr, Guard: &Time{1, 2}}, &SetattrArgs{FH: "h"}, &WccRes{Wcc: wcc}, &WccRes{Status: ErrNotSync},
		&DiropArgs{What: where}, &LookupRes{FH: "f", Attr: at, DirAttr: at}, &LookupRes{Status: ErrNoEnt, DirAttr: at},
		&AccessArgs{FH: "h", Access: 0x3f}, &AccessRes{Attr: at, Access: 3}, &AccessRes{Status: ErrStale},
		&ReadlinkRes{Attr: at, Target: "to/caf\xe9"}, &ReadlinkRes{Status: ErrInval},
		&ReadArgs{FH: "h", Offset: 1, Count: 2}, &ReadRes{Attr: at, EOF: true, Data: []byte("abcde")}, &ReadRes{Status: ErrIO},
		&WriteArgs{FH: "h", Offset: 1, Count: 3, Stable: 2, Data: []byte("xyz")}, &WriteRes{Wcc: wcc, Count: 3, Committed: 1, Verf: Verf{1}}, &WriteRes{Status: ErrNoSpc},
		&CreateArgs{Where: where, Mode: Guarded, Attr: sattr}, &CreateArgs{Where: where, Mode: Exclusive, Verf: Verf{7}},
		&CreateRes{FH: p(FH("n")), Attr: at, Wcc: wcc}, &CreateRes{Status: ErrExist, Wcc: wcc},
		&MkdirArgs{Where: where, Attr: sattr}, &SymlinkArgs{Where: where, Attr: sattr, Target: "t"},
		&MknodArgs{Where: where, Type: TypeChr, Attr: sattr, Dev: Spec{1, 3}}, &MknodArgs{Where: where, Type: TypeFifo, Attr: sattr}, &MknodArgs{Where: where, Type: TypeReg},
		&RenameArgs{From: where, To: where}, &RenameRes{From: wcc, To: wcc}, &LinkArgs{File: "f", Link: where}, &LinkRes{Attr: at, Wcc: wcc},
		&ReaddirArgs{Dir: "d", Cookie: 5, Verf: Verf{1}, Count: 512}, &ReaddirplusArgs{Dir: "d", Cookie: 5, DirCount: 1, MaxCount: 2},
		&ReaddirRes{Attr: at, Entries: []Entry{{FileID: 1, Name: "a", Cookie: 3}, {FileID: 2, Name: "b", Cookie: 4}}, EOF: true}, &ReaddirRes{Status: ErrBadCookie},
		&ReaddirRes{Plus: true, Attr: at, Entries: []Entry{{FileID: 1, Name: "a", Cookie: 3, Attr: at, FH: p(FH("x"))}, {Name: "b"}}},
		&FsstatRes{Attr: at, Tbytes: 1, Afiles: 6, Invarsec: 7}, &FsinfoRes{Attr: at, Rtmax: 1, Dtpref: 7, MaxFileSize: 8, TimeDelta: Time{0, 1}, Properties: 0x1b},
		&PathconfRes{Attr: at, LinkMax: 1, NameMax: 255, NoTrunc: true, CasePreserving: true}, &CommitArgs{FH: "h", Offset: 1, Count: 2}, &CommitRes{Wcc: wcc, Verf: Verf{3}},
		&PathArgs{Path: "/data"}, &MntRes{FH: "root", Flavors: []uint32{1}}, &MntRes{Status: ErrAcces}, &MntRes{V1: true, FH: string(make([]byte, FHSize2))},
		&DumpRes{List: []MountEntry{{"h", "/p"}}}, &ExportRes{List: []ExportEntry{{Path: "/a"}, {Path: "/b", Groups: []string{"10.0.0.0/8", "x"}}}},
	}
}

// fresh is an empty value of the same kind as v.
func fresh(v Args) Args {
	n := reflect.New(reflect.TypeOf(v).Elem()).Interface().(Args)
	switch v := v.(type) {
	case *ReaddirRes:
		n.(*ReaddirRes).Plus = v.Plus
	case *MntRes:
		n.(*MntRes).V1 = v.V1
	}
	return n
}

func TestRoundTrip(t *testing.T) {
	for _, v := range samples() {
		e := xdr.NewEncoder(nil)
		v.XDR(e)
		if e.Err() != nil || e.Len()%4 != 0 {
			t.Errorf("%T: %d bytes, %v", v, e.Len(), e.Err())
			continue
		}
		d := xdr.NewDecoder(e.Bytes())
		got := fresh(v)
		if got.XDR(d); d.Err() != nil || d.Len() != 0 || !reflect.DeepEqual(got, v) {
			t.Errorf("%T: %+v became %+v, %v, %d bytes left", v, v, got, d.Err(), d.Len())
		}
		for n := 0; n < e.Len(); n += 4 { // cut anywhere it is an error, and no panic
			d := xdr.NewDecoder(e.Bytes()[:n])
			if got := fresh(v); true {
				if got.XDR(d); d.Err() == nil {
					t.Errorf("%T: %d of %d bytes decode as %+v", v, n, e.Len(), got)
				}
			}
		}
	}
}

// The bytes of a LOOKUP and of its answer, put together by hand after RFC 1813 3.3.3.
func TestVectors(t *testing.T) {
	e := xdr.NewEncoder(nil)
	(&DiropArgs{What: Dirop{Dir: "\x01\x02\x03", Name: "ab"}}).XDR(e)
	if want := []byte{0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 0, 2, 'a', 'b', 0, 0}; !bytes.Equal(e.Bytes(), want) {
		t.Errorf("LOOKUP is %x, want %x", e.Bytes(), want)
	}
	e = xdr.NewEncoder(nil)
	(&LookupRes{FH: "\x09"}).XDR(e)
	if want := []byte{0, 0, 0, 0, 0, 0, 0, 1, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}; !bytes.Equal(e.Bytes(), want) {
		t.Errorf("its answer is %x, want %x", e.Bytes(), want)
	}
}

func FuzzDecode(f *testing.F) {
	list := samples()
	for i, v := range list {
		e := xdr.NewEncoder(nil)
		v.XDR(e)
		f.Add(uint8(i), e.Bytes())
	}
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		kind := list[int(which)%len(list)]
		v := fresh(kind)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		d := xdr.NewDecoder(b)
		v.XDR(d)
		runtime.ReadMemStats(&after)
		if got, most := after.TotalAlloc-before.TotalAlloc, uint64(256*len(b)+256<<10); got > most {
			t.Fatalf("%d bytes of input made %d bytes of garbage", len(b), got)
		}
		if d.Err() != nil {
			return
		}
		e := xdr.NewEncoder(nil)
		if v.XDR(e); e.Err() != nil {
			t.Fatal(e.Err())
		}
		again, d2 := fresh(kind), xdr.NewDecoder(e.Bytes())
		if again.XDR(d2); d2.Err() != nil || !reflect.DeepEqual(v, again) {
			t.Fatalf("%+v became %+v, %v", v, again, d2.Err())
		}
	})
}
