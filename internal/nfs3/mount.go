package nfs3

import "holdfast/internal/xdr"

// PathArgs are the arguments of MNT and UMNT.
type PathArgs struct{ Path string }

// XDR codes a.
func (a *PathArgs) XDR(c *xdr.Codec) { c.String(&a.Path, MaxPath) }

// MntRes is mountres3, or fhstatus of version 1 with V1 set: there a handle is always 32 bytes.
type MntRes struct {
	V1      bool // not on the wire
	Status  Status
	FH      string
	Flavors []uint32
}

// XDR codes r.
func (r *MntRes) XDR(c *xdr.Codec) {
	if r.Status.XDR(c); r.Status != OK {
		return
	}
	if r.V1 {
		b := make([]byte, FHSize2)
		copy(b, r.FH)
		c.Fixed(b)
		r.FH = string(b)
		return
	}
	c.String(&r.FH, FHSize)
	xdr.Slice(c, &r.Flavors, 64, (*xdr.Codec).Uint32)
}

// A MountEntry is a line of DUMP: who has mounted what.
type MountEntry struct{ Host, Path string }

// DumpRes is the result of DUMP.
type DumpRes struct{ List []MountEntry }

// XDR codes r.
func (r *DumpRes) XDR(c *xdr.Codec) {
	linked(c, &r.List, func(e *MountEntry) {
		c.String(&e.Host, MaxMntName)
		c.String(&e.Path, MaxPath)
	})
}

// An ExportEntry is a line of EXPORT. No groups means everybody.
type ExportEntry struct {
	Path   string
	Groups []string
}

// ExportRes is the result of EXPORT.
type ExportRes struct{ List []ExportEntry }

// XDR codes r.
func (r *ExportRes) XDR(c *xdr.Codec) {
	linked(c, &r.List, func(e *ExportEntry) {
		c.String(&e.Path, MaxPath)
		linked(c, &e.Groups, func(g *string) { c.String(g, MaxMntName) })
	})
}

// linked is a linked list: TRUE before each element, FALSE after the last.
func linked[T any](c *xdr.Codec, list *[]T, f func(*T)) {
	if c.Decoding() {
		*list = nil
	}
	for i := 0; c.Err() == nil; i++ {
		more := i < len(*list)
		if c.Bool(&more); !more || c.Err() != nil {
			return
		}
		if c.Decoding() {
			var zero T
			*list = append(*list, zero)
		}
		f(&(*list)[i])
	}
}
