package main

import (
	"encoding/hex"
	"time"

	"holdfast/fs/local"
	"holdfast/fs/remote"
	"holdfast/nfsdown/state"
)

var delegatePolicy = map[string]remote.DelegatePolicy{"auto": remote.DelegateAuto, "on": remote.DelegateAlways, "off": remote.DelegateNever}

// delegateLocal is what a directory may be delegated for. There is no origin that could cover it.
var delegateLocal = map[string]local.DelegatePolicy{"off": local.DelegateNever, "covered": local.DelegateNever, "auto": local.DelegateLeases, "on": local.DelegateExclusive}

// delegView is a delegation: from an origin to us (side "origin"), or from us to an end client (side "client").
type delegView struct {
	Holder ownerView `json:"holder"`
	File   string    `json:"file"`
	Name   string    `json:"name,omitempty"`
	Type   string    `json:"type"`  // read or write
	Side   string    `json:"side"`  // origin: we hold it there; client: it holds ours
	State  string    `json:"state"` // held, recalled (about to go back), or unclaimed (after a restart of ours)
	Parked int       `json:"parked"`
	Since  time.Time `json:"since"`
}

func delegText(write, recalled bool) (typ, st string) {
	typ, st = "read", "held"
	if write {
		typ = "write"
	}
	if recalled {
		st = "recalled"
	}
	return typ, st
}

func viewUpDelegs(r *remote.Remote) []delegView {
	var out []delegView
	name := viewOwner(r.Status().Name)
	for _, d := range r.Delegations() {
		typ, st := delegText(d.Write, d.Recalled)
		out = append(out, delegView{Holder: name, File: hex.EncodeToString([]byte(d.File)), Type: typ, Side: "origin", State: st, Parked: d.Parked, Since: d.Since})
	}
	return out
}

func viewDownDelegs(list []state.DelegInfo) []delegView {
	var out []delegView
	for _, d := range list {
		typ, st := delegText(d.Kind == state.WriteDeleg, !d.Recalled.IsZero())
		if d.Held {
			st = "unclaimed"
		}
		out = append(out, delegView{Holder: viewOwner(d.Owner), File: hex.EncodeToString([]byte(d.File)), Name: d.Name, Type: typ, Side: "client", State: st, Since: d.Since.UTC()})
	}
	return out
}

// delegates tells whether end clients may be delegated anything.
func (in *instance) delegates() bool {
	if in.role == "origin" {
		return delegateLocal[in.cfg.Delegate.Value] != local.DelegateNever
	}
	return in.cfg.Delegate.Value != "off"
}

func delegatedOf(s *state.Server) *delegatedView {
	c := s.DelegCounts()
	return &delegatedView{Read: c.Read, Write: c.Write, Recalled: c.Recalled, Revoked: c.Revoked}
}
