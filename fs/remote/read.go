package remote

import (
	"context"

	"golang.org/x/sync/errgroup"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// parallel is how many READs or WRITEs one large transfer has under way.
const parallel = 8

// Read reads from the data cache, or at the origin: READ, RFC 8881 18.22. Without a cache the only copy is
// that from the record that came in. A transfer that is larger than the origin takes is split, and its parts run side by side.
func (r *Remote) Read(ctx context.Context, cred *fs.Cred, io fs.IORef, off uint64, dst []byte) (n int, eof bool, err error) {
	fh, err := r.resolve(ctx, io.Handle)
	if err != nil {
		return 0, false, err
	}
	if len(dst) == 0 {
		return 0, false, nil
	}
	if r.data != nil {
		if n, eof, done, err := r.readCached(ctx, cred, io, fh, off, dst); done {
			return n, eof, err
		}
	}
	return r.readThrough(ctx, cred, io, fh, off, dst)
}

// readThrough reads straight into dst at the origin.
func (r *Remote) readThrough(ctx context.Context, cred *fs.Cred, io fs.IORef, fh nfs4.FH, off uint64, dst []byte) (n int, eof bool, err error) {
	size := r.maxTransfer(ctx, io.Handle, false)
	if len(dst) <= size {
		return r.readPart(ctx, cred, io, fh, off, dst)
	}
	type part struct {
		n   int
		eof bool
	}
	parts := make([]part, (len(dst)+size-1)/size)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i := range parts {
		g.Go(func() error {
			from := i * size
			n, eof, err := r.readPart(gctx, cred, io, fh, off+uint64(from), dst[from:min(from+size, len(dst))])
			parts[i] = part{n, eof}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return 0, false, err
	}
	for i, p := range parts {
		n += p.n
		if p.eof {
			return n, true, nil
		}
		if p.n < min(size, len(dst)-i*size) {
			return n, false, nil // the rest is beyond a gap: the caller asks for it again
		}
	}
	return n, false, nil
}

// readPart fills dst, which one READ may ask for, though the origin may give it in several.
func (r *Remote) readPart(ctx context.Context, cred *fs.Cred, io fs.IORef, fh nfs4.FH, off uint64, dst []byte) (n int, eof bool, err error) {
	for n < len(dst) && !eof {
		got := 0
		err := r.io(ctx, cred, io, fh, func(id nfs4.Stateid) []nfs4.Args {
			return []nfs4.Args{putfh(fh), &nfs4.ReadArgs{Stateid: id, Offset: off + uint64(n), Count: uint32(len(dst) - n)}}
		}, func(res []nfs4.Res) error {
			x := res[1].(*nfs4.ReadRes)
			if len(x.Data) > len(dst)-n {
				return nfs4.NFS4ERR_SERVERFAULT // more than was asked for
			}
			got, eof = copy(dst[n:], x.Data), x.EOF
			return nil
		})
		if err != nil {
			if n > 0 && fs.CodeOf(toFS("READ", err)) != fs.Interrupted {
				return n, false, nil // what came is good; the next READ tells the error
			}
			return 0, false, r.fail("READ", err, io.Handle)
		}
		if got == 0 {
			break
		}
		n += got
	}
	return n, eof, nil
}

// maxTransfer is the size of one READ or WRITE.
func (r *Remote) maxTransfer(ctx context.Context, h fs.Handle, write bool) int {
	caps, err := r.capsFor(ctx, h)
	if err != nil {
		return 64 << 10
	}
	size := caps.info.MaxRead
	if write {
		size = caps.info.MaxWrite
	}
	return int(max(size, 4096))
}
