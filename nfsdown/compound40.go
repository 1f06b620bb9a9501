package nfsdown

import (
	"context"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/internal/xdr"
	"holdfast/nfsdown/state"
)

// compound40 is what a COMPOUND of NFSv4.0 has more than others: RFC 7530 2.3 and 16.2. There is no SEQUENCE:
// each operation names its client, and those that open and lock are in the order of their owner.
type compound40 struct {
	clients     []*state.Client // whose leases it renews; none ends while it runs
	seqs        []*state.Seq    // owners whose turn the operation has
	fingerprint uint64          // of the request
	kept        *reply40        // where the answer is to be kept
	repeated    bool            // the whole reply is one that was given before
	unconfirmed bool            // the OPEN is of an owner that OPEN_CONFIRM has to follow
}

// maxOps40 is how many operations a COMPOUND may have. In NFSv4.1 the session says how many; here a request that is too
// long is refused with RESOURCE (RFC 7530 13.1.3.4) before any of it is done.
const maxOps40 = 256

// run40 runs the operations and gives status and number of the results.
func (c *compound) run40(ctx context.Context, ops uint32) (status nfs4.Status, n uint32) {
	c.limit, c.tooBig = int(min(c.s.cfg.State.MaxResponse, 1<<30)), nfs4.NFS4ERR_RESOURCE
	defer func() {
		for _, cl := range c.v40.clients {
			cl.End40()
		}
	}()
	e := c.enc
	for n < ops && status == nfs4.NFS4_OK {
		op, a, err := nfs4.DecodeArgs(c.call.Body)
		c.flush()
		if once40[op] && err == nil && c.v40.kept == nil {
			again, err := c.once(ctx)
			if err != nil {
				return nfs4.NFS4ERR_DELAY, n
			}
			if again != nil {
				e.Truncate(c.base)
				e.Raw(&again)
				c.v40.repeated = true
				return status, n
			}
		}
		start := c.s.now()
		res := nfs4.ErrRes(op, nfs4.NFS4ERR_RESOURCE)
		if ops <= maxOps40 {
			res = c.op40(ctx, op, a, err)
		}
		mark := e.Mark()
		nfs4.EncodeRes(e, res)
		if e.Len()-c.base+replyHead > c.limit && e.Err() == nil {
			e.Truncate(mark)
			res = nfs4.ErrRes(op, c.tooBig)
			nfs4.EncodeRes(e, res)
		}
		status = res.Stat()
		c.endSeqs(status, mark)
		n++
		c.s.stats.record(op, status, c.s.now().Sub(start))
	}
	return status, n
}

// once looks whether the request is one that was executed before, whose answer it returns.
func (c *compound) once(ctx context.Context) (again []byte, err error) {
	key := replyKey{c.conn.addr, c.conn.port, c.call.Xid, c.v40.fingerprint}
	c.v40.kept, again, err = c.s.replies.begin(ctx, key)
	return again, err
}

// op40 is an operation of NFSv4.0.
func (c *compound) op40(ctx context.Context, op nfs4.OpNum, a nfs4.Args, derr error) nfs4.Res {
	info := optable40[op]
	switch {
	case info == nil:
		return nfs4.ErrRes(nfs4.OP_ILLEGAL, nfs4.NFS4ERR_OP_ILLEGAL)
	case derr != nil:
		return nfs4.ErrRes(op, badArgs(derr))
	case info.changes && c.left() < smallReply:
		return nfs4.ErrRes(op, c.tooBig)
	}
	return c.do(ctx, op, info, a)
}

// endSeqs ends the turns of owners. What was answered is kept for a repetition: all that follows the number of
// the operation.
func (c *compound) endSeqs(status nfs4.Status, mark int) {
	var reply []byte
	if len(c.v40.seqs) > 0 && state.Counts40(status) && c.enc.Err() == nil {
		reply = append(reply, c.enc.Bytes()[mark+4:]...)
	}
	for _, q := range c.v40.seqs {
		if q.Replay != nil {
			q.End(nil, "")
		} else {
			q.End(reply, c.cur.handle)
		}
	}
	c.v40.seqs = c.v40.seqs[:0]
}

// A repeated is the answer to an operation that was executed before.
type repeated struct {
	op     nfs4.OpNum
	status nfs4.Status
	body   []byte // with the status
}

func (r *repeated) Op() nfs4.OpNum        { return r.op }
func (r *repeated) Stat() nfs4.Status     { return r.status }
func (r *repeated) SetStat(s nfs4.Status) { r.status = s }
func (r *repeated) XDR(c *xdr.Codec)      { b := r.body; c.Raw(&b) }

// inOrder notes an owner's turn. If the request is a repetition, the answer is the one that it got before; the
// current filehandle is then what it was after it.
func (c *compound) inOrder(ctx context.Context, op nfs4.OpNum, q *state.Seq) (nfs4.Res, error) {
	c.v40.seqs = append(c.v40.seqs, q)
	if q.Replay == nil {
		return nil, nil
	}
	var d xdr.Codec
	d.ResetDecoder(q.Replay)
	r := &repeated{op: op, body: q.Replay}
	r.status.XDR(&d)
	if op == nfs4.OP_OPEN && r.status == nfs4.NFS4_OK && q.Handle != "" {
		at, err := c.resolve(ctx, q.Handle)
		if err != nil {
			return nil, err
		}
		c.set(at)
	}
	return r, d.Err()
}

// byID takes the client that an operation names.
func (c *compound) byID(id uint64) error {
	cl, err := c.s.state.Begin40(id)
	return c.take40(cl, err)
}

// byStateid takes the client that a stateid belongs to; a special one belongs to nobody.
func (c *compound) byStateid(sid nfs4.Stateid) error {
	if state.IsSpecial(sid) {
		c.client = nil
		return nil
	}
	cl, err := c.s.state.Stateid40(sid)
	return c.take40(cl, err)
}

func (c *compound) take40(cl *state.Client, err error) error {
	if err != nil {
		c.client = nil
		return err
	}
	c.client = cl
	c.v40.clients = append(c.v40.clients, cl)
	return nil
}

// valid is the nearest status that the operation can be answered with.
func (c *compound) valid(op nfs4.OpNum, s nfs4.Status) nfs4.Status {
	if c.minor == 0 && op == nfs4.OP_OPEN && s == nfs4.NFS4ERR_WRONG_TYPE {
		return nfs4.NFS4ERR_SYMLINK // RFC 7530 16.16.6: for all that is neither a regular file nor a directory
	}
	return validStatus(c.minor, op, s)
}

// optable40 has one line per operation of NFSv4.0.
var optable40 map[nfs4.OpNum]*opInfo

func init() {
	optable40 = map[nfs4.OpNum]*opInfo{
		nfs4.OP_ACCESS:              {run: do(opAccess), needs: currentFH},
		nfs4.OP_CLOSE:               {run: do40(close40), needs: currentFH, changes: true},
		nfs4.OP_COMMIT:              {run: do(opCommit), needs: currentFH},
		nfs4.OP_CREATE:              {run: do(opCreate), needs: currentFH, changes: true, writes: true},
		nfs4.OP_DELEGPURGE:          {run: notsupp(nfs4.NFS4ERR_NOTSUPP)},
		nfs4.OP_DELEGRETURN:         {run: do40(delegreturn40), needs: currentFH},
		nfs4.OP_GETATTR:             {run: do(opGetattr), needs: currentFH},
		nfs4.OP_GETFH:               {run: do(opGetfh), needs: currentFH},
		nfs4.OP_LINK:                {run: do(opLink), needs: currentFH | savedFH, changes: true, writes: true},
		nfs4.OP_LOCK:                {run: do40(lock40), needs: currentFH, changes: true},
		nfs4.OP_LOCKT:               {run: do40(lockt40), needs: currentFH},
		nfs4.OP_LOCKU:               {run: do40(locku40), needs: currentFH, changes: true},
		nfs4.OP_LOOKUP:              {run: do(opLookup), needs: currentFH},
		nfs4.OP_LOOKUPP:             {run: do(opLookupp), needs: currentFH},
		nfs4.OP_NVERIFY:             {run: do(opNverify), needs: currentFH},
		nfs4.OP_OPEN:                {run: do40(open40), needs: currentFH, changes: true},
		nfs4.OP_OPENATTR:            {run: notsupp(nfs4.NFS4ERR_NOTSUPP), needs: currentFH},
		nfs4.OP_OPEN_CONFIRM:        {run: do40(openConfirm40), needs: currentFH, changes: true},
		nfs4.OP_OPEN_DOWNGRADE:      {run: do40(openDowngrade40), needs: currentFH, changes: true},
		nfs4.OP_PUTFH:               {run: do(opPutfh)},
		nfs4.OP_PUTPUBFH:            {run: do(opPutpubfh)},
		nfs4.OP_PUTROOTFH:           {run: do(opPutrootfh)},
		nfs4.OP_READ:                {run: do40(read40), needs: currentFH},
		nfs4.OP_READDIR:             {run: do(opReaddir), needs: currentFH},
		nfs4.OP_READLINK:            {run: do(opReadlink), needs: currentFH},
		nfs4.OP_REMOVE:              {run: do(opRemove), needs: currentFH, changes: true, writes: true},
		nfs4.OP_RENAME:              {run: do(opRename), needs: currentFH | savedFH, changes: true, writes: true},
		nfs4.OP_RENEW:               {run: do(opRenew)},
		nfs4.OP_RESTOREFH:           {run: do(opRestorefh)},
		nfs4.OP_SAVEFH:              {run: do(opSavefh), needs: currentFH},
		nfs4.OP_SECINFO:             {run: do(opSecinfo), needs: currentFH},
		nfs4.OP_SETATTR:             {run: do40(setattr40), needs: currentFH, changes: true, writes: true},
		nfs4.OP_SETCLIENTID:         {run: do(opSetclientid), changes: true},
		nfs4.OP_SETCLIENTID_CONFIRM: {run: do(opSetclientidConfirm), changes: true},
		nfs4.OP_VERIFY:              {run: do(opVerify), needs: currentFH},
		nfs4.OP_WRITE:               {run: do40(write40), needs: currentFH, changes: true, writes: true},
		nfs4.OP_RELEASE_LOCKOWNER:   {run: do(opReleaseLockowner), changes: true},
	}
}

// do40 makes a table entry of a function whose answer may be one that was given before.
func do40[A nfs4.Args](f func(context.Context, *compound, A) (nfs4.Res, error)) func(context.Context, *compound, nfs4.Args) (nfs4.Res, error) {
	return func(ctx context.Context, c *compound, a nfs4.Args) (nfs4.Res, error) {
		args, ok := a.(A)
		if !ok {
			return nil, nfs4.NFS4ERR_SERVERFAULT
		}
		return f(ctx, c, args)
	}
}

// read40, write40, setattr40 and delegreturn40 are the operations of NFSv4.1 for the client of the stateid.
func read40(ctx context.Context, c *compound, a *nfs4.ReadArgs) (nfs4.Res, error) {
	if err := c.mine(ctx, a.Stateid, fs.AccessRead); err != nil {
		return nil, err
	}
	return result(opRead(ctx, c, a))
}

func write40(ctx context.Context, c *compound, a *nfs4.WriteArgs) (nfs4.Res, error) {
	if err := c.mine(ctx, a.Stateid, fs.AccessModify); err != nil {
		return nil, err
	}
	return result(opWrite(ctx, c, a))
}

func setattr40(ctx context.Context, c *compound, a *nfs4.SetattrArgs) (nfs4.Res, error) {
	if a.Attrs.Mask.Has(nfs4.FATTR4_SIZE) {
		if err := c.mine(ctx, a.Stateid, fs.AccessModify); err != nil {
			return nil, err
		}
	}
	return result(opSetattr(ctx, c, a))
}

func delegreturn40(ctx context.Context, c *compound, a *nfs4.DelegreturnArgs) (nfs4.Res, error) {
	if state.IsSpecial(a.Stateid) {
		return nil, nfs4.NFS4ERR_BAD_STATEID
	}
	if err := c.byStateid(a.Stateid); err != nil {
		return nil, err
	}
	return result(opDelegreturn(ctx, c, a))
}

// mine takes the client of a stateid for I/O. A stateid says nothing of who sends it, and no session vouches for
// the client: a user other than the one that opened the file must be allowed what he does (RFC 7530 16.36).
func (c *compound) mine(ctx context.Context, sid nfs4.Stateid, want uint32) error {
	if err := c.byStateid(sid); err != nil || c.client == nil {
		return err
	}
	by := c.client.OpenedBy(sid)
	if by == nil || by.UID == c.cur.cred.UID {
		return nil
	}
	granted, err := c.cur.b.Access(ctx, c.cur.cred, c.cur.h, want)
	if err == nil && granted&want == 0 {
		err = nfs4.NFS4ERR_ACCESS
	}
	return err
}

// result makes a Res of an operation's own type: nil if there is an error.
func result[R nfs4.Res](r R, err error) (nfs4.Res, error) {
	if err != nil {
		return nil, err
	}
	return r, nil
}

var _ nfs4.Res = (*repeated)(nil)

// reclaimed40 lets grace end without a client that has reclaimed all that it had.
func (c *compound) reclaimed40() { c.effects(c.s.state.Reclaimed40(c.client)) }

// cancel40 closes an open that was never confirmed.
func (c *compound) cancel40(ctx context.Context, sid nfs4.Stateid) error {
	p, file, err := c.s.state.PrepareCancel(ctx, c.client, sid)
	if err != nil {
		return err
	}
	b, h, ok := c.s.backend(file)
	if !ok {
		err = fs.E("CLOSE", fs.Stale, nil)
	} else {
		err = b.CloseFile(ctx, p.Owner, h)
	}
	_, eff, err := p.Settle(err)
	c.s.runEffects(eff)
	return err
}
