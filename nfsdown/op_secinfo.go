package nfsdown

import (
	"context"
	"encoding/binary"

	"holdfast/internal/nfs4"
)

// flavors is what is served at a ref: users by AUTH_SYS, and AUTH_NONE as the anonymous user.
func (r *ref) flavors() []nfs4.SecinfoEntry {
	var out []nfs4.SecinfoEntry
	if !r.acc.NoSys {
		out = append(out, nfs4.SecinfoEntry{Flavor: nfs4.AUTH_SYS})
	}
	if !r.acc.NoNone {
		out = append(out, nfs4.SecinfoEntry{Flavor: nfs4.AUTH_NONE})
	}
	return out
}

// negotiates tells whether an operation does not need the right flavour at the current file: it asks for the
// flavours, or leaves for another file whose flavours count (RFC 8881 2.6.3.1.1).
func negotiates(op nfs4.OpNum) bool {
	switch op {
	case nfs4.OP_SECINFO, nfs4.OP_SECINFO_NO_NAME, nfs4.OP_LOOKUP, nfs4.OP_LOOKUPP, nfs4.OP_PUTFH, nfs4.OP_PUTROOTFH,
		nfs4.OP_PUTPUBFH, nfs4.OP_RESTOREFH, nfs4.OP_SAVEFH:
		return true
	}
	return false
}

// wrongSec tells whether an operation that made a file current is to fail because the file's export does not take
// the flavour of the request. One that puts a handle does not if what follows negotiates, or opens by name, which
// can say so itself (RFC 8881 2.6.3.1.1).
func (c *compound) wrongSec(op nfs4.OpNum) bool {
	if !c.cur.wrongSec {
		return false
	}
	switch op {
	case nfs4.OP_LOOKUP, nfs4.OP_LOOKUPP:
		return true
	case nfs4.OP_PUTFH, nfs4.OP_PUTROOTFH, nfs4.OP_PUTPUBFH, nfs4.OP_RESTOREFH:
		rest := c.call.Body.Rest()
		if c.last || len(rest) < 4 {
			return false
		}
		next := nfs4.OpNum(binary.BigEndian.Uint32(rest))
		return !negotiates(next) && next != nfs4.OP_OPEN
	}
	return false
}

// opSecinfo tells the security flavours of an entry, and consumes the current handle: RFC 8881 18.29.
func opSecinfo(ctx context.Context, c *compound, a *nfs4.SecinfoArgs) (*nfs4.SecinfoRes, error) {
	if err := checkName(a.Name); err != nil {
		return nil, err
	}
	r, _, err := c.lookup(ctx, &c.cur, a.Name)
	if err != nil {
		return nil, err
	}
	if c.minor > 0 {
		c.set(ref{}) // in 4.0 it stays: RFC 7530 16.31
	}
	return &nfs4.SecinfoRes{Flavors: r.flavors()}, nil
}

// opSecinfoNoName is the same for the current directory or its parent: RFC 8881 18.45.
func opSecinfoNoName(ctx context.Context, c *compound, a *nfs4.SecinfoNoNameArgs) (*nfs4.SecinfoNoNameRes, error) {
	at := c.cur
	switch a.Style {
	case nfs4.SECINFO_STYLE4_CURRENT_FH:
		if _, err := c.cur.b.GetAttr(ctx, c.cur.cred, c.cur.h); err != nil {
			return nil, err
		}
	case nfs4.SECINFO_STYLE4_PARENT:
		var err error
		if at, err = c.parent(ctx, &c.cur); err != nil {
			return nil, err
		}
	default:
		return nil, nfs4.NFS4ERR_INVAL
	}
	c.set(ref{})
	return &nfs4.SecinfoNoNameRes{Flavors: at.flavors()}, nil
}
