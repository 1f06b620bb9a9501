package judge

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// state of a cell. It is a value: holders is sorted text, "owner=mode ", so that states compare with ==.
type state struct {
	holders string
	value   uint64
}

// holds is who holds what.
func (s state) holds() map[string]uint8 {
	m := map[string]uint8{}
	for _, w := range strings.Fields(s.holders) {
		i := strings.LastIndexByte(w, '=')
		m[w[:i]] = w[i+1] - '@'
	}
	return m
}

func (s state) with(m map[string]uint8) state {
	names := make([]string, 0, len(m))
	for o := range m {
		names = append(names, o)
	}
	sort.Strings(names)
	var b strings.Builder
	for _, o := range names {
		fmt.Fprintf(&b, "%s=%c ", o, '@'+m[o])
	}
	s.holders = b.String()
	return s
}

// done is the state after o was done; false if an honest server would not have done it.
func (s state) done(o *Op) (state, bool) {
	held := s.holds()
	switch o.Kind {
	case Lock:
		for other, mode := range held {
			if other != o.Owner && (mode == Exclusive || o.Mode == Exclusive) {
				return s, false
			}
		}
		held[o.Owner] = o.Mode
		return s.with(held), true
	case Open:
		access, deny := o.Mode&3, o.Mode>>2&3
		for other, mode := range held {
			if other != o.Owner && (mode&3&deny != 0 || mode>>2&3&access != 0) {
				return s, false
			}
		}
		held[o.Owner] = o.Mode
		return s.with(held), true
	case Unlock, Loss, Close:
		delete(held, o.Owner)
		return s.with(held), true
	case Write:
		if held[o.Owner] != Exclusive {
			return s, false
		}
		s.value = o.Value
		return s, true
	case Read:
		return s, held[o.Owner] != 0 && s.value == o.Value
	case Peek:
		return s, s.value == o.Value
	}
	return s, false
}

// step is what may be after o.
func step(s any, in, _ any) []any {
	o := in.(*Op)
	var out []any
	if o.Maybe {
		out = append(out, s)
	}
	if after, ok := s.(state).done(o); ok && (!o.Maybe || after != s.(state)) {
		out = append(out, after)
	}
	return out
}

func model() porcupine.Model {
	m := porcupine.NondeterministicModel{
		Init:              func() []any { return []any{state{}} },
		Step:              step,
		Equal:             func(a, b any) bool { return a == b },
		DescribeOperation: func(in, _ any) string { return in.(*Op).String() },
		DescribeState:     func(s any) string { return fmt.Sprintf("%v", s) },
	}
	return m.ToModel()
}

// Verdicts.
const (
	Honest   = porcupine.Ok
	Violated = porcupine.Illegal
	Unknown  = porcupine.Unknown // there was not enough time
)

func operations(ops []Op) []porcupine.Operation {
	owners := map[string]int{}
	list := make([]porcupine.Operation, len(ops))
	for i := range ops {
		n, ok := owners[ops[i].Owner]
		if !ok {
			n = len(owners)
			owners[ops[i].Owner] = n
		}
		list[i] = porcupine.Operation{ClientId: n, Input: &ops[i], Call: ops[i].Call, Return: ops[i].Return}
	}
	return list
}

// Cell judges the history of one cell, within a time.
func Cell(ops []Op, limit time.Duration) porcupine.CheckResult {
	return porcupine.CheckOperationsTimeout(model(), operations(ops), limit)
}

// Visualize writes the history of one cell as a page for a browser.
func Visualize(ops []Op, path string) error {
	m := model()
	_, info := porcupine.CheckOperationsVerbose(m, operations(ops), 10*time.Second)
	return porcupine.VisualizePath(m, info, path)
}

// A Finding is a cell whose history an honest server cannot have given.
type Finding struct {
	Cell    string
	Verdict porcupine.CheckResult // Violated or Unknown
	Ops     []Op                  // Violated: shrunk
}

// Judge judges all cells of a history, each within limit.
func Judge(ops []Op, limit time.Duration) []Finding {
	cells := map[string][]Op{}
	for _, o := range ops {
		cells[o.Cell] = append(cells[o.Cell], o)
	}
	names := make([]string, 0, len(cells))
	for c := range cells {
		names = append(names, c)
	}
	sort.Strings(names)
	var found []Finding
	for _, c := range names {
		v := Cell(cells[c], limit)
		if v == Honest {
			continue
		}
		f := Finding{Cell: c, Verdict: v, Ops: cells[c]}
		if v == Violated {
			f.Ops = Shrink(cells[c])
		}
		found = append(found, f)
	}
	return found
}
