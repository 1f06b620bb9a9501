package nfsdown

import "holdfast/fs"

// nameMax is the longest name of a directory entry in bytes.
const nameMax = fs.MaxName

// checkName is RFC 8881 14.5 for names that are bytes: no character set is asked for. '/' and NUL are
// characters that no name has (BADCHAR, 15.1.7.1), "." and ".." names that none has (BADNAME, 15.1.7.2).
func checkName(n string) error { return fs.CheckName(n) }
