package nfs4

import "holdfast/internal/xdr"

// The operations new in NFSv4.2 (RFC 7862) and those of extended attributes (RFC 8276).

// AllocateArgs is the request of ALLOCATE, RFC 7862 section 15.1.
type AllocateArgs struct {
	Stateid Stateid
	Offset  uint64
	Length  uint64
}

// Op returns OP_ALLOCATE.
func (*AllocateArgs) Op() OpNum { return OP_ALLOCATE }

// XDR codes x.
func (x *AllocateArgs) XDR(c *xdr.Codec) {
	x.Stateid.XDR(c)
	c.Uint64(&x.Offset)
	c.Uint64(&x.Length)
}

// AllocateRes is the answer to ALLOCATE.
type AllocateRes struct {
	Status Status
}

// Op returns OP_ALLOCATE.
func (*AllocateRes) Op() OpNum { return OP_ALLOCATE }

// Stat returns the status.
func (x *AllocateRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *AllocateRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *AllocateRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// CopyArgs is the request of COPY, RFC 7862 section 15.2.
type CopyArgs struct {
	SrcStateid    Stateid
	DstStateid    Stateid
	SrcOffset     uint64
	DstOffset     uint64
	Count         uint64
	Consecutive   bool
	Synchronous   bool
	SourceServers []Netloc
}

// Op returns OP_COPY.
func (*CopyArgs) Op() OpNum { return OP_COPY }

// XDR codes x.
func (x *CopyArgs) XDR(c *xdr.Codec) {
	x.SrcStateid.XDR(c)
	x.DstStateid.XDR(c)
	c.Uint64(&x.SrcOffset)
	c.Uint64(&x.DstOffset)
	c.Uint64(&x.Count)
	c.Bool(&x.Consecutive)
	c.Bool(&x.Synchronous)
	xdr.List(c, &x.SourceServers, maxItems)
}

// Op returns OP_COPY.
func (*CopyRes) Op() OpNum { return OP_COPY }

// Stat returns the status.
func (x *CopyRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *CopyRes) SetStat(s Status) { x.Status = s }

// CopyNotifyArgs is the request of COPY_NOTIFY, RFC 7862 section 15.3.
type CopyNotifyArgs struct {
	SrcStateid  Stateid
	Destination Netloc
}

// Op returns OP_COPY_NOTIFY.
func (*CopyNotifyArgs) Op() OpNum { return OP_COPY_NOTIFY }

// XDR codes x.
func (x *CopyNotifyArgs) XDR(c *xdr.Codec) {
	x.SrcStateid.XDR(c)
	x.Destination.XDR(c)
}

// CopyNotifyRes is the answer to COPY_NOTIFY. The fields after Status are there when it is NFS4_OK.
type CopyNotifyRes struct {
	Status        Status
	LeaseTime     Time
	Stateid       Stateid
	SourceServers []Netloc
}

// Op returns OP_COPY_NOTIFY.
func (*CopyNotifyRes) Op() OpNum { return OP_COPY_NOTIFY }

// Stat returns the status.
func (x *CopyNotifyRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *CopyNotifyRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *CopyNotifyRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	x.LeaseTime.XDR(c)
	x.Stateid.XDR(c)
	xdr.List(c, &x.SourceServers, maxItems)
}

// DeallocateArgs is the request of DEALLOCATE, RFC 7862 section 15.4.
type DeallocateArgs struct {
	Stateid Stateid
	Offset  uint64
	Length  uint64
}

// Op returns OP_DEALLOCATE.
func (*DeallocateArgs) Op() OpNum { return OP_DEALLOCATE }

// XDR codes x.
func (x *DeallocateArgs) XDR(c *xdr.Codec) {
	x.Stateid.XDR(c)
	c.Uint64(&x.Offset)
	c.Uint64(&x.Length)
}

// DeallocateRes is the answer to DEALLOCATE.
type DeallocateRes struct {
	Status Status
}

// Op returns OP_DEALLOCATE.
func (*DeallocateRes) Op() OpNum { return OP_DEALLOCATE }

// Stat returns the status.
func (x *DeallocateRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *DeallocateRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *DeallocateRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// IOAdviseArgs is the request of IO_ADVISE, RFC 7862 section 15.5.
type IOAdviseArgs struct {
	Stateid Stateid
	Offset  uint64
	Count   uint64
	Hints   Bitmap
}

// Op returns OP_IO_ADVISE.
func (*IOAdviseArgs) Op() OpNum { return OP_IO_ADVISE }

// XDR codes x.
func (x *IOAdviseArgs) XDR(c *xdr.Codec) {
	x.Stateid.XDR(c)
	c.Uint64(&x.Offset)
	c.Uint64(&x.Count)
	x.Hints.XDR(c)
}

// IOAdviseRes is the answer to IO_ADVISE. The fields after Status are there when it is NFS4_OK.
type IOAdviseRes struct {
	Status Status
	Hints  Bitmap
}

// Op returns OP_IO_ADVISE.
func (*IOAdviseRes) Op() OpNum { return OP_IO_ADVISE }

// Stat returns the status.
func (x *IOAdviseRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *IOAdviseRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *IOAdviseRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	x.Hints.XDR(c)
}

// LayouterrorArgs is the request of LAYOUTERROR, RFC 7862 section 15.6.
type LayouterrorArgs struct {
	Offset  uint64
	Length  uint64
	Stateid Stateid
	Errors  []DeviceError
}

// Op returns OP_LAYOUTERROR.
func (*LayouterrorArgs) Op() OpNum { return OP_LAYOUTERROR }

// XDR codes x.
func (x *LayouterrorArgs) XDR(c *xdr.Codec) {
	c.Uint64(&x.Offset)
	c.Uint64(&x.Length)
	x.Stateid.XDR(c)
	xdr.List(c, &x.Errors, maxItems)
}

// LayouterrorRes is the answer to LAYOUTERROR.
type LayouterrorRes struct {
	Status Status
}

// Op returns OP_LAYOUTERROR.
func (*LayouterrorRes) Op() OpNum { return OP_LAYOUTERROR }

// Stat returns the status.
func (x *LayouterrorRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *LayouterrorRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *LayouterrorRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// LayoutstatsArgs is the request of LAYOUTSTATS, RFC 7862 section 15.7.
type LayoutstatsArgs struct {
	Offset     uint64
	Length     uint64
	Stateid    Stateid
	ReadCount  uint64
	ReadBytes  uint64
	WriteCount uint64
	WriteBytes uint64
	DeviceID   DeviceID
	Update     TypedBody
}

// Op returns OP_LAYOUTSTATS.
func (*LayoutstatsArgs) Op() OpNum { return OP_LAYOUTSTATS }

// XDR codes x.
func (x *LayoutstatsArgs) XDR(c *xdr.Codec) {
	c.Uint64(&x.Offset)
	c.Uint64(&x.Length)
	x.Stateid.XDR(c)
	c.Uint64(&x.ReadCount)
	c.Uint64(&x.ReadBytes)
	c.Uint64(&x.WriteCount)
	c.Uint64(&x.WriteBytes)
	x.DeviceID.XDR(c)
	x.Update.XDR(c)
}

// LayoutstatsRes is the answer to LAYOUTSTATS.
type LayoutstatsRes struct {
	Status Status
}

// Op returns OP_LAYOUTSTATS.
func (*LayoutstatsRes) Op() OpNum { return OP_LAYOUTSTATS }

// Stat returns the status.
func (x *LayoutstatsRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *LayoutstatsRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *LayoutstatsRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// OffloadCancelArgs is the request of OFFLOAD_CANCEL, RFC 7862 section 15.8.
type OffloadCancelArgs struct {
	Stateid Stateid
}

// Op returns OP_OFFLOAD_CANCEL.
func (*OffloadCancelArgs) Op() OpNum { return OP_OFFLOAD_CANCEL }

// XDR codes x.
func (x *OffloadCancelArgs) XDR(c *xdr.Codec) {
	x.Stateid.XDR(c)
}

// OffloadCancelRes is the answer to OFFLOAD_CANCEL.
type OffloadCancelRes struct {
	Status Status
}

// Op returns OP_OFFLOAD_CANCEL.
func (*OffloadCancelRes) Op() OpNum { return OP_OFFLOAD_CANCEL }

// Stat returns the status.
func (x *OffloadCancelRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *OffloadCancelRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *OffloadCancelRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// OffloadStatusArgs is the request of OFFLOAD_STATUS, RFC 7862 section 15.9.
type OffloadStatusArgs struct {
	Stateid Stateid
}

// Op returns OP_OFFLOAD_STATUS.
func (*OffloadStatusArgs) Op() OpNum { return OP_OFFLOAD_STATUS }

// XDR codes x.
func (x *OffloadStatusArgs) XDR(c *xdr.Codec) {
	x.Stateid.XDR(c)
}

// OffloadStatusRes is the answer to OFFLOAD_STATUS. The fields after Status are there when it is NFS4_OK.
type OffloadStatusRes struct {
	Status   Status
	Count    uint64
	Complete *Status
}

// Op returns OP_OFFLOAD_STATUS.
func (*OffloadStatusRes) Op() OpNum { return OP_OFFLOAD_STATUS }

// Stat returns the status.
func (x *OffloadStatusRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *OffloadStatusRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *OffloadStatusRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	c.Uint64(&x.Count)
	xdr.Opt(c, &x.Complete)
}

// ReadPlusArgs is the request of READ_PLUS, RFC 7862 section 15.10.
type ReadPlusArgs struct {
	Stateid Stateid
	Offset  uint64
	Count   uint32
}

// Op returns OP_READ_PLUS.
func (*ReadPlusArgs) Op() OpNum { return OP_READ_PLUS }

// XDR codes x.
func (x *ReadPlusArgs) XDR(c *xdr.Codec) {
	x.Stateid.XDR(c)
	c.Uint64(&x.Offset)
	c.Uint32(&x.Count)
}

// ReadPlusRes is the answer to READ_PLUS. The fields after Status are there when it is NFS4_OK.
type ReadPlusRes struct {
	Status   Status
	EOF      bool
	Contents []ReadPlusContent
}

// Op returns OP_READ_PLUS.
func (*ReadPlusRes) Op() OpNum { return OP_READ_PLUS }

// Stat returns the status.
func (x *ReadPlusRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *ReadPlusRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *ReadPlusRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	c.Bool(&x.EOF)
	xdr.List(c, &x.Contents, maxItems)
}

// SeekArgs is the request of SEEK, RFC 7862 section 15.11.
type SeekArgs struct {
	Stateid Stateid
	Offset  uint64
	What    uint32
}

// Op returns OP_SEEK.
func (*SeekArgs) Op() OpNum { return OP_SEEK }

// XDR codes x.
func (x *SeekArgs) XDR(c *xdr.Codec) {
	x.Stateid.XDR(c)
	c.Uint64(&x.Offset)
	c.Uint32(&x.What)
}

// SeekRes is the answer to SEEK. The fields after Status are there when it is NFS4_OK.
type SeekRes struct {
	Status Status
	EOF    bool
	Offset uint64
}

// Op returns OP_SEEK.
func (*SeekRes) Op() OpNum { return OP_SEEK }

// Stat returns the status.
func (x *SeekRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *SeekRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *SeekRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	c.Bool(&x.EOF)
	c.Uint64(&x.Offset)
}

// WriteSameArgs is the request of WRITE_SAME, RFC 7862 section 15.12.
type WriteSameArgs struct {
	Stateid        Stateid
	Stable         StableHow
	Offset         uint64
	BlockSize      uint64
	BlockCount     uint64
	RelOffBlockNum uint64
	BlockNum       uint32
	RelOffPattern  uint64
	Pattern        []byte
}

// Op returns OP_WRITE_SAME.
func (*WriteSameArgs) Op() OpNum { return OP_WRITE_SAME }

// XDR codes x.
func (x *WriteSameArgs) XDR(c *xdr.Codec) {
	x.Stateid.XDR(c)
	x.Stable.XDR(c)
	c.Uint64(&x.Offset)
	c.Uint64(&x.BlockSize)
	c.Uint64(&x.BlockCount)
	c.Uint64(&x.RelOffBlockNum)
	c.Uint32(&x.BlockNum)
	c.Uint64(&x.RelOffPattern)
	c.Payload(&x.Pattern, maxData)
}

// WriteSameRes is the answer to WRITE_SAME. The fields after Status are there when it is NFS4_OK.
type WriteSameRes struct {
	Status   Status
	Response WriteResponse
}

// Op returns OP_WRITE_SAME.
func (*WriteSameRes) Op() OpNum { return OP_WRITE_SAME }

// Stat returns the status.
func (x *WriteSameRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *WriteSameRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *WriteSameRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	x.Response.XDR(c)
}

// CloneArgs is the request of CLONE, RFC 7862 section 15.13.
type CloneArgs struct {
	SrcStateid Stateid
	DstStateid Stateid
	SrcOffset  uint64
	DstOffset  uint64
	Count      uint64
}

// Op returns OP_CLONE.
func (*CloneArgs) Op() OpNum { return OP_CLONE }

// XDR codes x.
func (x *CloneArgs) XDR(c *xdr.Codec) {
	x.SrcStateid.XDR(c)
	x.DstStateid.XDR(c)
	c.Uint64(&x.SrcOffset)
	c.Uint64(&x.DstOffset)
	c.Uint64(&x.Count)
}

// CloneRes is the answer to CLONE.
type CloneRes struct {
	Status Status
}

// Op returns OP_CLONE.
func (*CloneRes) Op() OpNum { return OP_CLONE }

// Stat returns the status.
func (x *CloneRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *CloneRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *CloneRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// GetxattrArgs is the request of GETXATTR, RFC 8276 section 8.4.1.
type GetxattrArgs struct {
	Name string
}

// Op returns OP_GETXATTR.
func (*GetxattrArgs) Op() OpNum { return OP_GETXATTR }

// XDR codes x.
func (x *GetxattrArgs) XDR(c *xdr.Codec) {
	c.String(&x.Name, maxName)
}

// GetxattrRes is the answer to GETXATTR. The fields after Status are there when it is NFS4_OK.
type GetxattrRes struct {
	Status Status
	Value  []byte
}

// Op returns OP_GETXATTR.
func (*GetxattrRes) Op() OpNum { return OP_GETXATTR }

// Stat returns the status.
func (x *GetxattrRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *GetxattrRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *GetxattrRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	c.Payload(&x.Value, maxData)
}

// SetxattrArgs is the request of SETXATTR, RFC 8276 section 8.4.2.
type SetxattrArgs struct {
	Option uint32
	Name   string
	Value  []byte
}

// Op returns OP_SETXATTR.
func (*SetxattrArgs) Op() OpNum { return OP_SETXATTR }

// XDR codes x.
func (x *SetxattrArgs) XDR(c *xdr.Codec) {
	c.Uint32(&x.Option)
	c.String(&x.Name, maxName)
	c.Payload(&x.Value, maxData)
}

// SetxattrRes is the answer to SETXATTR. The fields after Status are there when it is NFS4_OK.
type SetxattrRes struct {
	Status Status
	Cinfo  ChangeInfo
}

// Op returns OP_SETXATTR.
func (*SetxattrRes) Op() OpNum { return OP_SETXATTR }

// Stat returns the status.
func (x *SetxattrRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *SetxattrRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *SetxattrRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	x.Cinfo.XDR(c)
}

// ListxattrsArgs is the request of LISTXATTRS, RFC 8276 section 8.4.3.
type ListxattrsArgs struct {
	Cookie   uint64
	MaxCount uint32
}

// Op returns OP_LISTXATTRS.
func (*ListxattrsArgs) Op() OpNum { return OP_LISTXATTRS }

// XDR codes x.
func (x *ListxattrsArgs) XDR(c *xdr.Codec) {
	c.Uint64(&x.Cookie)
	c.Uint32(&x.MaxCount)
}

// ListxattrsRes is the answer to LISTXATTRS. The fields after Status are there when it is NFS4_OK.
type ListxattrsRes struct {
	Status Status
	Cookie uint64
	Names  []string
	EOF    bool
}

// Op returns OP_LISTXATTRS.
func (*ListxattrsRes) Op() OpNum { return OP_LISTXATTRS }

// Stat returns the status.
func (x *ListxattrsRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *ListxattrsRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *ListxattrsRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	c.Uint64(&x.Cookie)
	xdr.Slice(c, &x.Names, maxItems, codeName)
	c.Bool(&x.EOF)
}

// RemovexattrArgs is the request of REMOVEXATTR, RFC 8276 section 8.4.4.
type RemovexattrArgs struct {
	Name string
}

// Op returns OP_REMOVEXATTR.
func (*RemovexattrArgs) Op() OpNum { return OP_REMOVEXATTR }

// XDR codes x.
func (x *RemovexattrArgs) XDR(c *xdr.Codec) {
	c.String(&x.Name, maxName)
}

// RemovexattrRes is the answer to REMOVEXATTR. The fields after Status are there when it is NFS4_OK.
type RemovexattrRes struct {
	Status Status
	Cinfo  ChangeInfo
}

// Op returns OP_REMOVEXATTR.
func (*RemovexattrRes) Op() OpNum { return OP_REMOVEXATTR }

// Stat returns the status.
func (x *RemovexattrRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *RemovexattrRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *RemovexattrRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	x.Cinfo.XDR(c)
}
