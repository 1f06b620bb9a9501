package nfs4

import "holdfast/internal/xdr"

// The operations new in NFSv4.1, in the order of their numbers.

// BackchannelCtlArgs is the request of BACKCHANNEL_CTL, RFC 8881 section 18.33.
type BackchannelCtlArgs struct {
	Program  uint32
	SecParms []CallbackSecParms
}

// Op returns OP_BACKCHANNEL_CTL.
func (*BackchannelCtlArgs) Op() OpNum { return OP_BACKCHANNEL_CTL }

// XDR codes x.
func (x *BackchannelCtlArgs) XDR(c *xdr.Codec) {
	c.Uint32(&x.Program)
	xdr.List(c, &x.SecParms, maxItems)
}

// BackchannelCtlRes is the answer to BACKCHANNEL_CTL.
type BackchannelCtlRes struct {
	Status Status
}

// Op returns OP_BACKCHANNEL_CTL.
func (*BackchannelCtlRes) Op() OpNum { return OP_BACKCHANNEL_CTL }

// Stat returns the status.
func (x *BackchannelCtlRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *BackchannelCtlRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *BackchannelCtlRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// BindConnToSessionArgs is the request of BIND_CONN_TO_SESSION, RFC 8881 section 18.34.
type BindConnToSessionArgs struct {
	SessionID SessionID
	Dir       uint32
	UseRDMA   bool
}

// Op returns OP_BIND_CONN_TO_SESSION.
func (*BindConnToSessionArgs) Op() OpNum { return OP_BIND_CONN_TO_SESSION }

// XDR codes x.
func (x *BindConnToSessionArgs) XDR(c *xdr.Codec) {
	x.SessionID.XDR(c)
	c.Uint32(&x.Dir)
	c.Bool(&x.UseRDMA)
}

// BindConnToSessionRes is the answer to BIND_CONN_TO_SESSION. The fields after Status are there when it is NFS4_OK.
type BindConnToSessionRes struct {
	Status    Status
	SessionID SessionID
	Dir       uint32
	UseRDMA   bool
}

// Op returns OP_BIND_CONN_TO_SESSION.
func (*BindConnToSessionRes) Op() OpNum { return OP_BIND_CONN_TO_SESSION }

// Stat returns the status.
func (x *BindConnToSessionRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *BindConnToSessionRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *BindConnToSessionRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	x.SessionID.XDR(c)
	c.Uint32(&x.Dir)
	c.Bool(&x.UseRDMA)
}

// ExchangeIDArgs is the request of EXCHANGE_ID, RFC 8881 section 18.35.
type ExchangeIDArgs struct {
	Owner        ClientOwner
	Flags        uint32
	StateProtect StateProtectArgs
	ImplID       *ImplID
}

// Op returns OP_EXCHANGE_ID.
func (*ExchangeIDArgs) Op() OpNum { return OP_EXCHANGE_ID }

// XDR codes x.
func (x *ExchangeIDArgs) XDR(c *xdr.Codec) {
	x.Owner.XDR(c)
	c.Uint32(&x.Flags)
	x.StateProtect.XDR(c)
	xdr.Opt(c, &x.ImplID)
}

// ExchangeIDRes is the answer to EXCHANGE_ID. The fields after Status are there when it is NFS4_OK.
type ExchangeIDRes struct {
	Status       Status
	ClientID     uint64
	SequenceID   uint32
	Flags        uint32
	StateProtect StateProtectRes
	ServerOwner  ServerOwner
	ServerScope  string
	ImplID       *ImplID
}

// Op returns OP_EXCHANGE_ID.
func (*ExchangeIDRes) Op() OpNum { return OP_EXCHANGE_ID }

// Stat returns the status.
func (x *ExchangeIDRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *ExchangeIDRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *ExchangeIDRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	c.Uint64(&x.ClientID)
	c.Uint32(&x.SequenceID)
	c.Uint32(&x.Flags)
	x.StateProtect.XDR(c)
	x.ServerOwner.XDR(c)
	c.String(&x.ServerScope, OpaqueLimit)
	xdr.Opt(c, &x.ImplID)
}

// CreateSessionArgs is the request of CREATE_SESSION, RFC 8881 section 18.36.
type CreateSessionArgs struct {
	ClientID  uint64
	Sequence  uint32
	Flags     uint32
	ForeChan  ChannelAttrs
	BackChan  ChannelAttrs
	CBProgram uint32
	SecParms  []CallbackSecParms
}

// Op returns OP_CREATE_SESSION.
func (*CreateSessionArgs) Op() OpNum { return OP_CREATE_SESSION }

// XDR codes x.
func (x *CreateSessionArgs) XDR(c *xdr.Codec) {
	c.Uint64(&x.ClientID)
	c.Uint32(&x.Sequence)
	c.Uint32(&x.Flags)
	x.ForeChan.XDR(c)
	x.BackChan.XDR(c)
	c.Uint32(&x.CBProgram)
	xdr.List(c, &x.SecParms, maxItems)
}

// CreateSessionRes is the answer to CREATE_SESSION. The fields after Status are there when it is NFS4_OK.
type CreateSessionRes struct {
	Status    Status
	SessionID SessionID
	Sequence  uint32
	Flags     uint32
	ForeChan  ChannelAttrs
	BackChan  ChannelAttrs
}

// Op returns OP_CREATE_SESSION.
func (*CreateSessionRes) Op() OpNum { return OP_CREATE_SESSION }

// Stat returns the status.
func (x *CreateSessionRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *CreateSessionRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *CreateSessionRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	x.SessionID.XDR(c)
	c.Uint32(&x.Sequence)
	c.Uint32(&x.Flags)
	x.ForeChan.XDR(c)
	x.BackChan.XDR(c)
}

// DestroySessionArgs is the request of DESTROY_SESSION, RFC 8881 section 18.37.
type DestroySessionArgs struct {
	SessionID SessionID
}

// Op returns OP_DESTROY_SESSION.
func (*DestroySessionArgs) Op() OpNum { return OP_DESTROY_SESSION }

// XDR codes x.
func (x *DestroySessionArgs) XDR(c *xdr.Codec) {
	x.SessionID.XDR(c)
}

// DestroySessionRes is the answer to DESTROY_SESSION.
type DestroySessionRes struct {
	Status Status
}

// Op returns OP_DESTROY_SESSION.
func (*DestroySessionRes) Op() OpNum { return OP_DESTROY_SESSION }

// Stat returns the status.
func (x *DestroySessionRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *DestroySessionRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *DestroySessionRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// FreeStateidArgs is the request of FREE_STATEID, RFC 8881 section 18.38.
type FreeStateidArgs struct {
	Stateid Stateid
}

// Op returns OP_FREE_STATEID.
func (*FreeStateidArgs) Op() OpNum { return OP_FREE_STATEID }

// XDR codes x.
func (x *FreeStateidArgs) XDR(c *xdr.Codec) {
	x.Stateid.XDR(c)
}

// FreeStateidRes is the answer to FREE_STATEID.
type FreeStateidRes struct {
	Status Status
}

// Op returns OP_FREE_STATEID.
func (*FreeStateidRes) Op() OpNum { return OP_FREE_STATEID }

// Stat returns the status.
func (x *FreeStateidRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *FreeStateidRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *FreeStateidRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// GetDirDelegationArgs is the request of GET_DIR_DELEGATION, RFC 8881 section 18.39.
type GetDirDelegationArgs struct {
	SignalAvail    bool
	NotifyTypes    Bitmap
	ChildAttrDelay Time
	DirAttrDelay   Time
	ChildAttrs     Bitmap
	DirAttrs       Bitmap
}

// Op returns OP_GET_DIR_DELEGATION.
func (*GetDirDelegationArgs) Op() OpNum { return OP_GET_DIR_DELEGATION }

// XDR codes x.
func (x *GetDirDelegationArgs) XDR(c *xdr.Codec) {
	c.Bool(&x.SignalAvail)
	x.NotifyTypes.XDR(c)
	x.ChildAttrDelay.XDR(c)
	x.DirAttrDelay.XDR(c)
	x.ChildAttrs.XDR(c)
	x.DirAttrs.XDR(c)
}

// Op returns OP_GET_DIR_DELEGATION.
func (*GetDirDelegationRes) Op() OpNum { return OP_GET_DIR_DELEGATION }

// Stat returns the status.
func (x *GetDirDelegationRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *GetDirDelegationRes) SetStat(s Status) { x.Status = s }

// GetdeviceinfoArgs is the request of GETDEVICEINFO, RFC 8881 section 18.40.
type GetdeviceinfoArgs struct {
	DeviceID    DeviceID
	LayoutType  uint32
	MaxCount    uint32
	NotifyTypes Bitmap
}

// Op returns OP_GETDEVICEINFO.
func (*GetdeviceinfoArgs) Op() OpNum { return OP_GETDEVICEINFO }

// XDR codes x.
func (x *GetdeviceinfoArgs) XDR(c *xdr.Codec) {
	x.DeviceID.XDR(c)
	c.Uint32(&x.LayoutType)
	c.Uint32(&x.MaxCount)
	x.NotifyTypes.XDR(c)
}

// Op returns OP_GETDEVICEINFO.
func (*GetdeviceinfoRes) Op() OpNum { return OP_GETDEVICEINFO }

// Stat returns the status.
func (x *GetdeviceinfoRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *GetdeviceinfoRes) SetStat(s Status) { x.Status = s }

// GetdevicelistArgs is the request of GETDEVICELIST, RFC 8881 section 18.41.
type GetdevicelistArgs struct {
	LayoutType uint32
	MaxDevices uint32
	Cookie     uint64
	CookieVerf Verifier
}

// Op returns OP_GETDEVICELIST.
func (*GetdevicelistArgs) Op() OpNum { return OP_GETDEVICELIST }

// XDR codes x.
func (x *GetdevicelistArgs) XDR(c *xdr.Codec) {
	c.Uint32(&x.LayoutType)
	c.Uint32(&x.MaxDevices)
	c.Uint64(&x.Cookie)
	x.CookieVerf.XDR(c)
}

// GetdevicelistRes is the answer to GETDEVICELIST. The fields after Status are there when it is NFS4_OK.
type GetdevicelistRes struct {
	Status     Status
	Cookie     uint64
	CookieVerf Verifier
	DeviceIDs  []DeviceID
	EOF        bool
}

// Op returns OP_GETDEVICELIST.
func (*GetdevicelistRes) Op() OpNum { return OP_GETDEVICELIST }

// Stat returns the status.
func (x *GetdevicelistRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *GetdevicelistRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *GetdevicelistRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	c.Uint64(&x.Cookie)
	x.CookieVerf.XDR(c)
	xdr.List(c, &x.DeviceIDs, maxItems)
	c.Bool(&x.EOF)
}

// LayoutcommitArgs is the request of LAYOUTCOMMIT, RFC 8881 section 18.42.
type LayoutcommitArgs struct {
	Offset          uint64
	Length          uint64
	Reclaim         bool
	Stateid         Stateid
	LastWriteOffset *uint64
	TimeModify      *Time
	Update          TypedBody
}

// Op returns OP_LAYOUTCOMMIT.
func (*LayoutcommitArgs) Op() OpNum { return OP_LAYOUTCOMMIT }

// XDR codes x.
func (x *LayoutcommitArgs) XDR(c *xdr.Codec) {
	c.Uint64(&x.Offset)
	c.Uint64(&x.Length)
	c.Bool(&x.Reclaim)
	x.Stateid.XDR(c)
	xdr.Optional(c, &x.LastWriteOffset, (*xdr.Codec).Uint64)
	xdr.Opt(c, &x.TimeModify)
	x.Update.XDR(c)
}

// LayoutcommitRes is the answer to LAYOUTCOMMIT. The fields after Status are there when it is NFS4_OK.
type LayoutcommitRes struct {
	Status  Status
	NewSize *uint64
}

// Op returns OP_LAYOUTCOMMIT.
func (*LayoutcommitRes) Op() OpNum { return OP_LAYOUTCOMMIT }

// Stat returns the status.
func (x *LayoutcommitRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *LayoutcommitRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *LayoutcommitRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	xdr.Optional(c, &x.NewSize, (*xdr.Codec).Uint64)
}

// LayoutgetArgs is the request of LAYOUTGET, RFC 8881 section 18.43.
type LayoutgetArgs struct {
	SignalAvail bool
	LayoutType  uint32
	IOMode      uint32
	Offset      uint64
	Length      uint64
	MinLength   uint64
	Stateid     Stateid
	MaxCount    uint32
}

// Op returns OP_LAYOUTGET.
func (*LayoutgetArgs) Op() OpNum { return OP_LAYOUTGET }

// XDR codes x.
func (x *LayoutgetArgs) XDR(c *xdr.Codec) {
	c.Bool(&x.SignalAvail)
	c.Uint32(&x.LayoutType)
	c.Uint32(&x.IOMode)
	c.Uint64(&x.Offset)
	c.Uint64(&x.Length)
	c.Uint64(&x.MinLength)
	x.Stateid.XDR(c)
	c.Uint32(&x.MaxCount)
}

// Op returns OP_LAYOUTGET.
func (*LayoutgetRes) Op() OpNum { return OP_LAYOUTGET }

// Stat returns the status.
func (x *LayoutgetRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *LayoutgetRes) SetStat(s Status) { x.Status = s }

// LayoutreturnArgs is the request of LAYOUTRETURN, RFC 8881 section 18.44.
type LayoutreturnArgs struct {
	Reclaim    bool
	LayoutType uint32
	IOMode     uint32
	Return     LayoutReturn
}

// Op returns OP_LAYOUTRETURN.
func (*LayoutreturnArgs) Op() OpNum { return OP_LAYOUTRETURN }

// XDR codes x.
func (x *LayoutreturnArgs) XDR(c *xdr.Codec) {
	c.Bool(&x.Reclaim)
	c.Uint32(&x.LayoutType)
	c.Uint32(&x.IOMode)
	x.Return.XDR(c)
}

// LayoutreturnRes is the answer to LAYOUTRETURN. The fields after Status are there when it is NFS4_OK.
type LayoutreturnRes struct {
	Status  Status
	Stateid *Stateid
}

// Op returns OP_LAYOUTRETURN.
func (*LayoutreturnRes) Op() OpNum { return OP_LAYOUTRETURN }

// Stat returns the status.
func (x *LayoutreturnRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *LayoutreturnRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *LayoutreturnRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	xdr.Opt(c, &x.Stateid)
}

// SecinfoNoNameArgs is the request of SECINFO_NO_NAME, RFC 8881 section 18.45.
type SecinfoNoNameArgs struct {
	Style uint32
}

// Op returns OP_SECINFO_NO_NAME.
func (*SecinfoNoNameArgs) Op() OpNum { return OP_SECINFO_NO_NAME }

// XDR codes x.
func (x *SecinfoNoNameArgs) XDR(c *xdr.Codec) {
	c.Uint32(&x.Style)
}

// SecinfoNoNameRes is the answer to SECINFO_NO_NAME. The fields after Status are there when it is NFS4_OK.
type SecinfoNoNameRes struct {
	Status  Status
	Flavors []SecinfoEntry
}

// Op returns OP_SECINFO_NO_NAME.
func (*SecinfoNoNameRes) Op() OpNum { return OP_SECINFO_NO_NAME }

// Stat returns the status.
func (x *SecinfoNoNameRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *SecinfoNoNameRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *SecinfoNoNameRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	xdr.List(c, &x.Flavors, maxItems)
}

// SequenceArgs is the request of SEQUENCE, RFC 8881 section 18.46.
type SequenceArgs struct {
	SessionID     SessionID
	SequenceID    uint32
	SlotID        uint32
	HighestSlotID uint32
	CacheThis     bool
}

// Op returns OP_SEQUENCE.
func (*SequenceArgs) Op() OpNum { return OP_SEQUENCE }

// XDR codes x.
func (x *SequenceArgs) XDR(c *xdr.Codec) {
	x.SessionID.XDR(c)
	c.Uint32(&x.SequenceID)
	c.Uint32(&x.SlotID)
	c.Uint32(&x.HighestSlotID)
	c.Bool(&x.CacheThis)
}

// SequenceRes is the answer to SEQUENCE. The fields after Status are there when it is NFS4_OK.
type SequenceRes struct {
	Status              Status
	SessionID           SessionID
	SequenceID          uint32
	SlotID              uint32
	HighestSlotID       uint32
	TargetHighestSlotID uint32
	StatusFlags         uint32
}

// Op returns OP_SEQUENCE.
func (*SequenceRes) Op() OpNum { return OP_SEQUENCE }

// Stat returns the status.
func (x *SequenceRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *SequenceRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *SequenceRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	x.SessionID.XDR(c)
	c.Uint32(&x.SequenceID)
	c.Uint32(&x.SlotID)
	c.Uint32(&x.HighestSlotID)
	c.Uint32(&x.TargetHighestSlotID)
	c.Uint32(&x.StatusFlags)
}

// SetSsvArgs is the request of SET_SSV, RFC 8881 section 18.47.
type SetSsvArgs struct {
	SSV    []byte
	Digest []byte
}

// Op returns OP_SET_SSV.
func (*SetSsvArgs) Op() OpNum { return OP_SET_SSV }

// XDR codes x.
func (x *SetSsvArgs) XDR(c *xdr.Codec) {
	c.Opaque(&x.SSV, maxData)
	c.Opaque(&x.Digest, maxData)
}

// SetSsvRes is the answer to SET_SSV. The fields after Status are there when it is NFS4_OK.
type SetSsvRes struct {
	Status Status
	Digest []byte
}

// Op returns OP_SET_SSV.
func (*SetSsvRes) Op() OpNum { return OP_SET_SSV }

// Stat returns the status.
func (x *SetSsvRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *SetSsvRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *SetSsvRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	c.Opaque(&x.Digest, maxData)
}

// TestStateidArgs is the request of TEST_STATEID, RFC 8881 section 18.48.
type TestStateidArgs struct {
	Stateids []Stateid
}

// Op returns OP_TEST_STATEID.
func (*TestStateidArgs) Op() OpNum { return OP_TEST_STATEID }

// XDR codes x.
func (x *TestStateidArgs) XDR(c *xdr.Codec) {
	xdr.List(c, &x.Stateids, maxItems)
}

// TestStateidRes is the answer to TEST_STATEID. The fields after Status are there when it is NFS4_OK.
type TestStateidRes struct {
	Status      Status
	StatusCodes []Status
}

// Op returns OP_TEST_STATEID.
func (*TestStateidRes) Op() OpNum { return OP_TEST_STATEID }

// Stat returns the status.
func (x *TestStateidRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *TestStateidRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *TestStateidRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	xdr.List(c, &x.StatusCodes, maxItems)
}

// WantDelegationArgs is the request of WANT_DELEGATION, RFC 8881 section 18.49.
type WantDelegationArgs struct {
	Want  uint32
	Claim DelegClaim
}

// Op returns OP_WANT_DELEGATION.
func (*WantDelegationArgs) Op() OpNum { return OP_WANT_DELEGATION }

// XDR codes x.
func (x *WantDelegationArgs) XDR(c *xdr.Codec) {
	c.Uint32(&x.Want)
	x.Claim.XDR(c)
}

// WantDelegationRes is the answer to WANT_DELEGATION. The fields after Status are there when it is NFS4_OK.
type WantDelegationRes struct {
	Status     Status
	Delegation OpenDelegation
}

// Op returns OP_WANT_DELEGATION.
func (*WantDelegationRes) Op() OpNum { return OP_WANT_DELEGATION }

// Stat returns the status.
func (x *WantDelegationRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *WantDelegationRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *WantDelegationRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	x.Delegation.XDR(c)
}

// DestroyClientidArgs is the request of DESTROY_CLIENTID, RFC 8881 section 18.50.
type DestroyClientidArgs struct {
	ClientID uint64
}

// Op returns OP_DESTROY_CLIENTID.
func (*DestroyClientidArgs) Op() OpNum { return OP_DESTROY_CLIENTID }

// XDR codes x.
func (x *DestroyClientidArgs) XDR(c *xdr.Codec) {
	c.Uint64(&x.ClientID)
}

// DestroyClientidRes is the answer to DESTROY_CLIENTID.
type DestroyClientidRes struct {
	Status Status
}

// Op returns OP_DESTROY_CLIENTID.
func (*DestroyClientidRes) Op() OpNum { return OP_DESTROY_CLIENTID }

// Stat returns the status.
func (x *DestroyClientidRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *DestroyClientidRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *DestroyClientidRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }

// ReclaimCompleteArgs is the request of RECLAIM_COMPLETE, RFC 8881 section 18.51.
type ReclaimCompleteArgs struct {
	OneFS bool
}

// Op returns OP_RECLAIM_COMPLETE.
func (*ReclaimCompleteArgs) Op() OpNum { return OP_RECLAIM_COMPLETE }

// XDR codes x.
func (x *ReclaimCompleteArgs) XDR(c *xdr.Codec) {
	c.Bool(&x.OneFS)
}

// ReclaimCompleteRes is the answer to RECLAIM_COMPLETE.
type ReclaimCompleteRes struct {
	Status Status
}

// Op returns OP_RECLAIM_COMPLETE.
func (*ReclaimCompleteRes) Op() OpNum { return OP_RECLAIM_COMPLETE }

// Stat returns the status.
func (x *ReclaimCompleteRes) Stat() Status { return x.Status }

// SetStat sets the status.
func (x *ReclaimCompleteRes) SetStat(s Status) { x.Status = s }

// XDR codes x.
func (x *ReclaimCompleteRes) XDR(c *xdr.Codec) { x.Status.XDR(c) }
