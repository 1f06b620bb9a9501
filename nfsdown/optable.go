package nfsdown

import (
	"context"

	"holdfast/internal/nfs4"
)

// What an operation needs.
const (
	currentFH = 1 << iota
	savedFH
)

// opInfo is a line of the table of operations.
type opInfo struct {
	run   func(ctx context.Context, c *compound, a nfs4.Args) (nfs4.Res, error)
	needs uint8
	minor uint32 // the lowest minor version that has it
	lead  bool   // may stand alone, without SEQUENCE
	// changes: not to be repeated, so it is not begun where its answer might not fit.
	changes bool
	// writes: changes files of the current export, which must not be read-only.
	writes bool
	// state: it relies on state, or changes it, so it waits while that is being restored.
	state bool
}

// do makes a table entry of an operation's function. A result with a status is for those whose error has fields.
func do[A nfs4.Args, R nfs4.Res](f func(context.Context, *compound, A) (R, error)) func(context.Context, *compound, nfs4.Args) (nfs4.Res, error) {
	return func(ctx context.Context, c *compound, a nfs4.Args) (nfs4.Res, error) {
		args, ok := a.(A)
		if !ok {
			return nil, nfs4.NFS4ERR_SERVERFAULT
		}
		r, err := f(ctx, c, args)
		if err != nil {
			return nil, err
		}
		return r, nil
	}
}

// notsupp is an operation that may be missing, and is.
func notsupp(s nfs4.Status) func(context.Context, *compound, nfs4.Args) (nfs4.Res, error) {
	return func(context.Context, *compound, nfs4.Args) (nfs4.Res, error) { return nil, s }
}

// optable has one line per operation. Which errors it may be answered with is in validErrs.
var optable map[nfs4.OpNum]*opInfo

func init() {
	optable = map[nfs4.OpNum]*opInfo{
		nfs4.OP_ACCESS:              {run: do(opAccess), needs: currentFH},
		nfs4.OP_CLOSE:               {run: do(opClose), needs: currentFH, changes: true, state: true},
		nfs4.OP_COMMIT:              {run: do(opCommit), needs: currentFH},
		nfs4.OP_CREATE:              {run: do(opCreate), needs: currentFH, changes: true, writes: true},
		nfs4.OP_DELEGPURGE:          {run: notsupp(nfs4.NFS4ERR_NOTSUPP)},
		nfs4.OP_DELEGRETURN:         {run: do(opDelegreturn), needs: currentFH, state: true},
		nfs4.OP_GETATTR:             {run: do(opGetattr), needs: currentFH},
		nfs4.OP_GETFH:               {run: do(opGetfh), needs: currentFH},
		nfs4.OP_LINK:                {run: do(opLink), needs: currentFH | savedFH, changes: true, writes: true},
		nfs4.OP_LOCK:                {run: do(opLock), needs: currentFH, changes: true, state: true},
		nfs4.OP_LOCKT:               {run: do(opLockt), needs: currentFH, state: true},
		nfs4.OP_LOCKU:               {run: do(opLocku), needs: currentFH, changes: true, state: true},
		nfs4.OP_LOOKUP:              {run: do(opLookup), needs: currentFH},
		nfs4.OP_LOOKUPP:             {run: do(opLookupp), needs: currentFH},
		nfs4.OP_NVERIFY:             {run: do(opNverify), needs: currentFH},
		nfs4.OP_OPEN:                {run: do(opOpen), needs: currentFH, changes: true, state: true},
		nfs4.OP_OPENATTR:            {run: notsupp(nfs4.NFS4ERR_NOTSUPP), needs: currentFH},
		nfs4.OP_OPEN_CONFIRM:        {run: notsupp(nfs4.NFS4ERR_NOTSUPP)},
		nfs4.OP_OPEN_DOWNGRADE:      {run: do(opOpenDowngrade), needs: currentFH, changes: true, state: true},
		nfs4.OP_PUTFH:               {run: do(opPutfh)},
		nfs4.OP_PUTPUBFH:            {run: do(opPutpubfh)},
		nfs4.OP_PUTROOTFH:           {run: do(opPutrootfh)},
		nfs4.OP_READ:                {run: do(opRead), needs: currentFH, state: true},
		nfs4.OP_READDIR:             {run: do(opReaddir), needs: currentFH},
		nfs4.OP_READLINK:            {run: do(opReadlink), needs: currentFH},
		nfs4.OP_REMOVE:              {run: do(opRemove), needs: currentFH, changes: true, writes: true},
		nfs4.OP_RENAME:              {run: do(opRename), needs: currentFH | savedFH, changes: true, writes: true},
		nfs4.OP_RENEW:               {run: notsupp(nfs4.NFS4ERR_NOTSUPP)},
		nfs4.OP_RESTOREFH:           {run: do(opRestorefh)},
		nfs4.OP_SAVEFH:              {run: do(opSavefh), needs: currentFH},
		nfs4.OP_SECINFO:             {run: do(opSecinfo), needs: currentFH},
		nfs4.OP_SETATTR:             {run: do(opSetattr), needs: currentFH, changes: true, writes: true, state: true},
		nfs4.OP_SETCLIENTID:         {run: notsupp(nfs4.NFS4ERR_NOTSUPP)},
		nfs4.OP_SETCLIENTID_CONFIRM: {run: notsupp(nfs4.NFS4ERR_NOTSUPP)},
		nfs4.OP_VERIFY:              {run: do(opVerify), needs: currentFH},
		nfs4.OP_WRITE:               {run: do(opWrite), needs: currentFH, changes: true, writes: true, state: true},
		nfs4.OP_RELEASE_LOCKOWNER:   {run: notsupp(nfs4.NFS4ERR_NOTSUPP)},

		nfs4.OP_BACKCHANNEL_CTL:      {run: do(opBackchannelCtl)},
		nfs4.OP_BIND_CONN_TO_SESSION: {run: do(opBindConnToSession), lead: true},
		nfs4.OP_EXCHANGE_ID:          {run: do(opExchangeID), lead: true, changes: true},
		nfs4.OP_CREATE_SESSION:       {run: do(opCreateSession), lead: true, changes: true},
		nfs4.OP_DESTROY_SESSION:      {run: do(opDestroySession), lead: true, changes: true},
		nfs4.OP_FREE_STATEID:         {run: do(opFreeStateid), changes: true, state: true},
		nfs4.OP_GET_DIR_DELEGATION:   {run: do(opGetDirDelegation), needs: currentFH},
		nfs4.OP_GETDEVICEINFO:        {run: notsupp(nfs4.NFS4ERR_NOTSUPP)},
		nfs4.OP_GETDEVICELIST:        {run: notsupp(nfs4.NFS4ERR_NOTSUPP)},
		nfs4.OP_LAYOUTCOMMIT:         {run: notsupp(nfs4.NFS4ERR_NOTSUPP), needs: currentFH},
		nfs4.OP_LAYOUTGET:            {run: notsupp(nfs4.NFS4ERR_LAYOUTUNAVAILABLE), needs: currentFH},
		nfs4.OP_LAYOUTRETURN:         {run: notsupp(nfs4.NFS4ERR_NOTSUPP), needs: currentFH},
		nfs4.OP_SECINFO_NO_NAME:      {run: do(opSecinfoNoName), needs: currentFH},
		nfs4.OP_SEQUENCE:             {run: notsupp(nfs4.NFS4ERR_SEQUENCE_POS), lead: true},
		nfs4.OP_SET_SSV:              {run: notsupp(nfs4.NFS4ERR_INVAL)},
		nfs4.OP_TEST_STATEID:         {run: do(opTestStateid)},
		nfs4.OP_WANT_DELEGATION:      {run: notsupp(nfs4.NFS4ERR_NOTSUPP), needs: currentFH},
		nfs4.OP_DESTROY_CLIENTID:     {run: do(opDestroyClientid), lead: true, changes: true, state: true},
		nfs4.OP_RECLAIM_COMPLETE:     {run: do(opReclaimComplete), changes: true, state: true},

		nfs4.OP_ALLOCATE:       {run: do(opAllocate), minor: 2, needs: currentFH, changes: true, writes: true, state: true},
		nfs4.OP_COPY:           {run: do(opCopy), minor: 2, needs: currentFH | savedFH, changes: true, writes: true, state: true},
		nfs4.OP_COPY_NOTIFY:    {run: notsupp(nfs4.NFS4ERR_NOTSUPP), minor: 2, needs: currentFH},
		nfs4.OP_DEALLOCATE:     {run: do(opDeallocate), minor: 2, needs: currentFH, changes: true, writes: true, state: true},
		nfs4.OP_IO_ADVISE:      {run: do(opIOAdvise), minor: 2, needs: currentFH},
		nfs4.OP_LAYOUTERROR:    {run: notsupp(nfs4.NFS4ERR_NOTSUPP), minor: 2, needs: currentFH},
		nfs4.OP_LAYOUTSTATS:    {run: notsupp(nfs4.NFS4ERR_NOTSUPP), minor: 2, needs: currentFH},
		nfs4.OP_OFFLOAD_CANCEL: {run: do(opOffloadCancel), minor: 2, needs: currentFH},
		nfs4.OP_OFFLOAD_STATUS: {run: do(opOffloadStatus), minor: 2, needs: currentFH},
		nfs4.OP_READ_PLUS:      {run: do(opReadPlus), minor: 2, needs: currentFH, state: true},
		nfs4.OP_SEEK:           {run: do(opSeek), minor: 2, needs: currentFH, state: true},
		nfs4.OP_WRITE_SAME:     {run: notsupp(nfs4.NFS4ERR_NOTSUPP), minor: 2, needs: currentFH},
		nfs4.OP_CLONE:          {run: do(opClone), minor: 2, needs: currentFH | savedFH, changes: true, writes: true, state: true},
		nfs4.OP_GETXATTR:       {run: do(opGetxattr), minor: 2, needs: currentFH},
		nfs4.OP_SETXATTR:       {run: do(opSetxattr), minor: 2, needs: currentFH, changes: true, writes: true},
		nfs4.OP_LISTXATTRS:     {run: do(opListxattrs), minor: 2, needs: currentFH},
		nfs4.OP_REMOVEXATTR:    {run: do(opRemovexattr), minor: 2, needs: currentFH, changes: true, writes: true},
	}
}
