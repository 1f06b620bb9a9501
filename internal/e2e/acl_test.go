package e2e

import (
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/nfs4"
	"holdfast/internal/xdr"
)

const (
	aclRead  = nfs4.ACE4_READ_DATA | nfs4.ACE4_READ_ATTRIBUTES | nfs4.ACE4_READ_ACL | nfs4.ACE4_SYNCHRONIZE
	aclWrite = nfs4.ACE4_WRITE_DATA | nfs4.ACE4_APPEND_DATA
	aclDir   = aclRead | aclWrite | nfs4.ACE4_DELETE_CHILD | nfs4.ACE4_EXECUTE
	inherit  = nfs4.ACE4_FILE_INHERIT_ACE | nfs4.ACE4_DIRECTORY_INHERIT_ACE
)

func allow(who string, mask uint32) nfs4.ACE { return nfs4.ACE{Mask: mask, Who: who} }

func deny(who string, mask uint32) nfs4.ACE {
	return nfs4.ACE{Type: nfs4.ACE4_ACCESS_DENIED_ACE_TYPE, Mask: mask, Who: who}
}

func inherited(a nfs4.ACE) nfs4.ACE {
	a.Flag |= inherit
	return a
}

// as is a command line of an ordinary user, who is in his own group only.
func as(uid int, script string) string {
	return fmt.Sprintf("setpriv --reuid=%d --regid=%[1]d --clear-groups sh -c '%s'", uid, script)
}

// setACL sets the list of a file as a user; the kernel client's extended attribute has it as it is on the wire.
func (v *VM) setACL(uid int, file string, list ...nfs4.ACE) (string, error) {
	c := xdr.NewEncoder(nil)
	xdr.List(c, &list, 100)
	return v.try("sh", "-c", as(uid, "setfattr -n system.nfs4_acl -v 0x"+hex.EncodeToString(c.Bytes())+" "+file))
}

// acl is the list of a file, as root reads it.
func (v *VM) acl(file string) (list []nfs4.ACE) {
	v.t.Helper()
	_, text, _ := strings.Cut(v.sh("getfattr --absolute-names -n system.nfs4_acl -e hex "+file), "=0x")
	b, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil {
		v.t.Fatalf("%v in %q", err, text)
	}
	c := xdr.NewDecoder(b)
	if xdr.List(c, &list, 100); c.Err() != nil || c.Len() != 0 {
		v.t.Fatalf("the list of %s: %v, %d bytes are left: %x", file, c.Err(), c.Len(), b)
	}
	return list
}

// grants tells whether an entry of the list allows somebody all of mask.
func grants(list []nfs4.ACE, who string, mask uint32) bool {
	return slices.ContainsFunc(list, func(a nfs4.ACE) bool {
		return a.Type == nfs4.ACE4_ACCESS_ALLOWED_ACE_TYPE && a.Who == who && a.Mask&mask == mask
	})
}

// TestACLs: kernel clients read and set NFSv4 ACLs through serve at an origin with POSIX ACLs, and other users get what
// the lists say: on the client that set them, on another one, and by NFSv3, which cannot see them.
func TestACLs(t *testing.T) {
	v := vms(t, "alice", "bob")
	alice, bob := v[0], v[1]
	dir := scratch(t, "export")
	_, o := startOrigin(t, dir)
	_, p := startServe(t, o, "")
	for _, c := range v {
		c.mount(p, "/data", "/mnt/a", "vers=4.2")
	}
	bob.mount(p, "/data", "/mnt/a3", fmt.Sprintf("vers=3,nolock,proto=tcp,mountport=%d,mountproto=tcp", p))
	const owner, friend, stranger = 1000, 1001, 1002
	// may tells what a user can do with a file on each mount: a client looks again when it opens, or after some time.
	may := func(what string, uid int, script string, want bool) {
		t.Helper()
		for _, c := range []struct {
			*VM
			dir string
		}{{alice, "/mnt/a"}, {bob, "/mnt/a"}, {bob, "/mnt/a3"}} {
			var out string
			var err error
			until(t, 60*time.Second, fmt.Sprintf("%s: uid %d on %s in %s: %q should work: %v", what, uid, c.name, c.dir, script, want), func() bool {
				out, err = c.try("sh", "-c", as(uid, "cd "+c.dir+" && "+script))
				return (err == nil) == want
			})
			if !want && !strings.Contains(out, "Permission denied") {
				t.Errorf("%s: uid %d on %s in %s: %q: %q", what, uid, c.name, c.dir, script, out)
			}
		}
	}
	alice.sh("echo text >/mnt/a/f; chown 1000:1000 /mnt/a/f; chmod 600 /mnt/a/f")
	list := alice.acl("/mnt/a/f")
	if !grants(list, "OWNER@", aclRead|aclWrite) || grants(list, "EVERYONE@", nfs4.ACE4_READ_DATA) || grants(list, "GROUP@", nfs4.ACE4_READ_DATA) {
		t.Errorf("the list of a file with mode 0600: %+v", list)
	}
	may("by the mode", friend, "cat f", false)

	if out, err := alice.setACL(friend, "/mnt/a/f", allow("EVERYONE@", aclRead)); err == nil || !strings.Contains(out, "Operation not permitted") {
		t.Errorf("another one than the owner sets the list: %v %s", err, out)
	}
	set := func(file string, list ...nfs4.ACE) {
		t.Helper()
		if out, err := alice.setACL(owner, file, list...); err != nil {
			t.Fatalf("the owner sets the list of %s: %v %s", file, err, out)
		}
	}
	set("/mnt/a/f", allow("OWNER@", aclRead|aclWrite), allow(fmt.Sprint(friend), aclRead), allow("GROUP@", 0), allow("EVERYONE@", 0))
	may("read for a friend", friend, "cat f", true)
	may("read for a friend", friend, "echo more >>f", false)
	may("read for a friend", stranger, "cat f", false)
	may("read for a friend", owner, "echo more >>f", true)
	for _, c := range v {
		if list := c.acl("/mnt/a/f"); !grants(list, fmt.Sprint(friend), aclRead) || grants(list, fmt.Sprint(friend), nfs4.ACE4_WRITE_DATA) {
			t.Errorf("%s reads the list: %+v", c.name, list)
		}
	}
	must(t, "the mode has the mask in place of the group", alice.sh("stat -c %a /mnt/a/f"), "640")
	stored := make([]byte, 1000)
	n, err := unix.Getxattr(filepath.Join(dir, "f"), "system.posix_acl_access", stored)
	if want := "\x02\x00\x04\x00\xe9\x03\x00\x00"; err != nil || !strings.Contains(string(stored[:max(0, n)]), want) { // a user, r--, 1001
		t.Errorf("at the origin: %v, %x, want %x in it", err, stored[:max(0, n)], want)
	}
	if out, err := bob.try("getfattr", "-n", "system.posix_acl_access", "/mnt/a3/f"); err == nil || !strings.Contains(out, "not supported") {
		t.Errorf("NFSv3 has no ACLs here: %v %s", err, out)
	}

	set("/mnt/a/f", deny(fmt.Sprint(friend), nfs4.ACE4_READ_DATA), allow("OWNER@", aclRead|aclWrite), allow("EVERYONE@", aclRead))
	may("all but a friend", friend, "cat f", false)
	may("all but a friend", stranger, "cat f", true)

	// What is changed at the origin by its own administrator is seen.
	if err := unix.Removexattr(filepath.Join(dir, "f"), "system.posix_acl_access"); err != nil {
		t.Fatal(err)
	}
	may("without a list", friend, "cat f", true)
	until(t, 60*time.Second, "bob sees that the entry is gone", func() bool {
		return !slices.ContainsFunc(bob.acl("/mnt/a/f"), func(a nfs4.ACE) bool { return a.Who == fmt.Sprint(friend) })
	})

	// What a directory hands down goes before the umask (RFC 8275 5).
	alice.sh("mkdir /mnt/a/d; chown 1000:1000 /mnt/a/d; chmod 755 /mnt/a/d")
	set("/mnt/a/d", inherited(allow("OWNER@", aclDir)), inherited(allow(fmt.Sprint(friend), aclDir)), inherited(allow("GROUP@", 0)),
		inherited(allow("EVERYONE@", 0)))
	alice.sh(as(owner, "umask 077; echo text >/mnt/a/d/new; mkdir /mnt/a/d/below"))
	may("what was handed down", friend, "cat d/new && echo more >>d/new && ls d/below", true)
	may("what was handed down", stranger, "cat d/new", false)
	if list := bob.acl("/mnt/a/d/below"); !slices.ContainsFunc(list, func(a nfs4.ACE) bool {
		return a.Who == fmt.Sprint(friend) && a.Flag&inherit == inherit
	}) {
		t.Errorf("the list of a new directory: %+v", list)
	}

	// What has no meaning at the origin is refused, and nothing changes.
	before := alice.acl("/mnt/a/f")
	audit := allow("EVERYONE@", aclRead)
	audit.Type = nfs4.ACE4_SYSTEM_AUDIT_ACE_TYPE
	if out, err := alice.setACL(owner, "/mnt/a/f", audit); err == nil || !strings.Contains(out, "Input/output error") { // Linux has no word of its own for ATTRNOTSUPP
		t.Errorf("an audit: %v %s", err, out)
	}
	if after := alice.acl("/mnt/a/f"); !slices.Equal(before, after) {
		t.Errorf("a refused list changed %+v to %+v", before, after)
	}
}
