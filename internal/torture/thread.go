package torture

import (
	"runtime"
	"sync"
)

var (
	once   sync.Once
	starts = make(chan func())
)

// keepThread runs what is sent to starts on one thread for ever, so that children that are to die with
// their parent do not die with a thread of it.
func keepThread() {
	runtime.LockOSThread()
	for f := range starts {
		f()
	}
}
