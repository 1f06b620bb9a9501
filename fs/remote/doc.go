// Package remote is the upstream mount as a backend: an [fs.Backend] that answers from an NFSv4.1
// or NFSv4.2 server, the origin, through nfsup.
//
// # What it owes to recovery
//
// Every open and lock is held upstream by an owner of its own, whose name is a digest of the
// instance secret and the end client's owner ([UpOwner]): the same bytes after any reboot. A
// Reclaim at the border becomes OPEN CLAIM_PREVIOUS or LOCK with reclaim upstream, and is never
// turned into an ordinary request; or, where the last incarnation was resumed, it is answered from the
// stateids that the origin still holds (resume.go). RECLAIM_COMPLETE is held back until the re-export server says
// that it has done reclaiming ([Remote.ReclaimComplete]); without a re-export server the first open
// or lock sends it first. See phase.go.
//
// # What it caches
//
// Attributes, names and access decisions, in memory, with the close-to-open rule of NFS: an Open
// always asks the origin; between opens GETATTR and LOOKUP may be answered from memory within the
// acreg and acdir times of nfs(5). A hit makes the decision that the origin made for that very
// credential, never one for another. See cache.go.
//
// With a [Config.Store], file data on disk too, by the change attribute; see data.go for the rules. A miss is
// fetched once for all who need it (fetch.go), and ahead of sequential readers (readahead.go).
//
// # Handles
//
// A handle carries the origin's filehandle, or a digest of it where that is too long for NFSv3;
// then a durable map leads back. Both are sealed with a MAC, so that a client cannot name a file
// that it was not shown. See handle.go.
//
// No mutex is held across a call to the origin or to the journal.
package remote
