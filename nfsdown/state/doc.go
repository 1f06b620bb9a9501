// Package state is what RFC 8881 calls client, session, open and lock state: 2.10 (sessions and
// their reply caches), 8 (leases and recovery), 9 (shares and byte-range locks). It also keeps held
// state: what a client had before it, or we, restarted, and what it may reclaim.
//
// The package does no I/O and has no goroutines. It decides, and says what there is to do:
//
//	p, eff, err := srv.PrepareLock(ctx, client, req) // the rules; the range is reserved
//	// eff: what to do whatever err is. p.Evict: what must be done before the backend is asked.
//	jerr := journal.Commit(ctx, p.Batch)             // side by side with
//	berr := backend.Lock(ctx, cred, &p.Request)      // (only if p.Call is not CallNone)
//	sid, eff, err := p.Settle(berr, jerr)            // now it is a lock, or was never there
//	eff.Run(ctx, host)                               // after the reply may be built
//
// Every plan is settled exactly once, whatever happened. Between Prepare and Settle no mutex is
// held; the reservation keeps conflicting requests waiting, and a turn keeps the other operations
// of the same owner on the same file waiting. Nothing else waits for anything. Waiting ends with ctx.
//
// State is found by owner and file (fs.Owner: the co_ownerid and the owner's bytes), not by client
// ID or stateid; so what a restart changes is only who may speak for an owner. An entry for (owner,
// file) has a live part, which a stateid stands for, and a held part, which is still held (by the
// backend, or in the journal) and waits to be reclaimed. Others conflict with both.
//
// Lock order: Server.mu, Session.mu, Client.mu, file.mu; the shard mutex of the file table is before
// file.mu and taken with none of the others wanted later. None is held across a wait.
//
// Start reading at PrepareLock in lock.go, then held.go, grace.go and part.go.
package state
