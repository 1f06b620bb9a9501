package remote

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/nfsup"
)

func TestEveryStatusHasACode(t *testing.T) {
	n := 0
	for s := nfs4.Status(1); s < 11000; s++ {
		known := s.String() != fmt.Sprintf("nfsstat4(%d)", uint32(s))
		code, ok := codeOf[s]
		if known != ok {
			t.Errorf("%v: in the table is %v", s, ok)
		}
		if !ok {
			continue
		}
		n++
		if code == fs.OK || code >= fs.NumCodes {
			t.Errorf("%v is %v", s, code)
		}
		err := toFS("X", &nfsup.StatusError{Op: nfs4.OP_LOCK, Status: s})
		if fs.CodeOf(err) != code {
			t.Errorf("%v becomes %v, want %v", s, fs.CodeOf(err), code)
		}
		if !errors.Is(err, s) {
			t.Errorf("%v: the cause is lost in %v", s, err)
		}
	}
	if n < 100 {
		t.Errorf("only %d statuses are known", n)
	}
}

// The names of our codes are those of the RFC, so most of the table can be checked by name.
func TestCodesOfTheSameNameAgree(t *testing.T) {
	byName := map[string]fs.Code{}
	for c := fs.Code(1); c < fs.NumCodes; c++ {
		byName["NFS4ERR_"+c.String()] = c
	}
	for s, code := range codeOf {
		if want, ok := byName[s.String()]; ok && want != code {
			t.Errorf("%v becomes %v", s, code)
		}
	}
}

func TestErrorsWithoutAStatus(t *testing.T) {
	for _, c := range []struct {
		err  error
		want fs.Code
	}{
		{nil, fs.OK},
		{nfs4.Status(99999), fs.ServerFault},
		{nfsup.ErrNoState, fs.BadStateid},
		{context.Canceled, fs.Interrupted},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), fs.Interrupted},
		{errors.New("connection refused"), fs.Unreachable},
		{fs.E("", fs.Stale, nil), fs.Stale},
	} {
		if got := fs.CodeOf(toFS("X", c.err)); got != c.want {
			t.Errorf("%v becomes %v, want %v", c.err, got, c.want)
		}
	}
}
