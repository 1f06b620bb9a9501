package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/config"
	"holdfast/nfsdown"
)

// A statsView counts operations since the start, toward end clients and toward the origins.
type statsView struct {
	Schema     int                 `json:"schema"`
	Downstream []nfsdown.OpStat    `json:"downstream"`
	Upstream   map[string][]upStat `json:"upstream"`
}

type upStat struct {
	Op     string `json:"op"`
	Count  uint64 `json:"count"`
	Errors uint64 `json:"errors"`
	RTTNS  uint64 `json:"rtt_ns"` // in all
}

func (in *instance) stats() *statsView {
	v := &statsView{Schema: 1, Downstream: []nfsdown.OpStat{}, Upstream: map[string][]upStat{}}
	if in.server != nil {
		v.Downstream = append(v.Downstream, in.server.OpStats()...)
	}
	if in.client != nil {
		for _, r := range in.client.connected() {
			v.Upstream[r.Status().Name] = upstreamStats(r)
		}
	}
	return v
}

func newStats(g *globals) *cobra.Command {
	var server, upstream bool
	var interval config.Duration
	c := &cobra.Command{
		Use: "stats", Short: "Count operations: toward end clients (-s) and toward the origins (-u)", Args: cobra.NoArgs,
		Long: `Count operations since the start: of NFSv4, and procedures of NFSv3, MOUNT, NLM and NSM, toward end clients (-s), and
toward the origins (-u). Errors are answers other than OK; of NLM, other than GRANTED and BLOCKED.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := g.dial()
			if err != nil {
				return err
			}
			var last statsView
			for {
				var v statsView
				if err := client.Get(cmd.Context(), "/v1/stats", nil, &v); err != nil {
					return err
				}
				show := v
				if interval != 0 {
					show = v.minus(&last)
				}
				if g.json {
					err = printJSON(show)
				} else {
					err = show.print(server || !upstream, upstream || !server)
				}
				if err != nil || interval == 0 {
					return err
				}
				last = v
				select {
				case <-cmd.Context().Done():
					return nil
				case <-time.After(interval.Std()):
				}
			}
		},
	}
	f := c.Flags()
	f.BoolVarP(&server, "server", "s", false, "only toward end clients")
	f.BoolVarP(&upstream, "upstream", "u", false, "only toward the origins")
	f.VarP(&interval, "interval", "i", "go on, and show what happened in each interval")
	return c
}

// A counted is what an OpStat is of: programs have procedures of the same name.
type counted struct{ program, op string }

// minus is what happened since an earlier view.
func (v *statsView) minus(old *statsView) statsView {
	out := statsView{Schema: 1, Downstream: []nfsdown.OpStat{}, Upstream: map[string][]upStat{}}
	before := map[counted]nfsdown.OpStat{}
	for _, o := range old.Downstream {
		before[counted{o.Program, o.Op}] = o
	}
	for _, n := range v.Downstream {
		o := before[counted{n.Program, n.Op}]
		n.Count, n.Errors, n.In, n.Out, n.Nanos = n.Count-o.Count, n.Errors-o.Errors, n.In-o.In, n.Out-o.Out, n.Nanos-o.Nanos
		if n.Count > 0 {
			out.Downstream = append(out.Downstream, n)
		}
	}
	for name, list := range v.Upstream {
		before := map[string]upStat{}
		for _, o := range old.Upstream[name] {
			before[o.Op] = o
		}
		for _, n := range list {
			o := before[n.Op]
			n.Count, n.Errors, n.RTTNS = n.Count-o.Count, n.Errors-o.Errors, n.RTTNS-o.RTTNS
			if n.Count > 0 {
				out.Upstream[name] = append(out.Upstream[name], n)
			}
		}
	}
	return out
}

func each(total, n uint64) string {
	if n == 0 {
		return "-"
	}
	return time.Duration(total / n).Round(time.Microsecond).String()
}

func (v *statsView) print(server, upstream bool) error {
	if server {
		var rows []string
		for _, o := range v.Downstream {
			rows = append(rows, row(o.Program+" "+o.Op, o.Count, o.Errors, each(o.Nanos, o.Count), o.In, o.Out))
		}
		if err := table(row("FROM CLIENTS", "OPS", "ERRORS", "AVG EXE", "BYTES IN", "BYTES OUT"), rows); err != nil {
			return err
		}
	}
	for name, list := range v.Upstream {
		if !upstream {
			break
		}
		var rows []string
		for _, o := range list {
			rows = append(rows, row(o.Op, o.Count, o.Errors, each(o.RTTNS, o.Count)))
		}
		if err := table(row(fmt.Sprintf("TO %s", name), "OPS", "ERRORS", "AVG RTT"), rows); err != nil {
			return err
		}
	}
	return nil
}
