package main

import (
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

func newGrace(g *globals) *cobra.Command {
	c := &cobra.Command{Use: "grace", Short: "Show or end the grace period"}
	show := &cobra.Command{
		Use: "show", Short: "Show who has reclaimed and who is missing", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := g.dial()
			if err != nil {
				return err
			}
			var v graceView
			if err := client.Get(cmd.Context(), "/v1/grace", nil, &v); err != nil {
				return err
			}
			if g.json {
				return printJSON(v)
			}
			printGrace(&v)
			return nil
		},
	}
	var yes bool
	end := &cobra.Command{
		Use: "end", Short: "End the grace period now; says first whose locks would be lost", Args: cobra.NoArgs,
		Long: `End the grace period now. Clients that have not reclaimed lose their locks, so without --yes it
only says whose they are, and exits with 4.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := g.dial()
			if err != nil {
				return err
			}
			q := url.Values{}
			if yes {
				q.Set("yes", "1")
			}
			var v graceView
			if err := client.Post(cmd.Context(), "/v1/grace/end", q, &v); err != nil {
				return err
			}
			if g.json {
				return printJSON(v)
			}
			printGrace(&v)
			return nil
		},
	}
	end.Flags().BoolVar(&yes, "yes", false, "end it although locks will be lost")
	c.AddCommand(show, end)
	return c
}

func printGrace(v *graceView) {
	switch v.Phase {
	case "none":
		fmt.Println("no grace period: there was nothing to reclaim")
	case "active":
		fmt.Printf("grace: %s left; %d of %d clients are done; %d reclaims granted, %d refused, %d to come\n",
			ago(time.Duration(v.LeftNS)), v.Done, v.Expected, v.Granted, v.Refused, v.Remaining)
		for _, path := range v.OverFor {
			fmt.Printf("  over for %s: its origin takes no reclaims\n", path)
		}
		for _, l := range v.LostEarly {
			fmt.Println("  lost already:", l)
		}
	default:
		fmt.Printf("grace is over: %d of %d clients came back; %d reclaims granted, %d refused, %d lost\n",
			v.Done, v.Expected, v.Granted, v.Refused, len(v.Lost))
	}
	for _, m := range v.Missing {
		fmt.Println("  missing:", m)
	}
	for _, l := range v.Lost {
		fmt.Println("  lost:   ", l)
	}
}
