package nfsdown

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"holdfast/fs"
	"holdfast/internal/clock"
	"holdfast/journal"
	"holdfast/nfsdown/state"
)

// Config is what a Server is made with. Zero fields get the default that is named.
type Config struct {
	Exports []Export
	// Journal is where grants are durable. Without one (nil) nothing can be reclaimed after a
	// restart: for tests, and for read-only exports.
	Journal *journal.Journal
	// State is the settings of sessions, leases, grace and retention. Now, Epoch, Part and the sizes of
	// requests are set here.
	State  state.Config
	Logger *slog.Logger // slog.Default
	Clock  clock.Clock  // clock.Real
	// Lookup finds the addresses of a host name in a client pattern. Default: the system's resolver.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// LookupNames finds the host names of an address, for client patterns as *.example.org. Default: the system's
	// resolver; a name must resolve back.
	LookupNames func(ctx context.Context, addr netip.Addr) []string
	// LookupNetgroup finds the host parts of a netgroup's triples, "" for all hosts. Default: getent(1).
	LookupNetgroup func(ctx context.Context, group string) ([]string, error)
	// IDDomain, if set, makes owners and groups go out as name@domain where there is a name, and is the only domain
	// that is understood. Empty: numbers go out, the domain of a name does not count. Numbers are always understood.
	IDDomain string
	// Names finds the number of a user or group name, and back. Default: the local databases. Answers are kept for
	// ten minutes, as those of LookupGroups.
	Names IDNames
	// ManageGIDs takes the groups of a user from LookupGroups, not from the client: AUTH_SYS has room for 16.
	ManageGIDs bool
	// LookupGroups gives all groups of a user. Default: id(1), which asks as getgrouplist(3) does.
	LookupGroups func(ctx context.Context, uid uint32) ([]uint32, error)

	MaxIO       uint32 // bytes of one READ or WRITE: 1 MiB
	MaxConns    int    // connections at once: 1024
	MaxInflight int    // requests of one connection that run at once: 256

	ReadTimeout  time.Duration // of one record: 60 s
	WriteTimeout time.Duration // of one MiB of output: 60 s
	IdleTimeout  time.Duration // of a connection: four leases
	// CallbackTimeout is how long a client may take to answer a callback: 10 s.
	CallbackTimeout time.Duration
}

// IDNames finds numbers for names, without a domain, and names for numbers.
type IDNames interface {
	UserName(uid uint32) (string, bool)
	GroupName(gid uint32) (string, bool)
	UID(name string) (uint32, bool)
	GID(name string) (uint32, bool)
}

const (
	defaultMaxIO = 1 << 20
	// frame is what stands around the data of a READ or WRITE: headers, handle, the other operations.
	frame = 64 << 10
)

func (c *Config) setDefaults() {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Clock == nil {
		c.Clock = clock.Real
	}
	if c.Lookup == nil {
		c.Lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if c.LookupNames == nil {
		c.LookupNames = lookupNames
	}
	if c.LookupNetgroup == nil {
		c.LookupNetgroup = lookupNetgroup
	}
	if c.LookupGroups == nil {
		c.LookupGroups = lookupGroups
	}
	if c.Names == nil {
		c.Names = localNames{}
	}
	if c.MaxIO == 0 {
		c.MaxIO = defaultMaxIO
	}
	if c.MaxConns == 0 {
		c.MaxConns = 1024
	}
	if c.MaxInflight == 0 {
		c.MaxInflight = 256
	}
	if c.CallbackTimeout == 0 {
		c.CallbackTimeout = 10 * time.Second
	}
	if c.State.Lease == 0 {
		c.State.Lease = 90 * time.Second
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = 4 * c.State.Lease
	}
	if c.State.Grace == 0 {
		c.State.Grace = c.State.Lease
	}
	if c.State.AbsenceLimit == 0 {
		c.State.AbsenceLimit = c.State.Lease
	}
	if c.State.ReclaimCap == 0 {
		c.State.ReclaimCap = c.State.Lease
	}
	if c.State.MaxRequest == 0 {
		c.State.MaxRequest = c.MaxIO + frame
	}
	if c.State.MaxResponse == 0 {
		c.State.MaxResponse = c.MaxIO + frame
	}
	c.State.MayNotify = true
	c.State.Now = c.Clock.Now
	if c.Journal != nil {
		c.State.Epoch = c.Journal.Epoch()
	} else if c.State.Epoch == 0 {
		c.State.Epoch = 1
	}
	if c.State.ServerOwner.MajorID == "" {
		c.State.ServerOwner.MajorID = "holdfast"
	}
	if c.State.ServerScope == "" {
		c.State.ServerScope = c.State.ServerOwner.MajorID
	}
}

// share is fs.Share of the bits of an OPEN.
func share(bits uint32) fs.Share { return fs.Share(bits & 3) }
