package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/config"
	"holdfast/nfsdown"
)

// An exportTest is what a client gets at a path, and why.
type exportTest struct {
	Client  string            `json:"client"` // its address
	Path    string            `json:"path"`
	Export  string            `json:"export,omitempty"`
	Allowed bool              `json:"allowed"`
	Options []string          `json:"options,omitempty"`
	Rules   []nfsdown.Verdict `json:"rules,omitempty"`
	Why     []string          `json:"why"`
}

func newExportsTest(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "test CLIENT PATH", Short: "Say what a client would get at a path, and why", Args: cobra.ExactArgs(2),
		Long: `Say what a client (an address or a host name) would get at a path, by the exports of the configuration:
which export the path lies in, which of its clients(options) match, which of them counts, and why.
A single host counts before a network, a smaller network before a larger one, then patterns of host
names, netgroups, and *. Name services are asked as the server would ask them.

Exit code 1 if the client is refused.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := g.load()
			if err != nil {
				return err
			}
			all, err := cfg.ExportList()
			if err != nil {
				return withExit(exitUsage, err)
			}
			addrs, err := addresses(cmd.Context(), args[0])
			if err != nil {
				return withExit(exitUsage, err)
			}
			var items []*exportTest
			refused := false
			for _, a := range addrs {
				t, err := testExport(cmd.Context(), nfsdown.Config{}, all, a, args[1])
				if err != nil {
					return err
				}
				items = append(items, t)
				refused = refused || !t.Allowed
			}
			if g.json {
				err = printJSON(map[string]any{"schema": 1, "items": items})
			} else {
				for _, t := range items {
					t.print()
				}
			}
			if err == nil && refused {
				err = withExit(exitFailed, fmt.Errorf("%s is refused at %s", args[0], args[1]))
			}
			return err
		},
	}
}

// addresses are those of a client that was named.
func addresses(ctx context.Context, client string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(strings.Trim(client, "[]")); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	list, err := net.DefaultResolver.LookupNetIP(ctx, "ip", client)
	if err != nil {
		return nil, fmt.Errorf("client %q is neither an address nor a name that can be looked up: %w", client, err)
	}
	return list, nil
}

// testExport finds the export that a path lies in and asks it about the client.
func testExport(ctx context.Context, cfg nfsdown.Config, all []*config.Export, addr netip.Addr, at string) (*exportTest, error) {
	t := &exportTest{Client: addr.String(), Path: path.Clean("/" + at)}
	var e *config.Export
	for _, x := range all {
		below := x.Path == "/" || t.Path == x.Path || strings.HasPrefix(t.Path, x.Path+"/")
		if below && (e == nil || len(x.Path) > len(e.Path)) {
			e = x
		}
	}
	if e == nil {
		t.Why = append(t.Why, "the path lies in no export")
		return t, nil
	}
	t.Export = e.Path
	var x nfsdown.Export
	describe(&x, e)
	acc, rules, unresolved, err := nfsdown.Explain(ctx, cfg, &x, addr)
	if err != nil {
		return nil, err
	}
	t.Rules, t.Allowed = rules, !acc.Denied
	for _, u := range unresolved {
		t.Why = append(t.Why, fmt.Sprintf("%v: it is left out", u))
	}
	if acc.Denied {
		t.Why = append(t.Why, "no client of the export matches")
		return t, nil
	}
	for i, v := range rules {
		if !v.Counts {
			continue
		}
		c := &e.Clients[i]
		t.Options = exportOptions(e, c)
		t.Why = append(t.Why, fmt.Sprintf("%s is the most specific client that matches", c.Pattern))
		if !c.Insecure {
			t.Why = append(t.Why, "secure: only from a source port below 1024")
		}
		switch c.Squash {
		case "root":
			t.Why = append(t.Why, fmt.Sprintf("root_squash: root is user %d, group 0 is group %d", c.AnonUID, c.AnonGID))
		case "all":
			t.Why = append(t.Why, fmt.Sprintf("all_squash: everybody is user %d of group %d", c.AnonUID, c.AnonGID))
		}
	}
	if len(e.Refer) > 0 {
		t.Why = append(t.Why, "refer: the client is sent to "+locations(e.Refer))
	}
	return t, nil
}

func (t *exportTest) print() {
	verdict := "refused"
	if t.Allowed {
		verdict = "allowed: " + strings.Join(t.Options, ",")
	}
	fmt.Printf("%s at %s: %s\n", t.Client, t.Path, verdict)
	if t.Export != "" {
		fmt.Printf("  export %s\n", t.Export)
	}
	for _, r := range t.Rules {
		state := "does not match"
		switch {
		case r.Counts:
			state = "counts"
		case r.Matches:
			state = "matches"
		}
		fmt.Printf("  client %s: %s\n", r.Pattern, state)
	}
	for _, w := range t.Why {
		fmt.Printf("  %s\n", w)
	}
}
