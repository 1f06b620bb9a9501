package crash

import (
	"os"
	"strings"
	"time"
)

// PauseEnv is the environment variable that makes the process wait at a place: name:path waits
// until path exists. It makes a moment that is too short to look at as long as a test needs.
const PauseEnv = "HOLDFAST_PAUSE"

// Pause waits at the place, if this is where the process is to wait.
func Pause(name string) {
	at, path, ok := strings.Cut(os.Getenv(PauseEnv), ":")
	if !ok || at != name {
		return
	}
	for {
		if _, err := os.Stat(path); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}
