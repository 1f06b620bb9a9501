package nfs4

import "holdfast/internal/xdr"

// A CreateType is createtype4. Link counts for NF4LNK, Dev for NF4BLK and NF4CHR.
type CreateType struct {
	Type FileType
	Link string
	Dev  SpecData
}

// XDR codes t.
func (t *CreateType) XDR(c *xdr.Codec) {
	t.Type.XDR(c)
	switch t.Type {
	case NF4LNK:
		c.String(&t.Link, maxName)
	case NF4BLK, NF4CHR:
		t.Dev.XDR(c)
	}
}

// A Locker is locker4. With NewLockOwner the lock-owner is introduced under an open: OpenSeqid,
// OpenStateid, LockSeqid, LockOwner count; without, LockStateid and LockSeqid.
type Locker struct {
	NewLockOwner bool
	OpenSeqid    uint32
	OpenStateid  Stateid
	LockSeqid    uint32
	LockOwner    StateOwner
	LockStateid  Stateid
}

// XDR codes l.
func (l *Locker) XDR(c *xdr.Codec) {
	c.Bool(&l.NewLockOwner)
	if l.NewLockOwner {
		c.Uint32(&l.OpenSeqid)
		l.OpenStateid.XDR(c)
		c.Uint32(&l.LockSeqid)
		l.LockOwner.XDR(c)
		return
	}
	l.LockStateid.XDR(c)
	c.Uint32(&l.LockSeqid)
}

// A LockDenied is LOCK4denied: a lock that stands in the way.
type LockDenied struct {
	Offset, Length uint64
	LockType       LockType
	Owner          StateOwner
}

// XDR codes d.
func (d *LockDenied) XDR(c *xdr.Codec) {
	c.Uint64(&d.Offset)
	c.Uint64(&d.Length)
	d.LockType.XDR(c)
	d.Owner.XDR(c)
}

// Values of OpenHow.Type and OpenHow.Mode.
const (
	OPEN4_NOCREATE = 0
	OPEN4_CREATE   = 1

	UNCHECKED4   = 0
	GUARDED4     = 1
	EXCLUSIVE4   = 2
	EXCLUSIVE4_1 = 3
)

// An OpenHow is openflag4 with its createhow4. Mode counts for OPEN4_CREATE; Attrs for all modes but
// EXCLUSIVE4; Verf for the two exclusive ones.
type OpenHow struct {
	Type  uint32
	Mode  uint32
	Verf  Verifier
	Attrs Fattr
}

// XDR codes h.
func (h *OpenHow) XDR(c *xdr.Codec) {
	enum(c, &h.Type, 0, 1, "opentype4")
	if h.Type != OPEN4_CREATE {
		return
	}
	enum(c, &h.Mode, 0, 3, "createmode4")
	if h.Mode == EXCLUSIVE4 || h.Mode == EXCLUSIVE4_1 {
		h.Verf.XDR(c)
	}
	if h.Mode != EXCLUSIVE4 {
		h.Attrs.XDR(c)
	}
}

// Values of OpenClaim.Type and of DelegClaim.Type.
const (
	CLAIM_NULL          = 0
	CLAIM_PREVIOUS      = 1
	CLAIM_DELEGATE_CUR  = 2
	CLAIM_DELEGATE_PREV = 3
	CLAIM_FH            = 4
	CLAIM_DELEG_CUR_FH  = 5
	CLAIM_DELEG_PREV_FH = 6
)

// Values of OpenDelegation.Type and of OpenClaim.DelegateType.
const (
	OPEN_DELEGATE_NONE     = 0
	OPEN_DELEGATE_READ     = 1
	OPEN_DELEGATE_WRITE    = 2
	OPEN_DELEGATE_NONE_EXT = 3
)

// An OpenClaim is open_claim4. File counts for CLAIM_NULL, CLAIM_DELEGATE_CUR and CLAIM_DELEGATE_PREV;
// DelegateType for CLAIM_PREVIOUS; DelegateStateid for the two CUR.
type OpenClaim struct {
	Type            uint32
	File            string
	DelegateType    uint32
	DelegateStateid Stateid
}

// XDR codes o.
func (o *OpenClaim) XDR(c *xdr.Codec) {
	enum(c, &o.Type, 0, 6, "open_claim_type4")
	switch o.Type {
	case CLAIM_NULL, CLAIM_DELEGATE_PREV:
		c.String(&o.File, maxName)
	case CLAIM_PREVIOUS:
		enum(c, &o.DelegateType, 0, 3, "open_delegation_type4")
	case CLAIM_DELEGATE_CUR:
		o.DelegateStateid.XDR(c)
		c.String(&o.File, maxName)
	case CLAIM_DELEG_CUR_FH:
		o.DelegateStateid.XDR(c)
	}
}

// A DelegClaim is deleg_claim4. DelegateType counts for CLAIM_PREVIOUS.
type DelegClaim struct {
	Type         uint32
	DelegateType uint32
}

// XDR codes d.
func (d *DelegClaim) XDR(c *xdr.Codec) {
	c.Uint32(&d.Type)
	switch d.Type {
	case CLAIM_PREVIOUS:
		enum(c, &d.DelegateType, 0, 3, "open_delegation_type4")
	case CLAIM_FH, CLAIM_DELEG_PREV_FH:
	default:
		c.Failf("deleg_claim4 is %d", d.Type)
	}
}

// Values of SpaceLimit.By.
const (
	NFS_LIMIT_SIZE   = 1
	NFS_LIMIT_BLOCKS = 2
)

// A SpaceLimit is nfs_space_limit4.
type SpaceLimit struct {
	By            uint32
	FileSize      uint64 // NFS_LIMIT_SIZE
	NumBlocks     uint32 // NFS_LIMIT_BLOCKS
	BytesPerBlock uint32 // NFS_LIMIT_BLOCKS
}

// XDR codes s.
func (s *SpaceLimit) XDR(c *xdr.Codec) {
	enum(c, &s.By, 1, 2, "limit_by4")
	if s.By == NFS_LIMIT_BLOCKS {
		c.Uint32(&s.NumBlocks)
		c.Uint32(&s.BytesPerBlock)
	} else {
		c.Uint64(&s.FileSize)
	}
}

// Values of OpenDelegation.Why.
const (
	WND4_NOT_WANTED                 = 0
	WND4_CONTENTION                 = 1
	WND4_RESOURCE                   = 2
	WND4_NOT_SUPP_FTYPE             = 3
	WND4_WRITE_DELEG_NOT_SUPP_FTYPE = 4
	WND4_NOT_SUPP_UPGRADE           = 5
	WND4_NOT_SUPP_DOWNGRADE         = 6
	WND4_CANCELLED                  = 7
	WND4_IS_DIR                     = 8
)

// An OpenDelegation is open_delegation4. Stateid, Recall and Permissions count for a read and a
// write delegation, SpaceLimit for the latter, Why for OPEN_DELEGATE_NONE_EXT, and Will for
// WND4_CONTENTION (the server will push it) and WND4_RESOURCE (it will say when there is one).
type OpenDelegation struct {
	Type        uint32
	Stateid     Stateid
	Recall      bool
	SpaceLimit  SpaceLimit
	Permissions ACE
	Why         uint32
	Will        bool
}

// XDR codes d.
func (d *OpenDelegation) XDR(c *xdr.Codec) {
	enum(c, &d.Type, 0, 3, "open_delegation_type4")
	switch d.Type {
	case OPEN_DELEGATE_READ, OPEN_DELEGATE_WRITE:
		d.Stateid.XDR(c)
		c.Bool(&d.Recall)
		if d.Type == OPEN_DELEGATE_WRITE {
			d.SpaceLimit.XDR(c)
		}
		d.Permissions.XDR(c)
	case OPEN_DELEGATE_NONE_EXT:
		c.Uint32(&d.Why)
		if d.Why == WND4_CONTENTION || d.Why == WND4_RESOURCE {
			c.Bool(&d.Will)
		}
	}
}

// Security flavours of RPC, and the services of RPCSEC_GSS.
const (
	AUTH_NONE  = 0
	AUTH_SYS   = 1
	RPCSEC_GSS = 6

	RPC_GSS_SVC_NONE      = 1
	RPC_GSS_SVC_INTEGRITY = 2
	RPC_GSS_SVC_PRIVACY   = 3
)

// A SecinfoEntry is secinfo4. All but Flavor counts for RPCSEC_GSS only.
type SecinfoEntry struct {
	Flavor  uint32
	OID     []byte
	QOP     uint32
	Service uint32
}

// XDR codes s.
func (s *SecinfoEntry) XDR(c *xdr.Codec) {
	c.Uint32(&s.Flavor)
	if s.Flavor == RPCSEC_GSS {
		c.Opaque(&s.OID, maxData)
		c.Uint32(&s.QOP)
		enum(c, &s.Service, 1, 3, "rpc_gss_svc_t")
	}
}

// An AuthSys is authsys_parms, RFC 5531 appendix A.
type AuthSys struct {
	Stamp    uint32
	Machine  string // at most 255 bytes
	UID, GID uint32
	Groups   []uint32 // at most 16
}

// XDR codes a.
func (a *AuthSys) XDR(c *xdr.Codec) {
	c.Uint32(&a.Stamp)
	c.String(&a.Machine, 255)
	c.Uint32(&a.UID)
	c.Uint32(&a.GID)
	xdr.Slice(c, &a.Groups, 16, (*xdr.Codec).Uint32)
}

// A CallbackSecParms is callback_sec_parms4: Sys counts for AUTH_SYS, the handles for RPCSEC_GSS.
type CallbackSecParms struct {
	Flavor           uint32
	Sys              AuthSys
	Service          uint32
	HandleFromServer []byte
	HandleFromClient []byte
}

// XDR codes p.
func (p *CallbackSecParms) XDR(c *xdr.Codec) {
	c.Uint32(&p.Flavor)
	switch p.Flavor {
	case AUTH_NONE:
	case AUTH_SYS:
		p.Sys.XDR(c)
	case RPCSEC_GSS:
		enum(c, &p.Service, 1, 3, "rpc_gss_svc_t")
		c.Opaque(&p.HandleFromServer, maxData)
		c.Opaque(&p.HandleFromClient, maxData)
	default:
		c.Failf("callback_sec_parms4 is of flavour %d", p.Flavor)
	}
}

// Values of the direction in BIND_CONN_TO_SESSION: CDFC4 is asked, CDFS4 is granted.
const (
	CDFC4_FORE         = 1
	CDFC4_BACK         = 2
	CDFC4_FORE_OR_BOTH = 3
	CDFC4_BACK_OR_BOTH = 7

	CDFS4_FORE = 1
	CDFS4_BACK = 2
	CDFS4_BOTH = 3
)

// Values of the How of state protection, RFC 8881 section 2.10.8.3.
const (
	SP4_NONE      = 0
	SP4_MACH_CRED = 1
	SP4_SSV       = 2
)

// A StateProtectArgs is state_protect4_a. The two sets count for all but SP4_NONE, the rest for SP4_SSV.
type StateProtectArgs struct {
	How           uint32
	MustEnforce   Bitmap // of operations
	MustAllow     Bitmap
	HashAlgs      [][]byte
	EncrAlgs      [][]byte
	Window        uint32
	NumGSSHandles uint32
}

// XDR codes s.
func (s *StateProtectArgs) XDR(c *xdr.Codec) {
	enum(c, &s.How, 0, 2, "state_protect_how4")
	if s.How == SP4_NONE {
		return
	}
	s.MustEnforce.XDR(c)
	s.MustAllow.XDR(c)
	if s.How == SP4_SSV {
		xdr.Slice(c, &s.HashAlgs, maxItems, codeOpaque)
		xdr.Slice(c, &s.EncrAlgs, maxItems, codeOpaque)
		c.Uint32(&s.Window)
		c.Uint32(&s.NumGSSHandles)
	}
}

// codeOpaque is an opaque as an element of an array.
func codeOpaque(c *xdr.Codec, b *[]byte) { c.Opaque(b, maxData) }

// A StateProtectRes is state_protect4_r. The two sets count for all but SP4_NONE, the rest for SP4_SSV.
type StateProtectRes struct {
	How         uint32
	MustEnforce Bitmap // of operations
	MustAllow   Bitmap
	HashAlg     uint32
	EncrAlg     uint32
	SSVLen      uint32
	Window      uint32
	Handles     [][]byte
}

// XDR codes s.
func (s *StateProtectRes) XDR(c *xdr.Codec) {
	enum(c, &s.How, 0, 2, "state_protect_how4")
	if s.How == SP4_NONE {
		return
	}
	s.MustEnforce.XDR(c)
	s.MustAllow.XDR(c)
	if s.How == SP4_SSV {
		c.Uint32(&s.HashAlg)
		c.Uint32(&s.EncrAlg)
		c.Uint32(&s.SSVLen)
		c.Uint32(&s.Window)
		xdr.Slice(c, &s.Handles, maxItems, codeOpaque)
	}
}

// A ChannelAttrs is channel_attrs4, RFC 8881 section 18.36.
type ChannelAttrs struct {
	HeaderPadSize         uint32 // bytes, as the next three
	MaxRequestSize        uint32
	MaxResponseSize       uint32
	MaxResponseSizeCached uint32
	MaxOperations         uint32
	MaxRequests           uint32 // slots
	RDMAIrd               *uint32
}

// XDR codes a.
func (a *ChannelAttrs) XDR(c *xdr.Codec) {
	c.Uint32(&a.HeaderPadSize)
	c.Uint32(&a.MaxRequestSize)
	c.Uint32(&a.MaxResponseSize)
	c.Uint32(&a.MaxResponseSizeCached)
	c.Uint32(&a.MaxOperations)
	c.Uint32(&a.MaxRequests)
	xdr.Optional(c, &a.RDMAIrd, (*xdr.Codec).Uint32)
}

// Values of LayoutReturn.Type and LayoutRecall.Type.
const (
	LAYOUT4_RET_REC_FILE = 1
	LAYOUT4_RET_REC_FSID = 2
	LAYOUT4_RET_REC_ALL  = 3
)

// Values of IOMode.
const (
	LAYOUTIOMODE4_READ = 1
	LAYOUTIOMODE4_RW   = 2
	LAYOUTIOMODE4_ANY  = 3
)

// Values of SecinfoNoNameArgs.Style.
const (
	SECINFO_STYLE4_CURRENT_FH = 0
	SECINFO_STYLE4_PARENT     = 1
)

// A LayoutReturn is layoutreturn4. All but Type counts for LAYOUT4_RET_REC_FILE only.
type LayoutReturn struct {
	Type           uint32
	Offset, Length uint64
	Stateid        Stateid
	Body           []byte
}

// XDR codes l.
func (l *LayoutReturn) XDR(c *xdr.Codec) {
	c.Uint32(&l.Type)
	if l.Type == LAYOUT4_RET_REC_FILE {
		c.Uint64(&l.Offset)
		c.Uint64(&l.Length)
		l.Stateid.XDR(c)
		c.Opaque(&l.Body, maxData)
	}
}

// A Layout is layout4.
type Layout struct {
	Offset, Length uint64
	IOMode         uint32
	Content        TypedBody
}

// XDR codes l.
func (l *Layout) XDR(c *xdr.Codec) {
	c.Uint64(&l.Offset)
	c.Uint64(&l.Length)
	c.Uint32(&l.IOMode)
	l.Content.XDR(c)
}

// A DeviceError is device_error4, RFC 7862 section 15.6.
type DeviceError struct {
	DeviceID DeviceID
	Status   Status
	OpNum    OpNum
}

// XDR codes e.
func (e *DeviceError) XDR(c *xdr.Codec) {
	e.DeviceID.XDR(c)
	e.Status.XDR(c)
	e.OpNum.XDR(c)
}

// Values of SeekArgs.What and ReadPlusContent.Type.
const (
	NFS4_CONTENT_DATA = 0
	NFS4_CONTENT_HOLE = 1
)

// A ReadPlusContent is read_plus_content: Data counts for data, Length for a hole.
type ReadPlusContent struct {
	Type   uint32
	Offset uint64
	Data   []byte
	Length uint64
}

// XDR codes r.
func (r *ReadPlusContent) XDR(c *xdr.Codec) {
	enum(c, &r.Type, 0, 1, "data_content4")
	c.Uint64(&r.Offset)
	if r.Type == NFS4_CONTENT_DATA {
		c.Payload(&r.Data, maxData)
	} else {
		c.Uint64(&r.Length)
	}
}

// Values of SetxattrArgs.Option.
const (
	SETXATTR4_EITHER  = 0
	SETXATTR4_CREATE  = 1
	SETXATTR4_REPLACE = 2
)

// Bit numbers of the hints of IO_ADVISE.
const (
	IO_ADVISE4_NORMAL                 = 0
	IO_ADVISE4_SEQUENTIAL             = 1
	IO_ADVISE4_SEQUENTIAL_BACKWARDS   = 2
	IO_ADVISE4_RANDOM                 = 3
	IO_ADVISE4_WILLNEED               = 4
	IO_ADVISE4_WILLNEED_OPPORTUNISTIC = 5
	IO_ADVISE4_DONTNEED               = 6
	IO_ADVISE4_NOREUSE                = 7
	IO_ADVISE4_READ                   = 8
	IO_ADVISE4_WRITE                  = 9
	IO_ADVISE4_INIT_PROXIMITY         = 10
)

// A LayoutRecall is layoutrecall4. FSID counts for LAYOUT4_RET_REC_FSID, the rest for LAYOUT4_RET_REC_FILE.
type LayoutRecall struct {
	Type           uint32
	FH             FH
	Offset, Length uint64
	Stateid        Stateid
	FSID           FSID
}

// XDR codes l.
func (l *LayoutRecall) XDR(c *xdr.Codec) {
	enum(c, &l.Type, 1, 3, "layoutrecall_type4")
	switch l.Type {
	case LAYOUT4_RET_REC_FILE:
		l.FH.XDR(c)
		c.Uint64(&l.Offset)
		c.Uint64(&l.Length)
		l.Stateid.XDR(c)
	case LAYOUT4_RET_REC_FSID:
		l.FSID.XDR(c)
	}
}

// A Notify is notify4: Values holds one notification for each bit of Mask.
type Notify struct {
	Mask   Bitmap
	Values []byte
}

// XDR codes n.
func (n *Notify) XDR(c *xdr.Codec) {
	n.Mask.XDR(c)
	c.Opaque(&n.Values, maxData)
}

// A ReferringCall is referring_call4.
type ReferringCall struct{ SequenceID, SlotID uint32 }

// XDR codes r.
func (r *ReferringCall) XDR(c *xdr.Codec) {
	c.Uint32(&r.SequenceID)
	c.Uint32(&r.SlotID)
}

// A ReferringCallList is referring_call_list4.
type ReferringCallList struct {
	SessionID SessionID
	Calls     []ReferringCall
}

// XDR codes r.
func (r *ReferringCallList) XDR(c *xdr.Codec) {
	r.SessionID.XDR(c)
	xdr.List(c, &r.Calls, maxItems)
}

// An OffloadInfo is offload_info4: Response counts for NFS4_OK, BytesCopied for all else.
type OffloadInfo struct {
	Status      Status
	Response    WriteResponse
	BytesCopied uint64
}

// XDR codes o.
func (o *OffloadInfo) XDR(c *xdr.Codec) {
	o.Status.XDR(c)
	if o.Status == NFS4_OK {
		o.Response.XDR(c)
	} else {
		c.Uint64(&o.BytesCopied)
	}
}
