// Package diskcache keeps file data on a local disk, over restarts. It knows nothing of NFS: whoever uses
// it names an object by an [ID] and a version by a change attribute, and vouches that the data that it
// puts in belongs to that version.
//
// # What is promised
//
// [Object.ReadAt] gives only bytes that were put into this object, at this place, for this version:
// each block of 4 KiB has a checksum that also covers the place and a number that is drawn when the
// object is made. A block that is torn, rotten, or of another object is missing, and is forgotten.
//
// Whatever is killed, and whenever: nothing needs an fsync for that. The data is written first and its
// checksum after, so a checksum without its data does not match, and data without a checksum is missing.
// A new version is a new pair of files. The one exception, own writes that carry an object to a new
// version ([Object.Overwrite]), marks the object dirty first; a dirty object is thrown away at the next
// start, until [Object.Settle] has synced the data and only then the new version.
//
// # On disk
//
//	DIR/VERSION            the format, and what makes a directory ours
//	DIR/objects/ab/KEY.m   header, then a checksum for each block
//	DIR/objects/ab/KEY.d   the data, sparse, at the offsets that it has in the file
//
// KEY is 32 hex digits, a digest of the ID, and begins with ab. The header is 4096 bytes (header.go), the
// checksum of block i is the little-endian uint32 at 4096 + 4*i; zero means that the block is missing. Both
// are made without a name and linked when the header is whole, the data first.
//
// # Memory
//
// Each object on disk costs an entry of some 130 bytes. The checksums of objects in use are in memory,
// a thousandth of their data; so are two descriptors of each.
//
// # Space
//
// The store keeps below a limit of bytes and leaves a floor of free space on the file system. What was
// used least lately goes first, in the background; objects in use that are large lose only their coldest
// parts. Nothing waits for it: where there is no room yet, data is not kept, and is counted.
package diskcache
