package nfsdown

import (
	"testing"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

func TestEveryOperationHasALineAndARow(t *testing.T) {
	for op := nfs4.OP_ACCESS; op <= nfs4.OP_REMOVEXATTR; op++ {
		if optable[op] == nil || optable[op].run == nil {
			t.Errorf("%v has no line in the table", op)
		}
		if len(validErrs[op]) == 0 {
			switch op {
			case nfs4.OP_DESTROY_CLIENTID, nfs4.OP_OPEN_CONFIRM, nfs4.OP_RELEASE_LOCKOWNER, nfs4.OP_RENEW, nfs4.OP_SETCLIENTID, nfs4.OP_SETCLIENTID_CONFIRM:
			default:
				t.Errorf("%v has no row of errors", op)
			}
		}
		if op >= nfs4.OP_ALLOCATE && optable[op].minor != 2 {
			t.Errorf("%v is of NFSv4.2", op)
		}
	}
	if len(optable) != int(nfs4.OP_REMOVEXATTR-nfs4.OP_ACCESS)+1 {
		t.Errorf("%d lines", len(optable))
	}
}

// RFC 8881 15.2: an operation is answered with an error of its row only.
func TestEveryErrorBecomesAValidOne(t *testing.T) {
	for op := range validErrs {
		set := validSets()[1][op]
		if len(set) <= 3 {
			continue // an operation of NFSv4.0, which has nothing but NOTSUPP
		}
		for code := fs.Code(1); code < fs.NumCodes; code++ {
			if s := validStatus(1, op, toStatus(fs.E("", code, nil))); !set[s] {
				t.Errorf("%v: %v becomes %v, which it cannot be answered with", op, code, s)
			}
		}
	}
}

func TestEveryCodeHasAStatus(t *testing.T) {
	for code := fs.Code(1); code < fs.NumCodes; code++ {
		if statusOf[code] == nfs4.NFS4_OK {
			t.Errorf("%v is OK", code)
		}
	}
	if s := toStatus(&fs.DeniedError{}); s != nfs4.NFS4ERR_DENIED {
		t.Errorf("denied is %v", s)
	}
}

func TestErrorsStayNearTheirSense(t *testing.T) {
	for _, c := range []struct {
		op        nfs4.OpNum
		got, want nfs4.Status
	}{
		{nfs4.OP_PUTFH, nfs4.NFS4ERR_BADHANDLE, nfs4.NFS4ERR_BADHANDLE},
		{nfs4.OP_GETFH, nfs4.NFS4ERR_BADHANDLE, nfs4.NFS4ERR_STALE},
		{nfs4.OP_READ, nfs4.NFS4ERR_PERM, nfs4.NFS4ERR_ACCESS},
		{nfs4.OP_READ, nfs4.NFS4ERR_SYMLINK, nfs4.NFS4ERR_SYMLINK},
		{nfs4.OP_LOOKUP, nfs4.NFS4ERR_NOENT, nfs4.NFS4ERR_NOENT},
	} {
		if s := validStatus(1, c.op, c.got); s != c.want {
			t.Errorf("%v: %v became %v, want %v", c.op, c.got, s, c.want)
		}
	}
}
