//go:build linux

package local

import (
	"context"
	"errors"

	"holdfast/fs"
)

// New opens the backend.
func New(ctx context.Context, cfg Config) (fs.Backend, error) {
	return nil, fs.E("local", fs.NotSupp, errors.New("not yet"))
}
