package nfs3

import "holdfast/internal/xdr"

// Args are the arguments, and Res the result, of a procedure.
type Args interface{ XDR(*xdr.Codec) }

// Void is no arguments, or no result.
type Void struct{}

// XDR codes nothing.
func (*Void) XDR(*xdr.Codec) {}

// FHArgs are the arguments of GETATTR, READLINK, FSSTAT, FSINFO and PATHCONF.
type FHArgs struct{ FH FH }

// XDR codes a.
func (a *FHArgs) XDR(c *xdr.Codec) { a.FH.XDR(c) }

// GetattrRes is GETATTR3res.
type GetattrRes struct {
	Status Status
	Attr   Fattr
}

// XDR codes r.
func (r *GetattrRes) XDR(c *xdr.Codec) {
	if r.Status.XDR(c); r.Status == OK {
		r.Attr.XDR(c)
	}
}

// SetattrArgs is SETATTR3args. Guard is the ctime that the file must have.
type SetattrArgs struct {
	FH    FH
	Attr  Sattr
	Guard *Time
}

// XDR codes a.
func (a *SetattrArgs) XDR(c *xdr.Codec) {
	a.FH.XDR(c)
	a.Attr.XDR(c)
	xdr.Opt(c, &a.Guard)
}

// WccRes is the result of SETATTR, REMOVE and RMDIR.
type WccRes struct {
	Status Status
	Wcc    Wcc
}

// XDR codes r.
func (r *WccRes) XDR(c *xdr.Codec) {
	r.Status.XDR(c)
	r.Wcc.XDR(c)
}

// DiropArgs are the arguments of LOOKUP, REMOVE and RMDIR.
type DiropArgs struct{ What Dirop }

// XDR codes a.
func (a *DiropArgs) XDR(c *xdr.Codec) { a.What.XDR(c) }

// LookupRes is LOOKUP3res.
type LookupRes struct {
	Status  Status
	FH      FH
	Attr    *Fattr
	DirAttr *Fattr
}

// XDR codes r.
func (r *LookupRes) XDR(c *xdr.Codec) {
	if r.Status.XDR(c); r.Status == OK {
		r.FH.XDR(c)
		xdr.Opt(c, &r.Attr)
	}
	xdr.Opt(c, &r.DirAttr)
}

// AccessArgs is ACCESS3args.
type AccessArgs struct {
	FH     FH
	Access uint32
}

// XDR codes a.
func (a *AccessArgs) XDR(c *xdr.Codec) {
	a.FH.XDR(c)
	c.Uint32(&a.Access)
}

// AccessRes is ACCESS3res.
type AccessRes struct {
	Status Status
	Attr   *Fattr
	Access uint32
}

// XDR codes r.
func (r *AccessRes) XDR(c *xdr.Codec) {
	r.Status.XDR(c)
	xdr.Opt(c, &r.Attr)
	if r.Status == OK {
		c.Uint32(&r.Access)
	}
}

// ReadlinkRes is READLINK3res.
type ReadlinkRes struct {
	Status Status
	Attr   *Fattr
	Target string
}

// XDR codes r.
func (r *ReadlinkRes) XDR(c *xdr.Codec) {
	r.Status.XDR(c)
	xdr.Opt(c, &r.Attr)
	if r.Status == OK {
		c.String(&r.Target, maxLinkText)
	}
}

// ReadArgs is READ3args.
type ReadArgs struct {
	FH     FH
	Offset uint64
	Count  uint32
}

// XDR codes a.
func (a *ReadArgs) XDR(c *xdr.Codec) {
	a.FH.XDR(c)
	c.Uint64(&a.Offset)
	c.Uint32(&a.Count)
}

// ReadRes is READ3res.
type ReadRes struct {
	Status Status
	Attr   *Fattr
	EOF    bool
	Data   []byte
}

// XDR codes r.
func (r *ReadRes) XDR(c *xdr.Codec) {
	r.Status.XDR(c)
	xdr.Opt(c, &r.Attr)
	if r.Status == OK {
		n := uint32(len(r.Data))
		c.Uint32(&n)
		c.Bool(&r.EOF)
		c.Payload(&r.Data, maxData)
	}
}

// WriteArgs is WRITE3args. Count is how much of Data counts.
type WriteArgs struct {
	FH     FH
	Offset uint64
	Count  uint32
	Stable uint32
	Data   []byte
}

// XDR codes a.
func (a *WriteArgs) XDR(c *xdr.Codec) {
	a.FH.XDR(c)
	c.Uint64(&a.Offset)
	c.Uint32(&a.Count)
	c.Uint32(&a.Stable)
	c.Payload(&a.Data, maxData)
	if a.Stable > 2 {
		c.Failf("stable_how is %d", a.Stable)
	}
}

// WriteRes is WRITE3res.
type WriteRes struct {
	Status    Status
	Wcc       Wcc
	Count     uint32
	Committed uint32
	Verf      Verf
}

// XDR codes r.
func (r *WriteRes) XDR(c *xdr.Codec) {
	r.Status.XDR(c)
	r.Wcc.XDR(c)
	if r.Status == OK {
		c.Uint32(&r.Count)
		c.Uint32(&r.Committed)
		r.Verf.XDR(c)
	}
}

// CreateArgs is CREATE3args.
type CreateArgs struct {
	Where Dirop
	Mode  uint32
	Attr  Sattr // Unchecked, Guarded
	Verf  Verf  // Exclusive
}

// XDR codes a.
func (a *CreateArgs) XDR(c *xdr.Codec) {
	a.Where.XDR(c)
	c.Uint32(&a.Mode)
	switch a.Mode {
	case Unchecked, Guarded:
		a.Attr.XDR(c)
	case Exclusive:
		a.Verf.XDR(c)
	default:
		c.Failf("createmode3 is %d", a.Mode)
	}
}

// MkdirArgs is MKDIR3args.
type MkdirArgs struct {
	Where Dirop
	Attr  Sattr
}

// XDR codes a.
func (a *MkdirArgs) XDR(c *xdr.Codec) {
	a.Where.XDR(c)
	a.Attr.XDR(c)
}

// SymlinkArgs is SYMLINK3args.
type SymlinkArgs struct {
	Where  Dirop
	Attr   Sattr
	Target string
}

// XDR codes a.
func (a *SymlinkArgs) XDR(c *xdr.Codec) {
	a.Where.XDR(c)
	a.Attr.XDR(c)
	c.String(&a.Target, 1<<16)
}

// MknodArgs is MKNOD3args.
type MknodArgs struct {
	Where Dirop
	Type  uint32
	Attr  Sattr
	Dev   Spec
}

// XDR codes a.
func (a *MknodArgs) XDR(c *xdr.Codec) {
	a.Where.XDR(c)
	c.Uint32(&a.Type)
	switch a.Type {
	case TypeBlk, TypeChr:
		a.Attr.XDR(c)
		a.Dev.XDR(c)
	case TypeSock, TypeFifo:
		a.Attr.XDR(c)
	case TypeReg, TypeDir, TypeLnk: // the server says BADTYPE
	default:
		c.Failf("ftype3 is %d", a.Type)
	}
}

// CreateRes is the result of CREATE, MKDIR, SYMLINK and MKNOD.
type CreateRes struct {
	Status Status
	FH     *FH
	Attr   *Fattr
	Wcc    Wcc
}

// XDR codes r.
func (r *CreateRes) XDR(c *xdr.Codec) {
	if r.Status.XDR(c); r.Status == OK {
		xdr.Opt(c, &r.FH)
		xdr.Opt(c, &r.Attr)
	}
	r.Wcc.XDR(c)
}

// RenameArgs is RENAME3args.
type RenameArgs struct{ From, To Dirop }

// XDR codes a.
func (a *RenameArgs) XDR(c *xdr.Codec) {
	a.From.XDR(c)
	a.To.XDR(c)
}

// RenameRes is RENAME3res.
type RenameRes struct {
	Status   Status
	From, To Wcc
}

// XDR codes r.
func (r *RenameRes) XDR(c *xdr.Codec) {
	r.Status.XDR(c)
	r.From.XDR(c)
	r.To.XDR(c)
}

// LinkArgs is LINK3args.
type LinkArgs struct {
	File FH
	Link Dirop
}

// XDR codes a.
func (a *LinkArgs) XDR(c *xdr.Codec) {
	a.File.XDR(c)
	a.Link.XDR(c)
}

// LinkRes is LINK3res.
type LinkRes struct {
	Status Status
	Attr   *Fattr
	Wcc    Wcc
}

// XDR codes r.
func (r *LinkRes) XDR(c *xdr.Codec) {
	r.Status.XDR(c)
	xdr.Opt(c, &r.Attr)
	r.Wcc.XDR(c)
}

// ReaddirArgs is READDIR3args. Count is the most bytes of the result.
type ReaddirArgs struct {
	Dir    FH
	Cookie uint64
	Verf   Verf
	Count  uint32
}

// XDR codes a.
func (a *ReaddirArgs) XDR(c *xdr.Codec) {
	a.Dir.XDR(c)
	c.Uint64(&a.Cookie)
	a.Verf.XDR(c)
	c.Uint32(&a.Count)
}

// ReaddirplusArgs is READDIRPLUS3args: DirCount is the most bytes of ids, names and cookies, MaxCount of all.
type ReaddirplusArgs struct {
	Dir      FH
	Cookie   uint64
	Verf     Verf
	DirCount uint32
	MaxCount uint32
}

// XDR codes a.
func (a *ReaddirplusArgs) XDR(c *xdr.Codec) {
	a.Dir.XDR(c)
	c.Uint64(&a.Cookie)
	a.Verf.XDR(c)
	c.Uint32(&a.DirCount)
	c.Uint32(&a.MaxCount)
}

// An Entry is entry3, or entryplus3 with Attr and FH.
type Entry struct {
	FileID uint64
	Name   string
	Cookie uint64
	Attr   *Fattr
	FH     *FH
}

func (e *Entry) xdr(c *xdr.Codec, plus bool) {
	c.Uint64(&e.FileID)
	c.String(&e.Name, maxName)
	c.Uint64(&e.Cookie)
	if plus {
		xdr.Opt(c, &e.Attr)
		xdr.Opt(c, &e.FH)
	}
}

// ReaddirRes is READDIR3res, or READDIRPLUS3res with Plus set.
type ReaddirRes struct {
	Plus    bool // not on the wire
	Status  Status
	Attr    *Fattr
	Verf    Verf
	Entries []Entry
	EOF     bool
}

// XDR codes r.
func (r *ReaddirRes) XDR(c *xdr.Codec) {
	r.Status.XDR(c)
	xdr.Opt(c, &r.Attr)
	if r.Status != OK {
		return
	}
	r.Verf.XDR(c)
	if c.Decoding() {
		r.Entries = nil
	}
	for i := 0; c.Err() == nil; i++ {
		more := i < len(r.Entries)
		if c.Bool(&more); !more || c.Err() != nil {
			break
		}
		if c.Decoding() {
			r.Entries = append(r.Entries, Entry{})
		}
		r.Entries[i].xdr(c, r.Plus)
	}
	c.Bool(&r.EOF)
}

// FsstatRes is FSSTAT3res.
type FsstatRes struct {
	Status                                         Status
	Attr                                           *Fattr
	Tbytes, Fbytes, Abytes, Tfiles, Ffiles, Afiles uint64
	Invarsec                                       uint32
}

// XDR codes r.
func (r *FsstatRes) XDR(c *xdr.Codec) {
	r.Status.XDR(c)
	xdr.Opt(c, &r.Attr)
	if r.Status == OK {
		for _, v := range []*uint64{&r.Tbytes, &r.Fbytes, &r.Abytes, &r.Tfiles, &r.Ffiles, &r.Afiles} {
			c.Uint64(v)
		}
		c.Uint32(&r.Invarsec)
	}
}

// FsinfoRes is FSINFO3res.
type FsinfoRes struct {
	Status                                               Status
	Attr                                                 *Fattr
	Rtmax, Rtpref, Rtmult, Wtmax, Wtpref, Wtmult, Dtpref uint32
	MaxFileSize                                          uint64
	TimeDelta                                            Time
	Properties                                           uint32
}

// XDR codes r.
func (r *FsinfoRes) XDR(c *xdr.Codec) {
	r.Status.XDR(c)
	xdr.Opt(c, &r.Attr)
	if r.Status == OK {
		for _, v := range []*uint32{&r.Rtmax, &r.Rtpref, &r.Rtmult, &r.Wtmax, &r.Wtpref, &r.Wtmult, &r.Dtpref} {
			c.Uint32(v)
		}
		c.Uint64(&r.MaxFileSize)
		r.TimeDelta.XDR(c)
		c.Uint32(&r.Properties)
	}
}

// PathconfRes is PATHCONF3res.
type PathconfRes struct {
	Status                                                    Status
	Attr                                                      *Fattr
	LinkMax, NameMax                                          uint32
	NoTrunc, ChownRestricted, CaseInsensitive, CasePreserving bool
}

// XDR codes r.
func (r *PathconfRes) XDR(c *xdr.Codec) {
	r.Status.XDR(c)
	xdr.Opt(c, &r.Attr)
	if r.Status == OK {
		c.Uint32(&r.LinkMax)
		c.Uint32(&r.NameMax)
		c.Bool(&r.NoTrunc)
		c.Bool(&r.ChownRestricted)
		c.Bool(&r.CaseInsensitive)
		c.Bool(&r.CasePreserving)
	}
}

// CommitArgs is COMMIT3args.
type CommitArgs struct {
	FH     FH
	Offset uint64
	Count  uint32
}

// XDR codes a.
func (a *CommitArgs) XDR(c *xdr.Codec) {
	a.FH.XDR(c)
	c.Uint64(&a.Offset)
	c.Uint32(&a.Count)
}

// CommitRes is COMMIT3res.
type CommitRes struct {
	Status Status
	Wcc    Wcc
	Verf   Verf
}

// XDR codes r.
func (r *CommitRes) XDR(c *xdr.Codec) {
	r.Status.XDR(c)
	r.Wcc.XDR(c)
	if r.Status == OK {
		r.Verf.XDR(c)
	}
}

// NewArgs makes the arguments of a procedure, nil if there is no such.
func NewArgs(proc uint32) Args {
	switch proc {
	case ProcNull:
		return new(Void)
	case ProcGetattr, ProcReadlink, ProcFsstat, ProcFsinfo, ProcPathconf:
		return new(FHArgs)
	case ProcSetattr:
		return new(SetattrArgs)
	case ProcLookup, ProcRemove, ProcRmdir:
		return new(DiropArgs)
	case ProcAccess:
		return new(AccessArgs)
	case ProcRead:
		return new(ReadArgs)
	case ProcWrite:
		return new(WriteArgs)
	case ProcCreate:
		return new(CreateArgs)
	case ProcMkdir:
		return new(MkdirArgs)
	case ProcSymlink:
		return new(SymlinkArgs)
	case ProcMknod:
		return new(MknodArgs)
	case ProcRename:
		return new(RenameArgs)
	case ProcLink:
		return new(LinkArgs)
	case ProcReaddir:
		return new(ReaddirArgs)
	case ProcReaddirplus:
		return new(ReaddirplusArgs)
	case ProcCommit:
		return new(CommitArgs)
	}
	return nil
}

// NewRes makes the result of a procedure, nil if there is no such.
func NewRes(proc uint32) Args {
	switch proc {
	case ProcNull:
		return new(Void)
	case ProcGetattr:
		return new(GetattrRes)
	case ProcSetattr, ProcRemove, ProcRmdir:
		return new(WccRes)
	case ProcLookup:
		return new(LookupRes)
	case ProcAccess:
		return new(AccessRes)
	case ProcReadlink:
		return new(ReadlinkRes)
	case ProcRead:
		return new(ReadRes)
	case ProcWrite:
		return new(WriteRes)
	case ProcCreate, ProcMkdir, ProcSymlink, ProcMknod:
		return new(CreateRes)
	case ProcRename:
		return new(RenameRes)
	case ProcLink:
		return new(LinkRes)
	case ProcReaddir:
		return new(ReaddirRes)
	case ProcReaddirplus:
		return &ReaddirRes{Plus: true}
	case ProcFsstat:
		return new(FsstatRes)
	case ProcFsinfo:
		return new(FsinfoRes)
	case ProcPathconf:
		return new(PathconfRes)
	case ProcCommit:
		return new(CommitRes)
	}
	return nil
}
