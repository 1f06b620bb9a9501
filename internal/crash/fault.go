package crash

import (
	"os"
	"sync/atomic"
)

// FaultEnv is the environment variable that makes something fail, from its nth try on: name:nth. The names are
// those that Fault is called with: journal.full (no space for a commit), journal.sync (a commit is written, and its
// fsync fails).
const FaultEnv = "HOLDFAST_FAULT"

var (
	faultName, faultNth = parse(os.Getenv(FaultEnv))
	faultHits           atomic.Int64
)

// Fault returns err if the environment asks for it at this place, else nil.
func Fault(name string, err error) error {
	if faultName != name || faultName == "" || faultHits.Add(1) < faultNth {
		return nil
	}
	return err
}
