package remote

import (
	"context"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

var _ fs.ACLs = (*Remote)(nil)

var aclOnly = nfs4.Bits(nfs4.FATTR4_ACL)

// ACLSupport tells what lists the origin's file system has; the first question for each is a round trip.
func (r *Remote) ACLSupport(ctx context.Context, h fs.Handle) (uint32, error) {
	c, err := r.capsFor(ctx, h)
	if err != nil || !c.supported.Has(nfs4.FATTR4_ACL) {
		return 0, err
	}
	return c.aclSupport, nil
}

// GetACL reads the list at the origin: it is not cached. Principals are the origin's, as it sends them.
func (r *Remote) GetACL(ctx context.Context, cred *fs.Cred, h fs.Handle) ([]fs.ACE, error) {
	const op = "GETATTR"
	fh, err := r.resolve(ctx, h)
	if err != nil {
		return nil, err
	}
	var acl []fs.ACE
	has := false
	ops := []nfs4.Args{putfh(fh), &nfs4.GetattrArgs{Request: aclOnly}}
	err = r.up.Compound(ctx, r.upCred(cred), ops, func(res []nfs4.Res) error {
		f := fattrAt(res, 1)
		has = f.Mask.Has(nfs4.FATTR4_ACL)
		acl = make([]fs.ACE, len(f.ACL))
		for i, a := range f.ACL {
			acl[i] = fs.ACE(a)
		}
		return nil
	})
	if err != nil {
		return nil, r.fail(op, err, h)
	}
	if !has {
		return nil, fs.E(op, fs.NotSupp, nil)
	}
	return acl, nil
}

// SetACL replaces the list at the origin, which decides what that does to the mode.
func (r *Remote) SetACL(ctx context.Context, cred *fs.Cred, h fs.Handle, acl []fs.ACE) error {
	fh, err := r.resolve(ctx, h)
	if err != nil {
		return err
	}
	done, err := r.localChange(ctx, cred, h, "")
	defer done()
	if err != nil {
		return err
	}
	f := nfs4.Fattr{Mask: aclOnly, ACL: make([]nfs4.ACE, len(acl))}
	for i, a := range acl {
		f.ACL[i] = nfs4.ACE(a)
	}
	ch := change{handle: h, start: r.cache.beginChange(h), known: true, resetAccess: true}
	ops := []nfs4.Args{putfh(fh), getchange, &nfs4.SetattrArgs{Stateid: nfs4.AnonymousStateid, Attrs: f}, getattr}
	err = r.up.Compound(ctx, r.upCred(cred), ops, func(res []nfs4.Res) (err error) {
		ch.before = fattrAt(res, 1).Change
		ch.attr, err = r.ids.fromFattr(fattrAt(res, 3))
		return err
	})
	if err != nil {
		r.failChange(ctx, h, true)
		return r.fail("SETATTR", err, h)
	}
	r.endChange(ctx, &ch)
	return nil
}
