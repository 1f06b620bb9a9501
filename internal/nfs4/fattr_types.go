package nfs4

import "holdfast/internal/xdr"

// Values of change_attr_type, RFC 7862 section 12.2.3.
const (
	NFS4_CHANGE_TYPE_IS_MONOTONIC_INCR         = 0
	NFS4_CHANGE_TYPE_IS_VERSION_COUNTER        = 1
	NFS4_CHANGE_TYPE_IS_VERSION_COUNTER_NOPNFS = 2
	NFS4_CHANGE_TYPE_IS_TIME_METADATA          = 3
	NFS4_CHANGE_TYPE_IS_UNDEFINED              = 4
)

// A ModeMasked sets those bits of the mode that are in Mask.
type ModeMasked struct{ Value, Mask uint32 }

// A ModeUmask is a mode and the umask to apply unless an ACL is inherited, RFC 8275.
type ModeUmask struct{ Mode, Umask uint32 }

// An FSLocation is fs_location4.
type FSLocation struct {
	Servers  []string
	RootPath []string
}

// XDR codes l.
func (l *FSLocation) XDR(c *xdr.Codec) {
	xdr.Slice(c, &l.Servers, maxItems, codeName)
	xdr.Slice(c, &l.RootPath, maxItems, codeName)
}

// An FSLocations is fs_locations4.
type FSLocations struct {
	Root      []string
	Locations []FSLocation
}

// XDR codes l.
func (l *FSLocations) XDR(c *xdr.Codec) {
	xdr.Slice(c, &l.Root, maxItems, codeName)
	xdr.List(c, &l.Locations, maxItems)
}

// An FSLocationsServer is fs_locations_server4.
type FSLocationsServer struct {
	Currency int32
	Info     []byte
	Server   string
}

// XDR codes l.
func (l *FSLocationsServer) XDR(c *xdr.Codec) {
	c.Int32(&l.Currency)
	c.Opaque(&l.Info, maxData)
	c.String(&l.Server, maxName)
}

// An FSLocationsItem is fs_locations_item4.
type FSLocationsItem struct {
	Entries  []FSLocationsServer
	RootPath []string
}

// XDR codes l.
func (l *FSLocationsItem) XDR(c *xdr.Codec) {
	xdr.List(c, &l.Entries, maxItems)
	xdr.Slice(c, &l.RootPath, maxItems, codeName)
}

// An FSLocationsInfo is fs_locations_info4.
type FSLocationsInfo struct {
	Flags    uint32
	ValidFor int32 // seconds
	FSRoot   []string
	Items    []FSLocationsItem
}

// XDR codes l.
func (l *FSLocationsInfo) XDR(c *xdr.Codec) {
	c.Uint32(&l.Flags)
	c.Int32(&l.ValidFor)
	xdr.Slice(c, &l.FSRoot, maxItems, codeName)
	xdr.List(c, &l.Items, maxItems)
}

// An FSStatus is fs4_status.
type FSStatus struct {
	Absent          bool
	Type            uint32
	Source, Current string
	Age             int32
	Version         Time
}

// XDR codes s.
func (s *FSStatus) XDR(c *xdr.Codec) {
	c.Bool(&s.Absent)
	c.Uint32(&s.Type)
	c.String(&s.Source, maxName)
	c.String(&s.Current, maxName)
	c.Int32(&s.Age)
	s.Version.XDR(c)
}

// A ThresholdItem is threshold_item4.
type ThresholdItem struct {
	LayoutType uint32
	HintSet    Bitmap
	HintList   []byte
}

// XDR codes t.
func (t *ThresholdItem) XDR(c *xdr.Codec) {
	c.Uint32(&t.LayoutType)
	t.HintSet.XDR(c)
	c.Opaque(&t.HintList, maxData)
}

// A RetentionGet is retention_get4.
type RetentionGet struct {
	Duration  uint64 // seconds
	BeginTime *Time
}

// XDR codes r.
func (r *RetentionGet) XDR(c *xdr.Codec) {
	c.Uint64(&r.Duration)
	xdr.Opt(c, &r.BeginTime)
}

// A RetentionSet is retention_set4.
type RetentionSet struct {
	Enable   bool
	Duration *uint64 // seconds
}

// XDR codes r.
func (r *RetentionSet) XDR(c *xdr.Codec) {
	c.Bool(&r.Enable)
	xdr.Optional(c, &r.Duration, (*xdr.Codec).Uint64)
}

// A SecLabel is sec_label4, RFC 7862 section 12.2.4.
type SecLabel struct {
	LFS, PI uint32
	Data    []byte
}

// XDR codes s.
func (s *SecLabel) XDR(c *xdr.Codec) {
	c.Uint32(&s.LFS)
	c.Uint32(&s.PI)
	c.Opaque(&s.Data, maxData)
}
