package fs

// Cred is whom an operation is done for: the end user, as AUTH_SYS carries it. A Backend decides
// about permission with it; uid 0 is the superuser (squashing happened before).
type Cred struct {
	UID, GID uint32
	Groups   []uint32 // supplementary; the caller does not change it afterwards
	// Machine is the name the end client gave of itself; for logs only, never for a decision.
	Machine string
}

// Root is the credential of the daemon itself.
var Root = &Cred{}

// InGroup tells whether gid is the credential's group or one of its supplementary groups.
func (c *Cred) InGroup(gid uint32) bool {
	if c.GID == gid {
		return true
	}
	for _, g := range c.Groups {
		if g == gid {
			return true
		}
	}
	return false
}
