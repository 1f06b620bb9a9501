// Package child starts processes that die with this one, for tests.
package child

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// starts runs what is sent to it on one thread for ever: Pdeathsig is about the thread that started the child, and
// Go ends threads as it likes.
var starts = sync.OnceValue(func() chan<- func() {
	c := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range c {
			f()
		}
	}()
	return c
})

// Start is cmd.Start; the process is killed when this one ends, however it does.
func Start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	e := make(chan error)
	starts() <- func() { e <- cmd.Start() }
	return <-e
}
