// Command holdfast is an NFS re-export server whose file locks survive reboots, the caching mount
// that is its client side, and an original server that is friendly to re-exports.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"holdfast/internal/control"
)

// Exit codes of all commands but mount, which has those of mount(8).
const (
	exitFailed      = 1
	exitUsage       = 2
	exitNotRunning  = 3
	exitLosesLocks  = 4
	exitJournal     = 5
	exitUnreachable = 6
	exitInterrupted = 130
)

// An exitError ends the process with a code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func withExit(code int, err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code, err}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	root := newRoot()
	args := os.Args[1:]
	if filepath.Base(os.Args[0]) == "mount.holdfast" {
		args = append([]string{"mount", "--daemon"}, args...)
	}
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	stop()
	os.Exit(report(err))
}

// report prints an error and tells the exit code.
func report(err error) int {
	if err == nil {
		return 0
	}
	var exit *exitError
	var remote *control.Error
	code := exitFailed
	switch {
	case errors.As(err, &exit):
		code = exit.code
	case errors.As(err, &remote):
		code = remote.Exit
	case errors.Is(err, control.ErrNotRunning):
		code = exitNotRunning
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	if text := err.Error(); text != "" {
		fmt.Fprintln(os.Stderr, "holdfast: "+strings.ReplaceAll(text, "\n", "\nholdfast: "))
	}
	return code
}

func newRoot() *cobra.Command {
	g := &globals{}
	root := &cobra.Command{
		Use:   "holdfast",
		Short: "An NFS re-export server whose file locks survive reboots",
		Long: `Holdfast re-exports an NFS server: end clients mount the machine that runs it, it caches the
original server. Unlike other re-exports it forwards file locks, and when it is killed and
started again its clients get their locks back and nobody else does.

  holdfast origin /srv/data                   an original server over a directory
  holdfast serve filer:/proj --mount /mnt     re-export filer, with a fenced local mount
  holdfast status                             what a running instance does

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 not running, 4 refused because it
would lose locks (--yes does it), 5 journal incomplete or damaged, 6 origin unreachable.
mount has those of mount(8).`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return withExit(exitUsage, fmt.Errorf("%w; see %s --help", err, c.CommandPath()))
	})
	f := root.PersistentFlags()
	f.StringVarP(&g.file, "config", "c", "", "configuration file (default /etc/holdfast/holdfast.yaml if it is there)")
	f.BoolVar(&g.json, "json", false, "print JSON")
	f.BoolVarP(&g.quiet, "quiet", "q", false, "print errors only")
	g.addSettings(f)
	root.AddCommand(
		newServe(g), newMount(g), newUmount(g), newOrigin(g),
		newStatus(g), newClients(g), newOpens(g), newLocks(g), newDelegs(g), newGrace(g), newEvents(g), newWhy(g), newStats(g),
		newCache(g), newJournal(g), newExports(g), newConfig(g), newDoctor(g), newProbe(g), newConform(g), newVersion(g),
	)
	for _, c := range root.Commands() {
		usageErrors(c)
	}
	return root
}

// usageErrors gives wrong arguments the exit code of wrong flags.
func usageErrors(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return withExit(exitUsage, fmt.Errorf("%w; see %s --help", err, c.CommandPath()))
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		usageErrors(sub)
	}
}
