package nfsup

// modes is the set of the combinations of share access and deny that an open was made with: a bit
// for each. Together they are the open's modes; a downgrade may name the union of some of them only
// (RFC 8881 18.18.3), so each is remembered, and reclaimed, by itself.
type modes uint16

// mode is the set of one combination; access is 1 to 3, deny 0 to 3.
func mode(access, deny uint32) modes { return 1 << ((access-1)&3*4 + deny&3) }

// list gives each combination as a set of its own, the widest access first.
func (m modes) list() []modes {
	var out []modes
	for i := 15; i >= 0; i-- {
		if m>>i&1 != 0 {
			out = append(out, 1<<i)
		}
	}
	return out
}

// wire is the union of all combinations.
func (m modes) wire() (access, deny uint32) {
	for i := range uint32(16) {
		if m>>i&1 != 0 {
			access |= i/4 + 1
			deny |= i % 4
		}
	}
	return access, deny
}

// within gives the combinations that ask for no more than access and deny.
func (m modes) within(access, deny uint32) modes {
	var out modes
	for _, one := range m.list() {
		a, d := one.wire()
		if a&^access == 0 && d&^deny == 0 {
			out |= one
		}
	}
	return out
}
