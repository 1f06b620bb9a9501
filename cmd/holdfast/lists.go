package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// list is a command that asks the instance for a list and prints it as a table or as JSON.
func list[T any](g *globals, use, short, path, head string, keep func(*T, string) bool, cells func(*T) string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.dial()
			if err != nil {
				return err
			}
			var answer struct {
				Schema int `json:"schema"`
				Items  []T `json:"items"`
			}
			if err := c.Get(cmd.Context(), path, nil, &answer); err != nil {
				return err
			}
			kept := []T{}
			for i := range answer.Items {
				if len(args) == 0 || keep(&answer.Items[i], args[0]) {
					kept = append(kept, answer.Items[i])
				}
			}
			answer.Items = kept
			if g.json {
				return printJSON(answer)
			}
			var rows []string
			for i := range kept {
				rows = append(rows, cells(&kept[i]))
			}
			return table(head, rows)
		},
	}
}

func newClients(g *globals) *cobra.Command {
	return list(g, "clients [CLIENT]", "List the end clients", "/v1/clients",
		row("CLIENT", "ADDRESS", "STATE", "LEASE", "SESSIONS", "OPENS", "LOCKS", "HELD", "OWNER"),
		func(c *clientView, want string) bool {
			return strings.Contains(c.Owner.Guess, want) || strings.Contains(c.Addr, want) || c.ID == want
		},
		func(c *clientView) string {
			st := "active"
			switch {
			case c.Courtesy:
				st = "courtesy"
			case !c.Confirmed:
				st = "unconfirmed"
			case !c.Complete:
				st = "reclaiming"
			}
			return row(c.ID, c.Addr, st, ago(time.Duration(c.LeaseLeftNS)), c.Sessions, c.Opens, c.Locks, c.Held, c.Owner.short())
		})
}

func fileText(name, file string) string {
	if name != "" {
		return name
	}
	return clip(file, 32)
}

func newOpens(g *globals) *cobra.Command {
	return list(g, "opens [FILE|CLIENT]", "List what end clients have open", "/v1/opens",
		row("FILE", "ACCESS", "DENY", "STATE", "AGE", "CLIENT", "OWNER"),
		func(o *openView, want string) bool {
			return strings.Contains(o.Name, want) || strings.Contains(o.Client.Guess, want) || o.File == want
		},
		func(o *openView) string {
			return row(fileText(o.Name, o.File), o.Access, o.Deny, openState(o), ago(time.Since(o.Since)), o.Client.short(), o.Owner.short())
		})
}

func openState(o *openView) string {
	switch {
	case o.Held:
		return "held"
	case o.Reclaimed:
		return "reclaimed"
	}
	return "new"
}

func newLocks(g *globals) *cobra.Command {
	return list(g, "locks [FILE|CLIENT]", "List who holds or waits for which byte ranges", "/v1/locks",
		row("FILE", "RANGE", "TYPE", "STATE", "AGE", "CLIENT", "OWNER"),
		func(l *lockView, want string) bool {
			return strings.Contains(l.Name, want) || strings.Contains(l.Client.Guess, want) || l.File == want
		},
		func(l *lockView) string {
			return row(fileText(l.Name, l.File), rangeText(l.First, l.Last), l.Type, l.State, ago(time.Since(l.Since)), l.Client.short(), l.Owner.short())
		})
}

func newDelegs(g *globals) *cobra.Command {
	return list(g, "delegs [FILE|HOLDER]", "List which files are delegated to whom", "/v1/delegs",
		row("FILE", "TYPE", "SIDE", "STATE", "AGE", "PARKED", "HOLDER"),
		func(d *delegView, want string) bool {
			return strings.Contains(d.Name, want) || strings.Contains(d.Holder.Guess, want) || d.File == want
		},
		func(d *delegView) string {
			age := "-"
			if !d.Since.IsZero() {
				age = ago(time.Since(d.Since))
			}
			return row(fileText(d.Name, d.File), d.Type, d.Side, d.State, age, d.Parked, d.Holder.short())
		})
}
