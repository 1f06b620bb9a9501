// Package nfsdown is the embedded NFSv4.1 and 4.2 server: RFC 8881, RFC 7862, RFC 8276. It knows about
// connections, COMPOUNDs, exports and attributes; what clients, sessions, opens and locks are is
// package state's; everything about files is asked of an [fs.Backend] per export.
//
// A COMPOUND is decoded and run operation by operation by compound.run. optable.go has one line for
// each operation; op_NAME.go has the operation. In each the order is: cheap checks, state, backend,
// answer. An operation that makes state has the shape
//
//	p, err := state.Prepare...        // rules; reserves; no I/O
//	err = journal commit ∥ backend    // no mutex is held
//	p.Settle or p.Abort               // the reservation becomes state, or was never there
//
// so that a grant is durable in the journal before the client hears of it (invariant I2), and a reclaim
// that the journal does not know never reaches a backend (I3).
package nfsdown
