package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/loadgen"
)

// A report is all that was measured, as it is written to results.json.
type report struct {
	Version  string     `json:"version"`
	Date     string     `json:"date"`
	Kernel   string     `json:"kernel"`
	CPU      string     `json:"cpu"`
	Cores    int        `json:"cores"`
	Go       string     `json:"go"`
	Rounds   int        `json:"rounds"`
	Time     string     `json:"time"`
	FileMiB  int64      `json:"file_mib"`
	Conns    int        `json:"connections"`
	Sections []*section `json:"sections"`
}

// A section is what was measured with one round-trip time to the origin.
type section struct {
	RTT   string   `json:"rtt"`
	Notes []string `json:"notes,omitempty"`
	Cells []*cell  `json:"cells"`

	rtt time.Duration
}

// A cell is a workload on a target: one result per round, zero where it failed.
type cell struct {
	Target   string    `json:"target"`
	Workload string    `json:"workload"`
	Results  []outcome `json:"results"`
	Errors   []string  `json:"errors,omitempty"`
}

// An outcome is a result with what it cost: CPU is the time that all daemons that work for the target
// took of all cores, per round.
type outcome struct {
	loadgen.Result
	CPU time.Duration `json:"cpu_ns,omitempty"`
}

func newReport(s *settings) *report {
	r := &report{Date: time.Now().UTC().Format("2006-01-02"), Cores: runtime.NumCPU(), Go: runtime.Version(),
		Rounds: s.rounds, Time: s.time.String(), FileMiB: s.size >> 20, Conns: s.conns, CPU: cpuName()}
	if out, err := exec.Command(s.binary, "version").Output(); err == nil {
		r.Version, _, _ = strings.Cut(strings.TrimSpace(string(out)), "\n")
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		r.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	return r
}

func cpuName() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for _, line := range strings.Split(string(b), "\n") {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func (r *report) section(rtt time.Duration) *section {
	s := &section{RTT: rtt.String(), rtt: rtt}
	r.Sections = append(r.Sections, s)
	return s
}

func (s *section) cell(target, workload string) *cell {
	for _, c := range s.Cells {
		if c.Target == target && c.Workload == workload {
			return c
		}
	}
	return nil
}

func (s *section) add(round int, target, workload string, r outcome, err error) {
	c := s.cell(target, workload)
	if c == nil {
		c = &cell{Target: target, Workload: workload}
		s.Cells = append(s.Cells, c)
	}
	if err != nil {
		c.Errors = append(c.Errors, fmt.Sprintf("round %d: %v", round+1, err))
		r = outcome{}
	}
	c.Results = append(c.Results, r)
}

// failure is an error if anything could not be measured.
func (r *report) failure() error {
	var errs []error
	for _, s := range r.Sections {
		for _, c := range s.Cells {
			if len(c.Errors) > 0 {
				errs = append(errs, fmt.Errorf("%s, %s: %s", c.Target, c.Workload, c.Errors[0]))
			}
		}
	}
	return errors.Join(errs...)
}

// median of what is not zero, and the least and the largest; ok is false if there is nothing.
func median(values []float64) (m, lo, hi float64, ok bool) {
	values = slices.DeleteFunc(slices.Clone(values), func(v float64) bool { return v == 0 })
	if len(values) == 0 {
		return 0, 0, 0, false
	}
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2, values[0], values[n-1], true
}

func (c *cell) rates() []float64 {
	var list []float64
	for _, r := range c.Results {
		list = append(list, r.Rate)
	}
	return list
}

func (c *cell) times(f func(outcome) time.Duration) string {
	var list []float64
	for _, r := range c.Results {
		list = append(list, float64(f(r)))
	}
	m, _, _, ok := median(list)
	if !ok {
		return "-"
	}
	return short(time.Duration(m))
}

// ratios are those of c to o, round by round.
func (c *cell) ratios(o *cell) []float64 {
	var list []float64
	for i := range c.Results {
		if i < len(o.Results) && o.Results[i].Rate > 0 {
			list = append(list, c.Results[i].Rate/o.Results[i].Rate)
		}
	}
	return list
}

func (c *cell) unit() string {
	for _, r := range c.Results {
		if r.Unit != "" {
			return r.Unit
		}
	}
	return ""
}

// number with three digits: 0.123, 12.3, 1.23k.
func number(v float64) string {
	switch {
	case v >= 1e6:
		return digits(v/1e6) + "M"
	case v >= 1e4:
		return digits(v/1e3) + "k"
	}
	return digits(v)
}

// amount is a number with its unit.
func amount(v float64, unit string) string {
	if unit == "MB/s" {
		if v >= 1e4 {
			return digits(v/1e3) + " GB/s"
		}
		return digits(v) + " MB/s"
	}
	return number(v) + unit
}

func digits(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// short is a time with three digits.
func short(d time.Duration) string {
	switch {
	case d >= time.Second:
		return digits(d.Seconds()) + "s"
	case d >= time.Millisecond:
		return digits(float64(d)/1e6) + "ms"
	}
	return digits(float64(d)/1e3) + "us"
}

// limitOf gives the limit that a workload has: the stream for data, round trips of its depth for all else,
// divided by the requests of a round.
func limitOf(w *loadgen.Workload) (name string, divide int) {
	switch {
	case w.Bytes > 0:
		return "TCP stream, 1 MiB writes", 1
	case w.Lanes == 1, w.Lanes == 16, w.Lanes == 64:
		return fmt.Sprintf("TCP round trips, depth %d", w.Lanes), w.Trips
	}
	return "", 1
}

// tables gives the rows of a section: rates with ratios to origin, latencies, CPU time.
func (s *section) tables() (rates, times, costs [][]string) {
	targets := s.present()
	head := []string{"workload"}
	for _, t := range targets {
		head = append(head, targetNames[t])
	}
	headed := func(first string) [][]string {
		return [][]string{append([]string{first}, head[1:]...)}
	}
	rates, times, costs = [][]string{append(slices.Clone(head), "raw limit")}, headed("p50 / p99"), headed("CPU of the daemons per round")
	for _, w := range workloads {
		row, rowTimes, rowCosts := []string{w.Name}, []string{w.Name}, []string{w.Name}
		found := false
		for _, t := range targets {
			c := s.cell(t, w.Name)
			found = found || c != nil
			row = append(row, s.rate(c, w))
			if c == nil {
				rowTimes, rowCosts = append(rowTimes, "-"), append(rowCosts, "-")
				continue
			}
			rowTimes = append(rowTimes, c.times(func(r outcome) time.Duration { return r.P50 })+" / "+c.times(func(r outcome) time.Duration { return r.P99 }))
			rowCosts = append(rowCosts, c.times(func(r outcome) time.Duration { return r.CPU }))
		}
		if !found {
			continue
		}
		limit := "-"
		if name, n := limitOf(w); name != "" {
			if c := s.cell("limit", name); c != nil {
				if m, _, _, ok := median(c.rates()); ok {
					limit = amount(m/float64(n), c.unit())
				}
			}
		}
		rates, times, costs = append(rates, append(row, limit)), append(times, rowTimes), append(costs, rowCosts)
	}
	return rates, times, costs
}

// rate of a cell, with its ratio to origin.
func (s *section) rate(c *cell, w *loadgen.Workload) string {
	if c == nil {
		return "-"
	}
	m, _, _, ok := median(c.rates())
	if !ok {
		return "failed"
	}
	text := amount(m, c.unit())
	o := s.cell("origin", w.Name)
	if o == nil || o == c {
		return text
	}
	if m, lo, hi, ok := median(c.ratios(o)); ok {
		text += " = " + digits(m) + "x"
		if len(c.Results) > 1 {
			text += " [" + digits(lo) + ".." + digits(hi) + "]"
		}
	}
	return text
}

func (s *section) limits() [][]string {
	rows := [][]string{{"what the machine can do", "median", "range"}}
	for _, l := range loadgen.Limits() {
		if c := s.cell("limit", l.Name); c != nil {
			if m, lo, hi, ok := median(c.rates()); ok {
				rows = append(rows, []string{l.Name, amount(m, c.unit()), amount(lo, c.unit()) + " .. " + amount(hi, c.unit())})
			}
		}
	}
	return rows
}

func (s *section) title() string {
	if s.rtt == 0 {
		return "Origin on the same host"
	}
	return "Origin " + s.RTT + " away"
}

func (r *report) print(w io.Writer) error {
	for _, s := range r.Sections {
		rates, times, costs := s.tables()
		fmt.Fprintf(w, "\n%s (medians of %d)\n\n", s.title(), r.Rounds)
		t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
		for _, rows := range [][][]string{s.goals(), rates, times, costs, s.limits()} {
			if len(rows) < 2 {
				continue
			}
			for _, row := range rows {
				fmt.Fprintln(t, strings.Join(row, "\t"))
			}
			fmt.Fprintln(t)
		}
		if err := t.Flush(); err != nil {
			return err
		}
		for _, n := range s.Notes {
			fmt.Fprintln(w, n)
		}
		for _, c := range s.Cells {
			for _, e := range c.Errors {
				fmt.Fprintf(w, "failed: %s, %s: %s\n", c.Target, c.Workload, e)
			}
			if n := c.delays(); n > 0 {
				fmt.Fprintf(w, "%s, %s: %d requests were put off by the server\n", c.Target, c.Workload, n)
			}
		}
	}
	return nil
}

func (c *cell) delays() (n uint64) {
	for _, r := range c.Results {
		n += r.Delays
	}
	return n
}

// write writes results.md, results.json and the plots.
func (r *report) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	b, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "results.json"), append(b, '\n'), 0o644); err != nil {
		return err
	}
	if err := r.plot(dir); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "results.md"), []byte(r.markdown()), 0o644)
}

func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Results

Written by `+"`scripts/bench/run -write`"+`; see [README.md](README.md) for what is measured and how. Raw results are in
[results.json](results.json).

%s, %d cores, Linux %s, %s, %s. %s. Medians of %d rounds of %s, data files of %d MiB, %d connection(s) each.
Ratios are to the origin in the same round: median [least..largest].
`, r.CPU, r.Cores, r.Kernel, r.Go, r.Version, r.Date, r.Rounds, r.Time, r.FileMiB, r.Conns)
	for _, s := range r.Sections {
		fmt.Fprintf(&b, "\n## %s\n", s.title())
		rates, times, costs := s.tables()
		for _, rows := range [][][]string{s.goals(), rates, times, costs, s.limits()} {
			if len(rows) < 2 {
				continue
			}
			b.WriteString("\n")
			for i, row := range rows {
				fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
				if i == 0 {
					b.WriteString("|" + strings.Repeat(" --- |", len(row)) + "\n")
				}
			}
		}
		for _, name := range slices.Sorted(maps.Keys(s.plots())) {
			fmt.Fprintf(&b, "\n![%s](%[1]s)\n", name)
		}
		for _, n := range s.Notes {
			fmt.Fprintf(&b, "\n%s\n", n)
		}
	}
	return b.String()
}
