//go:build !linux

package local

import (
	"context"
	"errors"

	"holdfast/fs"
)

// New fails: a local directory can be exported on Linux only.
func New(context.Context, Config) (fs.Backend, error) {
	return nil, fs.E("local", fs.NotSupp, errors.New("a directory can be exported on Linux only"))
}
