// Package local answers [fs.Backend] from a directory of this host: it is what `holdfast origin`
// exports. Linux only.
//
// Start at handle.go: a client's handle leads to an O_PATH descriptor, and all else starts from such
// descriptors. A name is looked up beneath one, one component at a time, through no link and into no
// other mount, so neither "..", nor a link, nor a rename in the wrong moment leads out of the export.
// identity.go: what a user asks for is done as that user, so the kernel decides. files.go: descriptors
// for I/O. state.go, open.go, lock.go, wait.go: who has what open and locked, shown to programs of
// this host as OFD locks. change.go: a change attribute that never goes back. table.go: handles where
// the file system has none.
//
// Everything that a client was told of is durable: names, attributes and stable data are synced before
// the answer, and concurrent requests share an fsync (sync.go). Opens and locks are not kept over a
// restart: those who call have a journal for that.
//
// An operation in a directory does not exclude programs of this host, so [fs.ChangeInfo].Atomic is never
// set.
package local
