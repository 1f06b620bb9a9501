package main

import (
	"fmt"
	"slices"
)

// A goal is a ratio that holdfast means to reach, of what was measured with the origin on the same host.
type goal struct {
	what     string
	workload string
	target   string // whose rate
	of       string // to whose: a target, or "limit"
	least    float64
}

var goals = []goal{
	{"warm 1 MiB sequential read, depth 8", "read 1 MiB sequential, depth 8", "serve", "limit", 0.6},
	{"", "read 1 MiB sequential, depth 8", "serve", "ganesha", 1},
	{"", "read 1 MiB sequential, depth 8", "serve", "proxy", 3},
	{"warm 4 KiB random read, depth 1", "read 4 KiB random, depth 1", "serve", "ganesha", 1},
	{"warm 4 KiB random read, depth 16", "read 4 KiB random, depth 16", "serve", "ganesha", 1.5},
	{"cached getattr, depth 16", "getattr, depth 16", "serve", "proxy", 2},
	{"open+close of a delegated file", "open+close", "delegated", "ganesha", 1},
	{"the same, depth 16", "open+close, depth 16", "delegated", "ganesha", 1},
	{"open+close, not delegated", "open+close", "serve", "ganesha", 0.6},
	{"the same, depth 16", "open+close, depth 16", "serve", "ganesha", 0.6},
	{"create+close+unlink", "create+close+unlink", "serve", "origin", 0.6},
	{"lock+unlock, durable and upstream, 1 owner", "lock+unlock, 1 owner", "serve", "origin", 0.4},
	{"the same, 64 owners", "lock+unlock, 64 owners", "serve", "origin", 0.8},
}

// goals are the rows of the table of goals, without those of which nothing was measured.
func (s *section) goals() [][]string {
	rows := [][]string{{"goal", "measured", "wanted", ""}}
	if s.rtt != 0 {
		return rows
	}
	for _, g := range goals {
		c, of := s.cell(g.target, g.workload), s.other(g)
		if c == nil || of == nil {
			continue
		}
		m, lo, hi, ok := median(c.ratios(of))
		if !ok {
			continue
		}
		verdict := "met"
		if m < g.least {
			verdict = "missed"
		}
		what := g.what
		if what == "" {
			what = "the same"
		}
		measured := digits(m)
		if len(c.Results) > 1 {
			measured += " [" + digits(lo) + ".." + digits(hi) + "]"
		}
		rows = append(rows, []string{what, measured, fmt.Sprintf(">= %g of %s", g.least, targetNames[g.of]), verdict})
	}
	return rows
}

// other is the cell that a goal compares with.
func (s *section) other(g goal) *cell {
	if g.of != "limit" {
		return s.cell(g.of, g.workload)
	}
	for _, w := range workloads {
		if w.Name == g.workload {
			name, _ := limitOf(w)
			return s.cell("limit", name)
		}
	}
	return nil
}

// targetNames are what the targets are called in tables and plots.
var targetNames = map[string]string{
	"origin": "origin", "serve": "serve", "delegated": "serve, delegated", "fuse": "serve's FUSE mount", "ganesha": "nfs-ganesha",
	"proxy": "its PROXY_V4", "dir": "bare directory", otherTarget: "other server", "limit": "raw TCP",
}

// present are the targets of which anything was measured, in the order of the tables.
func (s *section) present() []string {
	return slices.DeleteFunc(append(slices.Clone(allTargets), otherTarget), func(t string) bool {
		return !slices.ContainsFunc(s.Cells, func(c *cell) bool { return c.Target == t })
	})
}
