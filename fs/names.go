package fs

import (
	"fmt"
	"strings"
)

// MaxName is the longest name of an entry, in bytes.
const MaxName = 255

// CheckName refuses what cannot name an entry of a directory, as [Backend] says: Inval for the
// empty name (RFC 8881 2.6 and 18.4), NameTooLong, BadName for "." and ".." (RFC 8881 5.8), BadChar
// for '/' and NUL.
func CheckName(name string) error {
	switch {
	case name == "":
		return E("", Inval, fmt.Errorf("empty name"))
	case len(name) > MaxName:
		return E("", NameTooLong, fmt.Errorf("name of %d bytes", len(name)))
	case name == "." || name == "..":
		return E("", BadName, fmt.Errorf("name %q", name))
	case strings.IndexByte(name, '/') >= 0 || strings.IndexByte(name, 0) >= 0:
		return E("", BadChar, fmt.Errorf("name %q", name))
	}
	return nil
}
