package main

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	"unicode"

	"holdfast/fs"
	"holdfast/nfsdown"
	"holdfast/nfsdown/state"
)

// The JSON of the control socket and of --json: snake_case, integers in the unit that the name says,
// opaque bytes as hex beside a printable guess. Fields are only added.

type ownerView struct {
	Hex   string `json:"hex"`
	Guess string `json:"guess,omitempty"`
}

// guess shows opaque bytes to people: the printable run, with dots for the rest.
func guess(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r != unicode.ReplacementChar && unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteByte('.')
		}
	}
	return strings.Trim(b.String(), ".")
}

func viewOwner(s string) ownerView { return ownerView{hex.EncodeToString([]byte(s)), guess(s)} }

// short is the owner in a table.
func (o ownerView) short() string {
	if len(o.Guess) >= 4 {
		return clip(o.Guess, 40)
	}
	return clip(o.Hex, 24)
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n-1] + "~"
	}
	return s
}

type clientView struct {
	ID          string    `json:"id"`
	Owner       ownerView `json:"owner"`
	Addr        string    `json:"addr"`
	Impl        string    `json:"impl,omitempty"`
	Confirmed   bool      `json:"confirmed"`
	Complete    bool      `json:"reclaim_complete"`
	Retain      bool      `json:"retain"`
	Courtesy    bool      `json:"courtesy"`
	LeaseLeftNS int64     `json:"lease_left_ns"`
	Sessions    int       `json:"sessions"`
	Opens       int       `json:"opens"`
	Locks       int       `json:"locks"`
	Held        int       `json:"held"`
	Revoked     int       `json:"revoked"`
}

func viewClients(list []state.ClientInfo) []clientView {
	out := make([]clientView, 0, len(list))
	for _, c := range list {
		out = append(out, clientView{fmt.Sprintf("%016x", c.ID), viewOwner(c.Owner), c.Addr, c.Impl, c.Confirmed, c.Complete, c.Retain,
			c.Courtesy, int64(c.LeaseLeft), c.Sessions, c.Opens, c.Locks, c.Held, c.Revoked})
	}
	return out
}

type openView struct {
	Client    ownerView `json:"client"`
	Owner     ownerView `json:"owner"`
	File      string    `json:"file"`
	Name      string    `json:"name,omitempty"`
	Access    string    `json:"access"`
	Deny      string    `json:"deny"`
	Held      bool      `json:"held"`
	Reclaimed bool      `json:"reclaimed"`
	Since     time.Time `json:"since"`
}

func shareText(s fs.Share) string { return [...]string{"-", "r", "w", "rw"}[s&3] }

func viewOpens(list []state.OpenInfo) []openView {
	out := make([]openView, 0, len(list))
	for _, o := range list {
		out = append(out, openView{viewOwner(o.Owner.Client), viewOwner(o.Owner.Owner), hex.EncodeToString([]byte(o.File)), o.Name,
			shareText(o.Access), shareText(o.Deny), o.Held, o.Reclaimed, o.Since.UTC()})
	}
	return out
}

type lockView struct {
	Client ownerView `json:"client"`
	Owner  ownerView `json:"owner"`
	File   string    `json:"file"`
	Name   string    `json:"name,omitempty"`
	First  uint64    `json:"first"`
	Last   uint64    `json:"last"`
	Type   string    `json:"type"`
	// State is new, reclaimed, held (not reclaimed yet) or waiting.
	State string    `json:"state"`
	Since time.Time `json:"since"`
}

func viewLocks(list []state.LockInfo, waiters []state.WaiterInfo) []lockView {
	out := []lockView{}
	add := func(o fs.Owner, file fs.Handle, name string, l fs.Lock, what string, since time.Time) {
		out = append(out, lockView{viewOwner(o.Client), viewOwner(o.Owner), hex.EncodeToString([]byte(file)), name, l.Range.First, l.Range.Last,
			l.Type.String(), what, since.UTC()})
	}
	for _, l := range list {
		what := "new"
		if l.Reclaimed {
			what = "reclaimed"
		}
		for _, r := range l.Live {
			add(l.Owner, l.File, l.Name, r, what, l.Since)
		}
		for _, r := range l.Held {
			add(l.Owner, l.File, l.Name, r, "held", l.Since)
		}
	}
	for _, w := range waiters {
		add(w.Owner, w.File, "", fs.Lock{Range: w.Range, Type: w.Type}, "waiting", w.Since)
	}
	return out
}

type graceView struct {
	Schema    int      `json:"schema"`
	Phase     string   `json:"phase"` // none, active, ending, over
	LeftNS    int64    `json:"left_ns"`
	Complete  bool     `json:"journal_complete"`
	Expected  int      `json:"clients_expected"`
	Done      int      `json:"clients_done"`
	Missing   []string `json:"clients_missing"`
	Granted   int      `json:"reclaims_granted"`
	Refused   int      `json:"reclaims_refused"`
	Remaining int      `json:"reclaims_remaining"`
	Lost      []string `json:"lost"`
	// OverFor are exports where grace is over because their origin takes no reclaims, and LostEarly is what was lost
	// there, while grace lasts for others.
	OverFor   []string `json:"over_for,omitempty"`
	LostEarly []string `json:"lost_early,omitempty"`
}

func viewGrace(g nfsdown.GraceInfo) graceView {
	v := graceView{Schema: 1, Phase: g.Phase.String(), LeftNS: int64(g.Left), Complete: g.Complete, Expected: g.Expected, Done: g.Done,
		Missing: []string{}, Granted: g.Granted, Refused: g.Refused, Remaining: g.Remaining, Lost: []string{}, OverFor: g.OverFor}
	for _, m := range g.Missing {
		v.Missing = append(v.Missing, guess(m))
	}
	for _, l := range g.Lost {
		v.Lost = append(v.Lost, lostText(l))
	}
	for _, l := range g.LostEarly {
		v.LostEarly = append(v.LostEarly, lostText(l))
	}
	return v
}

func lostText(l state.Lost) string {
	name := l.Name
	if name == "" {
		name = "file " + hex.EncodeToString([]byte(l.File))
	}
	if l.Locks == nil {
		return fmt.Sprintf("%s: open of %s (%s)", guess(l.Owner.Client), name, shareText(l.Access))
	}
	var ranges []string
	for _, r := range l.Locks {
		ranges = append(ranges, fmt.Sprintf("%s %s", r.Type, r.Range))
	}
	return fmt.Sprintf("%s: %s lock on %s", guess(l.Owner.Client), strings.Join(ranges, ", "), name)
}
