package nfs4

import "holdfast/internal/xdr"

// The operations that NFSv4.0 already had, in the order of their numbers. Those with a sequence number
// or a client ID in their arguments keep it on the wire in NFSv4.1, where it is ignored or zero.

// AccessArgs is the request of ACCESS, RFC 8881 section 18.1.
type AccessArgs struct {
	Access uint32
}

// Op returns OP_ACCESS.
func (*AccessArgs) Op() OpNum { return OP_ACCESS }

// XDR codes x.
func (x *AccessArgs) XDR(c *xdr.Codec) {
	c.Uint32(&x.Access)
}

// AccessRes is the answer to ACCESS. The fields after Status are there when it is NFS4_OK.
type AccessRes struct {
	Status    Status
	Supported uint32
	Access    uint32
}

// Op returns OP_ACCESS.
func (*AccessRes) Op() OpNum { return OP_ACCESS }

// Stat returns the status.
func (x *AccessRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *AccessRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *AccessRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	c.Uint32(&x.Supported)
	c.Uint32(&x.Access)
}

// CloseArgs is the request of CLOSE, RFC 8881 section 18.2.
type CloseArgs struct {
	Seqid       uint32
	OpenStateid Stateid
}

// Op returns OP_CLOSE.
func (*CloseArgs) Op() OpNum { return OP_CLOSE }

// XDR codes x.
func (x *CloseArgs) XDR(c *xdr.Codec) {
	c.Uint32(&x.Seqid)
	x.OpenStateid.XDR(c)
}

// CloseRes is the answer to CLOSE. The fields after Status are there when it is NFS4_OK.
type CloseRes struct {
	Status      Status
	OpenStateid Stateid
}

// Op returns OP_CLOSE.
func (*CloseRes) Op() OpNum { return OP_CLOSE }

// Stat returns the status.
func (x *CloseRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *CloseRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *CloseRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	x.OpenStateid.XDR(c)
}

// CommitArgs is the request of COMMIT, RFC 8881 section 18.3.
type CommitArgs struct {
	Offset uint64
	Count  uint32
}

// Op returns OP_COMMIT.
func (*CommitArgs) Op() OpNum { return OP_COMMIT }

// XDR codes x.
func (x *CommitArgs) XDR(c *xdr.Codec) {
	c.Uint64(&x.Offset)
	c.Uint32(&x.Count)
}

// CommitRes is the answer to COMMIT. The fields after Status are there when it is NFS4_OK.
type CommitRes struct {
	Status Status
	Verf   Verifier
}

// Op returns OP_COMMIT.
func (*CommitRes) Op() OpNum { return OP_COMMIT }

// Stat returns the status.
func (x *CommitRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *CommitRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *CommitRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	x.Verf.XDR(c)
}

// CreateArgs is the request of CREATE, RFC 8881 section 18.4.
type CreateArgs struct {
	Type  CreateType
	Name  string
	Attrs Fattr
}

// Op returns OP_CREATE.
func (*CreateArgs) Op() OpNum { return OP_CREATE }

// XDR codes x.
func (x *CreateArgs) XDR(c *xdr.Codec) {
	x.Type.XDR(c)
	c.String(&x.Name, maxName)
	x.Attrs.XDR(c)
}

// CreateRes is the answer to CREATE. The fields after Status are there when it is NFS4_OK.
type CreateRes struct {
	Status  Status
	Cinfo   ChangeInfo
	AttrSet Bitmap
}

// Op returns OP_CREATE.
func (*CreateRes) Op() OpNum { return OP_CREATE }

// Stat returns the status.
func (x *CreateRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *CreateRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *CreateRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	x.Cinfo.XDR(c)
	x.AttrSet.XDR(c)
}

// DelegpurgeArgs is the request of DELEGPURGE, RFC 8881 section 18.5.
type DelegpurgeArgs struct {
	ClientID uint64
}

// Op returns OP_DELEGPURGE.
func (*DelegpurgeArgs) Op() OpNum { return OP_DELEGPURGE }

// XDR codes x.
func (x *DelegpurgeArgs) XDR(c *xdr.Codec) {
	c.Uint64(&x.ClientID)
}

// DelegpurgeRes is the answer to DELEGPURGE.
type DelegpurgeRes struct {
	Status Status
}

// Op returns OP_DELEGPURGE.
func (*DelegpurgeRes) Op() OpNum { return OP_DELEGPURGE }

// Stat returns the status.
func (x *DelegpurgeRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *DelegpurgeRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *DelegpurgeRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// DelegreturnArgs is the request of DELEGRETURN, RFC 8881 section 18.6.
type DelegreturnArgs struct {
	Stateid Stateid
}

// Op returns OP_DELEGRETURN.
func (*DelegreturnArgs) Op() OpNum { return OP_DELEGRETURN }

// XDR codes x.
func (x *DelegreturnArgs) XDR(c *xdr.Codec) {
	x.Stateid.XDR(c)
}

// DelegreturnRes is the answer to DELEGRETURN.
type DelegreturnRes struct {
	Status Status
}

// Op returns OP_DELEGRETURN.
func (*DelegreturnRes) Op() OpNum { return OP_DELEGRETURN }

// Stat returns the status.
func (x *DelegreturnRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *DelegreturnRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *DelegreturnRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// GetattrArgs is the request of GETATTR, RFC 8881 section 18.7.
type GetattrArgs struct {
	Request Bitmap
}

// Op returns OP_GETATTR.
func (*GetattrArgs) Op() OpNum { return OP_GETATTR }

// XDR codes x.
func (x *GetattrArgs) XDR(c *xdr.Codec) {
	x.Request.XDR(c)
}

// GetattrRes is the answer to GETATTR. The fields after Status are there when it is NFS4_OK.
type GetattrRes struct {
	Status Status
	Attrs  Fattr
}

// Op returns OP_GETATTR.
func (*GetattrRes) Op() OpNum { return OP_GETATTR }

// Stat returns the status.
func (x *GetattrRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *GetattrRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *GetattrRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	x.Attrs.XDR(c)
}

// GetfhArgs is the request of GETFH, RFC 8881 section 18.8.
type GetfhArgs struct{}

// Op returns OP_GETFH.
func (*GetfhArgs) Op() OpNum { return OP_GETFH }

// XDR does nothing: there is nothing to code.
func (*GetfhArgs) XDR(*xdr.Codec) {}

// GetfhRes is the answer to GETFH. The fields after Status are there when it is NFS4_OK.
type GetfhRes struct {
	Status Status
	FH     FH
}

// Op returns OP_GETFH.
func (*GetfhRes) Op() OpNum { return OP_GETFH }

// Stat returns the status.
func (x *GetfhRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *GetfhRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *GetfhRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	x.FH.XDR(c)
}

// LinkArgs is the request of LINK, RFC 8881 section 18.9.
type LinkArgs struct {
	NewName string
}

// Op returns OP_LINK.
func (*LinkArgs) Op() OpNum { return OP_LINK }

// XDR codes x.
func (x *LinkArgs) XDR(c *xdr.Codec) {
	c.String(&x.NewName, maxName)
}

// LinkRes is the answer to LINK. The fields after Status are there when it is NFS4_OK.
type LinkRes struct {
	Status Status
	Cinfo  ChangeInfo
}

// Op returns OP_LINK.
func (*LinkRes) Op() OpNum { return OP_LINK }

// Stat returns the status.
func (x *LinkRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *LinkRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *LinkRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	x.Cinfo.XDR(c)
}

// LockArgs is the request of LOCK, RFC 8881 section 18.10.
type LockArgs struct {
	LockType LockType
	Reclaim  bool
	Offset   uint64
	Length   uint64
	Locker   Locker
}

// Op returns OP_LOCK.
func (*LockArgs) Op() OpNum { return OP_LOCK }

// XDR codes x.
func (x *LockArgs) XDR(c *xdr.Codec) {
	x.LockType.XDR(c)
	c.Bool(&x.Reclaim)
	c.Uint64(&x.Offset)
	c.Uint64(&x.Length)
	x.Locker.XDR(c)
}

// Op returns OP_LOCK.
func (*LockRes) Op() OpNum { return OP_LOCK }

// Stat returns the status.
func (x *LockRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *LockRes) SetStat(s Status) { x.Status = s }

// LocktArgs is the request of LOCKT, RFC 8881 section 18.11.
type LocktArgs struct {
	LockType LockType
	Offset   uint64
	Length   uint64
	Owner    StateOwner
}

// Op returns OP_LOCKT.
func (*LocktArgs) Op() OpNum { return OP_LOCKT }

// XDR codes x.
func (x *LocktArgs) XDR(c *xdr.Codec) {
	x.LockType.XDR(c)
	c.Uint64(&x.Offset)
	c.Uint64(&x.Length)
	x.Owner.XDR(c)
}

// Op returns OP_LOCKT.
func (*LocktRes) Op() OpNum { return OP_LOCKT }

// Stat returns the status.
func (x *LocktRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *LocktRes) SetStat(s Status) { x.Status = s }

// LockuArgs is the request of LOCKU, RFC 8881 section 18.12.
type LockuArgs struct {
	LockType    LockType
	Seqid       uint32
	LockStateid Stateid
	Offset      uint64
	Length      uint64
}

// Op returns OP_LOCKU.
func (*LockuArgs) Op() OpNum { return OP_LOCKU }

// XDR codes x.
func (x *LockuArgs) XDR(c *xdr.Codec) {
	x.LockType.XDR(c)
	c.Uint32(&x.Seqid)
	x.LockStateid.XDR(c)
	c.Uint64(&x.Offset)
	c.Uint64(&x.Length)
}

// LockuRes is the answer to LOCKU. The fields after Status are there when it is NFS4_OK.
type LockuRes struct {
	Status      Status
	LockStateid Stateid
}

// Op returns OP_LOCKU.
func (*LockuRes) Op() OpNum { return OP_LOCKU }

// Stat returns the status.
func (x *LockuRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *LockuRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *LockuRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	x.LockStateid.XDR(c)
}

// LookupArgs is the request of LOOKUP, RFC 8881 section 18.13.
type LookupArgs struct {
	Name string
}

// Op returns OP_LOOKUP.
func (*LookupArgs) Op() OpNum { return OP_LOOKUP }

// XDR codes x.
func (x *LookupArgs) XDR(c *xdr.Codec) {
	c.String(&x.Name, maxName)
}

// LookupRes is the answer to LOOKUP.
type LookupRes struct {
	Status Status
}

// Op returns OP_LOOKUP.
func (*LookupRes) Op() OpNum { return OP_LOOKUP }

// Stat returns the status.
func (x *LookupRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *LookupRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *LookupRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// LookuppArgs is the request of LOOKUPP, RFC 8881 section 18.14.
type LookuppArgs struct{}

// Op returns OP_LOOKUPP.
func (*LookuppArgs) Op() OpNum { return OP_LOOKUPP }

// XDR does nothing: there is nothing to code.
func (*LookuppArgs) XDR(*xdr.Codec) {}

// LookuppRes is the answer to LOOKUPP.
type LookuppRes struct {
	Status Status
}

// Op returns OP_LOOKUPP.
func (*LookuppRes) Op() OpNum { return OP_LOOKUPP }

// Stat returns the status.
func (x *LookuppRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *LookuppRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *LookuppRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// NverifyArgs is the request of NVERIFY, RFC 8881 section 18.15.
type NverifyArgs struct {
	Attrs Fattr
}

// Op returns OP_NVERIFY.
func (*NverifyArgs) Op() OpNum { return OP_NVERIFY }

// XDR codes x.
func (x *NverifyArgs) XDR(c *xdr.Codec) {
	x.Attrs.XDR(c)
}

// NverifyRes is the answer to NVERIFY.
type NverifyRes struct {
	Status Status
}

// Op returns OP_NVERIFY.
func (*NverifyRes) Op() OpNum { return OP_NVERIFY }

// Stat returns the status.
func (x *NverifyRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *NverifyRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *NverifyRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// OpenArgs is the request of OPEN, RFC 8881 section 18.16.
type OpenArgs struct {
	Seqid       uint32
	ShareAccess uint32
	ShareDeny   uint32
	Owner       StateOwner
	How         OpenHow
	Claim       OpenClaim
}

// Op returns OP_OPEN.
func (*OpenArgs) Op() OpNum { return OP_OPEN }

// XDR codes x.
func (x *OpenArgs) XDR(c *xdr.Codec) {
	c.Uint32(&x.Seqid)
	c.Uint32(&x.ShareAccess)
	c.Uint32(&x.ShareDeny)
	x.Owner.XDR(c)
	x.How.XDR(c)
	x.Claim.XDR(c)
}

// OpenRes is the answer to OPEN. The fields after Status are there when it is NFS4_OK.
type OpenRes struct {
	Status     Status
	Stateid    Stateid
	Cinfo      ChangeInfo
	Rflags     uint32
	AttrSet    Bitmap
	Delegation OpenDelegation
}

// Op returns OP_OPEN.
func (*OpenRes) Op() OpNum { return OP_OPEN }

// Stat returns the status.
func (x *OpenRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *OpenRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *OpenRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	x.Stateid.XDR(c)
	x.Cinfo.XDR(c)
	c.Uint32(&x.Rflags)
	x.AttrSet.XDR(c)
	x.Delegation.XDR(c)
}

// OpenattrArgs is the request of OPENATTR, RFC 8881 section 18.17.
type OpenattrArgs struct {
	CreateDir bool
}

// Op returns OP_OPENATTR.
func (*OpenattrArgs) Op() OpNum { return OP_OPENATTR }

// XDR codes x.
func (x *OpenattrArgs) XDR(c *xdr.Codec) {
	c.Bool(&x.CreateDir)
}

// OpenattrRes is the answer to OPENATTR.
type OpenattrRes struct {
	Status Status
}

// Op returns OP_OPENATTR.
func (*OpenattrRes) Op() OpNum { return OP_OPENATTR }

// Stat returns the status.
func (x *OpenattrRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *OpenattrRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *OpenattrRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// OpenConfirmArgs is the request of OPEN_CONFIRM, RFC 7530 section 16.18.
type OpenConfirmArgs struct {
	OpenStateid Stateid
	Seqid       uint32
}

// Op returns OP_OPEN_CONFIRM.
func (*OpenConfirmArgs) Op() OpNum { return OP_OPEN_CONFIRM }

// XDR codes x.
func (x *OpenConfirmArgs) XDR(c *xdr.Codec) {
	x.OpenStateid.XDR(c)
	c.Uint32(&x.Seqid)
}

// OpenConfirmRes is the answer to OPEN_CONFIRM. The fields after Status are there when it is NFS4_OK.
type OpenConfirmRes struct {
	Status      Status
	OpenStateid Stateid
}

// Op returns OP_OPEN_CONFIRM.
func (*OpenConfirmRes) Op() OpNum { return OP_OPEN_CONFIRM }

// Stat returns the status.
func (x *OpenConfirmRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *OpenConfirmRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *OpenConfirmRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	x.OpenStateid.XDR(c)
}

// OpenDowngradeArgs is the request of OPEN_DOWNGRADE, RFC 8881 section 18.18.
type OpenDowngradeArgs struct {
	OpenStateid Stateid
	Seqid       uint32
	ShareAccess uint32
	ShareDeny   uint32
}

// Op returns OP_OPEN_DOWNGRADE.
func (*OpenDowngradeArgs) Op() OpNum { return OP_OPEN_DOWNGRADE }

// XDR codes x.
func (x *OpenDowngradeArgs) XDR(c *xdr.Codec) {
	x.OpenStateid.XDR(c)
	c.Uint32(&x.Seqid)
	c.Uint32(&x.ShareAccess)
	c.Uint32(&x.ShareDeny)
}

// OpenDowngradeRes is the answer to OPEN_DOWNGRADE. The fields after Status are there when it is NFS4_OK.
type OpenDowngradeRes struct {
	Status      Status
	OpenStateid Stateid
}

// Op returns OP_OPEN_DOWNGRADE.
func (*OpenDowngradeRes) Op() OpNum { return OP_OPEN_DOWNGRADE }

// Stat returns the status.
func (x *OpenDowngradeRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *OpenDowngradeRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *OpenDowngradeRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	x.OpenStateid.XDR(c)
}

// PutfhArgs is the request of PUTFH, RFC 8881 section 18.19.
type PutfhArgs struct {
	FH FH
}

// Op returns OP_PUTFH.
func (*PutfhArgs) Op() OpNum { return OP_PUTFH }

// XDR codes x.
func (x *PutfhArgs) XDR(c *xdr.Codec) {
	x.FH.XDR(c)
}

// PutfhRes is the answer to PUTFH.
type PutfhRes struct {
	Status Status
}

// Op returns OP_PUTFH.
func (*PutfhRes) Op() OpNum { return OP_PUTFH }

// Stat returns the status.
func (x *PutfhRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *PutfhRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *PutfhRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// PutpubfhArgs is the request of PUTPUBFH, RFC 8881 section 18.20.
type PutpubfhArgs struct{}

// Op returns OP_PUTPUBFH.
func (*PutpubfhArgs) Op() OpNum { return OP_PUTPUBFH }

// XDR does nothing: there is nothing to code.
func (*PutpubfhArgs) XDR(*xdr.Codec) {}

// PutpubfhRes is the answer to PUTPUBFH.
type PutpubfhRes struct {
	Status Status
}

// Op returns OP_PUTPUBFH.
func (*PutpubfhRes) Op() OpNum { return OP_PUTPUBFH }

// Stat returns the status.
func (x *PutpubfhRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *PutpubfhRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *PutpubfhRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// PutrootfhArgs is the request of PUTROOTFH, RFC 8881 section 18.21.
type PutrootfhArgs struct{}

// Op returns OP_PUTROOTFH.
func (*PutrootfhArgs) Op() OpNum { return OP_PUTROOTFH }

// XDR does nothing: there is nothing to code.
func (*PutrootfhArgs) XDR(*xdr.Codec) {}

// PutrootfhRes is the answer to PUTROOTFH.
type PutrootfhRes struct {
	Status Status
}

// Op returns OP_PUTROOTFH.
func (*PutrootfhRes) Op() OpNum { return OP_PUTROOTFH }

// Stat returns the status.
func (x *PutrootfhRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *PutrootfhRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *PutrootfhRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// ReadArgs is the request of READ, RFC 8881 section 18.22.
type ReadArgs struct {
	Stateid Stateid
	Offset  uint64
	Count   uint32
}

// Op returns OP_READ.
func (*ReadArgs) Op() OpNum { return OP_READ }

// XDR codes x.
func (x *ReadArgs) XDR(c *xdr.Codec) {
	x.Stateid.XDR(c)
	c.Uint64(&x.Offset)
	c.Uint32(&x.Count)
}

// ReadRes is the answer to READ. The fields after Status are there when it is NFS4_OK.
type ReadRes struct {
	Status Status
	EOF    bool
	Data   []byte
}

// Op returns OP_READ.
func (*ReadRes) Op() OpNum { return OP_READ }

// Stat returns the status.
func (x *ReadRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *ReadRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *ReadRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	c.Bool(&x.EOF)
	c.Payload(&x.Data, maxData)
}

// ReaddirArgs is the request of READDIR, RFC 8881 section 18.23.
type ReaddirArgs struct {
	Cookie     uint64
	CookieVerf Verifier
	DirCount   uint32
	MaxCount   uint32
	Request    Bitmap
}

// Op returns OP_READDIR.
func (*ReaddirArgs) Op() OpNum { return OP_READDIR }

// XDR codes x.
func (x *ReaddirArgs) XDR(c *xdr.Codec) {
	c.Uint64(&x.Cookie)
	x.CookieVerf.XDR(c)
	c.Uint32(&x.DirCount)
	c.Uint32(&x.MaxCount)
	x.Request.XDR(c)
}

// Op returns OP_READDIR.
func (*ReaddirRes) Op() OpNum { return OP_READDIR }

// Stat returns the status.
func (x *ReaddirRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *ReaddirRes) SetStat(s Status) { x.Status = s }

// ReadlinkArgs is the request of READLINK, RFC 8881 section 18.24.
type ReadlinkArgs struct{}

// Op returns OP_READLINK.
func (*ReadlinkArgs) Op() OpNum { return OP_READLINK }

// XDR does nothing: there is nothing to code.
func (*ReadlinkArgs) XDR(*xdr.Codec) {}

// ReadlinkRes is the answer to READLINK. The fields after Status are there when it is NFS4_OK.
type ReadlinkRes struct {
	Status Status
	Link   string
}

// Op returns OP_READLINK.
func (*ReadlinkRes) Op() OpNum { return OP_READLINK }

// Stat returns the status.
func (x *ReadlinkRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *ReadlinkRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *ReadlinkRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	c.String(&x.Link, maxName)
}

// RemoveArgs is the request of REMOVE, RFC 8881 section 18.25.
type RemoveArgs struct {
	Name string
}

// Op returns OP_REMOVE.
func (*RemoveArgs) Op() OpNum { return OP_REMOVE }

// XDR codes x.
func (x *RemoveArgs) XDR(c *xdr.Codec) {
	c.String(&x.Name, maxName)
}

// RemoveRes is the answer to REMOVE. The fields after Status are there when it is NFS4_OK.
type RemoveRes struct {
	Status Status
	Cinfo  ChangeInfo
}

// Op returns OP_REMOVE.
func (*RemoveRes) Op() OpNum { return OP_REMOVE }

// Stat returns the status.
func (x *RemoveRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *RemoveRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *RemoveRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	x.Cinfo.XDR(c)
}

// RenameArgs is the request of RENAME, RFC 8881 section 18.26.
type RenameArgs struct {
	OldName string
	NewName string
}

// Op returns OP_RENAME.
func (*RenameArgs) Op() OpNum { return OP_RENAME }

// XDR codes x.
func (x *RenameArgs) XDR(c *xdr.Codec) {
	c.String(&x.OldName, maxName)
	c.String(&x.NewName, maxName)
}

// RenameRes is the answer to RENAME. The fields after Status are there when it is NFS4_OK.
type RenameRes struct {
	Status      Status
	SourceCinfo ChangeInfo
	TargetCinfo ChangeInfo
}

// Op returns OP_RENAME.
func (*RenameRes) Op() OpNum { return OP_RENAME }

// Stat returns the status.
func (x *RenameRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *RenameRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *RenameRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	x.SourceCinfo.XDR(c)
	x.TargetCinfo.XDR(c)
}

// RenewArgs is the request of RENEW, RFC 7530 section 16.28.
type RenewArgs struct {
	ClientID uint64
}

// Op returns OP_RENEW.
func (*RenewArgs) Op() OpNum { return OP_RENEW }

// XDR codes x.
func (x *RenewArgs) XDR(c *xdr.Codec) {
	c.Uint64(&x.ClientID)
}

// RenewRes is the answer to RENEW.
type RenewRes struct {
	Status Status
}

// Op returns OP_RENEW.
func (*RenewRes) Op() OpNum { return OP_RENEW }

// Stat returns the status.
func (x *RenewRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *RenewRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *RenewRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// RestorefhArgs is the request of RESTOREFH, RFC 8881 section 18.27.
type RestorefhArgs struct{}

// Op returns OP_RESTOREFH.
func (*RestorefhArgs) Op() OpNum { return OP_RESTOREFH }

// XDR does nothing: there is nothing to code.
func (*RestorefhArgs) XDR(*xdr.Codec) {}

// RestorefhRes is the answer to RESTOREFH.
type RestorefhRes struct {
	Status Status
}

// Op returns OP_RESTOREFH.
func (*RestorefhRes) Op() OpNum { return OP_RESTOREFH }

// Stat returns the status.
func (x *RestorefhRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *RestorefhRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *RestorefhRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// SavefhArgs is the request of SAVEFH, RFC 8881 section 18.28.
type SavefhArgs struct{}

// Op returns OP_SAVEFH.
func (*SavefhArgs) Op() OpNum { return OP_SAVEFH }

// XDR does nothing: there is nothing to code.
func (*SavefhArgs) XDR(*xdr.Codec) {}

// SavefhRes is the answer to SAVEFH.
type SavefhRes struct {
	Status Status
}

// Op returns OP_SAVEFH.
func (*SavefhRes) Op() OpNum { return OP_SAVEFH }

// Stat returns the status.
func (x *SavefhRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *SavefhRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *SavefhRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// SecinfoArgs is the request of SECINFO, RFC 8881 section 18.29.
type SecinfoArgs struct {
	Name string
}

// Op returns OP_SECINFO.
func (*SecinfoArgs) Op() OpNum { return OP_SECINFO }

// XDR codes x.
func (x *SecinfoArgs) XDR(c *xdr.Codec) {
	c.String(&x.Name, maxName)
}

// SecinfoRes is the answer to SECINFO. The fields after Status are there when it is NFS4_OK.
type SecinfoRes struct {
	Status  Status
	Flavors []SecinfoEntry
}

// Op returns OP_SECINFO.
func (*SecinfoRes) Op() OpNum { return OP_SECINFO }

// Stat returns the status.
func (x *SecinfoRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *SecinfoRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *SecinfoRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	xdr.List(c, &x.Flavors, maxItems)
}

// SetattrArgs is the request of SETATTR, RFC 8881 section 18.30.
type SetattrArgs struct {
	Stateid Stateid
	Attrs   Fattr
}

// Op returns OP_SETATTR.
func (*SetattrArgs) Op() OpNum { return OP_SETATTR }

// XDR codes x.
func (x *SetattrArgs) XDR(c *xdr.Codec) {
	x.Stateid.XDR(c)
	x.Attrs.XDR(c)
}

// Op returns OP_SETATTR.
func (*SetattrRes) Op() OpNum { return OP_SETATTR }

// Stat returns the status.
func (x *SetattrRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *SetattrRes) SetStat(s Status) { x.Status = s }

// SetclientidArgs is the request of SETCLIENTID, RFC 7530 section 16.33.
type SetclientidArgs struct {
	Client        ClientOwner
	Callback      CBClient
	CallbackIdent uint32
}

// Op returns OP_SETCLIENTID.
func (*SetclientidArgs) Op() OpNum { return OP_SETCLIENTID }

// XDR codes x.
func (x *SetclientidArgs) XDR(c *xdr.Codec) {
	x.Client.XDR(c)
	x.Callback.XDR(c)
	c.Uint32(&x.CallbackIdent)
}

// Op returns OP_SETCLIENTID.
func (*SetclientidRes) Op() OpNum { return OP_SETCLIENTID }

// Stat returns the status.
func (x *SetclientidRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *SetclientidRes) SetStat(s Status) { x.Status = s }

// SetclientidConfirmArgs is the request of SETCLIENTID_CONFIRM, RFC 7530 section 16.34.
type SetclientidConfirmArgs struct {
	ClientID uint64
	Confirm  Verifier
}

// Op returns OP_SETCLIENTID_CONFIRM.
func (*SetclientidConfirmArgs) Op() OpNum { return OP_SETCLIENTID_CONFIRM }

// XDR codes x.
func (x *SetclientidConfirmArgs) XDR(c *xdr.Codec) {
	c.Uint64(&x.ClientID)
	x.Confirm.XDR(c)
}

// SetclientidConfirmRes is the answer to SETCLIENTID_CONFIRM.
type SetclientidConfirmRes struct {
	Status Status
}

// Op returns OP_SETCLIENTID_CONFIRM.
func (*SetclientidConfirmRes) Op() OpNum { return OP_SETCLIENTID_CONFIRM }

// Stat returns the status.
func (x *SetclientidConfirmRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *SetclientidConfirmRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *SetclientidConfirmRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// VerifyArgs is the request of VERIFY, RFC 8881 section 18.31.
type VerifyArgs struct {
	Attrs Fattr
}

// Op returns OP_VERIFY.
func (*VerifyArgs) Op() OpNum { return OP_VERIFY }

// XDR codes x.
func (x *VerifyArgs) XDR(c *xdr.Codec) {
	x.Attrs.XDR(c)
}

// VerifyRes is the answer to VERIFY.
type VerifyRes struct {
	Status Status
}

// Op returns OP_VERIFY.
func (*VerifyRes) Op() OpNum { return OP_VERIFY }

// Stat returns the status.
func (x *VerifyRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *VerifyRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *VerifyRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// WriteArgs is the request of WRITE, RFC 8881 section 18.32.
type WriteArgs struct {
	Stateid Stateid
	Offset  uint64
	Stable  StableHow
	Data    []byte
}

// Op returns OP_WRITE.
func (*WriteArgs) Op() OpNum { return OP_WRITE }

// XDR codes x.
func (x *WriteArgs) XDR(c *xdr.Codec) {
	x.Stateid.XDR(c)
	c.Uint64(&x.Offset)
	x.Stable.XDR(c)
	c.Payload(&x.Data, maxData)
}

// WriteRes is the answer to WRITE. The fields after Status are there when it is NFS4_OK.
type WriteRes struct {
	Status    Status
	Count     uint32
	Committed StableHow
	Verf      Verifier
}

// Op returns OP_WRITE.
func (*WriteRes) Op() OpNum { return OP_WRITE }

// Stat returns the status.
func (x *WriteRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *WriteRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *WriteRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	c.Uint32(&x.Count)
	x.Committed.XDR(c)
	x.Verf.XDR(c)
}

// ReleaseLockownerArgs is the request of RELEASE_LOCKOWNER, RFC 7530 section 16.37.
type ReleaseLockownerArgs struct {
	Owner StateOwner
}

// Op returns OP_RELEASE_LOCKOWNER.
func (*ReleaseLockownerArgs) Op() OpNum { return OP_RELEASE_LOCKOWNER }

// XDR codes x.
func (x *ReleaseLockownerArgs) XDR(c *xdr.Codec) {
	x.Owner.XDR(c)
}

// ReleaseLockownerRes is the answer to RELEASE_LOCKOWNER.
type ReleaseLockownerRes struct {
	Status Status
}

// Op returns OP_RELEASE_LOCKOWNER.
func (*ReleaseLockownerRes) Op() OpNum { return OP_RELEASE_LOCKOWNER }

// Stat returns the status.
func (x *ReleaseLockownerRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *ReleaseLockownerRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *ReleaseLockownerRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// IllegalArgs is the request of ILLEGAL, RFC 8881 section 18.52.
type IllegalArgs struct{}

// Op returns OP_ILLEGAL.
func (*IllegalArgs) Op() OpNum { return OP_ILLEGAL }

// XDR does nothing: there is nothing to code.
func (*IllegalArgs) XDR(*xdr.Codec) {}

// IllegalRes is the answer to ILLEGAL.
type IllegalRes struct {
	Status Status
}

// Op returns OP_ILLEGAL.
func (*IllegalRes) Op() OpNum { return OP_ILLEGAL }

// Stat returns the status.
func (x *IllegalRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *IllegalRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *IllegalRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }
