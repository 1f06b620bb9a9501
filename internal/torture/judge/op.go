package judge

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
)

// A Kind is what an operation does to a cell.
type Kind uint8

// The kinds. Lock replaces what the owner holds of the cell; Open adds nothing: it replaces, too.
const (
	Lock   Kind = iota // Mode is Shared or Exclusive
	Unlock             // whatever is held
	Loss               // as Unlock, but nobody asked for it
	Write              // Value, under an exclusive lock
	Read               // Value, under any lock
	Peek               // Value, read by somebody without a lock while nobody writes
	Open               // Access and Deny of a share reservation
	Close
)

var kinds = [...]string{"lock", "unlock", "loss", "write", "read", "peek", "open", "close"}

func (k Kind) String() string { return kinds[k] }

// Modes of Lock. For Open, Mode is access | deny<<2, with the bits of RFC 8881 18.16.
const (
	Shared    uint8 = 1
	Exclusive uint8 = 2
)

// An Op is an operation on one cell. Call and Return are times in nanoseconds since the history began.
type Op struct {
	Cell   string
	Owner  string
	Kind   Kind
	Mode   uint8
	Value  uint64
	Maybe  bool // it may have been done or not
	Call   int64
	Return int64
}

// String is a line of a story.
func (o Op) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d-%d %s %s %s", o.Call, o.Return, o.Cell, o.Owner, o.Kind)
	switch o.Kind {
	case Lock:
		b.WriteString(map[uint8]string{Shared: " shared", Exclusive: " exclusive"}[o.Mode])
	case Open:
		fmt.Fprintf(&b, " access=%d,deny=%d", o.Mode&3, o.Mode>>2&3)
	case Write, Read, Peek:
		fmt.Fprintf(&b, " %d", o.Value)
	}
	if o.Maybe {
		b.WriteString(" maybe")
	}
	return b.String()
}

// Story writes a history, in the order in which operations were asked for.
func Story(ops []Op) string {
	ops = append([]Op(nil), ops...)
	sort.SliceStable(ops, func(i, j int) bool { return ops[i].Call < ops[j].Call })
	var b strings.Builder
	for _, o := range ops {
		b.WriteString(o.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// Parse reads a story. Empty lines and those that begin with # are for people.
func Parse(text string) ([]Op, error) {
	var ops []Op
	for n, line := range strings.Split(text, "\n") {
		w := strings.Fields(line)
		if len(w) == 0 || w[0][0] == '#' {
			continue
		}
		o, err := parse(w)
		if err != nil {
			return nil, fmt.Errorf("line %d: %q: %w", n+1, line, err)
		}
		ops = append(ops, o)
	}
	return ops, nil
}

func parse(w []string) (o Op, err error) {
	if w[len(w)-1] == "maybe" {
		o.Maybe, w = true, w[:len(w)-1]
	}
	if len(w) < 4 || len(w) > 5 {
		return o, fmt.Errorf("want: call-return cell owner kind [argument] [maybe]")
	}
	from, to, ok := strings.Cut(w[0], "-")
	if !ok {
		return o, fmt.Errorf("%s is not call-return", w[0])
	}
	if o.Call, err = strconv.ParseInt(from, 10, 64); err != nil {
		return o, err
	}
	if o.Return, err = strconv.ParseInt(to, 10, 64); err != nil {
		return o, err
	}
	if o.Return < o.Call {
		return o, fmt.Errorf("it ends before it begins")
	}
	o.Cell, o.Owner = w[1], w[2]
	kind := -1
	for i, name := range kinds {
		if name == w[3] {
			kind = i
		}
	}
	if kind < 0 {
		return o, fmt.Errorf("there is no kind %s", w[3])
	}
	o.Kind = Kind(kind)
	arg := ""
	if len(w) == 5 {
		arg = w[4]
	}
	switch o.Kind {
	case Lock:
		switch arg {
		case "shared":
			o.Mode = Shared
		case "exclusive":
			o.Mode = Exclusive
		default:
			return o, fmt.Errorf("a lock is shared or exclusive, not %q", arg)
		}
	case Open:
		var access, deny uint8
		if _, err := fmt.Sscanf(arg, "access=%d,deny=%d", &access, &deny); err != nil || access > 3 || deny > 3 {
			return o, fmt.Errorf("an open has access=A,deny=D, each at most 3, not %q", arg)
		}
		o.Mode = access | deny<<2
	case Write, Read, Peek:
		if o.Value, err = strconv.ParseUint(arg, 10, 64); err != nil {
			return o, err
		}
	default:
		if arg != "" {
			return o, fmt.Errorf("%s takes no argument", o.Kind)
		}
	}
	return o, nil
}
