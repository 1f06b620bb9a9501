package nfs4

import (
	"encoding/hex"
	"fmt"

	"holdfast/internal/xdr"
)

// Program and version numbers, RFC 8881 section 16. The callback program is the client's choice.
const (
	Program   = 100003
	Version   = 4
	CBProgram = 0x40000000
	CBVersion = 1

	// ProcNull and ProcCompound are the two procedures, of both programs.
	ProcNull     = 0
	ProcCompound = 1
)

// Sizes, in bytes.
const (
	FHSize      = 128  // of a filehandle, at most
	OpaqueLimit = 1024 // of an owner, at most
)

// Ends of ranges.
const (
	MaxFileLen = 0xffffffffffffffff // a length that means "to the end", NFS4_UINT64_MAX
	MaxFileOff = 0xfffffffffffffffe
)

// Limits where the RFC has none. The size of the record is the real one.
const (
	maxName  = 65536
	maxData  = 1<<31 - 1
	maxItems = 1<<31 - 1
)

// codeName is a name as an element of an array.
func codeName(c *xdr.Codec, s *string) { c.String(s, maxName) }

// enum is an enumeration with values from low to high.
func enum(c *xdr.Codec, v *uint32, low, high uint32, what string) {
	c.Uint32(v)
	if *v-low > high-low {
		c.Failf("%s is %d", what, *v)
	}
}

// An FH is a filehandle: up to FHSize arbitrary bytes. It is a value: it can be a key, and kept.
type FH string

// XDR codes f.
func (f *FH) XDR(c *xdr.Codec) { c.String((*string)(f), FHSize) }

// String returns f in hexadecimal.
func (f FH) String() string { return hex.EncodeToString([]byte(f)) }

// A Verifier tells one instance of something from another.
type Verifier [8]byte

// XDR codes v.
func (v *Verifier) XDR(c *xdr.Codec) { c.Fixed(v[:]) }

// A SessionID names a session at its server.
type SessionID [16]byte

// XDR codes s.
func (s *SessionID) XDR(c *xdr.Codec) { c.Fixed(s[:]) }

// String returns s in hexadecimal.
func (s SessionID) String() string { return hex.EncodeToString(s[:]) }

// A DeviceID names a pNFS device.
type DeviceID [16]byte

// XDR codes d.
func (d *DeviceID) XDR(c *xdr.Codec) { c.Fixed(d[:]) }

// A Stateid names an open, a lock, a delegation or a layout, RFC 8881 section 8.2. It is comparable.
type Stateid struct {
	Seqid uint32
	Other [12]byte
}

// XDR codes s.
func (s *Stateid) XDR(c *xdr.Codec) {
	c.Uint32(&s.Seqid)
	c.Fixed(s.Other[:])
}

// String returns the sequence number and the rest in hexadecimal.
func (s Stateid) String() string { return fmt.Sprintf("%d:%x", s.Seqid, s.Other) }

// The special stateids, RFC 8881 section 8.2.3.
var (
	AnonymousStateid  = Stateid{}
	ReadBypassStateid = Stateid{Seqid: 0xffffffff, Other: [12]byte{
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}
	CurrentStateid = Stateid{Seqid: 1}
	InvalidStateid = Stateid{Seqid: 0xffffffff}
)

// A Time is nfstime4: seconds since 1970, and nanoseconds below 10^9 (not checked here).
type Time struct {
	Sec  int64
	Nsec uint32
}

// XDR codes t.
func (t *Time) XDR(c *xdr.Codec) {
	c.Int64(&t.Sec)
	c.Uint32(&t.Nsec)
}

// Values of SetTime.How.
const (
	SET_TO_SERVER_TIME4 = 0
	SET_TO_CLIENT_TIME4 = 1
)

// A SetTime is settime4: Time counts when How is SET_TO_CLIENT_TIME4.
type SetTime struct {
	How  uint32
	Time Time
}

// XDR codes t. Another value of How than the two means the server's time, as the union has a default.
func (t *SetTime) XDR(c *xdr.Codec) {
	c.Uint32(&t.How)
	if t.How == SET_TO_CLIENT_TIME4 {
		t.Time.XDR(c)
	}
}

// An FSID names a file system at its server.
type FSID struct{ Major, Minor uint64 }

// XDR codes f.
func (f *FSID) XDR(c *xdr.Codec) {
	c.Uint64(&f.Major)
	c.Uint64(&f.Minor)
}

// A SpecData is the number of a device.
type SpecData struct{ Major, Minor uint32 }

// XDR codes s.
func (s *SpecData) XDR(c *xdr.Codec) {
	c.Uint32(&s.Major)
	c.Uint32(&s.Minor)
}

// A ChangeInfo is the change attribute of a directory before and after an operation.
type ChangeInfo struct {
	Atomic        bool
	Before, After uint64
}

// XDR codes x.
func (x *ChangeInfo) XDR(c *xdr.Codec) {
	c.Bool(&x.Atomic)
	c.Uint64(&x.Before)
	c.Uint64(&x.After)
}

// A FileType is nfs_ftype4. Zero is none.
type FileType uint32

// The types of files.
const (
	NF4REG       FileType = 1
	NF4DIR       FileType = 2
	NF4BLK       FileType = 3
	NF4CHR       FileType = 4
	NF4LNK       FileType = 5
	NF4SOCK      FileType = 6
	NF4FIFO      FileType = 7
	NF4ATTRDIR   FileType = 8
	NF4NAMEDATTR FileType = 9
)

// XDR codes t. The value is not checked: CREATE answers NFS4ERR_BADTYPE.
func (t *FileType) XDR(c *xdr.Codec) { c.Uint32((*uint32)(t)) }

// A LockType is nfs_lock_type4.
type LockType uint32

// The types of locks. READW_LT and WRITEW_LT say that the client would wait.
const (
	READ_LT   LockType = 1
	WRITE_LT  LockType = 2
	READW_LT  LockType = 3
	WRITEW_LT LockType = 4
)

// XDR codes t and refuses unknown values.
func (t *LockType) XDR(c *xdr.Codec) { enum(c, (*uint32)(t), 1, 4, "nfs_lock_type4") }

// Exclusive tells whether the lock is for writing.
func (t LockType) Exclusive() bool { return t == WRITE_LT || t == WRITEW_LT }

// Waits tells whether the client would wait.
func (t LockType) Waits() bool { return t == READW_LT || t == WRITEW_LT }

// A StableHow is stable_how4.
type StableHow uint32

// How stable a WRITE is, from least to most.
const (
	UNSTABLE4  StableHow = 0
	DATA_SYNC4 StableHow = 1
	FILE_SYNC4 StableHow = 2
)

// XDR codes s and refuses unknown values.
func (s *StableHow) XDR(c *xdr.Codec) { enum(c, (*uint32)(s), 0, 2, "stable_how4") }

// A StateOwner is open_owner4 or lock_owner4. It is comparable. Owner is at most OpaqueLimit bytes.
type StateOwner struct {
	ClientID uint64
	Owner    string
}

// XDR codes o.
func (o *StateOwner) XDR(c *xdr.Codec) {
	c.Uint64(&o.ClientID)
	c.String(&o.Owner, OpaqueLimit)
}

// A ClientOwner is client_owner4, and nfs_client_id4 of NFSv4.0. ID is at most OpaqueLimit bytes.
type ClientOwner struct {
	Verifier Verifier
	ID       string
}

// XDR codes o.
func (o *ClientOwner) XDR(c *xdr.Codec) {
	o.Verifier.XDR(c)
	c.String(&o.ID, OpaqueLimit)
}

// A ServerOwner is server_owner4, RFC 8881 section 2.5. MajorID is at most OpaqueLimit bytes.
type ServerOwner struct {
	MinorID uint64
	MajorID string
}

// XDR codes o.
func (o *ServerOwner) XDR(c *xdr.Codec) {
	c.Uint64(&o.MinorID)
	c.String(&o.MajorID, OpaqueLimit)
}

// An ImplID says who made a client or a server. It is for logs only.
type ImplID struct {
	Domain, Name string
	Date         Time
}

// XDR codes i.
func (i *ImplID) XDR(c *xdr.Codec) {
	c.String(&i.Domain, maxName)
	c.String(&i.Name, maxName)
	i.Date.XDR(c)
}

// A NetAddr is netaddr4: a network id such as "tcp", and a universal address (RFC 5665).
type NetAddr struct{ NetID, Addr string }

// XDR codes a.
func (a *NetAddr) XDR(c *xdr.Codec) {
	c.String(&a.NetID, maxName)
	c.String(&a.Addr, maxName)
}

// A CBClient is cb_client4 of NFSv4.0.
type CBClient struct {
	Program  uint32
	Location NetAddr
}

// XDR codes x.
func (x *CBClient) XDR(c *xdr.Codec) {
	c.Uint32(&x.Program)
	x.Location.XDR(c)
}

// An ACE is nfsace4, RFC 8881 section 6.2.1.
type ACE struct {
	Type, Flag, Mask uint32
	Who              string
}

// XDR codes a.
func (a *ACE) XDR(c *xdr.Codec) {
	c.Uint32(&a.Type)
	c.Uint32(&a.Flag)
	c.Uint32(&a.Mask)
	c.String(&a.Who, maxName)
}

// An ACL41 is nfsacl41, of dacl and sacl.
type ACL41 struct {
	Flag uint32
	ACEs []ACE
}

// XDR codes a.
func (a *ACL41) XDR(c *xdr.Codec) {
	c.Uint32(&a.Flag)
	xdr.List(c, &a.ACEs, maxItems)
}

// A TypedBody is an opaque body whose meaning depends on a type: layout_content4, layoutupdate4,
// layouthint4, device_addr4.
type TypedBody struct {
	Type uint32
	Body []byte
}

// XDR codes b.
func (b *TypedBody) XDR(c *xdr.Codec) {
	c.Uint32(&b.Type)
	c.Opaque(&b.Body, maxData)
}

// A WriteResponse is write_response4, RFC 7862 section 4.2.
type WriteResponse struct {
	CallbackID *Stateid // of an asynchronous operation
	Count      uint64
	Committed  StableHow
	Verf       Verifier
}

// XDR codes w.
func (w *WriteResponse) XDR(c *xdr.Codec) {
	xdr.Opt(c, &w.CallbackID)
	c.Uint64(&w.Count)
	w.Committed.XDR(c)
	w.Verf.XDR(c)
}

// Values of Netloc.Type.
const (
	NL4_NAME    = 1
	NL4_URL     = 2
	NL4_NETADDR = 3
)

// A Netloc is netloc4: Name is the name or the URL, Addr counts for NL4_NETADDR.
type Netloc struct {
	Type uint32
	Name string
	Addr NetAddr
}

// XDR codes n.
func (n *Netloc) XDR(c *xdr.Codec) {
	enum(c, &n.Type, 1, 3, "netloc_type4")
	if n.Type == NL4_NETADDR {
		n.Addr.XDR(c)
	} else {
		c.String(&n.Name, maxName)
	}
}
