// Package torture breaks a re-export, again and again, while clients work on it, and lets a judge decide
// whether what they saw can be.
//
// The re-export is made of real processes: an origin and two re-export servers of it. Clients are of
// package nfsup, which keeps its state over a server's reboot and reclaims it: some mount a re-export
// server, one the origin itself. Beside them Linux clients in VMs mount the re-export servers, hard: they may not
// see an error. Each has workers that lock, upgrade, downgrade, split, unlock, read and
// write under locks, and open with deny modes, at random; files are renamed meanwhile. A plan, drawn from a
// seed, kills processes with SIGKILL, at random moments and at crash points, stops them, breaks links,
// lets clients die, moves clocks and fails the journal's disk.
//
// The histories go to package judge. Besides, each loss that a client is told of must have a reason: an
// outage somewhere between the client and the origin that was long, measured by the lease. A lock that is
// lost by a short crash is a violation of I2, told or not.
package torture
