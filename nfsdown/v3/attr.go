package v3

import (
	"context"
	"math"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs3"
	"holdfast/nfsdown"
	"holdfast/nfsdown/state"
)

// fattr is fattr3 of a file's attributes.
func fattr(f *nfsdown.File, a *fs.Attr) *nfs3.Fattr {
	id := f.FSID(a.FSID)
	return &nfs3.Fattr{
		Type: uint32(a.Type), Mode: a.Mode & 0o7777, Nlink: a.Nlink, UID: a.UID, GID: a.GID, Size: a.Size, Used: a.Used,
		Rdev: nfs3.Spec(a.Rdev), FSID: id.Major*0x9E3779B97F4A7C15 ^ id.Minor, FileID: a.FileID,
		Atime: toTime(a.Atime), Mtime: toTime(a.Mtime), Ctime: toTime(a.Ctime),
	}
}

// toTime cuts a time to what nfstime3 can say.
func toTime(t time.Time) nfs3.Time {
	sec := t.Unix()
	switch {
	case t.IsZero() || sec < 0:
		return nfs3.Time{}
	case sec > math.MaxUint32:
		return nfs3.Time{Sec: math.MaxUint32}
	}
	return nfs3.Time{Sec: uint32(sec), Nsec: uint32(t.Nanosecond())}
}

func fromTime(t nfs3.Time) (time.Time, error) {
	if t.Nsec >= 1e9 {
		return time.Time{}, nfs3.ErrInval
	}
	return time.Unix(int64(t.Sec), int64(t.Nsec)), nil
}

// setAttr is what sattr3 asks for.
func setAttr(s *nfs3.Sattr) (fs.SetAttr, error) {
	out := fs.SetAttr{UID: s.UID, GID: s.GID, Size: s.Size}
	if s.Mode != nil {
		m := *s.Mode & 0o7777 // some clients send the type of the file too
		out.Mode = &m
	}
	if s.Size != nil && *s.Size > math.MaxInt64 {
		return out, nfs3.ErrFBig
	}
	for _, t := range []struct {
		from *nfs3.SetTime
		how  *fs.TimeSet
		to   *time.Time
	}{{&s.Atime, &out.AtimeSet, &out.Atime}, {&s.Mtime, &out.MtimeSet, &out.Mtime}} {
		switch t.from.How {
		case nfs3.SetToServerTime:
			*t.how = fs.TimeServer
		case nfs3.SetToClientTime:
			var err error
			if *t.to, err = fromTime(t.from.Time); err != nil {
				return out, err
			}
			*t.how = fs.TimeClient
		}
	}
	return out, nil
}

// attrs is post_op_attr: nil if they cannot be had.
func attrs(ctx context.Context, f *nfsdown.File) *nfs3.Fattr {
	if f == nil {
		return nil
	}
	a, err := f.Backend.GetAttr(ctx, f.Cred, f.Inner)
	if err != nil {
		return nil
	}
	return fattr(f, a)
}

// A dirWatch makes wcc_data of a directory: what it was before is only said if the change that was asked for is the
// only one between, since a client takes its cache for good then.
type dirWatch struct {
	f      *nfsdown.File
	before *fs.Attr
}

func watch(ctx context.Context, f *nfsdown.File) dirWatch {
	w := dirWatch{f: f}
	if a, err := f.Backend.GetAttr(ctx, f.Cred, f.Inner); err == nil {
		w.before = a
	}
	return w
}

func (w *dirWatch) wcc(ctx context.Context, ch fs.ChangeInfo) nfs3.Wcc {
	if w.f == nil {
		return nfs3.Wcc{}
	}
	a, err := w.f.Backend.GetAttr(ctx, w.f.Cred, w.f.Inner)
	if err != nil {
		return nfs3.Wcc{}
	}
	out := nfs3.Wcc{After: fattr(w.f, a)}
	if b := w.before; b != nil && ch.Atomic && b.Change == ch.Before && a.Change == ch.After {
		out.Before = &nfs3.PreAttr{Size: b.Size, Mtime: toTime(b.Mtime), Ctime: toTime(b.Ctime)}
	}
	return out
}

// getattr is GETATTR, RFC 1813 3.3.1.
func getattr(ctx context.Context, c *call, a *nfs3.FHArgs, r *nfs3.GetattrRes) error {
	f, err := c.file(ctx, a.FH)
	if err != nil {
		return err
	}
	done, err := c.touch(ctx, f, state.TouchLook)
	if err != nil {
		return err
	}
	defer done()
	at, err := f.Backend.GetAttr(ctx, f.Cred, f.Inner)
	if err != nil {
		return err
	}
	r.Attr = *fattr(f, at)
	return nil
}

// setattr is SETATTR, RFC 1813 3.3.2.
func setattr(ctx context.Context, c *call, a *nfs3.SetattrArgs, r *nfs3.WccRes) error {
	f, err := c.writable(ctx, a.FH)
	if err != nil {
		return err
	}
	defer func() { r.Wcc.After = attrs(ctx, f) }()
	set, err := setAttr(&a.Attr)
	if err != nil {
		return err
	}
	if a.Guard != nil {
		at, err := f.Backend.GetAttr(ctx, f.Cred, f.Inner)
		if err != nil {
			return err
		}
		if toTime(at.Ctime) != *a.Guard {
			return nfs3.ErrNotSync
		}
	}
	if set.IsZero() {
		return nil
	}
	done, err := c.touch(ctx, f, state.TouchChange)
	if err != nil {
		return err
	}
	defer done()
	ref := fs.IORef{Handle: f.Inner}
	if set.Size != nil {
		if ref, err = c.io(f, state.IOSetSize); err != nil {
			return err
		}
	}
	_, err = f.Backend.SetAttr(ctx, f.Cred, ref, &set)
	if set.Size != nil && c.owns(ctx, f, err) && set.Mode == nil && set.UID == nil && set.GID == nil {
		_, err = f.Backend.SetAttr(ctx, fs.Root, ref, &set)
	}
	return err
}

// access is ACCESS, RFC 1813 3.3.4.
func access(ctx context.Context, c *call, a *nfs3.AccessArgs, r *nfs3.AccessRes) error {
	f, err := c.file(ctx, a.FH)
	if err != nil {
		return err
	}
	at, err := f.Backend.GetAttr(ctx, f.Cred, f.Inner)
	if err != nil {
		return err
	}
	r.Attr = fattr(f, at)
	want := a.Access & (fs.AccessRead | fs.AccessLookup | fs.AccessModify | fs.AccessExtend | fs.AccessDelete | fs.AccessExecute)
	if at.Type == fs.Directory {
		want &^= fs.AccessExecute
	} else {
		want &^= fs.AccessLookup | fs.AccessDelete
	}
	if f.ReadOnly {
		want &^= fs.AccessModify | fs.AccessExtend | fs.AccessDelete
	}
	granted, err := f.Backend.Access(ctx, f.Cred, f.Inner, want)
	r.Access = granted & want
	return err
}
