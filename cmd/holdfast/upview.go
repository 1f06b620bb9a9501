package main

import (
	"fmt"
	"sort"

	"holdfast/fs/remote"
)

// status adds the upstream side to a status.
func (c *client) status(v *statusView) {
	if c.fence != nil {
		v.Fence = &fenceView{c.fence.Closed(), c.fence.Waiting()}
	}
	for _, m := range c.in.cfg.Mounts {
		v.Mounts = append(v.Mounts, m.Origin+" on "+m.Dir)
	}
	if c.store != nil {
		u := c.store.Usage()
		v.Cache = &u
		if u.Full {
			v.Problems = append(v.Problems, "the data cache has no room: what it may take is pinned, or the disk is full of other things")
		}
		if u.Rotten > 0 {
			v.Problems = append(v.Problems, fmt.Sprintf("the data cache's disk is rotten: %d blocks did not match their checksum and were fetched again", u.Rotten))
		}
	}
	for _, r := range c.connected() {
		rep := r.Status()
		v.Origins = append(v.Origins, rep)
		switch {
		case rep.Dead != "":
			v.Problems = append(v.Problems, "origin "+rep.Name+" can never be used again by this process: "+rep.Dead)
			v.Phase = "degraded"
		case rep.Connections == 0:
			v.Problems = append(v.Problems, "origin "+rep.Name+" is not connected")
			v.Phase = "degraded"
		case rep.Recovering:
			v.Problems = append(v.Problems, "origin "+rep.Name+" restarted; reclaiming")
		}
		if rep.Budget == 0 {
			v.Problems = append(v.Problems, "origin "+rep.Name+": its lease leaves no time for a reboot")
		}
	}
}

// connected returns the mounts of origins that are there by now.
func (c *client) connected() []*remote.Remote {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*remote.Remote(nil), c.remotes...)
}

// upstreamStats are the counters toward one origin, most used first.
func upstreamStats(r *remote.Remote) []upStat {
	out := []upStat{}
	for op, s := range r.OpStats() {
		out = append(out, upStat{op.String(), s.Count, s.Errors, uint64(s.RTT)})
	}
	sort.Slice(out, func(i, j int) bool {
		return out[i].Count > out[j].Count || out[i].Count == out[j].Count && out[i].Op < out[j].Op
	})
	return out
}
