package nlm

import (
	"fmt"
	"math"

	"holdfast/internal/xdr"
)

// Programs and versions.
const (
	Program = 100021
	V1      = 1
	V3      = 3
	V4      = 4

	NSMProgram = 100024
	NSMVersion = 1
)

// Procedures of NLM. Those with MSG are answered by a call of the one with RES in the other direction.
const (
	ProcNull       = 0
	ProcTest       = 1
	ProcLock       = 2
	ProcCancel     = 3
	ProcUnlock     = 4
	ProcGranted    = 5
	ProcTestMsg    = 6
	ProcLockMsg    = 7
	ProcCancelMsg  = 8
	ProcUnlockMsg  = 9
	ProcGrantedMsg = 10
	ProcTestRes    = 11
	ProcLockRes    = 12
	ProcCancelRes  = 13
	ProcUnlockRes  = 14
	ProcGrantedRes = 15
	ProcShare      = 20
	ProcUnshare    = 21
	ProcNMLock     = 22
	ProcFreeAll    = 23
)

// ProcNames are the names of the procedures of NLM; 16 to 19 were never used.
var ProcNames = [ProcFreeAll + 1]string{"NULL", "TEST", "LOCK", "CANCEL", "UNLOCK", "GRANTED", "TEST_MSG", "LOCK_MSG", "CANCEL_MSG", "UNLOCK_MSG",
	"GRANTED_MSG", "TEST_RES", "LOCK_RES", "CANCEL_RES", "UNLOCK_RES", "GRANTED_RES", ProcShare: "SHARE", ProcUnshare: "UNSHARE",
	ProcNMLock: "NM_LOCK", ProcFreeAll: "FREE_ALL"}

// Procedures of NSM.
const (
	SMNull      = 0
	SMStat      = 1
	SMMon       = 2
	SMUnmon     = 3
	SMUnmonAll  = 4
	SMSimuCrash = 5
	SMNotify    = 6
)

// SMNames are the names of the procedures of NSM.
var SMNames = [SMNotify + 1]string{"NULL", "STAT", "MON", "UNMON", "UNMON_ALL", "SIMU_CRASH", "NOTIFY"}

// Limits in bytes.
const (
	MaxName   = 1025 // LM_MAXNAMELEN, SM_MAXSTRLEN and one more
	MaxNetobj = 1024
)

// Stat is nlm4_stats, RFC 1813 6.1.4; versions 1 and 3 have those up to Deadlock.
type Stat uint32

// The values of Stat.
const (
	Granted      Stat = 0
	Denied       Stat = 1
	DeniedNolock Stat = 2
	Blocked      Stat = 3
	DeniedGrace  Stat = 4
	Deadlock     Stat = 5
	ROFS         Stat = 6
	StaleFH      Stat = 7
	FBig         Stat = 8
	Failed       Stat = 9
)

var statNames = [...]string{"GRANTED", "DENIED", "DENIED_NOLOCKS", "BLOCKED", "DENIED_GRACE_PERIOD", "DEADLCK", "ROFS", "STALE_FH", "FBIG", "FAILED"}

func (s Stat) String() string {
	if int(s) < len(statNames) {
		return statNames[s]
	}
	return fmt.Sprintf("nlm_stats(%d)", uint32(s))
}

// Error makes a Stat an error.
func (s Stat) Error() string { return "NLM: " + s.String() }

// XDR codes s.
func (s *Stat) XDR(c *xdr.Codec) { c.Uint32((*uint32)(s)) }

// netobj is an opaque of at most MaxNetobj bytes.
func netobj(c *xdr.Codec, s *string) { c.String(s, MaxNetobj) }

// word is an offset or a length: 64 bits in version 4, else 32. What does not fit becomes the most that does.
func word(c *xdr.Codec, v *uint64, v4 bool) {
	if v4 {
		c.Uint64(v)
		return
	}
	n := uint32(min(*v, math.MaxInt32))
	c.Uint32(&n)
	*v = uint64(n)
}

// A Lock is nlm_lock and nlm4_lock. Len 0 is to the end of the file.
type Lock struct {
	V4          bool // not on the wire
	Caller      string
	FH, OH      string
	SVID        int32
	Offset, Len uint64
}

// XDR codes l.
func (l *Lock) XDR(c *xdr.Codec) {
	c.String(&l.Caller, MaxName)
	netobj(c, &l.FH)
	netobj(c, &l.OH)
	c.Int32(&l.SVID)
	word(c, &l.Offset, l.V4)
	word(c, &l.Len, l.V4)
}

// LockArgs are the arguments of LOCK and NM_LOCK.
type LockArgs struct {
	Cookie           string
	Block, Exclusive bool
	Lock             Lock
	Reclaim          bool
	State            int32
}

// XDR codes a.
func (a *LockArgs) XDR(c *xdr.Codec) {
	netobj(c, &a.Cookie)
	c.Bool(&a.Block)
	c.Bool(&a.Exclusive)
	a.Lock.XDR(c)
	c.Bool(&a.Reclaim)
	c.Int32(&a.State)
}

// CancelArgs are the arguments of CANCEL.
type CancelArgs struct {
	Cookie           string
	Block, Exclusive bool
	Lock             Lock
}

// XDR codes a.
func (a *CancelArgs) XDR(c *xdr.Codec) {
	netobj(c, &a.Cookie)
	c.Bool(&a.Block)
	c.Bool(&a.Exclusive)
	a.Lock.XDR(c)
}

// TestArgs are the arguments of TEST and GRANTED.
type TestArgs struct {
	Cookie    string
	Exclusive bool
	Lock      Lock
}

// XDR codes a.
func (a *TestArgs) XDR(c *xdr.Codec) {
	netobj(c, &a.Cookie)
	c.Bool(&a.Exclusive)
	a.Lock.XDR(c)
}

// UnlockArgs are the arguments of UNLOCK.
type UnlockArgs struct {
	Cookie string
	Lock   Lock
}

// XDR codes a.
func (a *UnlockArgs) XDR(c *xdr.Codec) {
	netobj(c, &a.Cookie)
	a.Lock.XDR(c)
}

// Res is nlm_res.
type Res struct {
	Cookie string
	Stat   Stat
}

// XDR codes r.
func (r *Res) XDR(c *xdr.Codec) {
	netobj(c, &r.Cookie)
	r.Stat.XDR(c)
}

// TestRes is nlm_testres. The holder is there if Stat is Denied.
type TestRes struct {
	V4        bool // not on the wire
	Cookie    string
	Stat      Stat
	Exclusive bool
	SVID      int32
	OH        string
	Offset    uint64
	Len       uint64
}

// XDR codes r.
func (r *TestRes) XDR(c *xdr.Codec) {
	netobj(c, &r.Cookie)
	if r.Stat.XDR(c); r.Stat == Denied {
		c.Bool(&r.Exclusive)
		c.Int32(&r.SVID)
		netobj(c, &r.OH)
		word(c, &r.Offset, r.V4)
		word(c, &r.Len, r.V4)
	}
}

// ShareArgs are the arguments of SHARE and UNSHARE. Mode denies, Access wants: 1 read, 2 write.
type ShareArgs struct {
	Cookie, Caller, FH, OH string
	Mode, Access           uint32
	Reclaim                bool
}

// XDR codes a.
func (a *ShareArgs) XDR(c *xdr.Codec) {
	netobj(c, &a.Cookie)
	c.String(&a.Caller, MaxName)
	netobj(c, &a.FH)
	netobj(c, &a.OH)
	c.Uint32(&a.Mode)
	c.Uint32(&a.Access)
	c.Bool(&a.Reclaim)
	if a.Mode > 3 || a.Access > 3 {
		c.Failf("fsh_mode %d, fsh_access %d", a.Mode, a.Access)
	}
}

// ShareRes is nlm_shareres.
type ShareRes struct {
	Cookie   string
	Stat     Stat
	Sequence int32
}

// XDR codes r.
func (r *ShareRes) XDR(c *xdr.Codec) {
	netobj(c, &r.Cookie)
	r.Stat.XDR(c)
	c.Int32(&r.Sequence)
}

// Notify is nlm_notify of FREE_ALL, and stat_chge of SM_NOTIFY: a host and its state, which is odd while it is up.
type Notify struct {
	Name  string
	State int32
}

// XDR codes n.
func (n *Notify) XDR(c *xdr.Codec) {
	c.String(&n.Name, MaxName)
	c.Int32(&n.State)
}

// SMRes is sm_stat_res: Res 0 is success.
type SMRes struct{ Res, State int32 }

// XDR codes r.
func (r *SMRes) XDR(c *xdr.Codec) {
	c.Int32(&r.Res)
	c.Int32(&r.State)
}
