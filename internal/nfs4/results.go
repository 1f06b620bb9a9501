package nfs4

import "holdfast/internal/xdr"

// The results that have more arms than success, or fields in every arm.

// A LockRes is the answer to LOCK: LockStateid counts for NFS4_OK, Denied for NFS4ERR_DENIED.
type LockRes struct {
	Status      Status
	LockStateid Stateid
	Denied      LockDenied
}

// XDR codes x.
func (x *LockRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	switch x.Status {
	case NFS4_OK:
		x.LockStateid.XDR(c)
	case NFS4ERR_DENIED:
		x.Denied.XDR(c)
	}
}

// A LocktRes is the answer to LOCKT: Denied counts for NFS4ERR_DENIED.
type LocktRes struct {
	Status Status
	Denied LockDenied
}

// XDR codes x.
func (x *LocktRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status == NFS4ERR_DENIED {
		x.Denied.XDR(c)
	}
}

// A SetattrRes is the answer to SETATTR: AttrsSet is there whatever the status, RFC 8881 section 18.30.3.
type SetattrRes struct {
	Status   Status
	AttrsSet Bitmap
}

// XDR codes x.
func (x *SetattrRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	x.AttrsSet.XDR(c)
}

// A SetclientidRes is the answer to SETCLIENTID: ClientID and Confirm count for NFS4_OK, ClientUsing
// for NFS4ERR_CLID_INUSE.
type SetclientidRes struct {
	Status      Status
	ClientID    uint64
	Confirm     Verifier
	ClientUsing NetAddr
}

// XDR codes x.
func (x *SetclientidRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	switch x.Status {
	case NFS4_OK:
		c.Uint64(&x.ClientID)
		x.Confirm.XDR(c)
	case NFS4ERR_CLID_INUSE:
		x.ClientUsing.XDR(c)
	}
}

// Values of GetDirDelegationRes.NonFatal.
const (
	GDD4_OK      = 0
	GDD4_UNAVAIL = 1
)

// A GetDirDelegationRes is the answer to GET_DIR_DELEGATION. With NFS4_OK and GDD4_UNAVAIL, WillSignal
// counts; with NFS4_OK and GDD4_OK the rest.
type GetDirDelegationRes struct {
	Status       Status
	NonFatal     uint32
	CookieVerf   Verifier
	Stateid      Stateid
	Notification Bitmap
	ChildAttrs   Bitmap
	DirAttrs     Bitmap
	WillSignal   bool
}

// XDR codes x.
func (x *GetDirDelegationRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	enum(c, &x.NonFatal, 0, 1, "gddrnf4_status")
	if x.NonFatal == GDD4_UNAVAIL {
		c.Bool(&x.WillSignal)
		return
	}
	x.CookieVerf.XDR(c)
	x.Stateid.XDR(c)
	x.Notification.XDR(c)
	x.ChildAttrs.XDR(c)
	x.DirAttrs.XDR(c)
}

// A GetdeviceinfoRes is the answer to GETDEVICEINFO: MinCount counts for NFS4ERR_TOOSMALL.
type GetdeviceinfoRes struct {
	Status       Status
	Addr         TypedBody
	Notification Bitmap
	MinCount     uint32
}

// XDR codes x.
func (x *GetdeviceinfoRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	switch x.Status {
	case NFS4_OK:
		x.Addr.XDR(c)
		x.Notification.XDR(c)
	case NFS4ERR_TOOSMALL:
		c.Uint32(&x.MinCount)
	}
}

// A LayoutgetRes is the answer to LAYOUTGET: WillSignal counts for NFS4ERR_LAYOUTTRYLATER.
type LayoutgetRes struct {
	Status        Status
	ReturnOnClose bool
	Stateid       Stateid
	Layouts       []Layout
	WillSignal    bool
}

// XDR codes x.
func (x *LayoutgetRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	switch x.Status {
	case NFS4_OK:
		c.Bool(&x.ReturnOnClose)
		x.Stateid.XDR(c)
		xdr.List(c, &x.Layouts, maxItems)
	case NFS4ERR_LAYOUTTRYLATER:
		c.Bool(&x.WillSignal)
	}
}

// A CopyRes is the answer to COPY: Response counts for NFS4_OK, Consecutive and Synchronous for that
// and for NFS4ERR_OFFLOAD_NO_REQS.
type CopyRes struct {
	Status      Status
	Response    WriteResponse
	Consecutive bool
	Synchronous bool
}

// XDR codes x.
func (x *CopyRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	switch x.Status {
	case NFS4_OK:
		x.Response.XDR(c)
	case NFS4ERR_OFFLOAD_NO_REQS:
	default:
		return
	}
	c.Bool(&x.Consecutive)
	c.Bool(&x.Synchronous)
}
