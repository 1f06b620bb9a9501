package nfs4

import (
	"math/rand/v2"
	"reflect"

	"holdfast/internal/xdr"
)

// coder is a type of the protocol.
type coder interface{ XDR(*xdr.Codec) }

// knownAttrs are the attributes that have a layout.
var knownAttrs = func() (b Bitmap) {
	for n := range uint32(unknownBit) {
		var f Fattr
		e := xdr.NewEncoder(nil)
		f.value(e, n)
		if e.Err() == nil {
			b.Set(n)
		}
	}
	return b
}()

// armStatuses are the statuses that have an arm of their own somewhere.
var armStatuses = []Status{NFS4_OK, NFS4_OK, NFS4_OK, NFS4ERR_DENIED, NFS4ERR_CLID_INUSE, NFS4ERR_TOOSMALL,
	NFS4ERR_LAYOUTTRYLATER, NFS4ERR_OFFLOAD_NO_REQS, NFS4ERR_DELAY}

func randBytes(r *rand.Rand, max int) []byte {
	b := make([]byte, r.IntN(max+1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// fill sets everything in v to random values, of which enough are valid.
func fill(r *rand.Rand, v reflect.Value) {
	switch p := v.Addr().Interface().(type) {
	case *Status:
		*p = armStatuses[r.IntN(len(armStatuses))]
		return
	case *LockType:
		*p = LockType(1 + r.IntN(4))
		return
	case *StableHow:
		*p = StableHow(r.IntN(3))
		return
	case *Bitmap:
		for range r.IntN(4) {
			p.Set(r.Uint32N(130))
		}
		return
	case *Fattr:
		for i := range v.NumField() {
			fill(r, v.Field(i))
		}
		p.Mask = Bitmap{}
		for n := range knownAttrs.All {
			if r.IntN(4) == 0 {
				p.Mask.Set(n)
			}
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(r, v.Field(i))
			}
		}
		narrow(r, v.Addr().Interface())
	case reflect.Array:
		for i := range v.Len() {
			fill(r, v.Index(i))
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(randBytes(r, 40))
			return
		}
		n := r.IntN(4)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(r, v.Index(i))
		}
	case reflect.Pointer:
		if r.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(r, v.Elem())
		}
	case reflect.String:
		v.SetString(string(randBytes(r, 20)))
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Uint32, reflect.Uint64, reflect.Uint8:
		if r.IntN(2) == 0 {
			v.SetUint(uint64(r.IntN(8)))
		} else {
			v.SetUint(r.Uint64() >> (64 - v.Type().Bits()))
		}
	case reflect.Int32, reflect.Int64:
		v.SetInt(int64(r.Uint64()) >> (64 - v.Type().Bits()))
	default:
		panic("no filler for " + v.Type().String())
	}
}

// narrow makes rare arms of unions less so.
func narrow(r *rand.Rand, x any) {
	switch x := x.(type) {
	case *SecinfoEntry:
		x.Flavor, x.Service = []uint32{AUTH_NONE, AUTH_SYS, RPCSEC_GSS}[r.IntN(3)], 1+r.Uint32N(3)
	case *OpenDelegation:
		x.Type, x.SpaceLimit.By = r.Uint32N(4), 1+r.Uint32N(2)
	case *SetTime:
		x.How = r.Uint32N(2)
	case *OpenHow:
		x.Type, x.Mode = r.Uint32N(2), r.Uint32N(4)
	case *OpenClaim:
		x.Type, x.DelegateType = r.Uint32N(7), r.Uint32N(4)
	}
}

// random fills x until it can be encoded, and returns the encoding.
func random(r *rand.Rand, x coder) []byte {
	for range 100000 {
		v := reflect.ValueOf(x).Elem()
		v.SetZero()
		fill(r, v)
		e := xdr.NewEncoder(nil)
		x.XDR(e)
		if e.Err() == nil {
			return e.Bytes()
		}
	}
	panic("no valid value of " + reflect.TypeOf(x).String())
}

// allTypes returns an empty value of each request and answer.
func allTypes() []coder {
	var list []coder
	for op := range OpNum(len(newArgs)) {
		if a := NewArgs(op); a != nil {
			list = append(list, a, NewRes(op))
		}
	}
	for op := range CBOpNum(len(newCBArgs)) {
		if a := NewCBArgs(op); a != nil {
			list = append(list, a, NewCBRes(op))
		}
	}
	return append(list, new(IllegalRes), new(CBIllegalRes), new(Fattr), new(DirEntry))
}
