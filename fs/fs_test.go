package fs

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The model has one byte of lock type for each of a few bytes of a file. Its bytes are spread over
// the offsets so that both ends of the 64 bits are among them.
const modelSize = 24

func modelRange(t *rapid.T) (Range, int, int) {
	a := rapid.IntRange(0, modelSize-1).Draw(t, "first")
	b := rapid.IntRange(a, modelSize-1).Draw(t, "last")
	return Range{modelByte(a), modelByte(b)}, a, b
}

// modelByte maps the upper half of the model to the last bytes that there are.
func modelByte(i int) uint64 {
	if i < modelSize/2 {
		return uint64(i)
	}
	return math.MaxUint64 - uint64(modelSize-1-i)
}

// toModel looks at each byte of the set. The gap in the middle of the model is one byte wide in it and
// huge in the set, so ranges that cover it are seen by their ends.
func toModel(s RangeSet) (m [modelSize]LockType) {
	for i := range m {
		for _, l := range s {
			if l.Range.First <= modelByte(i) && modelByte(i) <= l.Range.Last {
				m[i] = l.Type
			}
		}
	}
	return m
}

func TestRangeSetIsItsBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var set RangeSet
		var model [modelSize]LockType
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			r, a, b := modelRange(t)
			typ := LockType(rapid.IntRange(0, 2).Draw(t, "type"))
			before := append(RangeSet(nil), set...)
			next := set.With(r, typ)
			if !before.Equal(set) {
				t.Fatal("With changed its receiver")
			}
			set = next
			for i := a; i <= b; i++ {
				model[i] = typ
			}
			if got := toModel(set); got != model {
				t.Fatalf("after %v %v: %v, want %v", typ, r, got, model)
			}
			checkSet(t, set)
		}
		q, a, b := modelRange(t)
		// Bytes between the halves of the model are as the ranges that cross them; ask within one half.
		if a < modelSize/2 && b >= modelSize/2 {
			b = modelSize/2 - 1
			q.Last = modelByte(b)
		}
		typ := LockType(rapid.IntRange(1, 2).Draw(t, "asked"))
		conflict, covers, overlaps := false, true, false
		for i := a; i <= b; i++ {
			conflict = conflict || model[i].Conflicts(typ)
			covers = covers && model[i] == typ
			overlaps = overlaps || model[i] != NoLock
		}
		if l, got := set.Conflict(q, typ); got != conflict || got && (!l.Range.Overlaps(q) || !l.Type.Conflicts(typ)) {
			t.Fatalf("%v: conflict of %v %v: %v %v, want %v", set, typ, q, l, got, conflict)
		}
		if got := set.Covers(q, typ); got != covers {
			t.Fatalf("%v: covers %v %v: %v", set, typ, q, got)
		}
		if got := set.Overlaps(q); got != overlaps {
			t.Fatalf("%v: overlaps %v: %v", set, q, got)
		}
	})
}

func checkSet(t *rapid.T, set RangeSet) {
	for i, l := range set {
		if l.Range.First > l.Range.Last || l.Type == NoLock {
			t.Fatalf("%v: empty", set)
		}
		if i > 0 && (set[i-1].Range.Last >= l.Range.First || set[i-1].Range.Last+1 == l.Range.First && set[i-1].Type == l.Type) {
			t.Fatalf("%v: not sorted, disjoint and merged", set)
		}
	}
}

func TestStrongestIsByBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var sets [2]RangeSet
		var model [modelSize]LockType
		for i := range sets {
			for range rapid.IntRange(0, 8).Draw(t, "ranges") {
				r, _, _ := modelRange(t)
				sets[i] = sets[i].With(r, LockType(rapid.IntRange(0, 2).Draw(t, "type")))
			}
			for k, typ := range toModel(sets[i]) {
				model[k] = max(model[k], typ)
			}
		}
		a, b := append(RangeSet(nil), sets[0]...), append(RangeSet(nil), sets[1]...)
		got := sets[0].Strongest(sets[1])
		if !a.Equal(sets[0]) || !b.Equal(sets[1]) {
			t.Fatal("Strongest changed what it was asked of")
		}
		if m := toModel(got); m != model {
			t.Fatalf("%v and %v: %v, want %v", a, b, m, model)
		}
		checkSet(t, got)
	})
}

func TestMakeRange(t *testing.T) {
	for _, c := range []struct {
		off, length uint64
		want        Range
		bad         bool
	}{
		{0, 1, Range{0, 0}, false},
		{5, 10, Range{5, 14}, false},
		{0, ToEOF, Range{0, math.MaxUint64}, false},
		{math.MaxUint64, ToEOF, Range{math.MaxUint64, math.MaxUint64}, false},
		{1, math.MaxUint64 - 1, Range{1, math.MaxUint64 - 1}, false},
		{math.MaxUint64 - 1, 1, Range{math.MaxUint64 - 1, math.MaxUint64 - 1}, false},
		{0, 0, Range{}, true},
		{math.MaxUint64, 1, Range{}, true},
		{math.MaxUint64, 2, Range{}, true},
		{2, math.MaxUint64 - 1, Range{}, true}, // the sum is what counts, RFC 8881 18.10.3
	} {
		got, err := MakeRange(c.off, c.length)
		if (err != nil) != c.bad || got != c.want {
			t.Errorf("MakeRange(%d, %d) = %v, %v", c.off, c.length, got, err)
		}
		if c.bad && !errors.Is(err, Inval) {
			t.Errorf("MakeRange(%d, %d): %v is not INVAL", c.off, c.length, err)
		}
	}
}

func FuzzRange(f *testing.F) {
	f.Add(uint64(0), uint64(1))
	f.Add(uint64(math.MaxUint64), uint64(math.MaxUint64))
	f.Fuzz(func(t *testing.T, off, length uint64) {
		r, err := MakeRange(off, length)
		if err != nil {
			return
		}
		if r.First != off || r.First > r.Last || !r.Contains(r) || !r.Overlaps(r) {
			t.Errorf("%d+%d: %v", off, length, r)
		}
		again, err := MakeRange(r.First, r.Length())
		if err != nil || again != r {
			t.Errorf("%v comes back as %v, %v", r, again, err)
		}
	})
}

func TestConflicts(t *testing.T) {
	for _, c := range []struct {
		a, b LockType
		want bool
	}{
		{ReadLock, ReadLock, false}, {ReadLock, WriteLock, true}, {WriteLock, WriteLock, true}, {NoLock, WriteLock, false}, {NoLock, NoLock, false},
	} {
		if c.a.Conflicts(c.b) != c.want || c.b.Conflicts(c.a) != c.want {
			t.Errorf("%v beside %v", c.a, c.b)
		}
	}
}

func TestCodes(t *testing.T) {
	seen := make(map[string]Code)
	for c := OK; c < NumCodes; c++ {
		name := c.String()
		if name == "" || strings.HasPrefix(name, "code ") {
			t.Errorf("code %d has no name", uint8(c))
		}
		if other, ok := seen[name]; ok {
			t.Errorf("codes %d and %d are both %s", uint8(other), uint8(c), name)
		}
		seen[name] = c
		if c == OK {
			continue
		}
		err := fmt.Errorf("above: %w", E("OP", c, errors.New("below")))
		if CodeOf(err) != c || !errors.Is(err, c) || errors.Is(err, OK) {
			t.Errorf("%v has code %v", err, CodeOf(err))
		}
		if CodeOf(fmt.Errorf("bare: %w", c)) != c {
			t.Errorf("the bare code %v is not found", c)
		}
	}
	if NumCodes.String() != fmt.Sprintf("code %d", uint8(NumCodes)) {
		t.Error(NumCodes)
	}
}

func TestCodeOf(t *testing.T) {
	ended, stop := context.WithCancel(t.Context())
	stop()
	denied := &DeniedError{Range: Range{0, 9}, Type: WriteLock}
	for _, c := range []struct {
		err  error
		want Code
	}{
		{nil, OK}, {ended.Err(), Interrupted}, {fmt.Errorf("x: %w", context.DeadlineExceeded), Interrupted},
		{errors.New("unheard of"), ServerFault}, {denied, Denied}, {fmt.Errorf("x: %w", denied), Denied},
		{E("LOCK", ReclaimConflict, denied), ReclaimConflict}, // the outer code is the answer
	} {
		if got := CodeOf(c.err); got != c.want {
			t.Errorf("CodeOf(%v) = %v, want %v", c.err, got, c.want)
		}
	}
	if !errors.Is(denied, Denied) || errors.Is(denied, Grace) {
		t.Error("a DeniedError is Denied and nothing else")
	}
}

func TestCheckName(t *testing.T) {
	for name, want := range map[string]Code{
		"a": OK, "...": OK, "\xff": OK, strings.Repeat("x", 255): OK,
		"": Inval, ".": BadName, "..": BadName, "a/b": BadChar, "/": BadChar, "a\x00": BadChar, strings.Repeat("x", 256): NameTooLong,
	} {
		if got := CodeOf(CheckName(name)); got != want {
			t.Errorf("%.10q: %v, want %v", name, got, want)
		}
	}
}

func TestInGroup(t *testing.T) {
	c := &Cred{UID: 1, GID: 2, Groups: []uint32{3, 4}}
	for gid, want := range map[uint32]bool{1: false, 2: true, 3: true, 4: true, 5: false} {
		if c.InGroup(gid) != want {
			t.Errorf("group %d", gid)
		}
	}
}

func TestSetAttrIsZero(t *testing.T) {
	if !(&SetAttr{}).IsZero() {
		t.Error("nothing is something")
	}
	n, s := uint32(1), uint64(1)
	for _, a := range []SetAttr{{Mode: &n}, {UID: &n}, {GID: &n}, {Size: &s}, {AtimeSet: TimeServer}, {MtimeSet: TimeClient}} {
		if a.IsZero() {
			t.Errorf("%+v is nothing", a)
		}
	}
}
