package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// A Size is a number of bytes, written with its unit: 200GiB, 1.5TB. A bare number is an error, because
// nobody knows its unit; 0 needs none.
type Size int64

var units = []struct {
	name string
	size float64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"PiB", 1 << 50},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"PB", 1e15}, {"B", 1},
}

// Set parses s.
func (z *Size) Set(s string) error {
	if s == "0" {
		*z = 0
		return nil
	}
	for _, u := range units {
		number, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || v < 0 || math.IsNaN(v) || v*u.size >= math.MaxInt64 {
			return fmt.Errorf("%q is not a size; write it as 200GiB or 1.5TB", s)
		}
		*z = Size(v * u.size)
		return nil
	}
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return fmt.Errorf("%q has no unit; write %sGiB or %sMB", s, s, s)
	}
	return fmt.Errorf("%q is not a size; write it as 200GiB or 1.5TB", s)
}

// String writes the largest unit that needs no fraction.
func (z *Size) String() string {
	if *z == 0 {
		return "0"
	}
	best, name := int64(1), "B"
	for _, u := range units {
		if n := int64(u.size); int64(*z)%n == 0 && n > best {
			best, name = n, u.name
		}
	}
	return strconv.FormatInt(int64(*z)/best, 10) + name
}

// Type names the type in --help.
func (*Size) Type() string { return "size" }

// A Floor is a Size, or a part of the whole in percent.
type Floor struct {
	Bytes   Size
	Percent int
}

// Set parses s.
func (f *Floor) Set(s string) error {
	if p, ok := strings.CutSuffix(s, "%"); ok {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 || n > 99 {
			return fmt.Errorf("%q is not 0%% to 99%%", s)
		}
		*f = Floor{Percent: n}
		return nil
	}
	var z Size
	if err := z.Set(s); err != nil {
		return err
	}
	*f = Floor{Bytes: z}
	return nil
}

func (f *Floor) String() string {
	if f.Percent > 0 {
		return strconv.Itoa(f.Percent) + "%"
	}
	return f.Bytes.String()
}

// Type names the type in --help.
func (*Floor) Type() string { return "size|percent" }
