package nfs4

import "holdfast/internal/xdr"

// The callback operations, which a server calls at its client: RFC 8881 section 20, RFC 7862 section 16.

// CBGetattrArgs is the request of CB_GETATTR, RFC 8881 section 20.1.
type CBGetattrArgs struct {
	FH      FH
	Request Bitmap
}

// Op returns OP_CB_GETATTR.
func (*CBGetattrArgs) Op() CBOpNum { return OP_CB_GETATTR }

// XDR codes x.
func (x *CBGetattrArgs) XDR(c *xdr.Codec) {
	x.FH.XDR(c)
	x.Request.XDR(c)
}

// CBGetattrRes is the answer to CB_GETATTR. The fields after Status are there when it is NFS4_OK.
type CBGetattrRes struct {
	Status Status
	Attrs  Fattr
}

// Op returns OP_CB_GETATTR.
func (*CBGetattrRes) Op() CBOpNum { return OP_CB_GETATTR }

// Stat returns the status.
func (x *CBGetattrRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *CBGetattrRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *CBGetattrRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	x.Attrs.XDR(c)
}

// CBRecallArgs is the request of CB_RECALL, RFC 8881 section 20.2.
type CBRecallArgs struct {
	Stateid  Stateid
	Truncate bool
	FH       FH
}

// Op returns OP_CB_RECALL.
func (*CBRecallArgs) Op() CBOpNum { return OP_CB_RECALL }

// XDR codes x.
func (x *CBRecallArgs) XDR(c *xdr.Codec) {
	x.Stateid.XDR(c)
	c.Bool(&x.Truncate)
	x.FH.XDR(c)
}

// CBRecallRes is the answer to CB_RECALL.
type CBRecallRes struct {
	Status Status
}

// Op returns OP_CB_RECALL.
func (*CBRecallRes) Op() CBOpNum { return OP_CB_RECALL }

// Stat returns the status.
func (x *CBRecallRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *CBRecallRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *CBRecallRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// CBLayoutrecallArgs is the request of CB_LAYOUTRECALL, RFC 8881 section 20.3.
type CBLayoutrecallArgs struct {
	LayoutType uint32
	IOMode     uint32
	Changed    bool
	Recall     LayoutRecall
}

// Op returns OP_CB_LAYOUTRECALL.
func (*CBLayoutrecallArgs) Op() CBOpNum { return OP_CB_LAYOUTRECALL }

// XDR codes x.
func (x *CBLayoutrecallArgs) XDR(c *xdr.Codec) {
	c.Uint32(&x.LayoutType)
	c.Uint32(&x.IOMode)
	c.Bool(&x.Changed)
	x.Recall.XDR(c)
}

// CBLayoutrecallRes is the answer to CB_LAYOUTRECALL.
type CBLayoutrecallRes struct {
	Status Status
}

// Op returns OP_CB_LAYOUTRECALL.
func (*CBLayoutrecallRes) Op() CBOpNum { return OP_CB_LAYOUTRECALL }

// Stat returns the status.
func (x *CBLayoutrecallRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *CBLayoutrecallRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *CBLayoutrecallRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// CBNotifyArgs is the request of CB_NOTIFY, RFC 8881 section 20.4.
type CBNotifyArgs struct {
	Stateid Stateid
	FH      FH
	Changes []Notify
}

// Op returns OP_CB_NOTIFY.
func (*CBNotifyArgs) Op() CBOpNum { return OP_CB_NOTIFY }

// XDR codes x.
func (x *CBNotifyArgs) XDR(c *xdr.Codec) {
	x.Stateid.XDR(c)
	x.FH.XDR(c)
	xdr.List(c, &x.Changes, maxItems)
}

// CBNotifyRes is the answer to CB_NOTIFY.
type CBNotifyRes struct {
	Status Status
}

// Op returns OP_CB_NOTIFY.
func (*CBNotifyRes) Op() CBOpNum { return OP_CB_NOTIFY }

// Stat returns the status.
func (x *CBNotifyRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *CBNotifyRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *CBNotifyRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// CBPushDelegArgs is the request of CB_PUSH_DELEG, RFC 8881 section 20.5.
type CBPushDelegArgs struct {
	FH         FH
	Delegation OpenDelegation
}

// Op returns OP_CB_PUSH_DELEG.
func (*CBPushDelegArgs) Op() CBOpNum { return OP_CB_PUSH_DELEG }

// XDR codes x.
func (x *CBPushDelegArgs) XDR(c *xdr.Codec) {
	x.FH.XDR(c)
	x.Delegation.XDR(c)
}

// CBPushDelegRes is the answer to CB_PUSH_DELEG.
type CBPushDelegRes struct {
	Status Status
}

// Op returns OP_CB_PUSH_DELEG.
func (*CBPushDelegRes) Op() CBOpNum { return OP_CB_PUSH_DELEG }

// Stat returns the status.
func (x *CBPushDelegRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *CBPushDelegRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *CBPushDelegRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// CBRecallAnyArgs is the request of CB_RECALL_ANY, RFC 8881 section 20.6.
type CBRecallAnyArgs struct {
	ObjectsToKeep uint32
	TypeMask      Bitmap
}

// Op returns OP_CB_RECALL_ANY.
func (*CBRecallAnyArgs) Op() CBOpNum { return OP_CB_RECALL_ANY }

// XDR codes x.
func (x *CBRecallAnyArgs) XDR(c *xdr.Codec) {
	c.Uint32(&x.ObjectsToKeep)
	x.TypeMask.XDR(c)
}

// CBRecallAnyRes is the answer to CB_RECALL_ANY.
type CBRecallAnyRes struct {
	Status Status
}

// Op returns OP_CB_RECALL_ANY.
func (*CBRecallAnyRes) Op() CBOpNum { return OP_CB_RECALL_ANY }

// Stat returns the status.
func (x *CBRecallAnyRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *CBRecallAnyRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *CBRecallAnyRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// CBRecallableObjAvailArgs is the request of CB_RECALLABLE_OBJ_AVAIL, RFC 8881 section 20.7.
type CBRecallableObjAvailArgs struct {
	ObjectsToKeep uint32
	TypeMask      Bitmap
}

// Op returns OP_CB_RECALLABLE_OBJ_AVAIL.
func (*CBRecallableObjAvailArgs) Op() CBOpNum { return OP_CB_RECALLABLE_OBJ_AVAIL }

// XDR codes x.
func (x *CBRecallableObjAvailArgs) XDR(c *xdr.Codec) {
	c.Uint32(&x.ObjectsToKeep)
	x.TypeMask.XDR(c)
}

// CBRecallableObjAvailRes is the answer to CB_RECALLABLE_OBJ_AVAIL.
type CBRecallableObjAvailRes struct {
	Status Status
}

// Op returns OP_CB_RECALLABLE_OBJ_AVAIL.
func (*CBRecallableObjAvailRes) Op() CBOpNum { return OP_CB_RECALLABLE_OBJ_AVAIL }

// Stat returns the status.
func (x *CBRecallableObjAvailRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *CBRecallableObjAvailRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *CBRecallableObjAvailRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// CBRecallSlotArgs is the request of CB_RECALL_SLOT, RFC 8881 section 20.8.
type CBRecallSlotArgs struct {
	TargetHighestSlotID uint32
}

// Op returns OP_CB_RECALL_SLOT.
func (*CBRecallSlotArgs) Op() CBOpNum { return OP_CB_RECALL_SLOT }

// XDR codes x.
func (x *CBRecallSlotArgs) XDR(c *xdr.Codec) {
	c.Uint32(&x.TargetHighestSlotID)
}

// CBRecallSlotRes is the answer to CB_RECALL_SLOT.
type CBRecallSlotRes struct {
	Status Status
}

// Op returns OP_CB_RECALL_SLOT.
func (*CBRecallSlotRes) Op() CBOpNum { return OP_CB_RECALL_SLOT }

// Stat returns the status.
func (x *CBRecallSlotRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *CBRecallSlotRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *CBRecallSlotRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// CBSequenceArgs is the request of CB_SEQUENCE, RFC 8881 section 20.9.
type CBSequenceArgs struct {
	SessionID      SessionID
	SequenceID     uint32
	SlotID         uint32
	HighestSlotID  uint32
	CacheThis      bool
	ReferringCalls []ReferringCallList
}

// Op returns OP_CB_SEQUENCE.
func (*CBSequenceArgs) Op() CBOpNum { return OP_CB_SEQUENCE }

// XDR codes x.
func (x *CBSequenceArgs) XDR(c *xdr.Codec) {
	x.SessionID.XDR(c)
	c.Uint32(&x.SequenceID)
	c.Uint32(&x.SlotID)
	c.Uint32(&x.HighestSlotID)
	c.Bool(&x.CacheThis)
	xdr.List(c, &x.ReferringCalls, maxItems)
}

// CBSequenceRes is the answer to CB_SEQUENCE. The fields after Status are there when it is NFS4_OK.
type CBSequenceRes struct {
	Status              Status
	SessionID           SessionID
	SequenceID          uint32
	SlotID              uint32
	HighestSlotID       uint32
	TargetHighestSlotID uint32
}

// Op returns OP_CB_SEQUENCE.
func (*CBSequenceRes) Op() CBOpNum { return OP_CB_SEQUENCE }

// Stat returns the status.
func (x *CBSequenceRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *CBSequenceRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *CBSequenceRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	x.SessionID.XDR(c)
	c.Uint32(&x.SequenceID)
	c.Uint32(&x.SlotID)
	c.Uint32(&x.HighestSlotID)
	c.Uint32(&x.TargetHighestSlotID)
}

// CBWantsCancelledArgs is the request of CB_WANTS_CANCELLED, RFC 8881 section 20.10.
type CBWantsCancelledArgs struct {
	Contended bool
	Resourced bool
}

// Op returns OP_CB_WANTS_CANCELLED.
func (*CBWantsCancelledArgs) Op() CBOpNum { return OP_CB_WANTS_CANCELLED }

// XDR codes x.
func (x *CBWantsCancelledArgs) XDR(c *xdr.Codec) {
	c.Bool(&x.Contended)
	c.Bool(&x.Resourced)
}

// CBWantsCancelledRes is the answer to CB_WANTS_CANCELLED.
type CBWantsCancelledRes struct {
	Status Status
}

// Op returns OP_CB_WANTS_CANCELLED.
func (*CBWantsCancelledRes) Op() CBOpNum { return OP_CB_WANTS_CANCELLED }

// Stat returns the status.
func (x *CBWantsCancelledRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *CBWantsCancelledRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *CBWantsCancelledRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// CBNotifyLockArgs is the request of CB_NOTIFY_LOCK, RFC 8881 section 20.11.
type CBNotifyLockArgs struct {
	FH    FH
	Owner StateOwner
}

// Op returns OP_CB_NOTIFY_LOCK.
func (*CBNotifyLockArgs) Op() CBOpNum { return OP_CB_NOTIFY_LOCK }

// XDR codes x.
func (x *CBNotifyLockArgs) XDR(c *xdr.Codec) {
	x.FH.XDR(c)
	x.Owner.XDR(c)
}

// CBNotifyLockRes is the answer to CB_NOTIFY_LOCK.
type CBNotifyLockRes struct {
	Status Status
}

// Op returns OP_CB_NOTIFY_LOCK.
func (*CBNotifyLockRes) Op() CBOpNum { return OP_CB_NOTIFY_LOCK }

// Stat returns the status.
func (x *CBNotifyLockRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *CBNotifyLockRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *CBNotifyLockRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// CBNotifyDeviceidArgs is the request of CB_NOTIFY_DEVICEID, RFC 8881 section 20.12.
type CBNotifyDeviceidArgs struct {
	Changes []Notify
}

// Op returns OP_CB_NOTIFY_DEVICEID.
func (*CBNotifyDeviceidArgs) Op() CBOpNum { return OP_CB_NOTIFY_DEVICEID }

// XDR codes x.
func (x *CBNotifyDeviceidArgs) XDR(c *xdr.Codec) {
	xdr.List(c, &x.Changes, maxItems)
}

// CBNotifyDeviceidRes is the answer to CB_NOTIFY_DEVICEID.
type CBNotifyDeviceidRes struct {
	Status Status
}

// Op returns OP_CB_NOTIFY_DEVICEID.
func (*CBNotifyDeviceidRes) Op() CBOpNum { return OP_CB_NOTIFY_DEVICEID }

// Stat returns the status.
func (x *CBNotifyDeviceidRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *CBNotifyDeviceidRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *CBNotifyDeviceidRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// CBOffloadArgs is the request of CB_OFFLOAD, RFC 7862 section 16.1.
type CBOffloadArgs struct {
	FH      FH
	Stateid Stateid
	Info    OffloadInfo
}

// Op returns OP_CB_OFFLOAD.
func (*CBOffloadArgs) Op() CBOpNum { return OP_CB_OFFLOAD }

// XDR codes x.
func (x *CBOffloadArgs) XDR(c *xdr.Codec) {
	x.FH.XDR(c)
	x.Stateid.XDR(c)
	x.Info.XDR(c)
}

// CBOffloadRes is the answer to CB_OFFLOAD.
type CBOffloadRes struct {
	Status Status
}

// Op returns OP_CB_OFFLOAD.
func (*CBOffloadRes) Op() CBOpNum { return OP_CB_OFFLOAD }

// Stat returns the status.
func (x *CBOffloadRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *CBOffloadRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *CBOffloadRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// CBIllegalArgs is the request of CB_ILLEGAL, RFC 8881 section 20.13.
type CBIllegalArgs struct{}

// Op returns OP_CB_ILLEGAL.
func (*CBIllegalArgs) Op() CBOpNum { return OP_CB_ILLEGAL }

// XDR does nothing: there is nothing to code.
func (*CBIllegalArgs) XDR(*xdr.Codec) {}

// CBIllegalRes is the answer to CB_ILLEGAL.
type CBIllegalRes struct {
	Status Status
}

// Op returns OP_CB_ILLEGAL.
func (*CBIllegalRes) Op() CBOpNum { return OP_CB_ILLEGAL }

// Stat returns the status.
func (x *CBIllegalRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *CBIllegalRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *CBIllegalRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }
