package remote

import (
	"fmt"
	"time"

	"holdfast/nfsup"
)

// Budget returns how long a reboot may take and keep every lock, in [0, lease]: the origin's lease
// minus the time that the last recovery took. Zero means none. See RFC 8881 8.3.
func Budget(lease, reclaim time.Duration) time.Duration {
	return min(max(lease-max(reclaim, 0), 0), max(lease, 0))
}

// Report is the state of the mount, for people and for the command line. Times are nanoseconds.
type Report struct {
	Name     string `json:"name"`
	Server   string `json:"server"`
	Path     string `json:"path"`
	Addr     string `json:"addr"`
	Impl     string `json:"impl,omitempty"` // what the origin calls itself
	Minor    uint32 `json:"minor_version"`
	Phase    Phase  `json:"phase"`
	Came     string `json:"came"`    // how this incarnation came back to what the last held: new, resumed, reclaim
	Clients  int    `json:"clients"` // upstream clients that end clients are spread over
	Reexport bool   `json:"reexport"`
	// Consistency is the mode; the ages are the longest that an answer may have in it, of files and directories,
	// 0 for none: in strict always, in immutable there is no bound.
	Consistency Consistency   `json:"consistency"`
	AgeFiles    time.Duration `json:"max_age_files_ns"`
	AgeDirs     time.Duration `json:"max_age_directories_ns"`
	Lost        string        `json:"lost,omitempty"` // why nothing can be reclaimed
	Dead        string        `json:"dead,omitempty"` // why the mount can never work again

	Lease        time.Duration `json:"lease_ns"`
	LeaseExpires time.Time     `json:"lease_expires"`
	Budget       time.Duration `json:"reboot_budget_ns"`
	RTT          time.Duration `json:"rtt_ns"`

	Retain       bool          `json:"retain"` // the origin agreed to keep our state over our restart
	AbsenceLimit time.Duration `json:"absence_limit_ns,omitempty"`
	ReclaimCap   time.Duration `json:"reclaim_cap_ns,omitempty"`

	Connections   int    `json:"connections"` // that are up
	Reconnects    uint64 `json:"reconnects"`
	Replays       uint64 `json:"replays"`
	Slots         int    `json:"slots"`
	SlotsInUse    int    `json:"slots_in_use"`
	SlotsWaiting  int    `json:"slots_waiting"`
	BackChannel   bool   `json:"back_channel"`
	Recovering    bool   `json:"recovering"`
	OriginBoots   uint64 `json:"origin_restarts"`
	LeasesLost    uint64 `json:"leases_lost"`
	LastRecovery  string `json:"last_recovery,omitempty"`
	MaxRead       int    `json:"max_read"`
	MaxWrite      int    `json:"max_write"`
	HandleKind    string `json:"handle_kind"` // of the root: embedded or mapped
	HandlesMapped int    `json:"handles_mapped"`

	Owners  int `json:"owners"`
	Opens   int `json:"opens"`
	Lockers int `json:"lock_owners"` // (lock-owner, file) pairs
	// Stateids is how many opens and (lock-owner, file) pairs the origin knows from us.
	Stateids int `json:"stateids"`
	Waiters  int `json:"waiters"`

	// Shards are the upstream clients, one by one.
	Shards []Shard `json:"upstream_clients"`

	Reclaims Reclaims    `json:"reclaims"`
	Cache    Cache       `json:"cache"`
	Data     *DataReport `json:"data,omitempty"`
}

// A Shard is one of the clients that we are at the origin.
type Shard struct {
	ClientID    string    `json:"client_id"`
	Resumed     bool      `json:"resumed"`     // it went on as the last incarnation's
	Incarnation uint32    `json:"incarnation"` // counts how often the origin had forgotten it, from 1
	Expires     time.Time `json:"lease_expires"`
	Opens       int       `json:"opens"`
	Lockers     int       `json:"lock_owners"`
	Recovering  bool      `json:"recovering"`
}

// Reclaims counts the origin's answers to reclaims of this incarnation, and losses.
type Reclaims struct {
	Opens        uint64 `json:"opens"`
	Locks        uint64 `json:"locks"`
	Refused      uint64 `json:"refused"`
	RevokedOpens uint64 `json:"revoked_opens"`
	RevokedLocks uint64 `json:"revoked_locks"`
	ResumedOpens uint64 `json:"resumed_opens"` // that the origin still held when we came back
	ResumedLocks uint64 `json:"resumed_locks"` // likewise, in ranges
}

// Cache counts what was answered from memory.
type Cache struct {
	Files        int    `json:"files"`
	Weight       int    `json:"weight"`
	AttrHits     uint64 `json:"attr_hits"`
	AttrMisses   uint64 `json:"attr_misses"`
	NameHits     uint64 `json:"name_hits"`
	NameMisses   uint64 `json:"name_misses"`
	AccessHits   uint64 `json:"access_hits"`
	AccessMisses uint64 `json:"access_misses"`
	PageHits     uint64 `json:"page_hits"`
	PageMisses   uint64 `json:"page_misses"`
	Foreign      uint64 `json:"foreign_changes"`
	Evicted      uint64 `json:"evicted"`
	Restored     int    `json:"restored_files"` // that the last incarnation knew
}

// Status tells how the mount is doing.
func (r *Remote) Status() Report {
	info := r.up.Info()
	r.mu.Lock()
	last, dead := r.lastRecovery, r.dead
	resumedOpens, resumedLocks := r.resumedOpens, r.resumedLocks
	r.mu.Unlock()
	rep := Report{
		Name: r.cfg.Name, Server: r.cfg.Server, Path: r.cfg.Path,
		Addr: info.Addr, Impl: info.ServerImpl, Minor: info.MinorVersion,
		Phase: r.phase.now(), Came: r.came, Clients: r.layout.clients, Reexport: r.cfg.Reexport,
		Lease: info.Lease, LeaseExpires: info.LeaseExpires, Budget: Budget(info.Lease, last.Took), RTT: info.RTT,
		Retain: info.RetainGranted, AbsenceLimit: info.AbsenceLimit, ReclaimCap: info.ReclaimCap,
		Reconnects: info.Reconnects, Replays: info.Replays,
		Slots: info.Slots, SlotsInUse: info.SlotsInUse, SlotsWaiting: info.SlotsWaiting,
		BackChannel: info.BackChannel, Recovering: info.Recovering,
		OriginBoots: r.stats.originRestarts.Load(), LeasesLost: r.stats.leasesLost.Load(),
		MaxRead: info.MaxRead, MaxWrite: info.MaxWrite,
		HandleKind: "embedded", HandlesMapped: r.handles.size(), Waiters: r.waiters.count(),
		Reclaims: Reclaims{
			Opens: r.stats.reclaimedOpens.Load(), Locks: r.stats.reclaimedLocks.Load(), Refused: r.stats.refusedReclaims.Load(),
			RevokedOpens: r.stats.revokedOpens.Load(), RevokedLocks: r.stats.revokedLocks.Load(),
			ResumedOpens: resumedOpens, ResumedLocks: resumedLocks,
		},
	}
	rep.Consistency = r.cfg.Consistency
	if m := r.cfg.Consistency; m == CloseToOpen || m == Relaxed {
		rep.AgeFiles, rep.AgeDirs = r.cache.times.RegMax, r.cache.times.DirMax
	}
	if root := r.rootDir.Load(); root != nil && len(root.fh) > maxEmbedded {
		rep.HandleKind = "mapped"
	}
	if r.phase.lost != nil {
		rep.Lost = r.phase.lost.Error()
	}
	if dead != nil {
		rep.Dead = dead.Error()
	}
	if last != (nfsup.Recovery{}) {
		rep.LastRecovery = last.Took.String()
	}
	for _, c := range info.Conns {
		if c.Up {
			rep.Connections++
		}
	}
	rep.Owners, rep.Opens, rep.Lockers = r.owners.count()
	rep.Stateids = info.Opens + info.LockOwners
	for _, u := range r.each {
		i := u.Info()
		rep.Shards = append(rep.Shards, Shard{
			ClientID: fmt.Sprintf("%016x", i.ClientID), Resumed: i.Resumed, Incarnation: i.Incarnation, Expires: i.LeaseExpires,
			Opens: i.Opens, Lockers: i.LockOwners, Recovering: i.Recovering,
		})
	}
	c := &r.cache.counters
	rep.Cache = Cache{
		AttrHits: c.attrHits.Load(), AttrMisses: c.attrMisses.Load(), NameHits: c.nameHits.Load(), NameMisses: c.nameMisses.Load(),
		AccessHits: c.accessHits.Load(), AccessMisses: c.accessMisses.Load(), PageHits: c.pageHits.Load(), PageMisses: c.pageMisses.Load(),
		Foreign: c.foreign.Load(), Evicted: c.evicted.Load(),
	}
	rep.Cache.Files, rep.Cache.Weight = r.cache.size()
	rep.Cache.Restored = r.metaLoaded
	rep.Data = r.dataStatus()
	return rep
}
