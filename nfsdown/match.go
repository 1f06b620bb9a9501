package nfsdown

import (
	"context"
	"net/netip"
	"os/exec"
	"path"
	"strings"
)

// The ranks of rules, as exports(5) orders them; a network's is above rankNet by the length of its prefix.
const (
	rankNone  = -1
	rankAny   = 0
	rankGroup = 1
	rankGlob  = 2
	rankNet   = 3
)

// who is a client that rules are matched with. The answers of names and groups are not kept here.
type who struct {
	addr netip.Addr
	// names are the host names of the address, asked for only if a rule needs them.
	names func() []string
	// inGroup tells whether a host of these names and this address is in a netgroup.
	inGroup func(group string, addr netip.Addr, names []string) bool
}

// match returns the access of the rule that counts, and its place in the list, or -1.
func match(list []rule, w who) (Access, int) {
	best, index := rankNone, -1
	out := Access{Denied: true}
	take := func(r *rule, rank int) {
		if rank > best {
			best, index, out = rank, r.index, r.access
		}
	}
	for i := range list {
		take(&list[i], list[i].rankOfAddr(w.addr))
	}
	// What needs a name service comes after what does not, and only if it can still count.
	for i := range list {
		if best < rankGlob && list[i].glob != "" {
			take(&list[i], list[i].rankOfNames(w))
		}
	}
	for i := range list {
		if best < rankGroup && list[i].group != "" {
			take(&list[i], list[i].rankOfNames(w))
		}
	}
	return out, index
}

// rankOfAddr is the rank of a rule that an address alone decides about.
func (r *rule) rankOfAddr(a netip.Addr) int {
	switch {
	case r.glob != "" || r.group != "" || !r.prefix.Contains(a):
		return rankNone
	case r.prefix.Bits() == 0:
		return rankAny
	}
	return rankNet + r.prefix.Bits()
}

// rankOfNames is the rank of a rule that host names decide about.
func (r *rule) rankOfNames(w who) int {
	names := w.names()
	switch {
	case r.group != "":
		if w.inGroup(r.group, w.addr, names) {
			return rankGroup
		}
	case r.glob != "":
		for _, n := range names {
			if ok, _ := path.Match(r.glob, strings.ToLower(strings.TrimSuffix(n, "."))); ok {
				return rankGlob
			}
		}
	}
	return rankNone
}

// inNetgroup tells whether the host part of one of the triples is a name of the client, the name without its
// domain, or the address. A triple without a host is for all hosts, one with "-" for none.
func inNetgroup(hosts []string, addr netip.Addr, names []string) bool {
	for _, h := range hosts {
		if h == "" {
			return true
		}
		if a, err := netip.ParseAddr(h); err == nil && a.Unmap() == addr {
			return true
		}
		for _, n := range names {
			n = strings.TrimSuffix(n, ".")
			short, _, _ := strings.Cut(n, ".")
			if strings.EqualFold(h, n) || strings.EqualFold(h, short) {
				return true
			}
		}
	}
	return false
}

// lookupNetgroup asks the name service of this host, as its nsswitch.conf says, for the host parts of a netgroup.
func lookupNetgroup(ctx context.Context, group string) ([]string, error) {
	ctx, stop := context.WithTimeout(ctx, resolveTime)
	defer stop()
	out, err := exec.CommandContext(ctx, "getent", "--", "netgroup", group).Output()
	if err != nil {
		return nil, err
	}
	return netgroupHosts(string(out)), nil
}

// netgroupHosts are the host parts of the triples "(host,user,domain)" in a line of getent(1).
func netgroupHosts(line string) []string {
	var out []string
	for {
		_, rest, ok := strings.Cut(line, "(")
		if !ok {
			return out
		}
		triple, rest, ok := strings.Cut(rest, ")")
		if !ok {
			return out
		}
		host, _, _ := strings.Cut(triple, ",")
		out = append(out, strings.TrimSpace(host))
		line = rest
	}
}

// A Verdict is what one ClientRule says of a client.
type Verdict struct {
	Pattern string `json:"pattern"`
	Matches bool   `json:"matches"`
	Counts  bool   `json:"counts"`
}

// Explain tells what an export gives a client at an address, and what each of its rules says of it. It asks the name
// services that the server would ask; unresolved are host names in the rules that could not be looked up.
func Explain(ctx context.Context, cfg Config, x *Export, addr netip.Addr) (acc Access, list []Verdict, unresolved []error, err error) {
	cfg.setDefaults()
	rs, unresolved, err := rules(ctx, x.Clients, cfg.Lookup)
	if err != nil {
		return Access{Denied: true}, nil, nil, err
	}
	w := cfg.who(ctx, addr.Unmap(), nil)
	acc, index := match(rs, w)
	if len(x.Clients) == 0 {
		acc = Access{RW: true}
	}
	if x.ReadOnly {
		acc.RW = false
	}
	for i, c := range x.Clients {
		v := Verdict{Pattern: c.Pattern, Counts: i == index}
		for j := range rs {
			if rs[j].index == i && (rs[j].rankOfAddr(w.addr) >= 0 || (rs[j].glob != "" || rs[j].group != "") && rs[j].rankOfNames(w) >= 0) {
				v.Matches = true
			}
		}
		list = append(list, v)
	}
	return acc, list, unresolved, nil
}

// who makes a client of an address; names may be nil, then the name service is asked, once.
func (c *Config) who(ctx context.Context, addr netip.Addr, names func() []string) who {
	if names == nil {
		var known bool
		var list []string
		names = func() []string {
			if !known {
				known, list = true, c.LookupNames(ctx, addr)
			}
			return list
		}
	}
	return who{addr: addr, names: names, inGroup: func(group string, addr netip.Addr, names []string) bool {
		hosts, err := c.LookupNetgroup(ctx, group)
		if err != nil {
			c.Logger.Warn("netgroup", "group", group, "err", err)
			return false
		}
		return inNetgroup(hosts, addr, names)
	}}
}
