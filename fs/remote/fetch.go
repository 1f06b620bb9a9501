package remote

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"holdfast/fs"
	"holdfast/fs/remote/diskcache"
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
)

// A fetch is a READ under way, for all who need its bytes. It is not cancelled when who asked goes away.
type fetch struct {
	start, stop int64
	change      uint64 // the version that it is to be of
	seq         uint64 // when it began
	writes      uint64 // own writes before it
	ahead       bool   // nobody asked for it yet
	settled     bool   // the version was old enough when it began (settleTime): it is good for later opens too

	// Set before done is closed.
	buf     *rpc.Buffer
	changed bool // the file is not of that version any more
	err     error
	done    chan struct{}

	refs atomic.Int32 // of buf
}

func (x *fetch) release() {
	if x.refs.Add(-1) == 0 {
		x.buf.Free()
	}
}

// A piece is a part of a read: from the cache, or from a fetch.
type piece struct {
	start, stop int64
	fetch       *fetch
	joined      bool
}

func (p *piece) drop() {
	if p.fetch != nil {
		p.fetch.release()
	}
}

// plan says where each byte of [pos, end) comes from, and starts what has to be fetched. Each piece holds a
// reference to its fetch.
func (r *Remote) plan(ctx context.Context, f *dataFile, rd *reader, obj *diskcache.Object, pos, end int64) []piece {
	limit := int64(r.maxTransfer(ctx, f.handle, false)) &^ (diskcache.BlockSize - 1)
	size := int64(rd.v.attr.Size)
	want := end
	if size <= r.wholeFile() {
		end = size // one round trip either way
	}
	var pieces []piece
	add := func(p piece) {
		p.stop = min(p.stop, want)
		if p.start < p.stop {
			pieces = append(pieces, p)
		} else {
			p.drop()
		}
	}
	for pos < end {
		start, stop := obj.NextMissing(pos, end, rd.v.seq)
		if start > pos {
			add(piece{start: pos, stop: min(start, end)})
			pos = start
			continue
		}
		x, joined := r.startFetch(f, rd, obj, start, min(stop, start-start%diskcache.BlockSize+limit), pos, false)
		if x == nil {
			continue // it has come meanwhile
		}
		if joined {
			r.data.c.joined.Add(uint64(min(x.stop, end) - pos))
		}
		add(piece{pos, min(x.stop, end), x, joined})
		pos = x.stop
	}
	return pieces
}

// wholeFile is up to which size a file is fetched whole at once.
func (r *Remote) wholeFile() int64 {
	if r.up.Info().RTT > 2*time.Millisecond {
		return 256 << 10
	}
	return 64 << 10
}

// startFetch gives the fetch that has the byte at pos, or starts one of [start, stop), or less of it if
// another has the rest. The caller gets a reference. nil: the byte has come into the cache since the caller
// looked there.
func (r *Remote) startFetch(f *dataFile, rd *reader, obj *diskcache.Object, start, stop, pos int64, ahead bool) (x *fetch, joined bool) {
	f.mu.Lock()
	for _, x := range f.fetches {
		if x.change != rd.v.attr.Change || x.seq < rd.v.seq && !x.settled {
			continue
		}
		if x.start <= pos && pos < x.stop {
			x.refs.Add(1)
			f.mu.Unlock()
			return x, true
		}
		if x.start > pos {
			stop = min(stop, x.start)
		}
	}
	// A fetch leaves the list after it has stored what it got, so what is not in the list and not there is missing.
	if missing, _ := obj.NextMissing(pos, pos+1, rd.v.seq); missing > pos {
		f.mu.Unlock()
		return nil, false
	}
	x = &fetch{start: start, stop: stop, change: rd.v.attr.Change, seq: r.cache.begin(), writes: f.writes.Load(), ahead: ahead, done: make(chan struct{})}
	x.settled = r.data.clock.settled(rd.v.attr.Ctime, r.now())
	x.buf = rpc.GetBuffer(int(stop - start))
	x.refs.Store(2)
	f.fetches = append(f.fetches, x)
	f.mu.Unlock()
	d := r.data
	d.mu.Lock()
	f.users++
	d.mu.Unlock()
	r.fetching.Add(1)
	go func() {
		defer r.fetching.Done()
		r.fetch(f, x, rd)
		f.mu.Lock()
		f.fetches = slices.DeleteFunc(f.fetches, func(y *fetch) bool { return x == y })
		f.mu.Unlock()
		x.release()
		d.unuse(f)
	}()
	return x, false
}

// fetch reads and stores.
func (r *Remote) fetch(f *dataFile, x *fetch, rd *reader) {
	d := r.data
	began := r.now()
	attr, err := r.fetchInto(x, rd)
	if err != nil {
		x.err = err
		close(x.done)
		return
	}
	n := x.stop - x.start
	d.c.fetched.Add(uint64(n))
	if x.ahead {
		d.c.ahead.Add(uint64(n))
	}
	if took := r.now().Sub(began); took > 0 && n >= 64<<10 {
		d.measured(n, took, d.inFlight.Load())
	}
	x.changed = x.changed || attr.Change != x.change
	close(x.done)
	if x.changed {
		return
	}
	young := uint64(0)
	if !d.clock.settled(attr.Ctime, began) {
		young = x.seq
		d.c.recent.Add(1)
	}
	obj, err := d.store.Get(f.id, rd.v.version(), r.namer(rd.io.Handle))
	if err != nil {
		return
	}
	defer obj.Release()
	f.storing.RLock()
	defer f.storing.RUnlock()
	if f.writes.Load() != x.writes {
		return
	}
	if err := obj.WriteAt(x.buf.B, x.start, young); err != nil && !errors.Is(err, diskcache.ErrNoRoom) {
		r.log.Debug("data is not kept", "err", err)
	}
}

// fetchInto fills the buffer of x by READs, or READ_PLUS where the file has holes, and gives the attributes
// that came after the last of them. Attributes of another version end it.
func (r *Remote) fetchInto(x *fetch, rd *reader) (attr *fs.Attr, err error) {
	h := rd.io.Handle
	plus := rd.v.attr.Used < rd.v.attr.Size/2 && r.up.Info().MinorVersion >= 2 && !r.data.noPlus.Load()
	for got := 0; ; {
		n, eof := 0, false
		start := r.cache.begin()
		err := r.io(r.ctx, rd.cred, rd.io, rd.fh, func(id nfs4.Stateid) []nfs4.Args {
			off, count := uint64(x.start)+uint64(got), uint32(len(x.buf.B)-got)
			var read nfs4.Args = &nfs4.ReadArgs{Stateid: id, Offset: off, Count: count}
			if plus {
				read = &nfs4.ReadPlusArgs{Stateid: id, Offset: off, Count: count}
			}
			return []nfs4.Args{putfh(rd.fh), read, getattr}
		}, func(res []nfs4.Res) (err error) {
			switch y := res[1].(type) {
			case *nfs4.ReadRes:
				if len(y.Data) > len(x.buf.B)-got {
					return nfs4.NFS4ERR_SERVERFAULT // more than was asked for
				}
				n, eof = copy(x.buf.B[got:], y.Data), y.EOF
			case *nfs4.ReadPlusRes:
				if n, err = unfold(y, uint64(x.start)+uint64(got), x.buf.B[got:]); err != nil {
					return err
				}
				eof = y.EOF
			}
			attr, err = r.ids.fromFattr(fattrAt(res, 2))
			return err
		})
		if plus && err != nil {
			switch fs.CodeOf(toFS("READ_PLUS", err)) {
			case fs.NotSupp, fs.UnionNotSupp:
				r.data.noPlus.Store(true)
				plus = false
				continue
			}
		}
		if err != nil {
			return nil, r.fail("READ", err, h)
		}
		r.sawAttr(h, attr, start)
		got += n
		if attr.Change != x.change || got == len(x.buf.B) {
			return attr, nil
		}
		if eof || n == 0 {
			// It has no more, and says that it has not changed: let it say that to who asks.
			x.changed = true
			return attr, nil
		}
	}
}

// unfold writes out the answer to READ_PLUS, RFC 7862 15.10.2: data and holes in order, from off.
func unfold(y *nfs4.ReadPlusRes, off uint64, dst []byte) (n int, err error) {
	for _, c := range y.Contents {
		skip := uint64(0)
		if c.Offset < off+uint64(n) {
			skip = off + uint64(n) - c.Offset // a hole may begin before what was asked for
		}
		if c.Offset > off+uint64(n) {
			return n, nfs4.NFS4ERR_SERVERFAULT // a gap
		}
		if c.Type == nfs4.NFS4_CONTENT_DATA {
			if skip < uint64(len(c.Data)) {
				n += copy(dst[n:], c.Data[skip:])
			}
			continue
		}
		if skip < c.Length {
			k := int(min(c.Length-skip, uint64(len(dst)-n)))
			clear(dst[n : n+k])
			n += k
		}
	}
	return n, nil
}
