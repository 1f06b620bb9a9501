//go:build linux

package local

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/fs"
)

// said writes entries as u:1000:rw-, for tables.
func said(list []posixEntry) string {
	var out []string
	for _, e := range list {
		who := map[uint16]string{tagUserObj: "u:", tagUser: fmt.Sprint("u:", e.id), tagGroupObj: "g:", tagGroup: fmt.Sprint("g:", e.id), tagMask: "m:", tagOther: "o:"}[e.tag]
		perm := []byte("rwx")
		for i := range perm {
			if e.perm&(4>>i) == 0 {
				perm[i] = '-'
			}
		}
		out = append(out, who+":"+string(perm))
	}
	return strings.Join(out, " ")
}

func parsed(t testing.TB, s string) []posixEntry {
	t.Helper()
	var list []posixEntry
	for _, word := range strings.Fields(s) {
		p := strings.Split(word, ":")
		e := posixEntry{id: noID}
		e.tag = map[string]uint16{"u": tagUserObj, "g": tagGroupObj, "m": tagMask, "o": tagOther}[p[0]]
		if p[1] != "" {
			e.tag *= 2
			if _, err := fmt.Sscan(p[1], &e.id); err != nil {
				t.Fatal(err)
			}
		}
		for i, c := range p[2] {
			if c != '-' {
				e.perm |= 4 >> i
			}
		}
		list = append(list, e)
	}
	return list
}

// aces writes a list as A:OWNER@:rwx, with i for what is inherited only; D is a denial.
func aces(list []fs.ACE) string {
	var out []string
	for _, a := range list {
		s := []string{"A", "D"}[a.Type]
		if a.Flag&aceInheritOnly != 0 {
			s += "i"
		}
		if a.Flag&aceGroup != 0 && a.Who != "GROUP@" {
			s += "g"
		}
		perm := ""
		for i, m := range []uint32{aceRead, aceWrite, aceExecute} {
			if a.Mask&m == m {
				perm += string("rwx"[i])
			}
		}
		out = append(out, s+":"+a.Who+":"+perm)
	}
	return strings.Join(out, " ")
}

func TestPosixACLInNFSWords(t *testing.T) {
	for _, c := range []struct{ name, posix, nfs string }{
		{"a mode", "u::rw- g::r-- o::---", "A:OWNER@:rw A:GROUP@:r A:EVERYONE@:"},
		{"others may more than owner and group", "u::r-- g::--- o::rw-", "D:OWNER@:w A:OWNER@:r A:GROUP@: D:GROUP@:rw A:EVERYONE@:rw"},
		{"the mask counts for users and groups", "u::rwx u:7:rwx g::r-x g:8:rwx m::r-- o::---",
			"A:OWNER@:rwx A:7:r A:GROUP@:r Ag:8:r A:EVERYONE@:"},
		{"a user who may less than a group", "u::rwx u:7:--- g::rw- m::rwx o::r--",
			"A:OWNER@:rwx D:7:rw A:7: A:GROUP@:rw A:EVERYONE@:r"},
		{"grants of all groups come before denials of any", "u::rwx g::r-- g:8:-w- g:9:--- m::rwx o::--x",
			"A:OWNER@:rwx A:GROUP@:r Ag:8:w Ag:9: D:GROUP@:x Dg:8:x Dg:9:x A:EVERYONE@:x"},
	} {
		if got := aces(toNFS(parsed(t, c.posix), false, 0)); got != c.nfs {
			t.Errorf("%s: %s\n got %s\nwant %s", c.name, c.posix, got, c.nfs)
		}
	}
}

// ace makes a list of the words that aces writes.
func ace(t testing.TB, s string, dir bool) []fs.ACE {
	t.Helper()
	var list []fs.ACE
	for _, word := range strings.Fields(s) {
		p := strings.SplitN(word, ":", 3)
		a := fs.ACE{Who: p[1]}
		for _, c := range p[0] {
			switch c {
			case 'D':
				a.Type = aceDeny
			case 'g':
				a.Flag |= aceGroup
			case 'i':
				a.Flag |= aceInherit | aceInheritOnly
			case 'f':
				a.Flag |= aceInherit
			}
		}
		for i, m := range []uint16{permR, permW, permX} {
			if strings.ContainsRune(p[2], rune("rwx"[i])) {
				a.Mask |= maskOf(m, dir)
			}
		}
		list = append(list, a)
	}
	return list
}

func TestNFSACLAsPosix(t *testing.T) {
	for _, c := range []struct{ name, nfs, access, def string }{
		{"nothing", "", "u::--- g::--- o::---", ""},
		{"three classes", "A:OWNER@:rw A:GROUP@:r A:EVERYONE@:", "u::rw- g::r-- o::---", ""},
		{"what everyone has the others have too", "A:OWNER@:w A:7:w A:EVERYONE@:r", "u::rw- u:7:rw- g::r-- m::rw- o::r--", ""},
		{"the first word counts", "D:EVERYONE@:w A:OWNER@:rw A:7:rw", "u::r-- u:7:r-- g::--- m::r-- o::---", ""},
		{"a user who is denied may be the owner", "D:7:w A:OWNER@:rw A:EVERYONE@:rw", "u::r-- u:7:r-- g::rw- m::rw- o::rw-", ""},
		{"members of a group that is denied may be anybody with a name", "D:GROUP@:w A:OWNER@:rw A:7:rw A:EVERYONE@:r",
			"u::r-- u:7:r-- g::r-- m::r-- o::r--", ""},
		{"a named group", "A:OWNER@:rw Ag:8:rx", "u::rw- g::--- g:8:r-x m::r-x o::---", ""},
		{"a directory hands down", "A:OWNER@:rwx Ai:OWNER@:rw Ai:7:r A:EVERYONE@:x", "u::rwx g::--x o::--x", "u::rw- u:7:r-- g::--- m::r-- o::---"},
		{"both at once", "Af:OWNER@:rwx Af:EVERYONE@:r", "u::rwx g::r-- o::r--", "u::rwx g::r-- o::r--"},
		{"entries of one user are one", "A:7:r A:7:w", "u::--- u:7:rw- g::--- m::rw- o::---", ""},
	} {
		access, def, err := fromNFS(ace(t, c.nfs, true), true)
		if err != nil || said(access) != c.access || said(def) != c.def {
			t.Errorf("%s: %s\n got %s, %s (%v)\nwant %s, %s", c.name, c.nfs, said(access), said(def), err, c.access, c.def)
		}
	}
	half := []fs.ACE{{Mask: 2, Who: "OWNER@"}} // WRITE_DATA without APPEND_DATA
	if access, _, err := fromNFS(half, false); err != nil || said(access) != "u::--- g::--- o::---" {
		t.Errorf("half of writing: %s, %v", said(access), err)
	}
	for _, c := range []struct {
		name string
		ace  fs.ACE
		want fs.Code
	}{
		{"an audit", fs.ACE{Type: 2, Who: "OWNER@"}, fs.NotSupp},
		{"inheritance that stops", fs.ACE{Flag: aceInherit | 4, Who: "OWNER@"}, fs.NotSupp},
		{"inheritance from a file", fs.ACE{Flag: aceInherit, Who: "OWNER@"}, fs.Inval},
		{"a name", fs.ACE{Who: "ann@example.org"}, fs.BadOwner},
		{"a special one that POSIX has not", fs.ACE{Who: "DIALUP@"}, fs.BadOwner},
		{"nobody's number", fs.ACE{Who: "4294967295"}, fs.BadOwner},
	} {
		if _, _, err := fromNFS([]fs.ACE{c.ace}, false); fs.CodeOf(err) != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// who is a user as both models see him.
type who struct {
	owner  bool
	id     uint32
	groups []uint32 // 0 is the owning group
}

// posixMay is the algorithm of acl(5).
func posixMay(list []posixEntry, w who) uint16 {
	mask := uint16(permA)
	var other, owner uint16
	for _, e := range list {
		switch e.tag {
		case tagMask:
			mask = e.perm
		case tagOther:
			other = e.perm
		case tagUserObj:
			owner = e.perm
		}
	}
	if w.owner {
		return owner
	}
	for _, e := range list {
		if e.tag == tagUser && e.id == w.id {
			return e.perm & mask
		}
	}
	in, any := false, uint16(0)
	for _, e := range list {
		if e.tag == tagGroupObj && slices.Contains(w.groups, 0) || e.tag == tagGroup && slices.Contains(w.groups, e.id) {
			in, any = true, any|e.perm&mask
		}
	}
	if in {
		return any
	}
	return other
}

// nfsMay is the algorithm of RFC 8881 6.2.1.
func nfsMay(list []fs.ACE, w who) uint16 {
	var d decided
	for _, a := range list {
		hit := false
		switch a.Who {
		case "OWNER@":
			hit = w.owner
		case "GROUP@":
			hit = slices.Contains(w.groups, 0)
		case "EVERYONE@":
			hit = true
		default:
			var id uint32
			if _, err := fmt.Sscan(a.Who, &id); err != nil {
				panic(err)
			}
			hit = a.Flag&aceGroup == 0 && id == w.id || a.Flag&aceGroup != 0 && slices.Contains(w.groups, id)
		}
		if hit {
			d.say(a.Type, a.Mask)
		}
	}
	return permOf(d.allow, false)
}

// TestACLGrantsAreTheSame: whoever asks for a permission gets the same by the POSIX ACL and by what is said of it, but
// for an owner who has an entry of his own as well, whom NFSv4 gives both; and never more by a POSIX ACL than by
// the NFSv4 list that it was made of.
func TestACLGrantsAreTheSame(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	perm := func() uint16 { return uint16(r.IntN(8)) }
	people := []who{{owner: true, id: 5}, {owner: true, id: 5, groups: []uint32{0, 8}}, {owner: true, id: 7}, {id: 7}, {id: 7, groups: []uint32{8}}, {id: 6},
		{id: 6, groups: []uint32{0}}, {id: 6, groups: []uint32{8}}, {id: 6, groups: []uint32{0, 8, 9}}, {id: 4, groups: []uint32{9}}}
	for range 20_000 {
		list := []posixEntry{{tagUserObj, perm(), noID}}
		if r.IntN(2) == 0 {
			list = append(list, posixEntry{tagUser, perm(), 7})
		}
		list = append(list, posixEntry{tagGroupObj, perm(), noID})
		for _, id := range []uint32{8, 9} {
			if r.IntN(2) == 0 {
				list = append(list, posixEntry{tagGroup, perm(), id})
			}
		}
		list = append(list, posixEntry{tagMask, perm(), noID}, posixEntry{tagOther, perm(), noID})
		nfs := toNFS(list, false, 0)
		for _, w := range people {
			if p, n := posixMay(list, w), nfsMay(nfs, w); p != n && !(w.owner && w.id == 7) {
				t.Fatalf("%s\n%s\n%+v may %o by POSIX, %o by NFSv4", said(list), aces(nfs), w, p, n)
			}
		}
		// And the way back gives the same ACL, with the mask worked in.
		back, def, err := fromNFS(nfs, false)
		if err != nil || def != nil {
			t.Fatal(err)
		}
		for _, w := range people {
			if p, q := posixMay(list, w), posixMay(back, w); p != q {
				t.Fatalf("%s\n%s\n%s\n%+v may %o, and %o afterwards", said(list), aces(nfs), said(back), w, p, q)
			}
		}
	}
	names := []string{"OWNER@", "GROUP@", "EVERYONE@", "7", "6", "8", "9"}
	for range 50_000 {
		var nfs []fs.ACE
		for range r.IntN(6) {
			i := r.IntN(len(names))
			a := fs.ACE{Type: uint32(r.IntN(2)), Mask: maskOf(perm(), false), Who: names[i]}
			if i >= 5 {
				a.Flag = aceGroup
			}
			nfs = append(nfs, a)
		}
		list, _, err := fromNFS(nfs, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range people {
			if p, n := posixMay(list, w), nfsMay(nfs, w); p&^n != 0 {
				t.Fatalf("%s\n%s\n%+v may %o by POSIX, only %o by NFSv4", aces(nfs), said(list), w, p, n)
			}
		}
	}
}

func TestACLOfAFile(t *testing.T) {
	needRoot(t)
	b := start(t, Config{})
	ctx := t.Context()
	dir := b.cfg.Dir
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(filepath.Join(dir, "f"), aclAccess, encodePosix(fromMode(0o640)), 0); err != nil {
		t.Skip("the file system of the test has no POSIX ACLs:", err)
	}
	if n, err := b.ACLSupport(ctx, b.rootHandle); err != nil || n != 3 {
		t.Fatalf("aclsupport %d, %v", n, err)
	}
	f, _, err := b.Lookup(ctx, rootCred, b.rootHandle, "f")
	if err != nil {
		t.Fatal(err)
	}
	show := func(h fs.Handle) string {
		t.Helper()
		list, err := b.GetACL(ctx, rootCred, h)
		if err != nil {
			t.Fatal(err)
		}
		return aces(list)
	}
	if got := show(f); got != "A:OWNER@:rw A:GROUP@:r A:EVERYONE@:" {
		t.Errorf("of a mode: %s", got)
	}
	before, err := b.GetAttr(ctx, rootCred, f)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.SetACL(ctx, rootCred, f, ace(t, "A:OWNER@:rw A:1234:rw A:GROUP@:r A:EVERYONE@:", false)); err != nil {
		t.Fatal(err)
	}
	after, err := b.GetAttr(ctx, rootCred, f)
	if err != nil || after.Change <= before.Change || after.Mode&0o777 != 0o660 {
		t.Errorf("mode %o, change %d after %d, %v", after.Mode, after.Change, before.Change, err)
	}
	if got := show(f); got != "A:OWNER@:rw A:1234:rw A:GROUP@:r A:EVERYONE@:" {
		t.Errorf("as set: %s", got)
	}
	// It counts, and only the owner may change it.
	ann := &fs.Cred{UID: 1234, GID: 1234}
	if got, err := b.Access(ctx, ann, f, fs.AccessRead|fs.AccessModify); err != nil || got != fs.AccessRead|fs.AccessModify {
		t.Errorf("access %#x, %v", got, err)
	}
	if err := b.SetACL(ctx, ann, f, ace(t, "A:1234:rwx", false)); fs.CodeOf(err) != fs.Perm {
		t.Errorf("by another than the owner: %v", err)
	}
	// A directory hands its default down, and can be told to stop.
	if err := b.SetACL(ctx, rootCred, b.rootHandle, ace(t, "A:OWNER@:rwx A:EVERYONE@:rx Ai:OWNER@:rwx Ai:1234:r Ai:EVERYONE@:", true)); err != nil {
		t.Fatal(err)
	}
	h, _, _, err := b.Create(ctx, rootCred, b.rootHandle, "sub", &fs.CreateRequest{Type: fs.Directory, Attr: fs.SetAttr{Mode: ptr(uint32(0o777)), Umask: ptr(uint32(0o022))}})
	if err != nil {
		t.Fatal(err)
	}
	if got := show(h); got != "A:OWNER@:rwx A:1234:r A:GROUP@: A:EVERYONE@: Ai:OWNER@:rwx Ai:1234:r Ai:GROUP@: Ai:EVERYONE@:" {
		t.Errorf("inherited: %s", got)
	}
	if err := b.SetACL(ctx, rootCred, b.rootHandle, ace(t, "A:OWNER@:rwx A:EVERYONE@:rx", true)); err != nil {
		t.Fatal(err)
	}
	if got := show(b.rootHandle); got != "A:OWNER@:rwx A:GROUP@:rx A:EVERYONE@:rx" {
		t.Errorf("without a default: %s", got)
	}
	l, _, _, err := b.Create(ctx, rootCred, b.rootHandle, "link", &fs.CreateRequest{Type: fs.Symlink, Target: "f"})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.SetACL(ctx, rootCred, l, ace(t, "A:OWNER@:r", false)); fs.CodeOf(err) != fs.NotSupp {
		t.Errorf("of a link: %v", err)
	}
	if got := show(l); got != "A:OWNER@:rwx A:GROUP@:rwx A:EVERYONE@:rwx" {
		t.Errorf("of a link: %s", got)
	}
}

// FuzzPosixACL: what is no ACL is refused, and what is one comes back.
func FuzzPosixACL(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(encodePosix(fromMode(0o754)))
	f.Add(encodePosix([]posixEntry{{tagUserObj, 7, noID}, {tagUser, 4, 1000}, {tagGroupObj, 0, noID}, {tagMask, 4, noID}, {tagOther, 0, noID}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := decodePosix(b)
		if err != nil {
			return
		}
		if got := encodePosix(list); string(got) != string(b) {
			t.Fatalf("%x became %x", b, got)
		}
		if _, _, err := fromNFS(toNFS(list, false, 0), false); err != nil {
			t.Fatal(err)
		}
	})
}
