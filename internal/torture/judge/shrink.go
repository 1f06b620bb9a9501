package judge

import (
	"math"
	"sort"
	"time"
)

// shrinkTime bounds each trial of Shrink.
const shrinkTime = time.Second

// Shrink makes the history of one cell, which is violated, as short as it can without inventing anything:
// what it leaves out could not have made a violation of an honest history.
//
//   - What was asked for after the violation was complete. An operation that was on its way stays; if it had
//     no answer by then it is Maybe.
//   - Reads; and writes if no read is left, because nobody looks at the values then.
//   - Whole holds of an owner, from grant to end, in which nothing was written that is looked at.
func Shrink(ops []Op) []Op {
	bad := func(ops []Op) bool { return Cell(ops, shrinkTime) == Violated }
	if !bad(ops) {
		return ops // it takes too long to know
	}
	ops = shortestPrefix(ops, bad)
	ops = without(ops, bad, func(o Op) bool { return o.Kind == Read || o.Kind == Peek })
	reads := false
	for _, o := range ops {
		reads = reads || o.Kind == Read || o.Kind == Peek
	}
	if !reads {
		ops = without(ops, bad, func(o Op) bool { return o.Kind == Write })
	}
	return withoutHolds(ops, bad)
}

// shortestPrefix is the history up to the earliest answer by which it was violated.
func shortestPrefix(ops []Op, bad func([]Op) bool) []Op {
	var ends []int64
	for _, o := range ops {
		ends = append(ends, o.Return)
	}
	sort.Slice(ends, func(i, j int) bool { return ends[i] < ends[j] })
	n := sort.Search(len(ends), func(i int) bool { return bad(prefix(ops, ends[i])) })
	if n == len(ends) {
		return ops
	}
	return prefix(ops, ends[n])
}

// prefix is what was known at a time.
func prefix(ops []Op, end int64) []Op {
	var out []Op
	for _, o := range ops {
		if o.Call > end {
			continue
		}
		if o.Return > end {
			o.Return = math.MaxInt64
			if o.Kind != Loss { // it ends a hold at some time in any case: keep it, it may come later
				o.Maybe = true
			}
		}
		out = append(out, o)
	}
	return out
}

// without leaves out as much as it can of what may be left out: all of it, else one by one.
func without(ops []Op, bad func([]Op) bool, may func(Op) bool) []Op {
	var rest []Op
	for _, o := range ops {
		if !may(o) {
			rest = append(rest, o)
		}
	}
	if bad(rest) {
		return rest
	}
	for i := len(ops) - 1; i >= 0; i-- {
		if !may(ops[i]) {
			continue
		}
		try := append(append([]Op(nil), ops[:i]...), ops[i+1:]...)
		if bad(try) {
			ops = try
		}
	}
	return ops
}

// withoutHolds leaves out what an owner did between two moments at which it certainly held nothing.
func withoutHolds(ops []Op, bad func([]Op) bool) []Op {
	sort.SliceStable(ops, func(i, j int) bool { return ops[i].Call < ops[j].Call })
	for again := true; again; {
		again = false
		for _, span := range holds(ops) {
			drop := map[int]bool{}
			for _, i := range span {
				drop[i] = true
			}
			var try []Op
			for i, o := range ops {
				if !drop[i] {
					try = append(try, o)
				}
			}
			if bad(try) {
				ops, again = try, true
				break
			}
		}
	}
	return ops
}

// holds lists the holds that nobody's values depend on, each by the indices of all its operations. ops are
// sorted by Call.
func holds(ops []Op) [][]int {
	var out [][]int
	byOwner := map[string][]int{}
	reads := false
	for i, o := range ops {
		byOwner[o.Owner] = append(byOwner[o.Owner], i)
		reads = reads || o.Kind == Read || o.Kind == Peek
	}
	for _, list := range byOwner {
		var span []int
		wrote := false
		latest := int64(math.MinInt64)
		flush := func() {
			if len(span) > 0 && !(wrote && reads) {
				out = append(out, span)
			}
			span, wrote = nil, false
		}
		for k, i := range list {
			o := ops[i]
			span = append(span, i)
			wrote = wrote || o.Kind == Write
			latest = max(latest, o.Return)
			ended := (o.Kind == Unlock || o.Kind == Close || o.Kind == Loss) && !o.Maybe
			if ended && (k+1 == len(list) || ops[list[k+1]].Call >= latest) {
				flush()
			}
		}
		flush() // a hold that never ended
	}
	sort.Slice(out, func(i, j int) bool { return out[i][0] < out[j][0] })
	return out
}
