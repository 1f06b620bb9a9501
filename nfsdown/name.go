package nfsdown

import (
	"strings"

	"holdfast/internal/nfs4"
)

// nameMax is the longest name of a directory entry in bytes.
const nameMax = 255

// checkName is RFC 8881 14.5 for names that are bytes: no character set is asked for.
func checkName(n string) error {
	switch {
	case n == "":
		return nfs4.NFS4ERR_INVAL
	case len(n) > nameMax:
		return nfs4.NFS4ERR_NAMETOOLONG
	case n == "." || n == ".." || strings.ContainsAny(n, "/\x00"):
		return nfs4.NFS4ERR_BADNAME
	}
	return nil
}
