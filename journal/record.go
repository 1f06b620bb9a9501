package journal

import (
	"fmt"
	"log/slog"
	"time"

	"holdfast/fs"
)

// A Client is an end client that was granted something: RFC 8881 2.4. There is one record for each
// co_ownerid.
type Client struct {
	Owner     string // co_ownerid, 1 to 1024 opaque bytes; the key
	Verifier  [8]byte
	Principal string // who may use it; empty for AUTH_SYS and AUTH_NONE
	Addr      string // where it came from last, for people
	Impl      string // what it calls itself (nii_name), for people
	ClientID  uint64
	// Epoch is the boot of ours in which the record was written; never 0.
	Epoch uint32
	// CompleteEpoch is the boot in which the client sent RECLAIM_COMPLETE; 0 if it has not yet. What
	// it had in earlier epochs and did not reclaim by then is void.
	CompleteEpoch uint32
	// Expired says that its lease ran out and its state was given up: it must not reclaim,
	// RFC 8881 8.4.3. All opens and locks of it are void.
	Expired bool
	// Retain says that the client negotiated that its state outlives its own reboot.
	Retain bool
	Since  time.Time

	// What it takes to come back as if nothing had happened; layout 2.

	// CsaSequence is that of the last CREATE_SESSION that was answered, RFC 8881 18.36.4.
	CsaSequence uint32
	// Complete says that this client ID has sent RECLAIM_COMPLETE. CompleteEpoch is no proof: a client
	// that had nothing to reclaim has one from the start.
	Complete bool
	// Permanent says that another protocol vouches for the client: it has no lease.
	Permanent bool
	// V40 says that it is a client of NFSv4.0: its requests are in the order of seqids, which are not recorded.
	V40 bool
}

// An OpenRecord is what one open-owner has open of one file. The key is Owner and File.
type OpenRecord struct {
	Owner        fs.Owner
	File         fs.Handle // as the end client knows it, export prefix included
	Access, Deny fs.Share
	UID, GID     uint32 // whom it was opened for
	Groups       []uint32
	Name         string // the last known name, for people
	Epoch        uint32 // the boot in which it was granted or reclaimed; never 0
	Since        time.Time

	// The stateid that the client was told of, or is about to be told of; zero if Access and Deny are
	// only held for a client that restarted. Layout 2.
	Stateid Stateid
	// Seen says which modes OPEN was asked for: bit n of the low byte is access n, of the high byte
	// deny n. OPEN_DOWNGRADE may name only unions of those (RFC 8881 18.18).
	Seen uint16
	// LiveAccess and LiveDeny are what the stateid stands for, HeldAccess and HeldDeny what waits for
	// the client, after its own restart, to reclaim it. Access and Deny are both together.
	LiveAccess, LiveDeny fs.Share
	HeldAccess, HeldDeny fs.Share
	// Reclaimed says that the client reclaimed it: locks may be reclaimed under it.
	Reclaimed bool
	// Pending says that an OPEN was on its way: the client may not have been told, nor the backend asked.
	// BeforeAccess and BeforeDeny are what was granted before it.
	Pending                  bool
	BeforeAccess, BeforeDeny fs.Share
}

// A Stateid is what end clients know state by, RFC 8881 8.2.
type Stateid struct {
	Other [12]byte
	Seqid uint32
}

// A Lock is all that one lock-owner holds on one file. The key is Owner and File.
type Lock struct {
	Owner     fs.Owner // the lock-owner
	OpenOwner fs.Owner // of the open that it was taken under
	File      fs.Handle
	Ranges    fs.RangeSet // the whole set; a record is never a part of it
	Epoch     uint32      // the boot in which it was granted or reclaimed; never 0
	Since     time.Time

	// Stateid is as for an open; zero if all of Ranges is held. Layout 2.
	Stateid Stateid
	// Held is the part of Ranges that waits for the client, after its own restart, to reclaim it.
	Held      fs.RangeSet
	Reclaimed bool
	// Pending and Before are as for an open: a LOCK was on its way. After is what is held if it was granted,
	// where that is less than Ranges: it asked for a read lock where there was a write lock.
	Pending bool
	Before  fs.RangeSet
	After   fs.RangeSet
}

// A Secret can destroy or resume our state at an origin. It prints as "(secret)" by every verb, in
// logs and in JSON.
type Secret [16]byte

func (Secret) String() string { return "(secret)" }

// Format is of fmt.Formatter: no verb shows the bytes.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.String()) }

// MarshalText is of encoding.TextMarshaler, for JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue is of slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Upstream is who we are at an origin: what it takes to come back as the same client after a crash.
type Upstream struct {
	Name        string // of the origin in our configuration; the key
	Secret      Secret // the stable instance secret that upstream owners are made from
	OwnerID     []byte // co_ownerid
	Verifier    [8]byte
	ClientID    uint64
	CsaSequence uint32 // of the last CREATE_SESSION; durable before it is sent
	Sessions    [][16]byte
	ServerOwner []byte // so_major_id
	ServerMinor uint64 // so_minor_id
	Scope       []byte // eir_server_scope
	ServerAddr  string
	Flags       uint32 // of the EXCHANGE_ID
	MachineName string // with UID, GID, Groups: the AUTH_SYS credential of the client, which never changes
	UID, GID    uint32
	Groups      []uint32
	Caps        map[string]string // what the origin was seen to do, "retain" and so on
	MaxLease    time.Duration     // the longest lease it ever announced
	Epoch       uint32            // our boot that wrote this
	Since       time.Time
}

// StateKind is what an UpState is.
type StateKind uint8

// The kinds of state that we hold at an origin.
const (
	OpenState StateKind = 1
	LockState StateKind = 2
)

func (k StateKind) String() string {
	switch k {
	case OpenState:
		return "open"
	case LockState:
		return "lock"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// An UpState is one state that we hold at an origin, for mode resume. It is a hint: it is posted,
// not waited for. The key is Name, Kind, UpOwner and File.
type UpState struct {
	Name         string // of the origin
	Kind         StateKind
	UpOwner      [32]byte // the open-owner or the lock-owner toward the origin
	File         []byte   // the upstream handle
	OpenOwner    [32]byte // of a lock: the open-owner that it was taken under
	Other        [12]byte // stateid.other
	Seqid        uint32   // of the stateid, as last seen
	Access, Deny fs.Share // of an open
	Modes        uint16   // of an open: the combinations that it was made of, in the client's own form
	Ranges       fs.RangeSet
	UID, GID     uint32
	Groups       []uint32
	Epoch        uint32
	Since        time.Time
}

// A HandleMap is an upstream handle that does not fit into a downstream one.
type HandleMap struct {
	Digest   [16]byte // the key
	Upstream []byte
	FSID     fs.FSID // with FileID: what Upstream must name, or it is another file
	FileID   uint64
}

// A Monitor is a host that holds NFSv3 locks and is told when we reboot (NSM). The key is Host.
type Monitor struct {
	Host             string // mon_name: how the host calls itself
	Addr             string // where it was seen
	MyName           string // the name we notify under
	Prog, Vers, Proc uint32
	Priv             [16]byte
	State            int32 // the NSM state number that it told last
	Epoch            uint32
	Since            time.Time
}

// An Event is an entry of the audit trail. Fields that do not apply are zero.
type Event struct {
	Seq    uint64 // dense, from 1; set by the journal
	Time   time.Time
	Epoch  uint32 // set by the journal
	Type   string // "lock", "reclaim", "grace", "session", "lost" and so on
	Client string // co_ownerid
	Owner  string // open-owner or lock-owner
	File   fs.Handle
	Name   string   // the file's last known name
	Range  fs.Range // meaningful if Lock is not NoLock
	Lock   fs.LockType
	Result string // a Code, "granted", "lost" and so on
	Text   string // for people
}

// A Snapshot is what the journal says is held, void records left out.
type Snapshot struct {
	Epoch uint32 // this boot
	// EndedGrace is the last epoch whose grace ended; 0 if none did.
	EndedGrace uint32
	// Complete says that every acknowledged record is here. If not, what is missing is unknown, not
	// absent: see Report.
	Complete bool
	// Whole says that this is a complete record of what the clients were told (RFC 8881 8.4.2.1.1), so
	// that they need not reclaim. If not, Partial says why, for people.
	Whole   bool
	Partial string
	// Clients are all that are not void, expired ones included: those have no opens and no locks.
	Clients   []Client
	Opens     []OpenRecord
	Locks     []Lock
	Upstreams []Upstream
	UpStates  []UpState
	Monitors  []Monitor
}
