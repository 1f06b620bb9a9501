package nfs3

import "holdfast/internal/xdr"

// An FH is a filehandle: up to FHSize bytes.
type FH string

// XDR codes f.
func (f *FH) XDR(c *xdr.Codec) { c.String((*string)(f), FHSize) }

// XDR codes s.
func (s *Status) XDR(c *xdr.Codec) { c.Uint32((*uint32)(s)) }

// A Time is nfstime3.
type Time struct{ Sec, Nsec uint32 }

// XDR codes t.
func (t *Time) XDR(c *xdr.Codec) {
	c.Uint32(&t.Sec)
	c.Uint32(&t.Nsec)
}

// A Spec is specdata3: a device number.
type Spec struct{ Major, Minor uint32 }

// XDR codes s.
func (s *Spec) XDR(c *xdr.Codec) {
	c.Uint32(&s.Major)
	c.Uint32(&s.Minor)
}

// Fattr is fattr3, RFC 1813 2.5.
type Fattr struct {
	Type, Mode, Nlink, UID, GID uint32
	Size, Used                  uint64
	Rdev                        Spec
	FSID, FileID                uint64
	Atime, Mtime, Ctime         Time
}

// XDR codes a.
func (a *Fattr) XDR(c *xdr.Codec) {
	c.Uint32(&a.Type)
	c.Uint32(&a.Mode)
	c.Uint32(&a.Nlink)
	c.Uint32(&a.UID)
	c.Uint32(&a.GID)
	c.Uint64(&a.Size)
	c.Uint64(&a.Used)
	a.Rdev.XDR(c)
	c.Uint64(&a.FSID)
	c.Uint64(&a.FileID)
	a.Atime.XDR(c)
	a.Mtime.XDR(c)
	a.Ctime.XDR(c)
}

// PreAttr is wcc_attr: what a client compares with what it had.
type PreAttr struct {
	Size         uint64
	Mtime, Ctime Time
}

// XDR codes a.
func (a *PreAttr) XDR(c *xdr.Codec) {
	c.Uint64(&a.Size)
	a.Mtime.XDR(c)
	a.Ctime.XDR(c)
}

// Wcc is wcc_data: attributes before and after, each if known. Before is only there if nothing else came between.
type Wcc struct {
	Before *PreAttr
	After  *Fattr
}

// XDR codes w.
func (w *Wcc) XDR(c *xdr.Codec) {
	xdr.Opt(c, &w.Before)
	xdr.Opt(c, &w.After)
}

// SetTime is set_atime and set_mtime.
type SetTime struct {
	How  uint32
	Time Time
}

// XDR codes t.
func (t *SetTime) XDR(c *xdr.Codec) {
	c.Uint32(&t.How)
	switch t.How {
	case DontChange, SetToServerTime:
	case SetToClientTime:
		t.Time.XDR(c)
	default:
		c.Failf("time_how is %d", t.How)
	}
}

// Sattr is sattr3: what is to be set; nil is not.
type Sattr struct {
	Mode, UID, GID *uint32
	Size           *uint64
	Atime, Mtime   SetTime
}

// XDR codes a.
func (a *Sattr) XDR(c *xdr.Codec) {
	xdr.Optional(c, &a.Mode, (*xdr.Codec).Uint32)
	xdr.Optional(c, &a.UID, (*xdr.Codec).Uint32)
	xdr.Optional(c, &a.GID, (*xdr.Codec).Uint32)
	xdr.Optional(c, &a.Size, (*xdr.Codec).Uint64)
	a.Atime.XDR(c)
	a.Mtime.XDR(c)
}

// Dirop is diropargs3: a name in a directory.
type Dirop struct {
	Dir  FH
	Name string
}

// XDR codes d.
func (d *Dirop) XDR(c *xdr.Codec) {
	d.Dir.XDR(c)
	c.String(&d.Name, maxName)
}

// Verf is a verifier: of an exclusive creation, of writes, of cookies.
type Verf [8]byte

// XDR codes v.
func (v *Verf) XDR(c *xdr.Codec) { c.Fixed(v[:]) }
