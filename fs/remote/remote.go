package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/fs"
	"holdfast/fs/remote/diskcache"
	"holdfast/internal/clock"
	"holdfast/internal/nfs4"
	"holdfast/journal"
	"holdfast/nfsup"
)

// Recovery is how a restarted instance comes back to what it held.
type Recovery string

// The modes of DESIGN 3. Auto takes the best that there is.
const (
	RecoverAuto    Recovery = "auto"
	RecoverReclaim Recovery = "reclaim"
	RecoverResume  Recovery = "resume"
)

// ErrNoResume says that the mode resume was asked for, and the origin has the state of the last
// incarnation and does not let us go on with it. ErrOldJournal says that it knows of a later one than the
// journal does.
var (
	ErrNoResume   = errors.New("what is held at the origin cannot be resumed; recovery auto or reclaim would go on without it")
	ErrOldJournal = errors.New("this journal must not be used: it was restored from a backup, or a copy of it is in use elsewhere")
)

// Config says what to mount, and how. Name, Server and Path are needed; zero means the default for
// all else.
type Config struct {
	// Name is the origin's name in the configuration. It is part of who we are there: with another name
	// the instance is another client, and what the old one held is lost. Two mounts at one time cannot
	// have one name in one journal: the origin would take them for one client.
	Name string
	// Server is the origin, "host:port", and Path the directory there, from the root of its name space.
	Server, Path string
	// Minor is the highest minor version to use, 1 or 2 (the default).
	Minor uint32
	// NConnect is the number of connections, 1 to 16; the default is 1.
	NConnect int
	// Slots is how many requests may be under way at one time; the default is 256. The origin may allow
	// fewer. Over a link of 200 ms each slot carries five requests a second.
	Slots int

	// Journal keeps identity and long handles. Without one, nothing survives a restart, and an origin
	// whose filehandles are longer than 50 bytes cannot be used.
	Journal *journal.Journal
	// Epoch is the boot; zero means the journal's, or the time of start without one.
	Epoch uint32
	// Recovery is the mode; the default is RecoverAuto. RecoverResume resumes at friendly origins, too, and
	// fails with ErrNoResume where the origin has our state and does not let it be resumed. An origin that
	// has restarted, or dropped us, has nothing to resume: then each mode goes on with reclaims.
	Recovery Recovery
	// Clients is how many clients to be at the origin, 1 (the default) to MaxClients. End clients are
	// spread over them; what the origin does to one of them touches no other. Another number than the
	// journal was written with takes effect at the first start at which nothing is held.
	Clients int
	// Dead is called when the mount can never work again; it must not block. It may be nil.
	Dead func(why error)
	// Reexport says that an NFS server will serve this mount: RECLAIM_COMPLETE waits for
	// [Remote.ReclaimComplete]. Without, the first open or lock sends it first.
	Reexport bool
	// Retain asks the origin to keep our state over our restart (draft-cel-nfsv4-state-retention).
	Retain bool

	// Delegations says whether to ask the origin for delegations; the default is DelegateAuto.
	Delegations DelegatePolicy

	// Consistency is the mode; the default is CloseToOpen. RelaxedAge is the greatest age in the mode Relaxed,
	// where Times does not say another; the default is DefaultRelaxedAge.
	Consistency Consistency
	RelaxedAge  time.Duration
	// Times are the caching times of attributes; zero values mean the defaults of nfs(5), or the RelaxedAge.
	Times AttrTimes
	// CacheEntries bounds the memory of the caches, in files, names, decisions and directory entries,
	// of some 200 bytes each; zero means 400,000.
	CacheEntries int
	// MetaDir is where what is known of the tree is kept over restarts; empty means that it is not. Several mounts
	// may share one.
	MetaDir string
	// Store keeps file data; nil means that each READ goes to the origin. Several mounts may share one. The
	// caller closes it, after the mount.
	Store *diskcache.Store
	// Away says what becomes of reads of cached data while the origin is away; the default is AwayBlock.
	Away Away
	// Domain, if not empty, is the only one whose owner names are looked up on this host.
	Domain string

	// Soft lets requests fail with Unreachable when the origin is silent for SoftTime (default 60 s).
	// Otherwise the mount is hard: requests wait as long as their callers do.
	Soft     bool
	SoftTime time.Duration

	Clock  clock.Clock  // default: clock.Real
	Logger *slog.Logger // default: none

	// Dial opens a connection to the origin; nil means TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
}

func (c *Config) setDefaults() error {
	if c.Name == "" || c.Server == "" {
		return errors.New("remote: an origin needs a name and a server")
	}
	if c.Recovery == "" {
		c.Recovery = RecoverAuto
	}
	switch c.Recovery {
	case RecoverAuto, RecoverReclaim, RecoverResume:
	default:
		return fmt.Errorf("remote: recovery %q is none of auto, reclaim, resume", c.Recovery)
	}
	if c.Clients == 0 {
		c.Clients = 1
	}
	if c.Clients < 0 || c.Clients > MaxClients {
		return fmt.Errorf("remote: %d upstream clients, must be 1 to %d", c.Clients, MaxClients)
	}
	if c.Slots <= 0 {
		c.Slots = 256
	}
	if c.CacheEntries <= 0 {
		c.CacheEntries = 400_000
	}
	switch c.Away {
	case "":
		c.Away = AwayBlock
	case AwayBlock, AwayServe:
	default:
		return fmt.Errorf("remote: origin-away %q is neither block nor serve", c.Away)
	}
	if err := c.setConsistency(); err != nil {
		return err
	}
	if c.SoftTime <= 0 {
		c.SoftTime = time.Minute
	}
	if c.Clock == nil {
		c.Clock = clock.Real
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Epoch == 0 && c.Journal != nil {
		c.Epoch = c.Journal.Epoch()
	}
	if c.Epoch == 0 {
		c.Epoch = uint32(c.Clock.Now().Unix())
	}
	return nil
}

// A Remote is the mount of one directory of an origin. It is made by Mount.
type Remote struct {
	cfg     Config
	log     *slog.Logger
	up      upstream
	each    []upstream  // the shards that up is made of; immutable
	id      *identity   // of the first shard
	who     []*identity // of each
	layout  layout
	secret  secret
	machine string

	seal    *sealer
	handles *handleMap
	cache   *cache
	data    *dataCache // nil without Config.Store
	ids     *idmap
	owners  owners
	phase   phase
	waiters waiters
	caps    capsTable
	covers  covers
	deleg   delegator // nil: no delegations
	stats   counters

	metaLoaded int // files that the last incarnation left

	rootDir atomic.Pointer[rootDir] // nil until it was found first
	came    string                  // how this incarnation came back to what the last one held
	// resumed says that some of what the last incarnation held was resumed: then a refused reclaim says
	// nothing about others.
	resumed atomic.Bool

	ctx  context.Context // ends with the mount
	stop context.CancelFunc

	fetching sync.WaitGroup // what uses the store in the background

	mu sync.Mutex
	// +checklocks:mu
	listeners []fs.Listener
	// +checklocks:mu
	lastRecovery nfsup.Recovery
	// +checklocks:mu
	resumedOpens, resumedLocks uint64
	// +checklocks:mu
	dead error
	// +checklocks:mu
	rootHunt bool // the directory is being looked up again
	hunts    sync.WaitGroup
}

var (
	_ fs.Backend = (*Remote)(nil)
	_ fs.Xattrs  = (*Remote)(nil)
	_ fs.Sparse  = (*Remote)(nil)
	_ fs.Copier  = (*Remote)(nil)
	_ fs.Cloner  = (*Remote)(nil)
)

// counters are for Status.
type counters struct {
	reclaimedOpens, reclaimedLocks, refusedReclaims atomic.Uint64
	revokedOpens, revokedLocks                      atomic.Uint64
	polls, notified                                 atomic.Uint64
	originRestarts, leasesLost                      atomic.Uint64
}

// Mount connects to the origin and finds the directory. ctx bounds Mount only; the mount ends by Close
// or Abandon.
//
// With the journal of an earlier incarnation it is the same client. In mode reclaim it has a new
// verifier: a friendly origin has killed the old stateids and holds what was under them for reclaims
// (DESIGN 3.4). In mode resume the old stateids are alive, and reclaims are answered from the journal's.
// Either way the caller then lets reclaims in, and calls ReclaimComplete when there are no more; if the
// journal is intact and has none, at once.
func Mount(ctx context.Context, cfg Config) (*Remote, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	r, err := newRemote(ctx, cfg)
	if err != nil {
		return nil, err
	}
	up, err := r.dialAll(ctx)
	if err == nil {
		if err = r.attach(ctx, up); err != nil {
			up.Abandon()
			r.cache.log.close(false)
		}
	}
	if err != nil {
		r.stop()
		return nil, err
	}
	return r, nil
}

// dialAll makes the clients of all shards at once.
func (r *Remote) dialAll(ctx context.Context) (upstream, error) {
	list := make([]*nfsup.Client, len(r.who))
	g, ctx := errgroup.WithContext(ctx)
	for i, id := range r.who {
		g.Go(func() (err error) {
			list[i], err = r.dial(ctx, i, id)
			return err
		})
	}
	err := g.Wait()
	all := &shards{}
	for _, c := range list {
		if c != nil {
			all.list = append(all.list, c)
		}
	}
	if err != nil {
		all.Abandon()
		return nil, dialError(r.cfg.Server, err)
	}
	if r.each = all.list; len(list) == 1 {
		return list[0], nil
	}
	return all, nil
}

// dial makes the client of a shard.
func (r *Remote) dial(ctx context.Context, i int, id *identity) (*nfsup.Client, error) {
	c, err := nfsup.Dial(ctx, nfsup.Config{
		Addr:                 r.cfg.Server,
		Dial:                 r.cfg.Dial,
		MinorVersion:         r.cfg.Minor,
		NConnect:             r.cfg.NConnect,
		Slots:                r.cfg.Slots,
		OwnerID:              id.rec.OwnerID,
		Verifier:             id.rec.Verifier,
		Cred:                 id.cred(),
		Retain:               r.cfg.Retain,
		DelayReclaimComplete: true,
		Resume:               id.resume(r.cfg.Recovery),
		Clock:                r.cfg.Clock,
		Logger:               r.logOf(i),
		Events:               r.events(i),
		Journal:              id.hooks(),
	})
	if err != nil {
		return nil, err
	}
	info := c.Info()
	if info.Resumed {
		r.resumed.Store(true)
	} else {
		id.forgetStates()
	}
	caps := map[string]string{}
	if info.RetainGranted {
		caps["retain"] = "granted"
	}
	if i == 0 {
		caps[capOwner] = strconv.Itoa(r.layout.version)
		caps[capClients] = strconv.Itoa(r.layout.clients)
		r.came = id.came(info)
	}
	id.learn(info.Lease, caps)
	return c, nil
}

// logOf is the log of a shard.
func (r *Remote) logOf(i int) *slog.Logger {
	if len(r.who) == 1 {
		return r.log
	}
	return r.log.With("client", i)
}

// inUse has the identities that are mounted in this process.
var inUse sync.Map // of nameKey

type nameKey struct {
	journal *journal.Journal
	name    string
}

// newRemote makes a Remote that has no origin yet.
func newRemote(ctx context.Context, cfg Config) (*Remote, error) {
	key := nameKey{cfg.Journal, cfg.Name}
	if cfg.Journal != nil {
		if _, taken := inUse.LoadOrStore(key, true); taken {
			return nil, fmt.Errorf("origin %q is mounted already; give the second mount a name of its own", cfg.Name)
		}
	}
	r, err := makeRemote(ctx, cfg)
	if err != nil {
		inUse.Delete(key)
		return nil, err
	}
	cancel := r.stop
	r.stop = func() { cancel(); inUse.Delete(key) }
	return r, nil
}

func makeRemote(ctx context.Context, cfg Config) (*Remote, error) {
	id, err := loadIdentity(ctx, cfg.Journal, cfg.Name, cfg.Server, cfg.Epoch, cfg.Clock.Now)
	if err != nil {
		return nil, err
	}
	s := secret(id.rec.Secret)
	l, kept := chooseLayout(id.before, id.held, cfg.Clients)
	ids := []*identity{id}
	for i := 1; i < l.clients; i++ {
		x, err := loadIdentity(ctx, cfg.Journal, shardName(cfg.Name, i), cfg.Server, cfg.Epoch, cfg.Clock.Now)
		if err != nil {
			return nil, err
		}
		ids = append(ids, x)
	}
	r := &Remote{
		cfg:     cfg,
		log:     cfg.Logger.With("origin", cfg.Name),
		id:      id,
		who:     ids,
		layout:  l,
		secret:  s,
		machine: id.rec.MachineName,
		seal:    newSealer(s),
		cache:   newCache(cfg.Times, cfg.CacheEntries),
		ids:     newIDMap(cfg.Domain),
	}
	r.cache.mode = cfg.Consistency
	if cfg.Journal != nil {
		r.handles = newHandleMap(cfg.Journal)
	} else {
		r.handles = newHandleMap(nil)
	}
	if kept && l.clients != cfg.Clients {
		r.log.Warn("locks are held by another number of upstream clients; the setting takes effect at a start at which nothing is held", "clients", l.clients, "setting", cfg.Clients)
	}
	r.phase.phase = PhaseRecovering
	r.phase.send = func(ctx context.Context) error {
		return toFS("RECLAIM_COMPLETE", r.up.ReclaimComplete(ctx))
	}
	r.waiters.init(r)
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r, nil
}

// attach takes the connection into use, and looks the directory up.
func (r *Remote) attach(ctx context.Context, up upstream) error {
	r.up = up
	r.initCovers(up)
	if r.cfg.Soft {
		r.up = softUpstream{up, r.cfg.SoftTime}
	}
	info := up.Info()
	if b := r.id.before; b != nil && len(b.Scope) > 0 && string(b.Scope) != info.ServerScope {
		r.phase.lost = errScope
		r.log.Warn("the origin's server scope has changed; what was held there is lost")
	}
	if r.cfg.Store != nil {
		r.data = newDataCache(r.cfg.Store, dataSpace(r.cfg.Name, info.ServerScope))
	}
	if r.cfg.MetaDir != "" {
		if err := r.openMeta(r.cfg.MetaDir, dataSpace(r.cfg.Name, info.ServerScope), bootID()); err != nil {
			r.log.Warn("what is known of the tree is not kept over restarts", "err", err)
		}
	}
	return r.findRoot(ctx)
}

// findRoot walks from the root of the origin's name space to the directory, in one round trip if the
// origin takes as many operations.
func (r *Remote) findRoot(ctx context.Context) error {
	var names []string
	for _, n := range strings.Split(r.cfg.Path, "/") {
		switch n {
		case "", ".":
		case "..":
			return fmt.Errorf("origin path %q: .. is not allowed", r.cfg.Path)
		default:
			names = append(names, n)
		}
	}
	room := 32
	if m := r.up.Info().MaxOps; m > 0 {
		room = max(m-5, 1) // SEQUENCE, PUTROOTFH or PUTFH, GETFH, GETATTR, and one to spare
	}
	var fh nfs4.FH
	var attr *fs.Attr
	for first := true; first || len(names) > 0; first = false {
		n := min(room, len(names))
		ops := make([]nfs4.Args, 0, n+3)
		if first {
			ops = append(ops, &nfs4.PutrootfhArgs{})
		} else {
			ops = append(ops, putfh(fh))
		}
		for _, name := range names[:n] {
			ops = append(ops, &nfs4.LookupArgs{Name: name})
		}
		ops = append(ops, getfh, getattr)
		err := r.up.Compound(ctx, r.id.cred(), ops, func(res []nfs4.Res) (err error) {
			fh = res[len(res)-2].(*nfs4.GetfhRes).FH
			attr, err = r.ids.fromFattr(fattrAt(res, len(res)-1))
			return err
		})
		if err != nil {
			if i := errOp(err); i > 0 && i <= n {
				return fmt.Errorf("origin path %q: %q: %w", r.cfg.Path, names[i-1], toFS("LOOKUP", err))
			}
			return fmt.Errorf("origin path %q: %w", r.cfg.Path, toFS("LOOKUP", err))
		}
		names = names[n:]
	}
	if attr.Type != fs.Directory {
		return fmt.Errorf("origin path %q: %w", r.cfg.Path, fs.E("MOUNT", fs.NotDir, nil))
	}
	h, err := r.grant(ctx, fh, attr)
	if err != nil {
		return err
	}
	r.rootDir.Store(&rootDir{h, fh})
	r.sawAttr(h, attr, r.cache.begin())
	caps, err := r.capsFor(ctx, h)
	if err != nil {
		return fmt.Errorf("origin path %q: %w", r.cfg.Path, err)
	}
	if caps.expire != nfs4.FH4_PERSISTENT {
		r.log.Warn("the origin's filehandles are volatile: clients will see ESTALE when they expire", "fh_expire_type", caps.expire)
	}
	return nil
}

func (r *Remote) now() time.Time { return r.cfg.Clock.Now() }

// rootDir is the directory that is mounted.
type rootDir struct {
	h  fs.Handle
	fh nfs4.FH
}

// Root is the handle of the directory. It is another one when the origin came back with another directory, or
// file system, in the place of the mounted one.
func (r *Remote) Root(context.Context) (fs.Handle, error) { return r.root(), nil }

func (r *Remote) root() fs.Handle { return r.rootDir.Load().h }

// findRootAgain is for an origin that has changed.
func (r *Remote) findRootAgain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rootHunt || r.ctx.Err() != nil {
		return // the one under way waits until the origin answers, as this would
	}
	r.rootHunt = true
	r.hunts.Go(func() {
		old := r.rootDir.Load()
		err := r.findRoot(r.ctx)
		r.mu.Lock()
		r.rootHunt = false
		r.mu.Unlock()
		switch now := r.rootDir.Load(); {
		case r.ctx.Err() != nil:
		case err != nil:
			r.log.Warn("the directory is not there at the origin any more", "err", err)
		case now.h != old.h:
			r.log.Warn("the origin has put another directory in the place of the mounted one; handles of the old one are stale", "path", r.cfg.Path)
			r.event("origin", "another directory, or file system, is in the place of "+r.cfg.Path+"; handles of the old one are stale")
		}
	})
}

// end ends what runs in the background.
func (r *Remote) end() {
	r.stop()
	r.mu.Lock() // what begins from now on sees that
	//lint:ignore SA2001 see above
	r.mu.Unlock()
	r.hunts.Wait()
	r.waiters.clear()
}

// Subscribe adds a listener.
func (r *Remote) Subscribe(l fs.Listener) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listeners = append(r.listeners[:len(r.listeners):len(r.listeners)], l)
}

// tell calls f for each listener.
func (r *Remote) tell(f func(fs.Listener)) {
	r.mu.Lock()
	list := r.listeners
	r.mu.Unlock()
	for _, l := range list {
		f(l)
	}
}

// changed tells the listeners that somebody else changed a file.
func (r *Remote) changed(h fs.Handle) {
	r.tell(func(l fs.Listener) { l.Changed(h) })
}

// Close gives back all state at the origin and ends the mount.
func (r *Remote) Close(ctx context.Context) error {
	r.end()
	err := r.up.Close(ctx)
	r.fetching.Wait()
	r.cache.log.close(true)
	if err != nil {
		return toFS("CLOSE", err)
	}
	return nil
}

// Abandon ends the mount as kill -9 would: the origin hears nothing, and keeps our state for a while.
func (r *Remote) Abandon() {
	r.end()
	r.up.Abandon()
	r.fetching.Wait()
	r.cache.log.close(false)
}

// ReclaimComplete says that no reclaim follows; see fs.Locks.
func (r *Remote) ReclaimComplete(ctx context.Context) error { return r.phase.complete(ctx) }

// enter lets an open or lock pass. A reclaim passes only before RECLAIM_COMPLETE. Another request, on a
// mount without re-export, has RECLAIM_COMPLETE sent before it (DESIGN 3.9); with re-export it goes
// upstream at once, and the origin says GRACE if it must.
func (r *Remote) enter(ctx context.Context, op string, reclaim bool) (leave func(), err error) {
	if reclaim {
		return r.phase.enterReclaim(op)
	}
	if !r.cfg.Reexport {
		if err := r.phase.complete(ctx); err != nil {
			return nil, err
		}
	}
	return func() {}, nil
}

// resolve finds the origin's filehandle. It makes a round trip only for a long handle that was given
// out by an earlier incarnation, at its first use.
func (r *Remote) resolve(ctx context.Context, h fs.Handle) (nfs4.FH, error) {
	fh, d, long, err := r.seal.open(h)
	if err != nil || !long {
		return fh, err
	}
	return r.handles.find(ctx, d, func(ctx context.Context, fh nfs4.FH) (id fileIdent, err error) {
		ops := []nfs4.Args{putfh(fh), &nfs4.GetattrArgs{Request: nfs4.Bits(nfs4.FATTR4_FSID, nfs4.FATTR4_FILEID)}}
		err = r.up.Compound(ctx, r.id.cred(), ops, func(res []nfs4.Res) error {
			a := fattrAt(res, 1)
			id = fileIdent{fs.FSID{Major: a.FSID.Major, Minor: a.FSID.Minor}, a.FileID}
			return nil
		})
		return id, r.fail("PUTFH", err, h)
	})
}

// grant makes the handle for a file that is about to be shown to somebody.
func (r *Remote) grant(ctx context.Context, fh nfs4.FH, a *fs.Attr) (fs.Handle, error) {
	if len(fh) == 0 {
		return "", fs.E("GETFH", fs.ServerFault, errors.New("the origin gave an empty filehandle"))
	}
	h, d, long := r.seal.seal(fh)
	if long {
		if err := r.handles.put(ctx, []newHandle{{d, fh, identOf(a)}}); err != nil {
			return "", err
		}
	}
	return h, nil
}

// fail turns an error of a request about these files into one of fs. If a file is gone, so is what was
// known of it. A handle with our seal that the origin does not take is stale, not bad. If a name is there that was to
// be made, it may be known here that it is not.
func (r *Remote) fail(op string, err error, files ...fs.Handle) error {
	if err == nil {
		return nil
	}
	err = toFS(op, err)
	switch fs.CodeOf(err) {
	case fs.BadHandle:
		err = fs.E(op, fs.Stale, err)
		fallthrough
	case fs.Stale, fs.FHExpired:
		for _, h := range files {
			r.cache.drop(h)
		}
	case fs.Exist:
		for _, h := range files {
			r.cache.stale(h)
		}
	}
	return err
}
