package config

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// An Export is what exports(5) says of one path: who may mount it how.
type Export struct {
	Path    string         `json:"path"`
	Clients []ExportClient `json:"clients"`
	// FSID is of fsid=: a number that is in filehandles and file system ids in place of one made from the path.
	// Zero: from the path.
	FSID uint32 `json:"fsid,omitempty"`
	// Refer is of refer=: the files are on other servers, and clients are sent there.
	Refer []Location `json:"refer,omitempty"`
	// Replicas is of replicas=: other servers that have the same files.
	Replicas []Location `json:"replicas,omitempty"`
	// Source is "file:line", or "" for one that is in the settings themselves.
	Source string `json:"source,omitempty"`
}

// A Location is a path on servers that all have it.
type Location struct {
	Path  string   `json:"path"`
	Hosts []string `json:"hosts"`
}

// An ExportClient is one client(options) of an export.
type ExportClient struct {
	Pattern   string `json:"pattern"` // "*", an address, a network as 10.0.0.0/8, a host name, *.example.org, or @netgroup
	ReadWrite bool   `json:"rw"`
	Squash    string `json:"squash"` // root, none or all
	AnonUID   uint32 `json:"anon_uid"`
	AnonGID   uint32 `json:"anon_gid"`
	Insecure  bool   `json:"insecure"`
	// Sec is the flavours of sec=, separated by colons: sys, none. Empty: both, where none is the anonymous user.
	Sec string `json:"sec"`
}

// ParseExport parses one line "/path -defaults client(options) client(options)", after exports(5): a path in
// double quotes or with octal escapes, default options, comments. Without a client the export is for
// everybody, read-only, as exports(5) has it.
func ParseExport(text string) (*Export, error) {
	list, err := parseExports("", text)
	switch {
	case err != nil:
		return nil, err
	case len(list) == 0:
		return nil, errors.New("an export begins with an absolute path")
	case len(list) > 1:
		return nil, errors.New("there is more than one export in the line")
	}
	list[0].Source = ""
	return list[0], nil
}

// parseLine parses the words of a line.
func parseLine(words []string) (*Export, error) {
	if !strings.HasPrefix(words[0], "/") {
		return nil, fmt.Errorf("an export begins with an absolute path, not with %q", words[0])
	}
	if strings.IndexByte(words[0], 0) >= 0 {
		return nil, errors.New("a path has no NUL")
	}
	e := &Export{Path: filepath.Clean(words[0])}
	defaults := ExportClient{Squash: "root", AnonUID: 65534, AnonGID: 65534}
	for _, w := range words[1:] {
		if options, ok := strings.CutPrefix(w, "-"); ok {
			if err := e.options(&defaults, options); err != nil {
				return nil, err
			}
			continue
		}
		c := defaults
		if err := e.client(&c, w); err != nil {
			return nil, err
		}
		if err := e.add(c); err != nil {
			return nil, err
		}
	}
	if len(e.Clients) == 0 {
		defaults.Pattern = "*"
		e.Clients = append(e.Clients, defaults)
	}
	return e, nil
}

// add takes one more client; the same pattern twice would leave open which of them counts.
func (e *Export) add(c ExportClient) error {
	for _, o := range e.Clients {
		if strings.EqualFold(o.Pattern, c.Pattern) {
			return fmt.Errorf("client %q is there twice for %s", c.Pattern, e.Path)
		}
	}
	e.Clients = append(e.Clients, c)
	return nil
}

// merge takes in another line for the same path.
func (e *Export) merge(o *Export) error {
	for _, c := range o.Clients {
		if err := e.add(c); err != nil {
			return err
		}
	}
	if o.FSID != 0 {
		if err := e.setFSID(o.FSID); err != nil {
			return err
		}
	}
	if len(o.Refer)+len(o.Replicas) > 0 || len(e.Refer)+len(e.Replicas) > 0 {
		return fmt.Errorf("%s has refer= or replicas=; put all its clients on one line", e.Path)
	}
	return nil
}

func (e *Export) setFSID(id uint32) error {
	if e.FSID != 0 && e.FSID != id {
		return fmt.Errorf("%s has two values of fsid=; it is the same for all clients", e.Path)
	}
	e.FSID = id
	return nil
}

// client parses pattern(options).
func (e *Export) client(c *ExportClient, w string) error {
	pattern, options, ok := strings.Cut(w, "(")
	if ok {
		options, ok = strings.CutSuffix(options, ")")
		if !ok {
			return fmt.Errorf("%q has no closing parenthesis", w)
		}
	}
	if pattern == "" {
		pattern = "*"
	}
	if err := checkPattern(pattern); err != nil {
		return err
	}
	c.Pattern = pattern
	return e.options(c, options)
}

func checkPattern(p string) error {
	switch {
	case p == "*":
	case strings.HasPrefix(p, "@"):
		if p == "@" {
			return errors.New("@ is followed by the name of a netgroup")
		}
	case strings.Contains(p, "/"):
		if _, err := netip.ParsePrefix(p); err == nil {
			return nil
		}
		a, mask, _ := strings.Cut(p, "/")
		addr, err1 := netip.ParseAddr(a)
		m, err2 := netip.ParseAddr(mask)
		if err1 != nil || err2 != nil || !addr.Is4() || !m.Is4() {
			return fmt.Errorf("%q is not a network; write it as 10.0.0.0/8", p)
		}
	case strings.ContainsAny(p, "*?["):
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("%q is not a pattern of host names: a bracket is not closed", p)
		}
	case strings.ContainsAny(p, "()\"\\,= \x00") || strings.HasPrefix(p, "#"):
		return fmt.Errorf("%q is no client: write an address, a network, a host name, @netgroup or *", p)
	}
	return nil
}

// noEffect are the options that say what is always so here.
var noEffect = []string{"sync", "no_subtree_check", "wdelay", "no_wdelay", "secure_locks", "auth_nlm", "nohide", "crossmnt",
	"acl", "no_acl", "no_pnfs"}

// refused are options of exports(5) that would promise what is not done, each with the reason.
var refused = map[string]string{
	"async":          "it loses acknowledged writes in a crash",
	"subtree_check":  "filehandles do not depend on the directory; leave it out",
	"hide":           "file systems mounted below an export are always shown; leave it out",
	"nocrossmnt":     "file systems mounted below an export are always shown; leave it out",
	"insecure_locks": "a lock always needs a user; leave it out",
	"no_auth_nlm":    "a lock always needs a user; leave it out",
	"mp":             "it would need a look at the mounts of this host",
	"mountpoint":     "it would need a look at the mounts of this host",
	"pnfs":           "there are no layouts",
	"security_label": "there are no labels",
}

// taken are the options that do something.
var taken = []string{"rw", "ro", "root_squash", "no_root_squash", "all_squash", "no_all_squash", "insecure", "secure",
	"anonuid", "anongid", "sec", "fsid", "refer", "replicas", "xprtsec"}

// options applies a list of options, as "rw,sec=sys".
func (e *Export) options(c *ExportClient, list string) error {
	sec := false
	for _, o := range strings.Split(list, ",") {
		key, value, has := strings.Cut(o, "=")
		if key == "" && !has || !has && contains(noEffect, key) {
			continue
		}
		if why := refused[key]; why != "" {
			return fmt.Errorf("option %s is refused: %s", key, why)
		}
		var err error
		switch {
		case !contains(taken, key):
			known := append(append([]string(nil), taken...), noEffect...)
			for k := range refused {
				known = append(known, k)
			}
			return fmt.Errorf("option %q is not known%s", o, nearest(key, known))
		case has != contains([]string{"anonuid", "anongid", "sec", "fsid", "refer", "replicas", "xprtsec"}, key):
			if has {
				return fmt.Errorf("option %s takes no value", key)
			}
			return fmt.Errorf("option %s needs a value, as in %s=VALUE", key, key)
		}
		switch key {
		case "rw":
			c.ReadWrite = true
		case "ro":
			c.ReadWrite = false
		case "root_squash":
			if c.Squash != "all" {
				c.Squash = "root"
			}
		case "no_root_squash":
			if c.Squash != "all" { // it squashes everybody, root too
				c.Squash = "none"
			}
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
		case "anonuid":
			c.AnonUID, err = anonID(key, value)
		case "anongid":
			c.AnonGID, err = anonID(key, value)
		case "sec":
			if sec {
				return errors.New("sec= is there twice; write one list, as sec=sys:none: all options are for all its flavours")
			}
			sec = true
			c.Sec, err = parseSec(value)
		case "xprtsec":
			if value != "none" {
				err = fmt.Errorf("xprtsec=%s is not supported: there is no RPC with TLS", value)
			}
		case "fsid":
			var id uint32
			if id, err = parseFSID(value); err == nil {
				err = e.setFSID(id)
			}
		case "refer":
			e.Refer, err = parseLocations(key, value)
		case "replicas":
			e.Replicas, err = parseLocations(key, value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// anonID is a user or group number; the negative ones that old files have are those of 32 bits.
func anonID(key, value string) (uint32, error) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < -(1<<31) || n >= 1<<32 {
		return 0, fmt.Errorf("%s: %q is not a number of a user or group", key, value)
	}
	return uint32(n), nil
}

func parseSec(value string) (string, error) {
	var out []string
	for _, f := range strings.Split(value, ":") {
		switch f {
		case "null":
			f = "none"
		case "sys", "none":
		case "krb5", "krb5i", "krb5p":
			return "", fmt.Errorf("sec=%s is not supported: there is no Kerberos, only sys and none", f)
		default:
			return "", fmt.Errorf("sec=%s is not known; there are sys and none", f)
		}
		if contains(out, f) {
			return "", fmt.Errorf("sec=%s: %s is there twice", value, f)
		}
		out = append(out, f)
	}
	return strings.Join(out, ":"), nil
}

// parseFSID is a number from 1 on or a UUID, of which 32 bits are made.
func parseFSID(value string) (uint32, error) {
	if value == "root" || value == "0" {
		return 0, fmt.Errorf("fsid=%s, the root of NFSv4, is not supported: exports have the same path in all versions, and the root leads to them", value)
	}
	if n, err := strconv.ParseUint(value, 0, 32); err == nil {
		if n == 0 {
			return 0, errors.New("fsid: a number from 1 on")
		}
		return uint32(n), nil
	}
	hex := strings.ToLower(strings.ReplaceAll(value, "-", ""))
	if len(hex) != 32 || strings.Trim(hex, "0123456789abcdef") != "" {
		return 0, fmt.Errorf("fsid=%s is neither a number from 1 to 4294967295 nor a UUID", value)
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(hex))
	return max(h.Sum32(), 1), nil
}

// parseLocations is path@host[+host][:path@host[+host]]. Colons in brackets are of IPv6 addresses.
func parseLocations(key, value string) ([]Location, error) {
	var out []Location
	bad := func() ([]Location, error) {
		return nil, fmt.Errorf("%s=%s: write it as %s=/path@host, hosts joined by +, more locations after a colon", key, value, key)
	}
	depth, start := 0, 0
	for i := 0; i <= len(value); i++ {
		if i < len(value) {
			switch value[i] {
			case '[':
				depth++
			case ']':
				depth--
			}
			if value[i] != ':' || depth > 0 {
				continue
			}
		}
		at := strings.LastIndexByte(value[start:i], '@')
		if at < 0 {
			return bad()
		}
		l := Location{Path: value[start : start+at], Hosts: strings.Split(value[start+at+1:i], "+")}
		if !strings.HasPrefix(l.Path, "/") || depth != 0 {
			return bad()
		}
		l.Path = filepath.Clean(l.Path)
		for j, h := range l.Hosts {
			if strings.HasPrefix(h, "[") && strings.HasSuffix(h, "]") {
				h = h[1 : len(h)-1]
			}
			if h == "" || strings.ContainsAny(h, "[]@/ ") {
				return bad()
			}
			l.Hosts[j] = h
		}
		out = append(out, l)
		start = i + 1
	}
	return out, nil
}
