//go:build !broken_reclaim_as_lock

package broken

// ReclaimAsLock: a reclaim that the origin refused is sent again as an ordinary open or lock (DESIGN 3.8, I3).
const ReclaimAsLock = false
