package remote

import (
	"context"
	"errors"

	"holdfast/fs"
	"holdfast/internal/broken"
	"holdfast/internal/nfs4"
	"holdfast/nfsup"
)

// Open opens a file: OPEN, RFC 8881 18.16. It always goes to the origin, so it is the moment at which
// close-to-open consistency is made: the attributes that come with it tell whether what is cached of
// the file is old.
//
// With Reclaim it is CLAIM_PREVIOUS or nothing. NoGrace, ReclaimBad and ReclaimConflict are the
// origin's answers, or NoGrace is ours once RECLAIM_COMPLETE was sent.
func (r *Remote) Open(ctx context.Context, cred *fs.Cred, req *fs.OpenRequest) (*fs.OpenResult, error) {
	if req.Access == 0 || (req.Reclaim && req.Name != "") {
		return nil, fs.E("OPEN", fs.Inval, nil)
	}
	leave, err := r.enter(ctx, "OPEN", req.Reclaim)
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := r.beforeLocalOpen(ctx, cred, req); err != nil {
		return nil, err
	}
	if res, ok := r.openCovered(ctx, cred, req); ok {
		return res, nil
	}
	r.unparkFor(ctx, cred, req)
	up := r.openUp(req.Owner)
	if err := r.awaitCloses(ctx, up, req); err != nil {
		return nil, err
	}
	r.owners.begin(up, req.Owner)
	defer r.owners.end(up)
	sent := r.covers.beginOpen(up)
	defer r.covers.endOpen(up, sent)
	args := &nfsup.OpenArgs{
		Owner:   up,
		Access:  uint32(req.Access & fs.ShareBoth),
		Deny:    uint32(req.Deny & fs.ShareBoth),
		Reclaim: req.Reclaim,
		Attrs:   attrWanted,
		Want:    r.wantDeleg(req),
	}
	if req.Name == "" {
		return r.openFile(ctx, cred, req, args, sent)
	}
	return r.openName(ctx, cred, req, args, sent)
}

// openFile opens by handle: CLAIM_FH, or CLAIM_PREVIOUS.
func (r *Remote) openFile(ctx context.Context, cred *fs.Cred, req *fs.OpenRequest, args *nfsup.OpenArgs, sent uint64) (*fs.OpenResult, error) {
	fh, err := r.resolve(ctx, req.File)
	if err != nil {
		return nil, err
	}
	args.FH = fh
	start := r.cache.begin()
	reply, err := r.up.Open(ctx, r.upCred(cred), args)
	if broken.ReclaimAsLock && req.Reclaim && err != nil {
		again := *args
		again.Reclaim = false
		_ = r.up.ReclaimComplete(ctx)
		reply, err = r.up.Open(ctx, r.upCred(cred), &again)
	}
	if req.Reclaim {
		r.countReclaim(err, &r.stats.reclaimedOpens)
	}
	if err != nil {
		return nil, r.refusedReclaim(req.Reclaim, r.fail("OPEN", err, req.File))
	}
	res, _, err := r.opened(ctx, cred, req.Owner, args, sent, reply, start)
	return res, err
}

// openName opens by name: CLAIM_NULL, and creates the file if that was asked for.
func (r *Remote) openName(ctx context.Context, cred *fs.Cred, req *fs.OpenRequest, args *nfsup.OpenArgs, sent uint64) (*fs.OpenResult, error) {
	if err := checkName("OPEN", req.Name); err != nil {
		return nil, err
	}
	dirFH, err := r.resolve(ctx, req.Dir)
	if err != nil {
		return nil, err
	}
	args.Dir, args.Name = dirFH, req.Name
	var late fs.SetAttr
	if req.Create != fs.NoCreate {
		caps, err := r.capsFor(ctx, req.Dir)
		if err != nil {
			return nil, err
		}
		args.How, late = openHow(req, caps)
	}
	start := r.cache.begin()
	if req.Create != fs.NoCreate {
		start = r.cache.beginChange(req.Dir)
	}
	truncated := r.beginTruncate(ctx, req)
	reply, err := r.up.Open(ctx, r.upCred(cred), args)
	if err != nil {
		truncated("", "", err)
		if req.Create != fs.NoCreate {
			r.failChange(ctx, req.Dir, !refused(err))
		}
		return nil, r.fail("OPEN", err, req.Dir)
	}
	res, before, err := r.opened(ctx, cred, req.Owner, args, sent, reply, start)
	if err == nil {
		truncated(res.File, reply.FH, nil)
	} else {
		h, _, _ := r.seal.seal(reply.FH)
		truncated(h, reply.FH, nil)
	}
	if req.Create != fs.NoCreate {
		edit := func(e *names) { e.forget(req.Name) }
		if err == nil {
			edit = func(e *names) { e.set(req.Name, res.File) }
		}
		if reply.Change.Before == reply.Change.After {
			r.failChange(ctx, req.Dir, err != nil) // the file was there already
		} else {
			r.endDir(ctx, req.Dir, start, reply.Change, nil, edit)
		}
	}
	if err != nil {
		return nil, err
	}
	r.cache.addName(req.Dir, req.Name, res.File, reply.Change.After)
	r.sawPlace(req.Dir, req.Name, res.File)
	res.Change = changeInfo(reply.Change)
	res.Created = created(req, reply)
	if req.Create == fs.Exclusive {
		if err := r.finishExclusive(ctx, cred, req, late, res); err != nil {
			r.dataClosed(req.Owner, res.File)
			r.undoOpen(ctx, before, res.File, args, reply.FH)
			return nil, err
		}
	}
	return res, nil
}

// opened makes the answer to an open that the origin has granted, and tells what the owner had open
// before. If there can be no answer the open is given back.
func (r *Remote) opened(ctx context.Context, cred *fs.Cred, owner fs.Owner, args *nfsup.OpenArgs, sent uint64, reply *nfsup.OpenReply, start uint64) (*fs.OpenResult, share, error) {
	file, _, _ := r.seal.seal(reply.FH)
	before := r.owners.share(args.Owner, file)
	var attr *fs.Attr
	var err error
	if reply.Attrs.Mask.IsZero() {
		// The open succeeded and GETATTR after it did not.
		start = r.cache.begin()
		err = r.up.Compound(ctx, r.upCred(cred), []nfs4.Args{putfh(reply.FH), getattr}, func(res []nfs4.Res) (err error) {
			attr, err = r.ids.fromFattr(fattrAt(res, 1))
			return err
		})
		err = toFS("GETATTR", err)
	} else {
		attr, err = r.ids.fromFattr(&reply.Attrs)
	}
	if err == nil {
		file, err = r.grant(ctx, reply.FH, attr)
	}
	if err == nil {
		err = r.settleParked(ctx, cred, args, sent, file, reply.FH)
	}
	if err != nil {
		r.undoOpen(ctx, before, file, args, reply.FH)
		return nil, before, err
	}
	r.owners.opened(args.Owner, file, fs.Share(args.Access), fs.Share(args.Deny), reply.MayNotify())
	r.dataOpened(owner, cred, file, fs.Share(args.Access))
	r.sawAttr(file, attr, start)
	r.noteCover(file, reply.FH, args.Owner, cred, reply.WriteDelegation)
	// Where the origin does not promise CB_NOTIFY_LOCK, waiters.go asks it; so this side promises it.
	return &fs.OpenResult{File: file, Attr: attr, MayNotify: true}, before, nil
}

// undoOpen gives an open back that nobody will hear of, or reduces it to what it was before. It is
// finished even if the caller goes away meanwhile.
func (r *Remote) undoOpen(ctx context.Context, before share, file fs.Handle, args *nfsup.OpenArgs, fh nfs4.FH) {
	done := make(chan struct{})
	key := parkedKey{args.Owner, file}
	if before.held {
		go func() {
			defer close(done)
			err := r.up.Downgrade(r.ctx, args.Owner, fh, uint32(before.access), uint32(before.deny))
			r.owners.setShare(args.Owner, file, before.access, before.deny)
			r.givenBack(err)
		}()
	} else {
		cl := r.covers.beginClose(key)
		r.owners.closed(args.Owner, file)
		go func() {
			defer close(done)
			r.closeUnwanted(r.ctx, key, fh, cl)
		}()
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// openHow says how to create. late is what has to be set after an exclusive create, because the origin
// keeps the verifier in its place.
func openHow(req *fs.OpenRequest, caps *fsCaps) (how nfs4.OpenHow, late fs.SetAttr) {
	how.Type = nfs4.OPEN4_CREATE
	switch req.Create {
	case fs.Unchecked:
		how.Mode = nfs4.UNCHECKED4
	case fs.Guarded:
		how.Mode = nfs4.GUARDED4
	case fs.Exclusive:
		how.Mode = nfs4.EXCLUSIVE4_1
		how.Verf = req.Verifier
		now := req.Attr
		may := caps.exclcreat
		if now.Mode != nil && !may.Has(nfs4.FATTR4_MODE) && !may.Has(nfs4.FATTR4_MODE_UMASK) {
			late.Mode, now.Mode = now.Mode, nil
			late.Umask = now.Umask
		}
		if now.UID != nil && !may.Has(nfs4.FATTR4_OWNER) {
			late.UID, now.UID = now.UID, nil
		}
		if now.GID != nil && !may.Has(nfs4.FATTR4_OWNER_GROUP) {
			late.GID, now.GID = now.GID, nil
		}
		if now.Size != nil && !may.Has(nfs4.FATTR4_SIZE) {
			late.Size, now.Size = now.Size, nil
		}
		if now.AtimeSet != fs.TimeKeep && !may.Has(nfs4.FATTR4_TIME_ACCESS_SET) {
			late.AtimeSet, late.Atime, now.AtimeSet = now.AtimeSet, now.Atime, fs.TimeKeep
		}
		if now.MtimeSet != fs.TimeKeep && !may.Has(nfs4.FATTR4_TIME_MODIFY_SET) {
			late.MtimeSet, late.Mtime, now.MtimeSet = now.MtimeSet, now.Mtime, fs.TimeKeep
		}
		how.Attrs = setFattr(&now, caps.umask() && may.Has(nfs4.FATTR4_MODE_UMASK))
		return how, late
	}
	how.Attrs = setFattr(&req.Attr, caps.umask())
	return how, late
}

// finishExclusive sets what an exclusive create could not. It leaves the times alone, where the origin
// may keep the verifier: whoever asked sets them, once he has the answer (RFC 8881 18.16.3). So the
// same verifier finds its file again, also after a crash of ours in between.
func (r *Remote) finishExclusive(ctx context.Context, cred *fs.Cred, req *fs.OpenRequest, late fs.SetAttr, res *fs.OpenResult) error {
	if late.IsZero() {
		return nil
	}
	if late.Umask != nil && late.Mode != nil {
		mode := *late.Mode &^ (*late.Umask & 0o777)
		late.Mode, late.Umask = &mode, nil
	}
	attr, err := r.SetAttr(ctx, cred, fs.IORef{Handle: res.File, Open: req.Owner}, &late)
	if err != nil {
		return err
	}
	res.Attr = attr
	return nil
}

// created tells whether the file is new. OPEN does not say it; but only a new file has its mode set,
// and only a new file changes the directory.
func created(req *fs.OpenRequest, reply *nfsup.OpenReply) bool {
	switch req.Create {
	case fs.Guarded, fs.Exclusive:
		return true
	case fs.Unchecked:
		return reply.Change.Before != reply.Change.After && reply.Change.Atomic ||
			reply.AttrSet.Has(nfs4.FATTR4_MODE) || reply.AttrSet.Has(nfs4.FATTR4_MODE_UMASK)
	}
	return false
}

// Downgrade reduces an open: OPEN_DOWNGRADE, RFC 8881 18.18.
func (r *Remote) Downgrade(ctx context.Context, owner fs.Owner, file fs.Handle, access, deny fs.Share) error {
	fh, err := r.resolve(ctx, file)
	if err != nil {
		return err
	}
	up := r.openUp(owner)
	if err := r.up.Downgrade(ctx, up, fh, uint32(access), uint32(deny)); err != nil {
		return r.fail("OPEN_DOWNGRADE", err, file)
	}
	r.owners.setShare(up, file, access, deny)
	r.dataReduced(owner, file, access)
	return nil
}

// CloseFile gives an open back, and the locks under it: CLOSE, RFC 8881 18.2.
func (r *Remote) CloseFile(ctx context.Context, owner fs.Owner, file fs.Handle) error {
	fh, err := r.resolve(ctx, file)
	if err != nil {
		return err
	}
	r.covers.endPromise(owner, file)
	up := r.openUp(owner)
	if r.park(owner, up, file, fh) || r.closeLater(owner, up, file, fh) {
		return nil
	}
	err = r.up.CloseFile(ctx, up, fh)
	if err == nil || errors.Is(err, nfsup.ErrNoState) {
		r.owners.closed(up, file)
		r.dataClosed(owner, file)
		if a := r.cache.lastAttr(file); a != nil && a.Nlink == 0 {
			r.cache.stale(file) // the last close is the end of a file without a name
		}
	}
	return r.fail("CLOSE", err, file)
}
