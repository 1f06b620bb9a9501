package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/config"
)

func newExports(g *globals) *cobra.Command {
	c := &cobra.Command{Use: "exports", Short: "List the exports, or load them again"}
	c.AddCommand(&cobra.Command{
		Use: "list", Short: "List the exports of the configuration with all options spelled out", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := g.load()
			if err != nil {
				return err
			}
			var all []*config.Export
			var rows []string
			for _, text := range cfg.Exports {
				e, err := config.ParseExport(text)
				if err != nil {
					return withExit(exitUsage, fmt.Errorf("export %q: %w", text, err))
				}
				all = append(all, e)
				for _, c := range e.Clients {
					rows = append(rows, row(e.Path, c.Pattern, strings.Join(exportOptions(&c), ",")))
				}
			}
			if g.json {
				return printJSON(map[string]any{"schema": 1, "items": all})
			}
			return table(row("PATH", "CLIENT", "OPTIONS"), rows)
		},
	}, &cobra.Command{
		Use: "reload", Short: "Let the running instance take its exports from the file again", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := g.dial()
			if err != nil {
				return err
			}
			var answer struct {
				Restart []string `json:"restart_needed_for"`
			}
			if err := client.Post(cmd.Context(), "/v1/reload", nil, &answer); err != nil {
				return err
			}
			if !g.quiet {
				fmt.Println("reloaded")
				for _, n := range answer.Restart {
					fmt.Println("needs a restart:", n)
				}
			}
			return nil
		},
	})
	return c
}

func exportOptions(c *config.ExportClient) []string {
	pick := func(b bool, yes, no string) string {
		if b {
			return yes
		}
		return no
	}
	squash := map[string]string{"root": "root_squash", "none": "no_root_squash", "all": "all_squash"}[c.Squash]
	return []string{pick(c.ReadWrite, "rw", "ro"), "sync", pick(c.Insecure, "insecure", "secure"), squash,
		fmt.Sprintf("anonuid=%d", c.AnonUID), fmt.Sprintf("anongid=%d", c.AnonGID), "sec=sys"}
}
