// Package nfs4 is the protocol on the wire: NFSv4.1 (RFC 8881), NFSv4.2 (RFC 7862), extended
// attributes (RFC 8276), and what NFSv4.0 (RFC 7530) has beside them.
//
// Every type describes its layout once, in its method XDR, which encodes and decodes. Constants
// have the names of the RFC. Types have them in Go style: OPEN4args is [OpenArgs], OPEN4res is
// [OpenRes], in which the fields of the successful arm stand beside Status.
//
// Names, tags, owners and handles are arbitrary bytes in a Go string: no character set is checked
// here. A string is a copy; a []byte of a decoded value aliases the record that was decoded, so
// READ and WRITE data are never copied, and whoever keeps one longer than the record copies it.
//
// An enumeration whose value is none of the RFC's fails the codec where the RFC's union has no arm
// for it or no operation could mean anything by it: that is NFS4ERR_BADXDR. Others are left to
// the operation.
package nfs4
