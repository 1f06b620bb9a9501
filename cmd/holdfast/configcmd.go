package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"holdfast/internal/config"
)

func newConfig(g *globals) *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Check, show or write an example of the configuration"}
	var role string
	check := &cobra.Command{
		Use: "check", Short: "Check the configuration; says every fault and its remedy", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := g.load()
			if err != nil {
				return err
			}
			if err := c.Validate(role); err != nil {
				return withExit(exitUsage, err)
			}
			if !g.quiet {
				fmt.Println("configuration is good")
			}
			return nil
		},
	}
	check.Flags().StringVar(&role, "for", "serve", "the command it is meant for: serve, mount or origin")
	var origin bool
	show := &cobra.Command{
		Use: "show", Short: "Show all settings as they are in force", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := g.load()
			if err != nil {
				return err
			}
			return showConfig(g, c, origin)
		},
	}
	show.Flags().BoolVar(&origin, "origin", false, "say where each value comes from")
	example := &cobra.Command{
		Use: "example", Short: "Print a file with every key", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := os.Stdout.WriteString(config.Example)
			return err
		},
	}
	c.AddCommand(check, show, example)
	return c
}

func showConfig(g *globals, c *config.Config, origin bool) error {
	if g.json {
		out := map[string]any{"schema": 1, "origins": c.Origins, "exports": c.Exports, "mounts": c.Mounts}
		settings := map[string]any{}
		for _, s := range c.Settings() {
			settings[s.Key] = map[string]string{"value": s.Value.String(), "source": source(c, s.Key)}
		}
		out["settings"] = settings
		return printJSON(out)
	}
	var rows []string
	add := func(key, value, from string) {
		if origin {
			rows = append(rows, row(key, value, from))
		} else {
			rows = append(rows, row(key, value))
		}
	}
	for _, s := range c.Settings() {
		add(s.Key, s.Value.String(), source(c, s.Key))
	}
	for _, o := range c.Origins {
		add("origins", fmt.Sprintf("%s = %s:%s %s", o.Name, o.Server, o.Path, o.Options), "file")
	}
	for _, e := range c.Exports {
		add("exports", e, "file")
	}
	for _, m := range c.Mounts {
		add("mounts", fmt.Sprintf("%s on %s", m.Origin, m.Dir), "file")
	}
	head := row("KEY", "VALUE")
	if origin {
		head = row("KEY", "VALUE", "FROM")
	}
	return table(head, rows)
}

func source(c *config.Config, key string) string {
	if s := c.Sources[key]; s != "" {
		return s
	}
	return "default"
}
