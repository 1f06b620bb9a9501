package main

import (
	"encoding/xml"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"holdfast/internal/loadgen"
)

// A plot is a drawing of horizontal bars in groups: a group for each workload, a bar for each target.
type plot struct {
	title  string
	unit   string // of the numbers at the bars
	log    bool
	line   float64 // is drawn from top to bottom, unless zero
	series []string
	groups []group
}

// A group has a value for each series; zero is none.
type group struct {
	name   string
	values []float64
}

var colours = map[string]string{
	"origin": "#4e79a7", "serve": "#e15759", "delegated": "#b07aa1", "fuse": "#f28e2b", "ganesha": "#59a14f", "proxy": "#8cd17d",
	"dir": "#bab0ac", otherTarget: "#9c755f", "limit": "#79706e",
}

// The measures of a drawing, in pixels.
const (
	plotWidth = 900
	plotLeft  = 250
	plotRight = 90
	plotTop   = 64
	barHeight = 13
	groupGap  = 10
)

// svg draws it. Nothing is drawn of a plot without values.
func (p *plot) svg() string {
	lo, hi := math.Inf(1), 0.0
	bars := 0
	for _, g := range p.groups {
		for _, v := range g.values {
			if v > 0 {
				lo, hi, bars = min(lo, v), max(hi, v), bars+1
			}
		}
	}
	if bars == 0 {
		return ""
	}
	if p.line > 0 {
		lo, hi = min(lo, p.line), max(hi, p.line)
	}
	lo, hi = p.span(lo, hi)
	at := func(v float64) float64 {
		share := (v - lo) / (hi - lo)
		if p.log {
			share = math.Log(v/lo) / math.Log(hi/lo)
		}
		return plotLeft + share*(plotWidth-plotLeft-plotRight)
	}
	height := plotTop + bars*barHeight + len(p.groups)*groupGap + 10
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%d" font-family="sans-serif" font-size="11">`+"\n", plotWidth, height, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", plotWidth, height)
	fmt.Fprintf(&b, `<text x="10" y="18" font-size="14" font-weight="bold">%s</text>`+"\n", escape(p.title))
	x := 10
	for _, t := range p.series {
		fmt.Fprintf(&b, `<rect x="%d" y="30" width="10" height="10" fill="%s"/><text x="%d" y="39">%s</text>`+"\n", x, colours[t], x+14, escape(targetNames[t]))
		x += 30 + 7*len(targetNames[t])
	}
	for _, v := range p.ticks(lo, hi) {
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1[1]f" y2="%[3]d" stroke="#ddd"/><text x="%.1[1]f" y="%[4]d" text-anchor="middle" fill="#666">%s</text>`+"\n",
			at(v), plotTop-4, height-6, plotTop-8, escape(amount(v, p.unit)))
	}
	if p.line > 0 {
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1[1]f" y2="%[3]d" stroke="#4e79a7" stroke-dasharray="4 3"/>`+"\n", at(p.line), plotTop-4, height-6)
	}
	y := plotTop
	for _, g := range p.groups {
		begun := y
		for i, v := range g.values {
			if v <= 0 {
				continue
			}
			fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/><text x="%.1f" y="%d">%s</text>`+"\n",
				plotLeft, y+1, max(at(v)-plotLeft, 1), barHeight-2, colours[p.series[i]], max(at(v), plotLeft)+4, y+barHeight-3, escape(amount(v, p.unit)))
			y += barHeight
		}
		if y > begun {
			fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", plotLeft-8, (begun+y)/2+4, escape(g.name))
		}
		y += groupGap
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// span is where the axis begins and ends: whole powers of ten by a logarithm, else from zero.
func (p *plot) span(lo, hi float64) (from, to float64) {
	if !p.log {
		return 0, hi
	}
	from, to = math.Pow(10, math.Floor(math.Log10(lo))), math.Pow(10, math.Ceil(math.Log10(hi)))
	if from == to {
		to *= 10
	}
	return from, to
}

func (p *plot) ticks(lo, hi float64) (list []float64) {
	if p.log {
		for v := lo; v <= hi*1.0001; v *= 10 {
			list = append(list, v)
		}
		return list
	}
	step := math.Pow(10, math.Floor(math.Log10(hi)))
	if hi/step < 3 {
		step /= 4
	}
	for v := step; v <= hi*1.0001; v += step {
		list = append(list, v)
	}
	return list
}

func escape(s string) string {
	var b strings.Builder
	if err := xml.EscapeText(&b, []byte(s)); err != nil {
		return "" // a builder takes all
	}
	return b.String()
}

// plots are the drawings of a section, by the names of their files.
func (s *section) plots() map[string]string {
	suffix := ""
	if s.rtt > 0 {
		suffix = "-" + s.RTT
	}
	targets := s.present()
	ratios := &plot{title: s.title() + ": rates, as ratios to the origin's (more is better)", unit: "x", log: true, line: 1}
	data := &plot{title: s.title() + ": data in transfers of 1 MiB (more is better)", unit: "MB/s", series: append([]string{"limit"}, targets...)}
	times := &plot{title: s.title() + ": median time of a round in microseconds (less is better)", unit: "us", log: true, series: targets}
	for _, t := range targets {
		if t != "origin" {
			ratios.series = append(ratios.series, t)
		}
	}
	for _, w := range workloads {
		o := s.cell("origin", w.Name)
		r, d, l := group{name: w.Name}, group{name: w.Name}, group{name: w.Name}
		for _, t := range ratios.series {
			r.values = append(r.values, s.median(t, w.Name, func(c *cell) []float64 {
				if o == nil {
					return nil
				}
				return c.ratios(o)
			}))
		}
		for _, t := range targets {
			l.values = append(l.values, s.median(t, w.Name, func(c *cell) (list []float64) {
				for _, r := range c.Results {
					list = append(list, float64(r.P50)/1e3)
				}
				return list
			}))
		}
		ratios.groups, times.groups = append(ratios.groups, r), append(times.groups, l)
		if name, _ := limitOf(w); w.Bytes >= 1<<20 {
			d.values = append(d.values, s.median("limit", name, (*cell).rates))
			for _, t := range targets {
				d.values = append(d.values, s.median(t, w.Name, (*cell).rates))
			}
			data.groups = append(data.groups, d)
		}
	}
	files := map[string]string{}
	for name, p := range map[string]*plot{"ratios": ratios, "data": data, "times": times} {
		if text := p.svg(); text != "" {
			files[name+suffix+".svg"] = text
		}
	}
	return files
}

// median of what f takes from a cell, zero if there is nothing.
func (s *section) median(target, workload string, f func(*cell) []float64) float64 {
	c := s.cell(target, workload)
	if c == nil {
		return 0
	}
	m, _, _, _ := median(f(c))
	return m
}

// plot writes the drawings of all sections.
func (r *report) plot(dir string) error {
	for _, s := range r.Sections {
		for name, text := range s.plots() {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

var workloads = loadgen.Workloads()
