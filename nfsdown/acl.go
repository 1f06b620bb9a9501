package nfsdown

import (
	"context"
	"strconv"
	"strings"

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
func (c *compound) getACL(ctx context.Context, r *ref) ([]nfs4.ACE, error) {
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
		// A number is somebody whose name this server may know; anything else is said as the backend says it.
		if id, err := strconv.ParseUint(a.Who, 10, 32); err == nil {
			out[i].Who = c.s.ownerString(uint32(id), a.Flag&nfs4.ACE4_IDENTIFIER_GROUP != 0)
		}
	}
	return out, nil
}

// setACL replaces the list of a file. What the backend cannot store is ATTRNOTSUPP, RFC 8881 6.2.1.2.
func (c *compound) setACL(ctx context.Context, r *ref, list []nfs4.ACE) error {
	b, ok := r.b.(fs.ACLs)
	if !ok {
		return nfs4.NFS4ERR_ATTRNOTSUPP
	}
	acl := make([]fs.ACE, len(list))
	for i, a := range list {
		acl[i] = fs.ACE(a)
		if strings.HasSuffix(a.Who, "@") {
			continue // one of the special ones, RFC 8881 6.2.1.5
		}
		// Whom this server does not know its backend may.
		if id, err := c.s.ownerID(a.Who, a.Flag&nfs4.ACE4_IDENTIFIER_GROUP != 0); err == nil {
			acl[i].Who = strconv.FormatUint(uint64(id), 10)
		}
	}
	err := b.SetACL(ctx, r.cred, r.h, acl)
	if fs.CodeOf(err) == fs.NotSupp {
		return fs.E("", fs.AttrNotSupp, err)
	}
	return err
}

// checkACL refuses a list where there are none, before anything else is done.
func (r *ref) checkACL(ctx context.Context) error {
	support, err := r.aclSupport(ctx)
	if err == nil && support == 0 {
		err = nfs4.NFS4ERR_ATTRNOTSUPP
	}
	return err
}

// createAttr is setAttr for what is to be created in the current directory. With a list, given is true: the file is
// made with a mode that lets nobody in, and gets the list when it is there, so at no time is it open to more people
// than the list says.
func (c *compound) createAttr(ctx context.Context, f nfs4.Fattr) (set fs.SetAttr, bits nfs4.Bitmap, given bool, err error) {
	if given = f.Mask.Has(nfs4.FATTR4_ACL); given {
		if err := c.cur.checkACL(ctx); err != nil {
			return set, bits, given, err
		}
		f.Mask.Clear(nfs4.FATTR4_ACL)
	}
	set, bits, err = c.setAttr(ctx, &c.cur, &f, true)
	if err == nil && given {
		mode := uint32(0)
		if set.Mode != nil {
			mode = *set.Mode &^ 0o777
		}
		set.Mode, set.Umask = &mode, nil
	}
	return set, bits, given, err
}
