// Package nlm is the lock manager for clients of NFSv3: NLM versions 1, 3 and 4, and the status monitor NSM beside it. It
// turns their requests into opens and locks of package state, which journals them and judges conflicts with everybody
// else's, and of the backend, so that they are held upstream too.
//
// A client is a caller_name at an address. Its owners are (oh, svid); each has an open of its own, the synthetic open, on a
// file while it holds or wants a lock there, because NFSv4 has locks only under opens.
//
// NLM has no lease. What a client holds ends with its UNLOCK, with FREE_ALL, or when its status monitor says that it
// rebooted. When we reboot, those whose locks wait to be reclaimed are told by SM_NOTIFY, and nobody else.
//
// Lock order: Server.mu, host.mu. Neither is held across a call. The turn of an entry is held across calls, and is
// waited for with a context.
package nlm
