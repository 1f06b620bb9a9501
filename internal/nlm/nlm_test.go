package nlm

import (
	"bytes"
	"reflect"
	"testing"

	"holdfast/internal/xdr"
)

type coder interface{ XDR(*xdr.Codec) }

func samples() []coder {
	var out []coder
	for _, v4 := range []bool{false, true} {
		l := Lock{V4: v4, Caller: "h\xf6st", FH: "fh", OH: "1@h", SVID: -7, Offset: 5, Len: 6}
		if v4 {
			l.Offset = 1 << 40
		}
		out = append(out, &LockArgs{Cookie: "c", Block: true, Exclusive: true, Lock: l, Reclaim: true, State: 9}, &CancelArgs{Cookie: "c", Lock: l},
			&TestArgs{Exclusive: true, Lock: l}, &UnlockArgs{Cookie: "c", Lock: l}, &TestRes{V4: v4, Stat: Denied, Exclusive: true, SVID: 3, OH: "x", Offset: 1, Len: 2}, &TestRes{V4: v4})
	}
	return append(out, &Res{Cookie: "c", Stat: Blocked}, &ShareArgs{Caller: "h", FH: "f", OH: "o", Mode: 3, Access: 1, Reclaim: true},
		&ShareRes{Stat: Denied, Sequence: 4}, &Notify{Name: "h", State: 5}, &SMRes{Res: 1, State: 3})
}

// fresh is an empty value of the same kind as v.
func fresh(v coder) coder {
	n := reflect.New(reflect.TypeOf(v).Elem())
	if l := n.Elem().FieldByName("Lock"); l.IsValid() {
		l.FieldByName("V4").SetBool(reflect.ValueOf(v).Elem().FieldByName("Lock").FieldByName("V4").Bool())
	}
	if f := n.Elem().FieldByName("V4"); f.IsValid() {
		f.SetBool(reflect.ValueOf(v).Elem().FieldByName("V4").Bool())
	}
	return n.Interface().(coder)
}

func TestRoundTrip(t *testing.T) {
	for _, v := range samples() {
		e := xdr.NewEncoder(nil)
		v.XDR(e)
		d, got := xdr.NewDecoder(e.Bytes()), fresh(v)
		if got.XDR(d); e.Err() != nil || d.Err() != nil || d.Len() != 0 || !reflect.DeepEqual(got, v) {
			t.Errorf("%T: %+v became %+v, %v, %d bytes left", v, v, got, d.Err(), d.Len())
		}
		for n := 0; n < e.Len(); n += 4 {
			d := xdr.NewDecoder(e.Bytes()[:n])
			if fresh(v).XDR(d); d.Err() == nil {
				t.Errorf("%T: %d of %d bytes decode", v, n, e.Len())
			}
		}
	}
}

// An UNLOCK of version 4 and of version 1, put together by hand.
func TestVectors(t *testing.T) {
	for _, c := range []struct {
		v4   bool
		want []byte
	}{
		{true, []byte{0, 0, 0, 0, 0, 0, 0, 1, 'h', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4}},
		{false, []byte{0, 0, 0, 0, 0, 0, 0, 1, 'h', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4}},
	} {
		e := xdr.NewEncoder(nil)
		(&UnlockArgs{Lock: Lock{V4: c.v4, Caller: "h", SVID: 2, Offset: 3, Len: 4}}).XDR(e)
		if !bytes.Equal(e.Bytes(), c.want) {
			t.Errorf("v4 %v: %x, want %x", c.v4, e.Bytes(), c.want)
		}
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
		v, d := fresh(kind), xdr.NewDecoder(b)
		if v.XDR(d); d.Err() != nil {
			return
		}
		e := xdr.NewEncoder(nil)
		v.XDR(e)
		first := append([]byte(nil), e.Bytes()...)
		again, d2 := fresh(kind), xdr.NewDecoder(first)
		again.XDR(d2)
		e2 := xdr.NewEncoder(nil)
		if again.XDR(e2); d2.Err() != nil || !bytes.Equal(first, e2.Bytes()) {
			t.Fatalf("%+v became %+v, %v", v, again, d2.Err())
		}
	})
}
