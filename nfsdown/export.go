package nfsdown

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path"
	"strings"
	"time"

	"holdfast/fs"
)

// An Export is a backend's tree at a path of the server's name space.
type Export struct {
	Path string // absolute; "/" is allowed
	// ID is in the filehandles, so it must not change while clients hold some. Zero: ExportID(Path).
	ID       uint32
	Backend  fs.Backend
	ReadOnly bool
	// Clients says who may use it; the most specific pattern counts. Empty: everybody, as
	// Access{RW: true} has it.
	Clients []ClientRule
	// Access, if set, decides instead of Clients.
	Access func(netip.Addr) Access
	// Refer makes it a referral: the file system is absent here, clients are told to go there (RFC 8881 11.3.1),
	// and Backend is nil.
	Refer []Location
	// Replicas are told to clients that ask where else the file system is, with us as the first.
	Replicas []Location
}

// A Location is a path on servers that all have it.
type Location struct {
	Path    string
	Servers []string // names or addresses
}

// A ClientRule gives an Access to the clients of a pattern: an address, a network as 10.0.0.0/8, a host name
// (looked up when exports are loaded), a pattern of host names as *.example.org, a netgroup as @farm, or "*". They
// count in this order, as in exports(5); of several networks the smallest does, of several others the first.
type ClientRule struct {
	Pattern string
	Access  Access
}

// Access is what a client may do with an export.
type Access struct {
	Denied bool
	RW     bool
	Squash Squash
	// SecurePort asks for a source port below 1024, as exports(5) does unless "insecure" is given.
	SecurePort bool
	// AnonUID and AnonGID are whom squashed users become. Zero is 65534 unless AnonRoot.
	AnonUID, AnonGID uint32
	// AnonRoot says that a zero in them is meant: anonuid=0.
	AnonRoot bool
	// NoSys and NoNone refuse users of AUTH_SYS, and calls without a user: sec= of exports(5).
	NoSys, NoNone bool
}

// flavor tells whether a call may use the export; anonymous is AUTH_NONE.
func (a *Access) flavor(anonymous bool) bool {
	if anonymous {
		return !a.NoNone
	}
	return !a.NoSys
}

// Squash says which users are mapped to the anonymous one.
type Squash uint8

// The ways to squash, as exports(5) names them.
const (
	RootSquash Squash = iota
	NoRootSquash
	AllSquash
)

const nobody = 65534

// apply maps the credential of a call. anonymous is a call without a user: AUTH_NONE.
func (a *Access) apply(c *fs.Cred, anonymous bool) *fs.Cred {
	uid, gid := a.AnonUID, a.AnonGID
	if uid == 0 && !a.AnonRoot {
		uid = nobody
	}
	if gid == 0 && !a.AnonRoot {
		gid = nobody
	}
	switch {
	case anonymous, a.Squash == AllSquash:
		return &fs.Cred{UID: uid, GID: gid, Machine: c.Machine}
	case a.Squash == NoRootSquash:
		return c
	}
	if c.UID != 0 && c.GID != 0 && !hasZero(c.Groups) {
		return c
	}
	out := &fs.Cred{UID: c.UID, GID: c.GID, Machine: c.Machine}
	if out.UID == 0 {
		out.UID = uid
	}
	if out.GID == 0 {
		out.GID = gid
	}
	for _, g := range c.Groups {
		if g == 0 {
			g = gid
		}
		out.Groups = append(out.Groups, g)
	}
	return out
}

func hasZero(list []uint32) bool {
	for _, g := range list {
		if g == 0 {
			return true
		}
	}
	return false
}

// rule is a ClientRule with its pattern understood.
type rule struct {
	prefix netip.Prefix
	glob   string // of host names, in lower case; prefix is then not valid
	group  string // netgroup; prefix is then not valid
	index  int    // of the ClientRule in its list
	access Access
}

// resolveTime bounds the lookup of a host name when exports are loaded.
const resolveTime = 5 * time.Second

// rules understands the client patterns of an export. A host name that cannot be looked up is reported by
// the error beside the rules that could be understood; a malformed pattern fails.
func rules(ctx context.Context, list []ClientRule, lookup func(context.Context, string) ([]netip.Addr, error)) (out []rule, unresolved []error, err error) {
	for i, c := range list {
		p := strings.TrimSpace(c.Pattern)
		switch {
		case p == "" || p == "*":
			out = append(out, rule{prefix: netip.PrefixFrom(netip.IPv4Unspecified(), 0), index: i, access: c.Access},
				rule{prefix: netip.PrefixFrom(netip.IPv6Unspecified(), 0), index: i, access: c.Access})
			continue
		case strings.Contains(p, "/"):
			n, err := parseNet(p)
			if err != nil {
				return nil, nil, err
			}
			out = append(out, rule{prefix: n, index: i, access: c.Access})
			continue
		}
		if a, err := netip.ParseAddr(p); err == nil {
			a = a.Unmap()
			out = append(out, rule{prefix: netip.PrefixFrom(a, a.BitLen()), index: i, access: c.Access})
			continue
		}
		if g, ok := strings.CutPrefix(p, "@"); ok && g != "" && !strings.ContainsAny(g, "@ ") {
			out = append(out, rule{group: g, index: i, access: c.Access})
			continue
		}
		if strings.ContainsAny(p, "@ ") {
			return nil, nil, fmt.Errorf("client pattern %q is none of: address, network, host name, *", p)
		}
		if strings.ContainsAny(p, "*?[") {
			if _, err := path.Match(p, ""); err != nil {
				return nil, nil, fmt.Errorf("client pattern %q: %w", p, err)
			}
			out = append(out, rule{glob: strings.ToLower(p), index: i, access: c.Access})
			continue
		}
		look, stop := context.WithTimeout(ctx, resolveTime)
		addrs, err := lookup(look, p)
		stop()
		if err != nil {
			unresolved = append(unresolved, fmt.Errorf("client %q: %w", p, err))
		}
		for _, a := range addrs {
			a = a.Unmap()
			out = append(out, rule{prefix: netip.PrefixFrom(a, a.BitLen()), index: i, access: c.Access})
		}
	}
	return out, unresolved, nil
}

// parseNet is a network with a prefix length or a netmask.
func parseNet(p string) (netip.Prefix, error) {
	if n, err := netip.ParsePrefix(p); err == nil {
		return n.Masked(), nil
	}
	addr, mask, _ := strings.Cut(p, "/")
	a, err1 := netip.ParseAddr(addr)
	m, err2 := netip.ParseAddr(mask)
	if err1 != nil || err2 != nil || !a.Is4() || !m.Is4() {
		return netip.Prefix{}, fmt.Errorf("client network %q is not understood", p)
	}
	m4 := m.As4()
	ones, bits := net.IPMask(m4[:]).Size()
	if bits == 0 {
		return netip.Prefix{}, fmt.Errorf("client network %q: the netmask has holes", p)
	}
	return netip.PrefixFrom(a, ones).Masked(), nil
}

// lookupNames asks the resolver for the host names of an address. A name counts only if it resolves back.
func lookupNames(ctx context.Context, a netip.Addr) []string {
	ctx, stop := context.WithTimeout(ctx, resolveTime)
	defer stop()
	found, err := net.DefaultResolver.LookupAddr(ctx, a.String())
	if err != nil {
		return nil
	}
	var out []string
	for _, n := range found {
		back, err := net.DefaultResolver.LookupNetIP(ctx, "ip", n)
		if err != nil {
			continue
		}
		for _, b := range back {
			if b.Unmap() == a {
				out = append(out, n)
				break
			}
		}
	}
	return out
}
