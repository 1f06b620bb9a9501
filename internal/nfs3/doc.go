// Package nfs3 is the types of NFS version 3 and of its MOUNT protocol, version 3 (RFC 1813) and version 1
// (RFC 1094, appendix A), on the wire: one description per type for both directions. Names and paths are bytes.
package nfs3
