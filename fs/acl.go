package fs

import "context"

// ACLs is access control lists as NFSv4 has them, RFC 8881 section 6. They are at their owner's side as they were
// given; a change of the mode changes them, and the other way round, as the file system that keeps them does it.
type ACLs interface {
	// ACLSupport gives the bits of aclsupport (RFC 8881 6.2.2) of the file system that h lies in; 0 if it has no lists.
	ACLSupport(ctx context.Context, h Handle) (uint32, error)
	GetACL(ctx context.Context, cred *Cred, h Handle) ([]ACE, error)
	// SetACL replaces the whole list. Inval for one that cannot be kept, BadOwner for a principal that is not known.
	SetACL(ctx context.Context, cred *Cred, h Handle, acl []ACE) error
}

// An ACE is nfsace4, RFC 8881 6.2.1: type, flags and access mask are numbered as there, Who is an owner string or
// one of the special ones, as "OWNER@".
type ACE struct {
	Type, Flag, Mask uint32
	Who              string
}
