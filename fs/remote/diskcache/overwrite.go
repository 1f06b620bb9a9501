package diskcache

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Overwrite puts data in that its user has just written to the file, at any place. The object is marked
// dirty before: from now on, until Advance, it is of no version, and the caller must not read it. What cannot
// be kept is missing afterwards; after an error the caller drops the object.
func (o *Object) Overwrite(data []byte, off int64) error {
	end := off + int64(len(data))
	if off < 0 || end > maxSize {
		return fmt.Errorf("cache: %d bytes at %d are too far out", len(data), off)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	f, err := o.writable()
	if err != nil {
		return err
	}
	if err := o.soil(); err != nil {
		return o.failed(err)
	}
	o.gen++
	o.extent = max(o.extent, int64(o.head.version.Size))
	before := o.extent
	o.extent = max(o.extent, end)
	for len(data) > 0 {
		b := off / BlockSize
		in := off - b*BlockSize
		if in == 0 && len(data) >= BlockSize {
			n := len(data) &^ (BlockSize - 1)
			if err := o.put(f, data[:n], off, 0); err != nil {
				return err
			}
			data, off = data[n:], off+int64(n)
			continue
		}
		n := min(len(data), int(BlockSize-in))
		var p [BlockSize]byte // what is beyond the end is zero
		if b*BlockSize >= before || o.blockLocked(f, b, p[:]) {
			copy(p[in:], data[:n])
			if err := o.put(f, p[:], b*BlockSize, 0); err != nil {
				return err
			}
		} else {
			o.forget(f, b, b+1)
		}
		data, off = data[n:], off+int64(n)
	}
	return nil
}

// soil marks the object dirty on disk.
//
// +checklocks:o.mu
func (o *Object) soil() error {
	if o.head.dirty {
		return nil
	}
	o.head.dirty = true
	if err := o.writeHeader(); err != nil {
		return err
	}
	pointDirty.Hit()
	return nil
}

// Advance says that own writes alone have led from the object's version to v. It stays dirty on disk until
// Settle. A file that got shorter loses what was beyond its end.
func (o *Object) Advance(v Version) error {
	if v.Size > maxSize {
		return errors.New("cache: the file is too large")
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.dead.Load() {
		return ErrNoRoom
	}
	o.gen++
	f := o.files.Load()
	if f != nil {
		if err := o.soil(); err != nil {
			return o.failed(err)
		}
		if v.Size < max(o.head.version.Size, uint64(o.extent)) {
			o.forget(f, int64(v.Size)/BlockSize, (max(o.extent, int64(o.head.version.Size))+BlockSize-1)/BlockSize)
		}
		if err := f.data.Truncate(int64(v.Size)); err != nil {
			return o.failed(err)
		}
	}
	o.extent = int64(v.Size)
	o.grow(int64(v.Size))
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	o.head.version = v
	o.version.Store(&v)
	return nil
}

// Settle makes what own writes have led to usable after a restart. The caller knows that the origin has
// the data durably (invariant I7): an origin that forgot it in a crash may come to the same change
// attribute again by other writes. It is asked, by durable, while nothing is put in: false, and nothing is done. It
// syncs the local disk, and belongs in the background.
func (o *Object) Settle(durable func() bool) error {
	o.mu.Lock()
	f, gen, dirty := o.files.Load(), o.gen, o.head.dirty && durable()
	o.mu.Unlock()
	if f == nil || !dirty || o.dead.Load() {
		return nil
	}
	if err := errors.Join(unix.Fdatasync(int(f.data.Fd())), unix.Fdatasync(int(f.meta.Fd()))); err != nil {
		return o.failed(err)
	}
	pointSynced.Hit()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.gen != gen || o.dead.Load() {
		return nil // more was written meanwhile; its own Settle comes
	}
	o.head.dirty = false
	if err := o.writeHeader(); err != nil {
		o.head.dirty = true
		return o.failed(err)
	}
	pointSettled.Hit()
	return nil
}
