package remote

import (
	"context"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// Values of SeekArgs.What: data_content4, RFC 7862 11.1.
const (
	seekData = nfs4.NFS4_CONTENT_DATA
	seekHole = nfs4.NFS4_CONTENT_HOLE
)

// Allocate reserves space: ALLOCATE, RFC 7862 15.1.
func (r *Remote) Allocate(ctx context.Context, cred *fs.Cred, io fs.IORef, off, length uint64) error {
	return r.reshape(ctx, cred, io, "ALLOCATE", func(id nfs4.Stateid) nfs4.Args {
		return &nfs4.AllocateArgs{Stateid: id, Offset: off, Length: length}
	})
}

// Deallocate makes a hole: DEALLOCATE, RFC 7862 15.4.
func (r *Remote) Deallocate(ctx context.Context, cred *fs.Cred, io fs.IORef, off, length uint64) error {
	return r.reshape(ctx, cred, io, "DEALLOCATE", func(id nfs4.Stateid) nfs4.Args {
		return &nfs4.DeallocateArgs{Stateid: id, Offset: off, Length: length}
	})
}

func (r *Remote) reshape(ctx context.Context, cred *fs.Cred, io fs.IORef, op string, arg func(nfs4.Stateid) nfs4.Args) error {
	fh, err := r.resolve(ctx, io.Handle)
	if err != nil {
		return err
	}
	done, err := r.localChange(ctx, cred, io.Handle, "")
	defer done()
	if err != nil {
		return err
	}
	if r.up.Info().MinorVersion < 2 {
		return fs.E(op, fs.NotSupp, nil)
	}
	ch := change{handle: io.Handle, start: r.cache.beginChange(io.Handle), known: true}
	own := r.beginRewrite(io.Handle, fh)
	defer func() { r.endWrite(own, nil, nil, err) }()
	err = r.io(ctx, cred, io, fh, func(id nfs4.Stateid) []nfs4.Args {
		return []nfs4.Args{putfh(fh), getchange, arg(id), getattr}
	}, func(res []nfs4.Res) (err error) {
		ch.before = fattrAt(res, 1).Change
		ch.attr, err = r.ids.fromFattr(fattrAt(res, 3))
		return err
	})
	if err != nil {
		// Part of the range may have been done (RFC 7862 15.1.3).
		r.failChange(ctx, io.Handle, true)
		return r.fail(op, err, io.Handle)
	}
	r.endChange(ctx, &ch)
	return nil
}

// Seek finds data or a hole: SEEK, RFC 7862 15.11.
func (r *Remote) Seek(ctx context.Context, cred *fs.Cred, io fs.IORef, off uint64, hole bool) (pos uint64, eof bool, err error) {
	fh, err := r.resolve(ctx, io.Handle)
	if err != nil {
		return 0, false, err
	}
	if r.up.Info().MinorVersion < 2 {
		return 0, false, fs.E("SEEK", fs.NotSupp, nil)
	}
	what := uint32(seekData)
	if hole {
		what = seekHole
	}
	err = r.io(ctx, cred, io, fh, func(id nfs4.Stateid) []nfs4.Args {
		return []nfs4.Args{putfh(fh), &nfs4.SeekArgs{Stateid: id, Offset: off, What: what}}
	}, func(res []nfs4.Res) error {
		x := res[1].(*nfs4.SeekRes)
		pos, eof = x.Offset, x.EOF
		return nil
	})
	if err != nil {
		return 0, false, r.fail("SEEK", err, io.Handle)
	}
	return pos, eof, nil
}
