// Package fs holds the words that the rest of Holdfast shares: handles, attributes, credentials,
// owners, ranges, errors, and the [Backend] interface.
//
// The embedded NFS server (nfsdown) and the FUSE layer (fs/fuse) know about end clients and local
// applications; a Backend knows about files. fs/local answers from a directory, fs/remote from an
// original server. The border between them is small on purpose, and everything about recovery that
// crosses it goes through two names: the Reclaim flag of [OpenRequest] and [LockRequest], and
// [Locks.ReclaimComplete].
//
// State is named at this border by owners and handles only, never by a stateid, a client id or
// anything else that a reboot of any party changes: an open is (open-owner, file), RFC 8881
// 18.16; a lock is (lock-owner, file, range). So the same call can be made again after a reboot.
package fs
