package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lockName holds the process id of who has the journal open for writing; for people only.
const lockName = "LOCK"

func (e *InUseError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("journal %s is in use by another process", e.Dir)
	}
	return fmt.Sprintf("journal %s is in use by process %d", e.Dir, e.PID)
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("journal %s has layout version %d, and this Holdfast knows up to %d: it was written by a newer one", e.Dir, e.Found, e.Known)
}

func (e *FailedError) Error() string {
	return fmt.Sprintf("journal: group commit %d failed, nothing more is granted: %v", e.Seq, e.Err)
}

// Unwrap gives the cause.
func (e *FailedError) Unwrap() error { return e.Err }

// lockDir takes the flock on the directory: exclusive for a writer, shared for a reader, who changes
// nothing. The lock goes with the returned file, and with the process.
func lockDir(dir string, exclusive bool) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err != nil {
		f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock journal %s: %w", dir, err)
		}
		inUse := &InUseError{Dir: dir}
		if b, err := os.ReadFile(filepath.Join(dir, lockName)); err == nil {
			inUse.PID, _ = strconv.Atoi(strings.TrimSpace(string(b)))
		}
		return nil, inUse
	}
	if exclusive {
		if err := os.WriteFile(filepath.Join(dir, lockName), fmt.Appendf(nil, "%d\n", os.Getpid()), 0o600); err != nil {
			f.Close()
			return nil, err
		}
	}
	return f, nil
}

// unlockDir gives the flock back.
func unlockDir(dir string, f *os.File, exclusive bool) error {
	var err error
	if exclusive {
		err = os.Remove(filepath.Join(dir, lockName))
	}
	return errors.Join(err, f.Close())
}
