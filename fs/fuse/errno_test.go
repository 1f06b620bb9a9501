package fuse

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"holdfast/fs"
)

func TestEveryCodeHasAnErrno(t *testing.T) {
	for c := fs.OK + 1; c < fs.NumCodes; c++ {
		if errnoOf[c] == 0 {
			t.Errorf("%v has none", c)
		}
		if errnoOf[c] == syscall.ENOSYS {
			t.Errorf("%v is ENOSYS: the kernel would never ask again", c)
		}
		if got := status(fs.E("OP", c, errors.New("why"))); got != gofuse.Status(errnoOf[c]) {
			t.Errorf("%v becomes %v, want %v", c, got, errnoOf[c])
		}
	}
}

func TestStatus(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want syscall.Errno
	}{
		{"no error is OK", nil, 0},
		{"a denied lock is EAGAIN", &fs.DeniedError{}, syscall.EAGAIN},
		{"an ended context is EINTR", fmt.Errorf("wrapped: %w", context.Canceled), syscall.EINTR},
		{"a code wins over the errno that caused it", fs.E("X", fs.NoSpc, syscall.EPERM), syscall.ENOSPC},
		{"an errno of our own goes through", syscall.EBADF, syscall.EBADF},
		{"an errno without a code goes through", fmt.Errorf("x: %w", syscall.EXDEV), syscall.EXDEV},
		{"ENOSYS of somebody else is EIO", fmt.Errorf("x: %w", syscall.ENOSYS), syscall.EIO},
		{"an error without a code is EIO", errors.New("bug"), syscall.EIO},
		{"a server fault is EIO", fs.E("X", fs.ServerFault, nil), syscall.EIO},
	} {
		if got := status(c.err); got != gofuse.Status(c.want) {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
