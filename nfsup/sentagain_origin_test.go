package nfsup

import (
	"errors"
	"testing"

	"holdfast/internal/nfs4"
)

// What real servers make of an OPEN that is sent again, and that they granted without our knowledge: it must be granted
// once more, and closed once.
func TestOriginOpenSentAgain(t *testing.T) {
	o := realOrigin(t)
	c, rival := o.dial(t, "a"), o.dial(t, "b")
	ctx := t.Context()
	dir := o.dir(t, c)
	for name, ask := range map[string]OpenArgs{
		"by handle":     {Owner: owner(2), Access: 3, Deny: 3, FH: "set below"},
		"by name":       {Owner: owner(3), Access: 3, Deny: 3, Dir: dir, Name: "f"},
		"denies writes": {Owner: owner(4), Access: 3, Deny: 2, FH: "set below"},
	} {
		t.Run(name, func(t *testing.T) {
			f := mustOpen(t, c, create(dir, name, owner(1))) // a file of its own
			if err := c.CloseFile(ctx, owner(1), f.FH); err != nil {
				t.Fatal(err)
			}
			if ask.Name != "" {
				ask.Name = name
			} else {
				ask.FH = f.FH
			}
			if err := c.Compound(ctx, root, c.openOps(&ask), nil); err != nil {
				t.Fatal(err)
			}
			// The session is lost.
			if err := c.Compound(ctx, root, []nfs4.Args{&nfs4.DestroySessionArgs{SessionID: c.Info().SessionID}}, nil); err != nil {
				t.Log(err)
			}
			_, lost, err := c.sendOpen(ctx, root, &ask, func() bool { return true })
			t.Logf("the same owner opens again: %v (lost %v)", err, lost)
			if err != nil {
				if _, again := c.sentAgain(ctx, root, &ask, true); !again {
					t.Skip("this server does not let an owner have anything of a file of which it denies something: nfs-ganesha")
				}
			}
			mustOpen(t, c, &ask)
			if _, err := rival.Open(ctx, root, &OpenArgs{Owner: owner(5), Access: 2, FH: f.FH}); !errors.Is(err, nfs4.NFS4ERR_SHARE_DENIED) {
				t.Errorf("the rival: %v", err)
			}
			if err := c.CloseFile(ctx, ask.Owner, f.FH); err != nil {
				t.Fatal(err)
			}
			mustOpen(t, rival, &OpenArgs{Owner: owner(5), Access: 3, Deny: 3, FH: f.FH})
			if err := rival.CloseFile(ctx, owner(5), f.FH); err != nil {
				t.Fatal(err)
			}
		})
	}
}
