package portmap

import (
	"errors"
	"syscall"
)

// busyPort tells whether another local port may do: it is taken, or only root may have it.
func busyPort(err error) bool {
	return errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM)
}
