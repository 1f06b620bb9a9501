package crash

import (
	"syscall"
	"testing"
)

func TestFaultBeginsAtTheNthHit(t *testing.T) {
	defer func(name string, nth int64) { faultName, faultNth = name, nth }(faultName, faultNth)
	for _, asked := range []string{"journal.full", "other", ""} {
		faultName, faultNth = asked, 3
		faultHits.Store(0)
		for i := 1; i < 6; i++ {
			fails := Fault("journal.full", syscall.ENOSPC) == syscall.ENOSPC
			if want := asked == "journal.full" && i >= 3; fails != want {
				t.Errorf("%q: hit %d fails: %v, want %v", asked, i, fails, want)
			}
		}
	}
}
