package config

import (
	"fmt"
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
	Pattern   string `json:"pattern"` // "*", an address, a network as 10.0.0.0/8, or a host name
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
	if pattern != "*" && strings.ContainsAny(pattern, "*?[") {
		return c, fmt.Errorf("%q: names with wildcards are not supported; use a network as 10.0.0.0/8, or *", pattern)
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
