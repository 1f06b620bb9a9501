package loadgen

import (
	"context"
	"strings"

	"holdfast/internal/nfs4"
)

// Attributes that a Linux client asks for with every GETATTR.
var usualAttrs = nfs4.Bits(nfs4.FATTR4_TYPE, nfs4.FATTR4_CHANGE, nfs4.FATTR4_SIZE, nfs4.FATTR4_FSID, nfs4.FATTR4_FILEID,
	nfs4.FATTR4_MODE, nfs4.FATTR4_NUMLINKS, nfs4.FATTR4_OWNER, nfs4.FATTR4_OWNER_GROUP, nfs4.FATTR4_RAWDEV,
	nfs4.FATTR4_SPACE_USED, nfs4.FATTR4_TIME_ACCESS, nfs4.FATTR4_TIME_METADATA, nfs4.FATTR4_TIME_MODIFY, nfs4.FATTR4_MOUNTED_ON_FILEID)

// lookup gives the handle of a path from the root of the server.
func (l *Lane) lookup(ctx context.Context, path string) (fh nfs4.FH, err error) {
	ops := []nfs4.Args{&nfs4.PutrootfhArgs{}}
	for _, name := range strings.Split(path, "/") {
		if name != "" {
			ops = append(ops, &nfs4.LookupArgs{Name: name})
		}
	}
	ops = append(ops, &nfs4.GetfhArgs{})
	err = l.Do(ctx, func(list []nfs4.Res) error {
		fh = list[len(list)-1].(*nfs4.GetfhRes).FH
		return nil
	}, ops...)
	return fh, err
}

// mkdir makes a directory unless it is there, and gives its handle.
func (l *Lane) mkdir(ctx context.Context, dir nfs4.FH, name string) (fh nfs4.FH, err error) {
	get := func(list []nfs4.Res) error {
		fh = list[len(list)-1].(*nfs4.GetfhRes).FH
		return nil
	}
	look := func() error {
		return l.Do(ctx, get, &nfs4.PutfhArgs{FH: dir}, &nfs4.LookupArgs{Name: name}, &nfs4.GetfhArgs{})
	}
	if err = look(); !isStatus(err, nfs4.NFS4ERR_NOENT) {
		return fh, err
	}
	err = l.Do(ctx, get, &nfs4.PutfhArgs{FH: dir}, &nfs4.CreateArgs{
		Type: nfs4.CreateType{Type: nfs4.NF4DIR}, Name: name,
		Attrs: nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_MODE), Mode: 0o777},
	}, &nfs4.GetfhArgs{})
	if isStatus(err, nfs4.NFS4ERR_EXIST) {
		err = look() // another client was faster
	}
	return fh, err
}

// openArgs is an OPEN by name. With create the file is made unless it is there.
func (c *Client) openArgs(owner, name string, access uint32, create bool) *nfs4.OpenArgs {
	a := &nfs4.OpenArgs{
		ShareAccess: access | nfs4.OPEN4_SHARE_ACCESS_WANT_NO_DELEG,
		Owner:       nfs4.StateOwner{ClientID: c.ClientID, Owner: owner},
		Claim:       nfs4.OpenClaim{Type: nfs4.CLAIM_NULL, File: name},
	}
	if create {
		a.How = nfs4.OpenHow{Type: nfs4.OPEN4_CREATE, Mode: nfs4.UNCHECKED4,
			Attrs: nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_MODE), Mode: 0o644}}
	}
	return a
}

// A file is an open file.
type file struct {
	fh   nfs4.FH
	open nfs4.Stateid
	size uint64
}

// openFile opens for reading and writing, and creates.
func (l *Lane) openFile(ctx context.Context, dir nfs4.FH, owner, name string) (file, error) {
	return l.open(ctx, dir, l.c.openArgs(owner, name, nfs4.OPEN4_SHARE_ACCESS_BOTH, true))
}

func (l *Lane) open(ctx context.Context, dir nfs4.FH, a *nfs4.OpenArgs) (f file, err error) {
	err = l.Do(ctx, func(list []nfs4.Res) error {
		f.open = list[1].(*nfs4.OpenRes).Stateid
		f.fh = list[2].(*nfs4.GetfhRes).FH
		f.size = list[3].(*nfs4.GetattrRes).Attrs.Size
		return nil
	}, &nfs4.PutfhArgs{FH: dir}, a, &nfs4.GetfhArgs{}, &nfs4.GetattrArgs{Request: usualAttrs})
	return f, err
}

func (l *Lane) closeFile(ctx context.Context, f file) error {
	return l.Do(ctx, nil, &nfs4.PutfhArgs{FH: f.fh}, &nfs4.CloseArgs{OpenStateid: f.open})
}

// remove takes a name away, if it is there.
func (l *Lane) remove(ctx context.Context, dir nfs4.FH, name string) error {
	err := l.Do(ctx, nil, &nfs4.PutfhArgs{FH: dir}, &nfs4.RemoveArgs{Name: name})
	if isStatus(err, nfs4.NFS4ERR_NOENT) {
		return nil
	}
	return err
}
