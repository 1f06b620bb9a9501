package nfsup

import (
	"context"

	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
)

// What an owner denies it denies itself, too (RFC 8881 9.7). So an OPEN that was granted, and whose answer was lost
// with the session or with the process that asked, stands in its own way when it is sent again: without the
// reply cache of the old session the server cannot tell that the two are one.

// sentAgain looks into an OPEN that was denied because of the share reservations of others, or of its own. It
// returns the answer to it, if the tables have what it asks for, or says that it is to be repeated: what the
// owner had without our knowledge was given back. lost says that an earlier try has no answer.
func (c *Client) sentAgain(ctx context.Context, cred *rpc.Cred, a *OpenArgs, lost bool) (reply *OpenReply, again bool) {
	if fh, ok := c.fileOf(ctx, cred, a); ok && c.state.claim(openKey{a.Owner, fh}, a.Access, a.Deny) {
		return &OpenReply{FH: fh}, false
	}
	if !lost && c.resumed == nil {
		return nil, false
	}
	// knfsd lets an owner have access that it has, if it denies nothing with it. That tells the stateid, and is closed;
	// what the owner has open besides stays. nfs-ganesha (4.3) does not, and keeps the open for as long as our client
	// ID lives.
	bare := OpenArgs{Owner: a.Owner, FH: a.FH, Dir: a.Dir, Name: a.Name, Access: a.Access, Want: DelegNone}
	_, _, err := c.sendOpen(ctx, cred, &bare, func() bool { return false })
	return nil, err == nil
}

// fileOf is the file that an OPEN is of.
func (c *Client) fileOf(ctx context.Context, cred *rpc.Cred, a *OpenArgs) (fh nfs4.FH, ok bool) {
	if a.Name == "" {
		return a.FH, true
	}
	ops := []nfs4.Args{&nfs4.PutfhArgs{FH: a.Dir}, &nfs4.LookupArgs{Name: a.Name}, &nfs4.GetfhArgs{}}
	err := c.Compound(ctx, cred, ops, func(res []nfs4.Res) error {
		var r *nfs4.GetfhRes
		if r, ok = res[2].(*nfs4.GetfhRes); ok {
			fh = r.FH
		}
		return nil
	})
	return fh, ok && err == nil
}

// claim tells whether an open that is there has the modes.
func (t *stateTable) claim(key openKey, access, deny uint32) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.opens[key]
	return o != nil && !o.closing && o.claim(access, deny)
}
