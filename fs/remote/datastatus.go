package remote

import "time"

// DataReport counts what the data cache did since the mount began, in bytes where the name says so.
type DataReport struct {
	Hits      uint64  `json:"hits"` // reads that needed nothing from the origin
	Misses    uint64  `json:"misses"`
	HitBytes  uint64  `json:"hit_bytes"`
	MissBytes uint64  `json:"miss_bytes"`
	HitRatio  float64 `json:"hit_ratio"` // of the bytes
	Fetched   uint64  `json:"fetched_bytes"`
	Ahead     uint64  `json:"fetched_ahead_bytes"`
	Joined    uint64  `json:"joined_bytes"` // that one fetch gave to several readers
	Saved     uint64  `json:"saved_bytes"`  // that did not come from the origin
	// Why requests missed, or were not asked of the cache.
	Cold        uint64 `json:"missed_cold"`       // never read, or evicted
	Changed     uint64 `json:"missed_changed"`    // the file was changed since it was read
	Recent      uint64 `json:"not_kept_recent"`   // fetches of versions too young to be kept
	NoOpen      uint64 `json:"through_no_open"`   // while own writes run, or for an open that is lost
	Denied      uint64 `json:"through_denied"`    // the origin is to say no
	Unsettled   uint64 `json:"through_unsettled"` // the file changes all the time
	Revalidated uint64 `json:"revalidated"`       // reads that asked for attributes first
	OwnKept     uint64 `json:"own_writes_kept"`
	OwnDropped  uint64 `json:"own_writes_dropped"`
	// While the origin is away.
	Away       Away      `json:"origin_away"`
	IsAway     bool      `json:"away"`
	Stale      uint64    `json:"served_while_away"`
	LastStale  time.Time `json:"last_served_while_away,omitzero"`
	OldestSeen int64     `json:"data_age_ns"` // how long ago the origin was last heard of, while it is away
}

// dataStatus is nil without a data cache.
func (r *Remote) dataStatus() *DataReport {
	d := r.data
	if d == nil {
		return nil
	}
	c := &d.c
	rep := &DataReport{
		Hits: c.hits.Load(), Misses: c.misses.Load(), HitBytes: c.hitBytes.Load(), MissBytes: c.missBytes.Load(),
		Fetched: c.fetched.Load(), Ahead: c.ahead.Load(), Joined: c.joined.Load(), Cold: c.cold.Load(), Changed: c.changed.Load(),
		Recent: c.recent.Load(), NoOpen: c.through.Load(), Denied: c.denied.Load(), Unsettled: c.unsettled.Load(),
		Revalidated: c.revalidated.Load(), OwnKept: c.ownKept.Load(), OwnDropped: c.ownDropped.Load(),
		Away: r.cfg.Away, IsAway: r.isAway(), Stale: c.stale.Load(),
	}
	if served := rep.HitBytes + rep.MissBytes; served > rep.Fetched {
		rep.Saved = served - rep.Fetched // what was fetched ahead is a hit when it is read, and came all the same
	}
	if all := rep.HitBytes + rep.MissBytes; all > 0 {
		rep.HitRatio = float64(rep.HitBytes) / float64(all)
	}
	if ns := c.lastStale.Load(); ns != 0 {
		rep.LastStale = time.Unix(0, ns).UTC()
	}
	if rep.IsAway {
		info := r.up.Info()
		rep.OldestSeen = int64(r.now().Sub(info.LeaseExpires.Add(-info.Lease)))
	}
	return rep
}
