//go:build broken_early_complete

package broken

// EarlyComplete: RECLAIM_COMPLETE goes upstream when service begins, before the reclaims (I5).
const EarlyComplete = true
