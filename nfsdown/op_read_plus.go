package nfsdown

import (
	"context"
	"errors"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/nfsdown/state"
)

// maxSegments is how many pieces one READ_PLUS is answered with.
const maxSegments = 16

// segmentHead is the size of a piece without its data.
const segmentHead = 4 + 8 + 8

// opReadPlus reads data and tells of holes: RFC 7862 15.10. Without a backend that knows holes all is data.
func opReadPlus(ctx context.Context, c *compound, a *nfs4.ReadPlusArgs) (*nfs4.ReadPlusRes, error) {
	io, err := c.io(ctx, &c.cur, a.Stateid, state.IORead)
	if err != nil {
		return nil, err
	}
	attr, err := c.regular(ctx, &c.cur)
	if err != nil {
		return nil, err
	}
	res := new(nfs4.ReadPlusRes)
	if a.Offset >= attr.Size {
		res.EOF = true
		return res, nil
	}
	sparse, _ := c.cur.b.(fs.Sparse)
	room := c.left() - 64
	off, end := a.Offset, min(attr.Size, a.Offset+min(uint64(a.Count), uint64(c.s.cfg.MaxIO)))
	for off < end && len(res.Contents) < maxSegments && room > 2*segmentHead {
		room -= segmentHead
		dataEnd := end
		if sparse != nil {
			data, eof, err := sparse.Seek(ctx, c.cur.cred, io, off, false)
			switch {
			case errors.Is(err, fs.NXIO), err == nil && eof:
				data = end
			case errors.Is(err, fs.NotSupp):
				data, sparse = off, nil
			case err != nil:
				return nil, err
			}
			if data > off {
				n := min(data, end) - off
				res.Contents = append(res.Contents, nfs4.ReadPlusContent{Type: nfs4.NFS4_CONTENT_HOLE, Offset: off, Length: n})
				off += n
				continue
			}
			if sparse != nil {
				if hole, _, err := sparse.Seek(ctx, c.cur.cred, io, off, true); err == nil && hole > off {
					dataEnd = min(end, hole)
				}
			}
		}
		buf := c.buffer(uint32(min(dataEnd-off, uint64(room))))
		n, eof, err := c.cur.b.Read(ctx, c.cur.cred, io, off, buf.B)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			res.Contents = append(res.Contents, nfs4.ReadPlusContent{Type: nfs4.NFS4_CONTENT_DATA, Offset: off, Data: buf.B[:n]})
		}
		off += uint64(n)
		room -= n + 3
		c.s.stats.of(nfs4.OP_READ_PLUS).out.Add(uint64(n))
		if eof || n < len(buf.B) {
			res.EOF = eof
			return res, nil
		}
	}
	res.EOF = off >= attr.Size
	return res, nil
}
