package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
)

// An Export is one line of exports(5): a path and who may mount it how.
type Export struct {
	Path    string         `json:"path"`
	Clients []ExportClient `json:"clients"`
}

// An ExportClient is one client(options) of an export.
type ExportClient struct {
	Pattern   string `json:"pattern"` // "*", an address, CIDR, a host name, or a name with * and ?
	ReadWrite bool   `json:"rw"`
	Squash    string `json:"squash"` // root, none or all
	AnonUID   uint32 `json:"anon_uid"`
	AnonGID   uint32 `json:"anon_gid"`
	Insecure  bool   `json:"insecure"`
}

// ParseExport parses "/path client(options) client(options)", after exports(5). Without a client
// the export is for everybody, read-only, as exports(5) has it.
func ParseExport(text string) (*Export, error) {
	words := strings.Fields(text)
	if len(words) == 0 || !strings.HasPrefix(words[0], "/") {
		return nil, fmt.Errorf("an export begins with an absolute path")
	}
	e := &Export{Path: filepath.Clean(words[0])}
	if len(words) == 1 {
		words = append(words, "*")
	}
	for _, w := range words[1:] {
		c, err := parseClient(w)
		if err != nil {
			return nil, err
		}
		e.Clients = append(e.Clients, c)
	}
	return e, nil
}

func parseClient(w string) (ExportClient, error) {
	c := ExportClient{Squash: "root", AnonUID: 65534, AnonGID: 65534, Insecure: false}
	pattern, options, ok := strings.Cut(w, "(")
	if ok {
		options, ok = strings.CutSuffix(options, ")")
		if !ok {
			return c, fmt.Errorf("%q has no closing parenthesis", w)
		}
	}
	if pattern == "" {
		pattern = "*"
	}
	if strings.HasPrefix(pattern, "@") {
		return c, fmt.Errorf("%q: netgroups are not supported; use a network as 10.0.0.0/8", pattern)
	}
	if strings.Contains(pattern, "/") {
		if _, err := netip.ParsePrefix(pattern); err != nil {
			return c, fmt.Errorf("%q is not a network; write it as 10.0.0.0/8", pattern)
		}
	}
	c.Pattern = pattern
	for _, o := range strings.Split(options, ",") {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "", "sync", "no_subtree_check", "no_wdelay", "wdelay", "secure_locks", "auth_nlm", "nohide", "crossmnt":
		case "rw":
			c.ReadWrite = true
		case "ro":
			c.ReadWrite = false
		case "root_squash":
			c.Squash = "root"
		case "no_root_squash":
			c.Squash = "none"
		case "all_squash":
			c.Squash = "all"
		case "no_all_squash":
			if c.Squash == "all" {
				c.Squash = "root"
			}
		case "insecure":
			c.Insecure = true
		case "secure":
			c.Insecure = false
		case "anonuid", "anongid":
			n, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				return c, fmt.Errorf("%s: %q is not a number", key, value)
			}
			if key == "anonuid" {
				c.AnonUID = uint32(n)
			} else {
				c.AnonGID = uint32(n)
			}
		case "sec":
			if value != "sys" {
				return c, fmt.Errorf("sec=%s is not supported, only sys", value)
			}
		case "async":
			return c, fmt.Errorf("async is refused: it loses acknowledged writes in a crash")
		default:
			return c, fmt.Errorf("option %q is not known", o)
		}
	}
	return c, nil
}

// Match returns the entry for a client's address, or nil: an exact address first, then the
// narrowest network, then names, then "*", as exports(5) orders them. names are the host names
// that the address resolves to; they are asked for only if a pattern needs them.
func (e *Export) Match(addr netip.Addr, names func() []string) *ExportClient {
	addr = addr.Unmap()
	var best *ExportClient
	rank := -1
	for i := range e.Clients {
		c := &e.Clients[i]
		if r := c.rank(addr, names); r > rank {
			best, rank = c, r
		}
	}
	return best
}

// rank tells how narrowly the pattern fits, -1 for not at all.
func (c *ExportClient) rank(addr netip.Addr, names func() []string) int {
	if c.Pattern == "*" {
		return 0
	}
	if p, err := netip.ParsePrefix(c.Pattern); err == nil {
		if p.Contains(addr) {
			return 1000 + p.Bits()
		}
		return -1
	}
	if a, err := netip.ParseAddr(c.Pattern); err == nil {
		if a.Unmap() == addr {
			return 2000
		}
		return -1
	}
	if names == nil {
		return -1
	}
	for _, n := range names() {
		if ok, err := filepath.Match(strings.ToLower(c.Pattern), strings.ToLower(strings.TrimSuffix(n, "."))); err == nil && ok {
			if strings.ContainsAny(c.Pattern, "*?[") {
				return 500
			}
			return 1900
		}
	}
	return -1
}

// LookupNames asks the resolver for the names of an address; a name counts only if it resolves
// back to the address.
func LookupNames(addr netip.Addr) []string {
	found, err := net.LookupAddr(addr.String())
	if err != nil {
		return nil
	}
	var good []string
	for _, n := range found {
		back, err := net.LookupHost(n)
		if err != nil {
			continue
		}
		for _, b := range back {
			if a, err := netip.ParseAddr(b); err == nil && a.Unmap() == addr {
				good = append(good, n)
				break
			}
		}
	}
	return good
}
