package local

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"holdfast/fs"
)

// POSIX ACLs as the file system has them, and as NFSv4 says them: the mapping of
// draft-ietf-nfsv4-acl-mapping, which knfsd has as well. A POSIX ACL as an NFSv4 ACL grants and denies
// exactly the same. The other way round not every list can be kept as it is: where POSIX can only say more or
// less, it says less. What POSIX grants to all, or to the owner, such as reading attributes, cannot be denied.

// Tags of the entries, acl(5).
const (
	tagUserObj  = 0x01
	tagUser     = 0x02
	tagGroupObj = 0x04
	tagGroup    = 0x08
	tagMask     = 0x10
	tagOther    = 0x20
)

// Permissions of an entry.
const (
	permX = 1
	permW = 2
	permR = 4
	permA = permR | permW | permX
)

// A posixEntry is one entry; id counts for tagUser and tagGroup.
type posixEntry struct {
	tag, perm uint16
	id        uint32
}

const (
	posixVersion = 2
	noID         = ^uint32(0)
)

var errPosixACL = errors.New("not a POSIX ACL")

// decodePosix reads the value of system.posix_acl_access or system.posix_acl_default.
func decodePosix(b []byte) ([]posixEntry, error) {
	if len(b) < 4 || (len(b)-4)%8 != 0 || binary.LittleEndian.Uint32(b) != posixVersion {
		return nil, errPosixACL
	}
	list := make([]posixEntry, 0, (len(b)-4)/8)
	for b = b[4:]; len(b) > 0; b = b[8:] {
		e := posixEntry{binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:])}
		named := e.tag == tagUser || e.tag == tagGroup
		if e.perm&^permA != 0 || named && e.id == noID {
			return nil, errPosixACL
		}
		list = append(list, e)
	}
	return list, nil
}

// encodePosix is the inverse of decodePosix.
func encodePosix(list []posixEntry) []byte {
	b := binary.LittleEndian.AppendUint32(nil, posixVersion)
	for _, e := range list {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

// fromMode is the ACL of a file that has none of its own.
func fromMode(mode uint32) []posixEntry {
	return []posixEntry{
		{tagUserObj, uint16(mode >> 6 & permA), noID},
		{tagGroupObj, uint16(mode >> 3 & permA), noID},
		{tagOther, uint16(mode & permA), noID},
	}
}

// Bits of NFSv4 access masks and flags, RFC 8881 6.2.1. The names are short because the tables are long.
const (
	aceRead        = 0x1
	aceWrite       = 0x2 | 0x4 // WRITE_DATA and APPEND_DATA
	aceExecute     = 0x20
	aceDeleteChild = 0x40
	aceAnyone      = 0x80 | 0x20000 | 0x100000 // READ_ATTRIBUTES, READ_ACL, SYNCHRONIZE
	aceOwner       = 0x100 | 0x40000           // WRITE_ATTRIBUTES, WRITE_ACL

	aceAllow, aceDeny = 0, 1

	aceFileInherit = 0x1
	aceDirInherit  = 0x2
	aceInheritOnly = 0x8
	aceGroup       = 0x40

	aceInherit = aceFileInherit | aceDirInherit
)

// maskOf is the access mask that permissions stand for.
func maskOf(perm uint16, dir bool) uint32 {
	var m uint32
	if perm&permR != 0 {
		m |= aceRead
	}
	if perm&permW != 0 {
		m |= aceWrite
		if dir {
			m |= aceDeleteChild
		}
	}
	if perm&permX != 0 {
		m |= aceExecute
	}
	return m
}

// permOf is the permissions that an access mask makes up: each only if all of it is there.
func permOf(mask uint32, dir bool) uint16 {
	var p uint16
	for _, bit := range []uint16{permR, permW, permX} {
		if m := maskOf(bit, dir); mask&m == m {
			p |= bit
		}
	}
	return p
}

// toNFS says a POSIX ACL in NFSv4's words. A class that has less than a later one gets a denial, because an
// NFSv4 server goes on reading until all is granted. flags go to each entry: those of inheritance for a
// default ACL.
func toNFS(list []posixEntry, dir bool, flags uint32) []fs.ACE {
	mask := uint16(permA)
	for _, e := range list {
		if e.tag == tagMask {
			mask = e.perm
		}
	}
	var owner, other uint16
	var users, groups []posixEntry // with what the mask leaves; the owning group is the first of groups
	for _, e := range list {
		switch e.tag {
		case tagUserObj:
			owner = e.perm
		case tagUser:
			users = append(users, posixEntry{e.tag, e.perm & mask, e.id})
		case tagGroupObj:
			groups = slices.Insert(groups, 0, posixEntry{e.tag, e.perm & mask, e.id})
		case tagGroup:
			groups = append(groups, posixEntry{e.tag, e.perm & mask, e.id})
		case tagOther:
			other = e.perm
		}
	}
	later := other // what those may who come after
	for _, g := range groups {
		later |= g.perm
	}
	laterUsers := later
	for _, u := range users {
		laterUsers |= u.perm
	}
	var out []fs.ACE
	add := func(kind, flag, mask uint32, who string) {
		out = append(out, fs.ACE{Type: kind, Flag: flag | flags, Mask: mask, Who: who})
	}
	deny := func(perm uint16, flag uint32, who string) {
		if perm != 0 {
			add(aceDeny, flag, maskOf(perm, dir), who)
		}
	}
	who := func(e posixEntry) (uint32, string) {
		switch e.tag {
		case tagGroupObj:
			return aceGroup, "GROUP@"
		case tagGroup:
			return aceGroup, strconv.FormatUint(uint64(e.id), 10)
		}
		return 0, strconv.FormatUint(uint64(e.id), 10)
	}
	deny(laterUsers&^owner, 0, "OWNER@")
	add(aceAllow, 0, maskOf(owner, dir)|aceAnyone|aceOwner, "OWNER@")
	for _, u := range users {
		flag, name := who(u)
		deny(later&^u.perm, flag, name)
		add(aceAllow, flag, maskOf(u.perm, dir)|aceAnyone, name)
	}
	// One who is in several groups may what any of them may: so first all grants, then all denials.
	for _, g := range groups {
		flag, name := who(g)
		add(aceAllow, flag, maskOf(g.perm, dir)|aceAnyone, name)
	}
	for _, g := range groups {
		flag, name := who(g)
		deny(other&^g.perm, flag, name)
	}
	add(aceAllow, 0, maskOf(other, dir)|aceAnyone, "EVERYONE@")
	return out
}

// fromNFS makes POSIX ACLs of a list: that of the object, and the default one of a directory (nil for none).
func fromNFS(list []fs.ACE, dir bool) (access, def []posixEntry, err error) {
	var here, below aclState
	for _, a := range list {
		if a.Type != aceAllow && a.Type != aceDeny {
			return nil, nil, fs.E("", fs.NotSupp, fmt.Errorf("an ACE of type %d", a.Type))
		}
		if a.Flag&^(aceInherit|aceInheritOnly|aceGroup) != 0 {
			return nil, nil, fs.E("", fs.NotSupp, fmt.Errorf("an ACE with flags %#x", a.Flag))
		}
		if a.Flag&(aceInherit|aceInheritOnly) != 0 && !dir {
			return nil, nil, fs.E("", fs.Inval, errors.New("only a directory is inherited from"))
		}
		tag, id, err := aceWho(&a)
		if err != nil {
			return nil, nil, err
		}
		if a.Flag&aceInherit != 0 {
			below.take(tag, id, a.Type, a.Mask)
		}
		if a.Flag&aceInheritOnly == 0 {
			here.take(tag, id, a.Type, a.Mask)
		}
	}
	if below.used {
		def = below.posix(dir)
	}
	return here.posix(dir), def, nil
}

// aceWho is whom an ACE is about. A name is no number: the server has made one of it if it knows it.
func aceWho(a *fs.ACE) (tag uint16, id uint32, err error) {
	switch a.Who {
	case "OWNER@":
		return tagUserObj, noID, nil
	case "GROUP@":
		return tagGroupObj, noID, nil
	case "EVERYONE@":
		return tagOther, noID, nil
	}
	n, err := strconv.ParseUint(a.Who, 10, 32)
	if err != nil || uint32(n) == noID {
		return 0, 0, fs.E("", fs.BadOwner, fmt.Errorf("%q", a.Who))
	}
	if a.Flag&aceGroup != 0 {
		return tagGroup, uint32(n), nil
	}
	return tagUser, uint32(n), nil
}

// A decided is what is granted and denied to somebody so far. The first word on a bit counts, RFC 8881 6.2.1.
type decided struct{ allow, deny uint32 }

func (d *decided) refuse(mask uint32) { d.deny |= mask &^ d.allow }

func (d *decided) say(kind, mask uint32) {
	if kind == aceAllow {
		d.allow |= mask &^ d.deny
	} else {
		d.refuse(mask)
	}
}

// named is somebody with a name.
type named struct {
	id uint32
	decided
}

// An aclState is what a list that is being read comes to.
type aclState struct {
	used                          bool
	owner, group, other, everyone decided
	users, groups                 []named
}

// find finds somebody, who begins with what everyone has.
func (s *aclState) find(list *[]named, id uint32) *decided {
	for i := range *list {
		if (*list)[i].id == id {
			return &(*list)[i].decided
		}
	}
	*list = append(*list, named{id, s.everyone})
	return &(*list)[len(*list)-1].decided
}

// take reads one entry. Who is denied something as a user may be the owner, and who is denied it as a group
// may be anybody: POSIX would look no further for those, so it is denied to them too, which grants less.
func (s *aclState) take(tag uint16, id uint32, kind, mask uint32) {
	s.used = true
	var d *decided
	switch tag { // before pointers into the lists are taken: it may lengthen one
	case tagUserObj:
		d = &s.owner
	case tagUser:
		d = s.find(&s.users, id)
	case tagGroupObj:
		d = &s.group
	case tagGroup:
		d = s.find(&s.groups, id)
	}
	all := []*decided{&s.owner, &s.group, &s.other, &s.everyone}
	for _, list := range []*[]named{&s.users, &s.groups} {
		for i := range *list {
			all = append(all, &(*list)[i].decided)
		}
	}
	if d == nil { // everyone
		for _, o := range all {
			o.say(kind, mask)
		}
		return
	}
	d.say(kind, mask)
	if kind == aceAllow {
		return
	}
	switch tag {
	case tagUser:
		s.owner.refuse(d.deny)
	case tagGroupObj, tagGroup:
		for _, o := range all {
			if o != &s.other { // those are in no group that has an entry
				o.refuse(d.deny)
			}
		}
	}
}

// posix is what it came to, sorted as acl(5) wants it.
func (s *aclState) posix(dir bool) []posixEntry {
	perm := func(d decided) uint16 { return permOf(d.allow, dir) }
	out := []posixEntry{{tagUserObj, perm(s.owner), noID}}
	mask := perm(s.group)
	add := func(tag uint16, list []named) {
		slices.SortFunc(list, func(a, b named) int { return int(int64(a.id) - int64(b.id)) })
		for _, n := range list {
			mask |= perm(n.decided)
			out = append(out, posixEntry{tag, perm(n.decided), n.id})
		}
	}
	add(tagUser, s.users)
	out = append(out, posixEntry{tagGroupObj, perm(s.group), noID})
	add(tagGroup, s.groups)
	if len(s.users)+len(s.groups) > 0 {
		out = append(out, posixEntry{tagMask, mask, noID})
	}
	return append(out, posixEntry{tagOther, perm(s.other), noID})
}
