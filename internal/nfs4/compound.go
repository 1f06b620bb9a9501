package nfs4

import (
	"fmt"

	"holdfast/internal/xdr"
)

// Args is the request of an operation.
type Args interface {
	Op() OpNum
	XDR(*xdr.Codec)
}

// Res is the answer to an operation.
type Res interface {
	Op() OpNum
	Stat() Status
	SetStat(Status)
	XDR(*xdr.Codec)
}

// NewArgs returns an empty request of an operation, or nil if there is no such operation.
// OP_ILLEGAL is none that can be asked for.
func NewArgs(op OpNum) Args {
	if op >= OpNum(len(newArgs)) || newArgs[op] == nil {
		return nil
	}
	return newArgs[op]()
}

// NewRes returns an empty answer to an operation, or nil if there is no such operation.
// It has one for OP_ILLEGAL.
func NewRes(op OpNum) Res {
	if op == OP_ILLEGAL {
		return new(IllegalRes)
	}
	if op >= OpNum(len(newRes)) || newRes[op] == nil {
		return nil
	}
	return newRes[op]()
}

// ErrRes returns an answer that says nothing but a status. Where the status has an arm of its own, it is
// filled as harmlessly as possible. An unknown operation is answered as OP_ILLEGAL.
func ErrRes(op OpNum, s Status) Res {
	r := NewRes(op)
	if r == nil {
		r = new(IllegalRes)
	}
	r.SetStat(s)
	switch r := r.(type) {
	case *LockRes:
		r.Denied = LockDenied{Length: MaxFileLen, LockType: WRITE_LT}
	case *LocktRes:
		r.Denied = LockDenied{Length: MaxFileLen, LockType: WRITE_LT}
	case *OpenRes:
		r.Delegation = OpenDelegation{}
	}
	return r
}

// A CompoundHeader is what comes before the operations of COMPOUND.
type CompoundHeader struct {
	Tag          string
	MinorVersion uint32
	NumOps       uint32
}

// XDR codes h. A number of operations that the record cannot hold is an error.
func (h *CompoundHeader) XDR(c *xdr.Codec) {
	c.String(&h.Tag, maxName)
	c.Uint32(&h.MinorVersion)
	numOps(c, &h.NumOps)
}

func numOps(c *xdr.Codec, n *uint32) {
	c.Uint32(n)
	if c.Decoding() && uint64(*n)*4 > uint64(c.Len()) {
		c.Failf("%d operations in %d bytes", *n, c.Len())
	}
}

// DecodeArgs decodes the number and the arguments of the next operation of a COMPOUND. An unknown
// operation gives IllegalArgs: nothing after it can be decoded. The error is that of c: with
// [ErrUnknownAttr] it is NFS4ERR_ATTRNOTSUPP, else NFS4ERR_BADXDR, and op is valid if it could be read.
func DecodeArgs(c *xdr.Codec) (op OpNum, a Args, err error) {
	op.XDR(c)
	if err := c.Err(); err != nil {
		return 0, nil, err
	}
	if a = NewArgs(op); a == nil {
		return op, new(IllegalArgs), nil
	}
	a.XDR(c)
	return op, a, c.Err()
}

// EncodeRes encodes the number of the operation and its answer, as an element of a COMPOUND result.
func EncodeRes(c *xdr.Codec, r Res) {
	op := r.Op()
	op.XDR(c)
	r.XDR(c)
}

// EncodeCompoundRes encodes a whole COMPOUND result. Its status is that of the last answer, or s if
// there are none.
func EncodeCompoundRes(c *xdr.Codec, s Status, tag string, list []Res) {
	if len(list) > 0 {
		s = list[len(list)-1].Stat()
	}
	s.XDR(c)
	c.String(&tag, maxName)
	n := uint32(len(list))
	c.Uint32(&n)
	for _, r := range list {
		EncodeRes(c, r)
	}
}

// EncodeCompound encodes a COMPOUND request.
func EncodeCompound(c *xdr.Codec, tag string, minor uint32, ops []Args) {
	h := CompoundHeader{Tag: tag, MinorVersion: minor, NumOps: uint32(len(ops))}
	h.XDR(c)
	for _, a := range ops {
		op := a.Op()
		op.XDR(c)
		a.XDR(c)
	}
}

// DecodeCompoundRes decodes the result of a COMPOUND that asked for ops: its status, and as many
// answers as there are. There are fewer than ops only if the status is not NFS4_OK. An operation that
// the server does not know is answered, at its place, by an IllegalRes. The error says that the
// answer is not one to this request; the status is then meaningless.
//
// Data and other byte slices in the answers alias the record.
func DecodeCompoundRes(c *xdr.Codec, ops []Args) (Status, []Res, error) {
	s, n, err := resHeader(c, len(ops))
	if err != nil {
		return 0, nil, err
	}
	list := make([]Res, 0, n)
	for i := range n {
		var op OpNum
		op.XDR(c)
		if op != ops[i].Op() && op != OP_ILLEGAL && c.Err() == nil {
			return 0, nil, fmt.Errorf("nfs4: answer %d is to %v, not to %v", i, op, ops[i].Op())
		}
		r := NewRes(op)
		if r == nil {
			return 0, nil, resErr(c, i, ops[i].Op())
		}
		r.XDR(c)
		if c.Err() != nil {
			return 0, nil, resErr(c, i, ops[i].Op())
		}
		if r.Stat() != NFS4_OK && (i != n-1 || s == NFS4_OK) {
			return 0, nil, fmt.Errorf("nfs4: answer %d of %d to %v is %v in a compound that is %v", i, n, op, r.Stat(), s)
		}
		list = append(list, r)
	}
	return s, list, nil
}

func resErr(c *xdr.Codec, i int, op fmt.Stringer) error {
	return fmt.Errorf("nfs4: answer %d, to %v: %w", i, op, c.Err())
}

// resHeader decodes what comes before the answers, for at most asked of them.
func resHeader(c *xdr.Codec, asked int) (Status, int, error) {
	var s Status
	var tag string
	var n uint32
	s.XDR(c)
	c.String(&tag, maxName)
	numOps(c, &n)
	switch {
	case c.Err() != nil:
		return 0, 0, fmt.Errorf("nfs4: compound result: %w", c.Err())
	case uint64(n) > uint64(asked):
		return 0, 0, fmt.Errorf("nfs4: %d answers to %d operations", n, asked)
	case s == NFS4_OK && int(n) < asked:
		return 0, 0, fmt.Errorf("nfs4: only %d answers to %d operations, without an error", n, asked)
	}
	return s, int(n), nil
}
