package nfs4

import (
	"fmt"

	"holdfast/internal/xdr"
)

// CBArgs is the request of a callback operation.
type CBArgs interface {
	Op() CBOpNum
	XDR(*xdr.Codec)
}

// CBRes is the answer to a callback operation.
type CBRes interface {
	Op() CBOpNum
	Stat() Status
	SetStat(Status)
	XDR(*xdr.Codec)
}

// NewCBArgs returns an empty request of a callback operation, or nil if there is no such operation.
func NewCBArgs(op CBOpNum) CBArgs {
	if op >= CBOpNum(len(newCBArgs)) || newCBArgs[op] == nil {
		return nil
	}
	return newCBArgs[op]()
}

// NewCBRes returns an empty answer to a callback operation, or nil if there is no such operation.
// It has one for OP_CB_ILLEGAL.
func NewCBRes(op CBOpNum) CBRes {
	if op == OP_CB_ILLEGAL {
		return new(CBIllegalRes)
	}
	if op >= CBOpNum(len(newCBRes)) || newCBRes[op] == nil {
		return nil
	}
	return newCBRes[op]()
}

// CBErrRes returns an answer that says nothing but a status. An unknown operation is answered as
// OP_CB_ILLEGAL.
func CBErrRes(op CBOpNum, s Status) CBRes {
	r := NewCBRes(op)
	if r == nil {
		r = new(CBIllegalRes)
	}
	r.SetStat(s)
	return r
}

// A CBCompoundHeader is what comes before the operations of CB_COMPOUND.
type CBCompoundHeader struct {
	Tag           string
	MinorVersion  uint32
	CallbackIdent uint32 // zero in NFSv4.1
	NumOps        uint32
}

// XDR codes h. A number of operations that the record cannot hold is an error.
func (h *CBCompoundHeader) XDR(c *xdr.Codec) {
	c.String(&h.Tag, maxName)
	c.Uint32(&h.MinorVersion)
	c.Uint32(&h.CallbackIdent)
	numOps(c, &h.NumOps)
}

// DecodeCBArgs is DecodeArgs for CB_COMPOUND.
func DecodeCBArgs(c *xdr.Codec) (op CBOpNum, a CBArgs, err error) {
	op.XDR(c)
	if err := c.Err(); err != nil {
		return 0, nil, err
	}
	if a = NewCBArgs(op); a == nil {
		return op, new(CBIllegalArgs), nil
	}
	a.XDR(c)
	return op, a, c.Err()
}

// EncodeCBRes encodes the number of the operation and its answer, as an element of a CB_COMPOUND result.
func EncodeCBRes(c *xdr.Codec, r CBRes) {
	op := r.Op()
	op.XDR(c)
	r.XDR(c)
}

// EncodeCBCompoundRes encodes a whole CB_COMPOUND result. Its status is that of the last answer, or s
// if there are none.
func EncodeCBCompoundRes(c *xdr.Codec, s Status, tag string, list []CBRes) {
	if len(list) > 0 {
		s = list[len(list)-1].Stat()
	}
	s.XDR(c)
	c.String(&tag, maxName)
	n := uint32(len(list))
	c.Uint32(&n)
	for _, r := range list {
		EncodeCBRes(c, r)
	}
}

// EncodeCBCompound encodes a CB_COMPOUND request.
func EncodeCBCompound(c *xdr.Codec, tag string, minor, ident uint32, ops []CBArgs) {
	h := CBCompoundHeader{Tag: tag, MinorVersion: minor, CallbackIdent: ident, NumOps: uint32(len(ops))}
	h.XDR(c)
	for _, a := range ops {
		op := a.Op()
		op.XDR(c)
		a.XDR(c)
	}
}

// DecodeCBCompoundRes is DecodeCompoundRes for CB_COMPOUND.
func DecodeCBCompoundRes(c *xdr.Codec, ops []CBArgs) (Status, []CBRes, error) {
	s, n, err := resHeader(c, len(ops))
	if err != nil {
		return 0, nil, err
	}
	list := make([]CBRes, 0, n)
	for i := range n {
		var op CBOpNum
		op.XDR(c)
		if op != ops[i].Op() && op != OP_CB_ILLEGAL && c.Err() == nil {
			return 0, nil, fmt.Errorf("nfs4: answer %d is to %v, not to %v", i, op, ops[i].Op())
		}
		r := NewCBRes(op)
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
