package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/config"
	"holdfast/internal/conform"
)

func newConform(g *globals) *cobra.Command {
	var o conform.Options
	var list bool
	var restart string
	var patterns []string
	c := &cobra.Command{
		Use: "conform nfs://SERVER[:PORT]/PATH", Short: "Test whether a server keeps the rules by which locks survive reboots",
		Args: func(c *cobra.Command, args []string) error {
			if list {
				return cobra.NoArgs(c, args)
			}
			return cobra.ExactArgs(1)(c, args)
		},
		Long: `Test whether any NFSv4.1 or 4.2 server keeps the rules by which locks survive reboots: byte-range locks,
share reservations, sessions, clients that restart, what a re-export friendly server holds for them, and
restarts of the server. Each test prints PASS, FAIL with what was seen, or SKIP with the reason, and the
section that asks for it: of RFC 8881, "seed" for the design of reboot recovery for re-export servers,
"draft" for draft-cel-nfsv4-state-retention.

--run chooses tests by name; a pattern is one of path.Match, or the part before the slash: --run lock,'*/reclaim'.
Tests that wait for a lease to run out are run by --slow only, those that restart the server if
--restart-command says how: a command for the shell that kills the server, starts it again and returns.

The tests work in a scratch directory in PATH, and remove it. Exit code 0 if nothing failed, 1 if a test
failed, 6 if the server cannot be reached.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			match, err := matcher(patterns)
			if err != nil {
				return withExit(exitUsage, err)
			}
			if list {
				return listTests(g, match)
			}
			if o.Minor > 2 {
				return withExit(exitUsage, fmt.Errorf("there is no minor version %d", o.Minor))
			}
			origin, err := config.ParseOrigin(args[0])
			if err != nil {
				return withExit(exitUsage, err)
			}
			opt, err := origin.ParseOptions()
			if err != nil {
				return withExit(exitUsage, err)
			}
			o.Addr, o.Path, o.Match = origin.Addr(opt), origin.Path, match
			if restart != "" {
				o.Restart = func(ctx context.Context) error {
					out, err := exec.CommandContext(ctx, "/bin/sh", "-c", restart).CombinedOutput()
					if err != nil {
						return fmt.Errorf("%s: %w: %s", restart, err, strings.TrimSpace(string(out)))
					}
					return nil
				}
			}
			if !g.json {
				o.Each = func(r *conform.Result) { printResult(os.Stdout, r, g.quiet) }
			}
			r, err := conform.Run(cmd.Context(), o)
			switch {
			case err != nil && r.Lease == 0:
				return withExit(exitUnreachable, fmt.Errorf("%s: %w", o.Addr, err))
			case g.json:
				if e := printJSON(r); e != nil {
					return e
				}
			default:
				impl := r.Impl
				if impl == "" {
					impl = "does not say what it is"
				}
				fmt.Printf("%d passed, %d failed, %d skipped: %s  NFS 4.%d  %s  lease %v\n", r.Passed, r.Failed, r.Skipped, r.Addr, r.Minor, impl, r.Lease)
			}
			switch {
			case err != nil:
				return err
			case len(r.Results) == 0:
				return withExit(exitUsage, fmt.Errorf("no test is called %s; --list shows them", strings.Join(patterns, ", ")))
			case r.Failed > 0:
				return withExit(exitFailed, fmt.Errorf("%d tests failed", r.Failed))
			}
			return nil
		},
	}
	f := c.Flags()
	f.BoolVar(&list, "list", false, "list the tests and what they are about; needs no server")
	f.StringSliceVar(&patterns, "run", nil, "run only the tests with such names")
	f.BoolVar(&o.Slow, "slow", false, "also run the tests that wait for a lease to run out")
	f.StringVar(&restart, "restart-command", "", "shell command that kills the server and starts it again")
	f.Uint32Var(&o.Minor, "minor", 0, "minor version, 1 or 2 (default the highest that the server has)")
	f.Uint32Var(&o.UID, "uid", 0, "user id that makes the scratch directory")
	f.Uint32Var(&o.GID, "gid", 0, "group id that makes the scratch directory")
	return c
}

// matcher makes a test of names from patterns; without any all names match.
func matcher(patterns []string) (func(string) bool, error) {
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil {
			return nil, fmt.Errorf("--run %q: %w", p, err)
		}
	}
	return func(name string) bool {
		return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool {
			ok, _ := path.Match(p, name) // the pattern was checked above
			return ok || strings.HasPrefix(name, p+"/")
		})
	}, nil
}

func listTests(g *globals, match func(string) bool) error {
	tests := slices.DeleteFunc(conform.Tests(), func(t conform.Test) bool { return !match(t.Name) })
	if g.json {
		return printJSON(struct {
			Schema int            `json:"schema"`
			Tests  []conform.Test `json:"tests"`
		}{1, tests})
	}
	var rows []string
	for _, t := range tests {
		needs := ""
		switch {
		case t.Slow:
			needs = "--slow"
		case t.Restart:
			needs = "--restart-command"
		}
		rows = append(rows, row(t.Name, t.Section, needs, t.About))
	}
	return table("TEST\tSECTION\tNEEDS\tWHAT IS WANTED", rows)
}

// printResult prints a line, and below it what was seen; quiet leaves out all but failures.
func printResult(w io.Writer, r *conform.Result, quiet bool) {
	if quiet && r.Outcome != conform.Fail {
		return
	}
	fmt.Fprintf(w, "%-4s %-24s %-16s %s", r.Outcome, r.Name, r.Section, r.About)
	if r.Took > time.Second {
		fmt.Fprintf(w, " (%s)", shortTime(r.Took))
	}
	fmt.Fprintln(w)
	if r.Text != "" {
		fmt.Fprintf(w, "     %s\n", r.Text)
	}
}
