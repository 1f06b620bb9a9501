// Package fuse gives a file system of ours to the applications of this host: a FUSE mount over any
// [fs.Backend].
//
// # The way of a request
//
// The kernel's request passes the [Fence] first (invariant I4), then becomes a [request]: a context
// that ends when the calling process is being killed, and the credential of that process. Then the
// operation is asked from the backend, and its answer becomes an errno (errno.go). The node table
// (node.go) maps the kernel's node ids to handles.
//
// # Owners
//
// Each open of an application is an open of its own at the backend: its open-owner is the number of
// the kernel's file handle. POSIX locks belong to the kernel's lock owner (the table of open files
// of a process), flock and OFD locks to the file handle; each (owner, file) is a lock-owner of its
// own at the backend, with a number that is never used again. All owners have the same Client:
// [fs.LocalClient] and the incarnation. Such locks end with the mount and are never reclaimed.
//
// # What differs from a local file system
//
//   - flock and fcntl locks exclude each other, as on an NFS client: the origin has only byte ranges.
//     So an exclusive flock needs a file that is open for writing (else EBADF). A conversion that is
//     refused (LOCK_NB) leaves the old lock.
//   - O_APPEND writes go to the end of the file as the backend knows it at the time of the write, or to
//     where the kernel says if that is further on. Appends of this host do not overwrite each other;
//     those of two hosts may, unless they lock (RFC 8881 has no append).
//   - Removing a file that is open here renames it to .nfs* until the last close (silly.go).
//   - renameat2 has no flags: EINVAL, as on an NFS client.
//   - fallocate with KEEP_SIZE reserves nothing beyond the end of the file.
//   - Data is written through, but made durable only by close, fsync or O_SYNC (RFC 8881 18.3). If the
//     origin lost it in between, close and fsync fail with EIO, once for each file handle.
//
// # Deadlocks to stay out of
//
// A notification to the kernel about an inode may wait for requests on that inode, so it is never
// sent from inside such a request (invalidate.go). And the daemon never touches its own mount.
package fuse
