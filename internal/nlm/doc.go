// Package nlm is the types of the Network Lock Manager, versions 1, 3 (X/Open XNFS) and 4 (RFC 1813, appendix II), and of
// the Network Status Monitor (XNFS, chapter 11), on the wire: one description per type for both directions. What
// differs between the versions of NLM is the width of offsets and lengths: types with a V4 field need it set before they
// are coded. Names, handles and owners are bytes.
package nlm
