package nfsdown

import (
	"fmt"
	"syscall"
	"testing"

	"holdfast/internal/nfs4"
	"holdfast/journal"
)

// A server whose journal failed has its clients come again, so that they reclaim from the next one.
func TestFailedJournalIsDelay(t *testing.T) {
	err := fmt.Errorf("OPEN: %w", &journal.FailedError{Seq: 7, Err: syscall.ENOSPC})
	if s := toStatus(err); s != nfs4.NFS4ERR_DELAY {
		t.Errorf("%v", s)
	}
}
