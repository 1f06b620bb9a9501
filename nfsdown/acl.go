package nfsdown

import (
	"context"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// aclAttrs are the attributes that a file has whose file system keeps lists, RFC 8881 6.2.
var aclAttrs = nfs4.Bits(nfs4.FATTR4_ACL, nfs4.FATTR4_ACLSUPPORT)

// aboutACL are those that make it necessary to know whether there are lists.
var aboutACL = aclAttrs.Or(nfs4.Bits(nfs4.FATTR4_SUPPORTED_ATTRS))

// aclSupport is aclsupport of a file: 0 without lists.
func (r *ref) aclSupport(ctx context.Context) (uint32, error) {
	if b, ok := r.b.(fs.ACLs); ok {
		return b.ACLSupport(ctx, r.h)
	}
	return 0, nil
}

// supportedOf is supported for a question about mask. support is aclsupport, if the mask makes it necessary to know.
func (c *compound) supportedOf(ctx context.Context, r *ref, mask nfs4.Bitmap) (set nfs4.Bitmap, support uint32, err error) {
	set = c.supported(r)
	if mask.And(aboutACL).IsZero() {
		return set, 0, nil
	}
	if support, err = r.aclSupport(ctx); err == nil && support != 0 {
		set = set.Or(aclAttrs)
	}
	return set, support, err
}

// getACL is the list of a file, as it goes out.
func (r *ref) getACL(ctx context.Context) ([]nfs4.ACE, error) {
	b, ok := r.b.(fs.ACLs)
	if !ok {
		return nil, nfs4.NFS4ERR_ATTRNOTSUPP
	}
	list, err := b.GetACL(ctx, r.cred, r.h)
	if err != nil {
		return nil, err
	}
	out := make([]nfs4.ACE, len(list))
	for i, a := range list {
		out[i] = nfs4.ACE(a)
	}
	return out, nil
}

// setACL replaces the list of a file.
func (r *ref) setACL(ctx context.Context, list []nfs4.ACE) error {
	b, ok := r.b.(fs.ACLs)
	if !ok {
		return nfs4.NFS4ERR_ATTRNOTSUPP
	}
	acl := make([]fs.ACE, len(list))
	for i, a := range list {
		acl[i] = fs.ACE(a)
	}
	return b.SetACL(ctx, r.cred, r.h, acl)
}

// checkACL refuses a list for a file that has none, before anything else of a SETATTR is done. Lists can be set, not
// given at creation: then a file would be there for a moment without its list.
func (r *ref) checkACL(ctx context.Context) error {
	support, err := r.aclSupport(ctx)
	if err == nil && support == 0 {
		err = nfs4.NFS4ERR_ATTRNOTSUPP
	}
	return err
}
