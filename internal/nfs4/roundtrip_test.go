package nfs4

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"

	"holdfast/internal/xdr"
)

func decode(t *testing.T, b []byte, x coder) {
	t.Helper()
	d := xdr.NewDecoder(b)
	x.XDR(d)
	if d.Err() != nil || d.Len() != 0 {
		t.Fatalf("%T: %v, %d of %d bytes left", x, d.Err(), d.Len(), len(b))
	}
}

func encode(t *testing.T, x coder) []byte {
	t.Helper()
	e := xdr.NewEncoder(nil)
	x.XDR(e)
	if e.Err() != nil {
		t.Fatalf("%T: %v", x, e.Err())
	}
	return e.Bytes()
}

func fresh(x coder) coder { return reflect.New(reflect.TypeOf(x).Elem()).Interface().(coder) }

// unset collects the fields of v that are zero, by path; those already known to have been set are not.
func unset(v reflect.Value, path string, was map[string]bool) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				unset(v.Field(i), path+"."+f.Name, was)
			}
		}
	case reflect.Pointer:
		if _, known := was[path]; !known {
			was[path] = false
		}
		if !v.IsNil() {
			was[path] = true
			unset(v.Elem(), path, was)
		}
	case reflect.Slice:
		if _, known := was[path]; !known {
			was[path] = false
		}
		if v.Len() > 0 {
			was[path] = true
			if v.Type().Elem().Kind() == reflect.Struct {
				for i := range v.Len() {
					unset(v.Index(i), path+"[]", was)
				}
			}
		}
	default:
		was[path] = was[path] || !v.IsZero()
	}
}

// TestRoundTrip: what is encoded is decoded, in every arm, and no field is forgotten.
func TestRoundTrip(t *testing.T) {
	for _, x := range allTypes() {
		r := rand.New(rand.NewPCG(1, 2))
		was := map[string]bool{}
		for range 400 {
			b := random(r, x)
			y, z := fresh(x), fresh(x)
			decode(t, b, y)
			again := encode(t, y)
			if !bytes.Equal(b, again) {
				t.Fatalf("%T: %x became %x", x, b, again)
			}
			decode(t, again, z)
			if !reflect.DeepEqual(y, z) {
				t.Fatalf("%T: %+v became %+v", x, y, z)
			}
			unset(reflect.ValueOf(y).Elem(), "", was)
			if len(b)%4 != 0 {
				t.Fatalf("%T is encoded in %d bytes", x, len(b))
			}
		}
		for path, ok := range was {
			if !ok {
				t.Errorf("%T%s was never transported", x, path)
			}
		}
	}
}

// TestShortRecords: a record cut anywhere is refused.
func TestShortRecords(t *testing.T) {
	for _, x := range allTypes() {
		b := random(rand.New(rand.NewPCG(3, 4)), x)
		for n := range len(b) {
			d := xdr.NewDecoder(b[:n])
			fresh(x).XDR(d)
			if d.Err() == nil {
				t.Errorf("%T was decoded from %d of %d bytes", x, n, len(b))
				break
			}
		}
	}
}

func TestFactoriesAgree(t *testing.T) {
	for op := OpNum(0); op < 80; op++ {
		a, r := NewArgs(op), NewRes(op)
		_, named := opNames[op]
		if (a != nil) != named || (r != nil) != named {
			t.Errorf("%d: named %v, arguments %v, result %v", op, named, a != nil, r != nil)
			continue
		}
		if named && (op < 3 || op > 75 || a.Op() != op || r.Op() != op) {
			t.Errorf("%v: arguments are of %v, result is of %v", op, a.Op(), r.Op())
		}
	}
	for op := CBOpNum(0); op < 20; op++ {
		a, r := NewCBArgs(op), NewCBRes(op)
		_, named := cbOpNames[op]
		if (a != nil) != named || (r != nil) != named {
			t.Errorf("%d: named %v, arguments %v, result %v", op, named, a != nil, r != nil)
			continue
		}
		if named && (a.Op() != op || r.Op() != op) {
			t.Errorf("%v: arguments are of %v, result is of %v", op, a.Op(), r.Op())
		}
	}
	if NewArgs(OP_ILLEGAL) != nil || NewRes(OP_ILLEGAL).Op() != OP_ILLEGAL || NewCBRes(OP_CB_ILLEGAL).Op() != OP_CB_ILLEGAL {
		t.Error("OP_ILLEGAL can be asked for, or cannot be answered")
	}
	if len(opNames) != 74 || len(statusNames) != 113 {
		t.Errorf("%d operations and %d statuses have names", len(opNames), len(statusNames))
	}
}

// TestErrRes: every operation can be answered with every status.
func TestErrRes(t *testing.T) {
	for op := range opNames {
		for s := range statusNames {
			if s == NFS4_OK {
				continue
			}
			r := ErrRes(op, s)
			back := NewRes(op)
			decode(t, encode(t, r), back)
			if back.Op() != op || back.Stat() != s {
				t.Errorf("%v %v came back as %v %v", op, s, back.Op(), back.Stat())
			}
		}
	}
	for op := range cbOpNames {
		r := CBErrRes(op, NFS4ERR_BADSESSION)
		back := NewCBRes(op)
		decode(t, encode(t, r), back)
		if back.Op() != op || back.Stat() != NFS4ERR_BADSESSION {
			t.Errorf("%v came back as %v %v", op, back.Op(), back.Stat())
		}
	}
	if r := ErrRes(9999, NFS4ERR_OP_ILLEGAL); r.Op() != OP_ILLEGAL || r.Stat() != NFS4ERR_OP_ILLEGAL {
		t.Errorf("an unknown operation is answered as %v %v", r.Op(), r.Stat())
	}
}

func TestNames(t *testing.T) {
	if s := OP_EXCHANGE_ID.String(); s != "EXCHANGE_ID" {
		t.Error(s)
	}
	if s := OP_CB_RECALL.String(); s != "CB_RECALL" {
		t.Error(s)
	}
	if s := NFS4ERR_NO_GRACE.String(); s != "NFS4ERR_NO_GRACE" {
		t.Error(s)
	}
	if s := Status(12345).String() + OpNum(99).String() + CBOpNum(99).String(); s != "nfsstat4(12345)op(99)cb_op(99)" {
		t.Error(s)
	}
}
