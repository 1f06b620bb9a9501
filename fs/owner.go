package fs

import (
	"fmt"
	"strings"
)

// An Owner is an open-owner or a lock-owner, RFC 8881 2.4 and 9.1.1, in a form that no reboot
// changes: who the client is (its co_ownerid, never a client id) and which of its owners. Both are
// opaque bytes. It is comparable. The zero Owner is nobody: the anonymous stateid.
type Owner struct {
	Client string
	Owner  string
}

// IsZero tells whether it is nobody.
func (o Owner) IsZero() bool { return o == Owner{} }

func (o Owner) String() string { return fmt.Sprintf("%.64q/%x", o.Client, o.Owner) }

// LocalClient begins the Client of owners that are applications on this host. Their locks end
// with the mount, so they are never reclaimed; the rest of the string tells incarnations apart.
const LocalClient = "\x00local/"

// Share is a set of share access or share deny bits, RFC 8881 18.16: 1 read, 2 write.
type Share uint8

// The bits of Share.
const (
	ShareNone  Share = 0
	ShareRead  Share = 1
	ShareWrite Share = 2
	ShareBoth  Share = 3
)

// LockManagerClient begins the Client of owners that NLM vouches for. They have no lease.
const LockManagerClient = "\x00nlm/"

// LockManagerOwner is the Client of what a host has by NLM: the host is an address and what it calls itself.
func LockManagerOwner(addr, name string) string { return LockManagerClient + addr + "/" + name }

// Reserved tells whether a Client cannot be what an NFSv4 client calls itself: it would get at the state of others.
func Reserved(client string) bool {
	return strings.HasPrefix(client, LocalClient) || strings.HasPrefix(client, LockManagerClient)
}
