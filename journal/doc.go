// Package journal keeps, on stable storage, which clients hold which opens and locks, so that they can
// be reclaimed after a crash: RFC 8881 8.4.2.1 asks a server for this, and a re-export server needs
// it to tell its clients' true reclaims from false ones before it passes them on.
//
// # What it promises
//
// When [Journal.Commit] returns nil the batch is on disk, whole. After any crash [Open] finds all
// that was acknowledged, or says that it does not: [Report], [Snapshot].Complete. A record that is
// not found in a damaged journal is unknown, never absent.
//
// A batch is atomic. Batches take effect in the order in which Commit and [Journal.Post] were called.
// The committer takes all that is pending into one group. It has two stages, a goroutine each: while the
// disk syncs what was written, the next group is written, and all that was written meanwhile shares one fsync.
//
// # Void records
//
// Nothing is deleted when grace ends or when a client expires; a mark makes records void. See
// [Batch.EndGrace] and [Journal.Load]. So a crash at any point leaves either all or exactly the right
// records reclaimable. [Journal.Compact] deletes void records later, at leisure. The mark is for all
// files: where grace ends for one origin alone, its records are deleted, and each owner's open with its
// locks is reclaimable or gone by itself.
//
// # On disk
//
//	DIR/LOCK          the process id of the user; the directory itself carries the flock
//	DIR/MARK          layout version, last acknowledged group, epoch; twice, each with a CRC
//	DIR/db/           a Badger database
//	DIR/db.new/       one that a repair was building when the process died
//	DIR/damaged-N/    files that boot N could not use, as they were found
//
// A key is a kind byte and the words that name the record; see key.go. A value is
//
//	version (1) | fields, see wire.go | group (8) | CRC-32C of the key and all before (4)
//
// Group is the number of the group commit that wrote it; groups are numbered densely. Each group
// also writes the head record: its number, the epoch, the grace that ended last, how many records
// there are and the sum of their hashes. So a record that vanished, changed or came back is noticed
// wherever it was: the head says what the whole must look like.
//
// What Badger does not do, and how it is made up for: it stops its log replay at the first bad
// checksum and truncates, silently. So Open reads all files by itself first (wal.go, table.go,
// inspect.go). A group that was cut off before it was acknowledged is a torn tail; bad bytes with
// later groups behind them, or a log that ends before the mark, are damage. If Badger cannot be
// given the files as they are, a new database is built from what is good in them, and they are set
// aside (rebuild.go).
//
// A group is written in two stages: into Badger's log, which answers [Journal.Write] and outlives the
// process, and onto the disk by one fdatasync, which answers [Journal.Commit] (sync.go). Layout 2 also
// records what clients were told (stateids, csa_sequence), and the mark names the boot of the kernel: so
// that a restart can go on where the last incarnation stood, if it knows that nothing is missing (whole.go).
//
// The mark is written after each group without fsync, which survives the death of the process, and
// synced every few seconds. After a power cut it may be some seconds old; then only damage to the
// very last group is indistinguishable from a torn tail.
package journal
