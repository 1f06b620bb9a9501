//go:build linux

package local

import (
	"context"

	"holdfast/fs"
)

// contextFor is the context of cleanups, which outlive that of their test.
func contextFor() context.Context { return context.Background() }

func owner(n string) fs.Owner { return fs.Owner{Client: "c", Owner: n} }

func ptr[T any](v T) *T { return &v }

var rootCred = fs.Root
