package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/loadgen"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in        []float64
		m, lo, hi float64
		ok        bool
	}{
		{[]float64{3, 1, 2}, 2, 1, 3, true},
		{[]float64{4, 0, 1, 2, 9}, 3, 1, 9, true}, // zero is a failure, and does not count
		{[]float64{0}, 0, 0, 0, false},
	} {
		if m, lo, hi, ok := median(c.in); m != c.m || lo != c.lo || hi != c.hi || ok != c.ok {
			t.Errorf("median of %v: %v %v %v %v", c.in, m, lo, hi, ok)
		}
	}
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{0.1234: "0.12", 12.34: "12.3", 1234: "1234", 12345: "12.3k", 2.5e6: "2.50M"} {
		if got := number(v); got != want {
			t.Errorf("%v is printed as %s, not %s", v, got, want)
		}
	}
	for d, want := range map[time.Duration]string{1500: "1.50us", 20 * time.Millisecond: "20.0ms", 3 * time.Second: "3.00s"} {
		if got := short(d); got != want {
			t.Errorf("%v is printed as %s, not %s", d, got, want)
		}
	}
}

// Ratios are made within a round: the median of 1/2, 9/10 and 4/2 is that of 9/10.
func TestReport(t *testing.T) {
	r := newReport(&settings{rounds: 3, size: 1 << 20, time: time.Second, conns: 1, binary: "/nonexistent"})
	s := r.section(0)
	for i, v := range [][2]float64{{2, 1}, {10, 9}, {2, 4}} {
		for j, name := range []string{"origin", "serve"} {
			s.add(i, name, "open+close", outcome{
				Result: loadgen.Result{Rate: v[j], Unit: "/s", P50: time.Millisecond, P99: 2 * time.Millisecond},
				CPU:    30 * time.Microsecond,
			}, nil)
		}
	}
	s.add(0, "limit", "TCP round trips, depth 1", outcome{Result: loadgen.Result{Rate: 30, Unit: "/s"}}, nil)
	if err := r.failure(); err != nil {
		t.Error(err)
	}
	var out strings.Builder
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2.00/s", "4.00/s = 0.90x [0.50..2.00]", "15.0/s", "1.00ms / 2.00ms", "30.0us"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	s.add(0, "fuse", "open+close", outcome{}, errors.New("it broke"))
	if err := r.failure(); err == nil || !strings.Contains(err.Error(), "it broke") {
		t.Errorf("failure is %v", err)
	}
	dir := t.TempDir()
	if err := r.write(dir); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "results.json"))
	var again report
	if err == nil {
		err = json.Unmarshal(b, &again)
	}
	if err != nil || len(again.Sections) != 1 || len(again.Sections[0].Cells) != 4 {
		t.Errorf("results.json: %v %+v", err, again)
	}
}

// A goal is judged by the median of the ratios of each round, and not at all without both sides.
func TestGoals(t *testing.T) {
	s := newReport(&settings{rounds: 3, binary: "/nonexistent"}).section(0)
	if rows := s.goals(); len(rows) != 1 {
		t.Errorf("of nothing: %v", rows)
	}
	add := func(target, workload string, rates ...float64) {
		for i, v := range rates {
			s.add(i, target, workload, outcome{Result: loadgen.Result{Rate: v, Unit: "/s"}}, nil)
		}
	}
	add("serve", "lock+unlock, 1 owner", 40, 90, 10)
	add("origin", "lock+unlock, 1 owner", 100, 100, 100)
	add("serve", "read 1 MiB sequential, depth 8", 5, 5, 5)
	add("limit", "TCP stream, 1 MiB writes", 10, 10, 10)
	want := [][]string{
		{"warm 1 MiB sequential read, depth 8", "0.50 [0.50..0.50]", ">= 0.6 of raw TCP", "missed"},
		{"lock+unlock, durable and upstream, 1 owner", "0.40 [0.10..0.90]", ">= 0.4 of origin", "met"},
	}
	if rows := s.goals(); !reflect.DeepEqual(rows[1:], want) {
		t.Errorf("%q, want %q", rows[1:], want)
	}
	s.rtt = time.Second
	if rows := s.goals(); len(rows) != 1 {
		t.Errorf("with the origin far away: %v", rows)
	}
	for _, g := range goals {
		if loadgen.Find(g.workload) == nil || targetNames[g.target] == "" || targetNames[g.of] == "" {
			t.Errorf("%+v is of nothing that is measured", g)
		}
	}
}

// A plot is well-formed, has a bar for each value, and none longer than the drawing.
func TestPlots(t *testing.T) {
	s := newReport(&settings{rounds: 1, binary: "/nonexistent"}).section(0)
	for i, target := range []string{"origin", "serve", "fuse"} {
		for _, w := range workloads {
			s.add(0, target, w.Name, outcome{Result: loadgen.Result{Rate: float64(i+1) * 10, P50: time.Duration(i+1) * time.Millisecond}}, nil)
		}
	}
	files := s.plots()
	if len(files) != 3 {
		t.Errorf("%d files", len(files))
	}
	bars := map[string]int{"ratios.svg": 2 * len(workloads), "times.svg": 3 * len(workloads), "data.svg": 6}
	for name, text := range files {
		n := 0
		for d := xml.NewDecoder(strings.NewReader(text)); ; {
			tok, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			e, ok := tok.(xml.StartElement)
			if !ok || e.Name.Local != "rect" {
				continue
			}
			r := map[string]string{}
			for _, a := range e.Attr {
				r[a.Name.Local] = a.Value
			}
			if r["x"] != fmt.Sprint(plotLeft) {
				continue // of the legend
			}
			n++
			if w, err := strconv.ParseFloat(r["width"], 64); err != nil || w < 1 || w > plotWidth-plotLeft-plotRight+0.1 {
				t.Errorf("%s: a bar is %s wide (%v)", name, r["width"], err)
			}
		}
		if n != bars[name] {
			t.Errorf("%s: %d bars, want %d", name, n, bars[name])
		}
	}
	if text := (&plot{}).svg(); text != "" {
		t.Errorf("of nothing: %s", text)
	}
}

func TestFlags(t *testing.T) {
	s, err := parse([]string{"-short", "-n", "3", "-rtt", "0,10ms"})
	if err != nil {
		t.Fatal(err)
	}
	if s.rounds != 3 || s.time != 350*time.Millisecond || s.size != 64<<20 || len(s.rtts) != 2 {
		t.Errorf("%+v", s)
	}
	for _, bad := range [][]string{{"-n", "0"}, {"-rtt", "soon"}, {"-targets", "knfsd"}, {"-run", "("}, {"more"}, {"-size", "0"}} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}
