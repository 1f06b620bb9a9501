// Package nfsup is the NFSv4.1 and NFSv4.2 client toward the original server: RFC 8881, RFC 7862.
//
// It has three layers. Each uses only the one below.
//
//	state    Open, CloseFile, Lock, Unlock, ...   state by owner and handle, never by stateid
//	request  Compound, IO                         SEQUENCE, a slot, replay: exactly once (2.10.6)
//	client   EXCHANGE_ID, CREATE_SESSION, lease   one keeper goroutine, connections, recovery
//
// # One client ID, one session, several connections
//
// [Dial] makes a client ID (18.35), a session (18.36) and up to Config.NConnect connections that are
// bound to it (18.34). A request takes the lowest free slot, waits for it in turn, and keeps it until
// the server has answered, even if its caller has gone away: the slot's next sequence number is not
// known before. When a connection breaks, what was outstanding on it is sent again on another one,
// with the same slot and sequence number, so that the server answers from its reply cache what it has
// done already.
//
// # Recovery
//
// The keeper heals what is not one request's own business: BADSESSION makes a new session of the
// same client ID and loses nothing (2.10.13.1.4); STALE_CLIENTID makes a new client ID and reclaims
// every open and lock from the tables in memory (8.4.2), then sends RECLAIM_COMPLETE (18.51) unless
// that is being delayed. Requests wait at a gate meanwhile. State that the server does not give back
// is reported to Config.Events.Revoked and forgotten; it is never taken again as if it were new.
//
// [Resume] goes on as a process that died: the same client ID, and the state that it had written down.
//
// An incarnation is one client ID's life. RECLAIM_COMPLETE is sent once for each: at once, or, with
// Config.DelayReclaimComplete, when [Client.ReclaimComplete] is called.
//
// # Rules for callers
//
// Results passed to a use function alias a pooled record and are valid only until it returns. A use
// function must not block. Credentials and arguments must not change while a call runs. An operation
// that the server refused is a [*StatusError]; errors.Is compares it with an nfs4.Status.
package nfsup
