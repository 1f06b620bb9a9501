package main

import (
	"encoding/hex"
	"time"

	"holdfast/fs/remote"
)

var delegatePolicy = map[string]remote.DelegatePolicy{"auto": remote.DelegateAuto, "on": remote.DelegateAlways, "off": remote.DelegateNever}

// delegView is a delegation: from an origin to us (side "origin").
type delegView struct {
	Holder ownerView `json:"holder"`
	File   string    `json:"file"`
	Name   string    `json:"name,omitempty"`
	Type   string    `json:"type"`  // read or write
	Side   string    `json:"side"`  // origin: we hold it there
	State  string    `json:"state"` // held, or recalled and about to go back
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
