package v3

import (
	"context"

	"holdfast/fs"
	"holdfast/nfsdown"
	"holdfast/nfsdown/state"
)

// touch recalls what clients of NFSv4 have delegated of a file, before it is looked at or changed: JUKEBOX meanwhile.
// done is to be called when the procedure is.
func (c *call) touch(ctx context.Context, f *nfsdown.File, what state.Touch) (done func(), err error) {
	return c.s.down.Touch(ctx, nil, f.Handle, what)
}

// touchName is touch of what a name stands for, if there is such a file.
func (c *call) touchName(ctx context.Context, dir *nfsdown.File, name string) (done func(), err error) {
	nothing := func() {}
	if !c.s.down.State().Delegated() {
		return nothing, nil
	}
	f, a, err := c.Lookup(ctx, dir, name)
	if err != nil || a != nil && a.Type != fs.Regular {
		return nothing, nil // the procedure will say what is wrong
	}
	return c.touch(ctx, f, state.TouchChange)
}
