// Package config is all settings of Holdfast: one struct, one place where each gets its value
// (flag over environment over file over default), and one Validate that refuses what cannot work
// and says the remedy.
package config

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A Duration is a time.Duration written as Go writes it: "90s", "1m30s". A bare number is an
// error, because nobody knows its unit.
type Duration time.Duration

// Std is the standard library's type.
func (d Duration) Std() time.Duration { return time.Duration(d) }

func (d Duration) String() string { return time.Duration(d).String() }

// Set parses s.
func (d *Duration) Set(s string) error {
	v, err := time.ParseDuration(s)
	if err != nil {
		if _, e := strconv.ParseFloat(s, 64); e == nil {
			return fmt.Errorf("%q has no unit; write %ss or %sm", s, s, s)
		}
		return fmt.Errorf("%q is not a duration; write it as 90s or 1m30s", s)
	}
	if v < 0 {
		return fmt.Errorf("%q is negative", s)
	}
	*d = Duration(v)
	return nil
}

// Type names the type in --help.
func (*Duration) Type() string { return "duration" }

// A Choice is one word of a few.
type Choice struct {
	Value string
	Of    []string
}

func (c *Choice) String() string { return c.Value }

// Set takes s if it is one of the words.
func (c *Choice) Set(s string) error {
	for _, o := range c.Of {
		if s == o {
			c.Value = s
			return nil
		}
	}
	return fmt.Errorf("%q is not one of %s", s, strings.Join(c.Of, ", "))
}

// Type names the words in --help.
func (c *Choice) Type() string { return strings.Join(c.Of, "|") }

// An Origin is an original server's export that is mounted.
type Origin struct {
	Name    string `yaml:"name" json:"name"`
	Server  string `yaml:"server" json:"server"`   // host, or host:port
	Path    string `yaml:"path" json:"path"`       // at the original server
	Options string `yaml:"options" json:"options"` // nfs(5) names: vers, nconnect, port, hard, soft, acregmin...
}

// A Mount is a FUSE mount for local applications.
type Mount struct {
	Origin     string `yaml:"origin" json:"origin"` // Name of an Origin
	Dir        string `yaml:"dir" json:"dir"`
	AllowOther bool   `yaml:"allow_other" json:"allow_other"`
}

// Config is all settings. The yaml keys are the keys of the file; Settings has the scalar ones
// with flag, environment variable and help.
type Config struct {
	Instance string   `json:"instance"`
	StateDir string   `json:"state_dir"`
	Socket   string   `json:"socket"`
	Origins  []Origin `json:"origins"`
	Exports  []string `json:"exports"`
	// ExportsFile is files of exports(5), and directories of such files, separated by commas. ExportList has all.
	ExportsFile string  `json:"exports_file"`
	Mounts      []Mount `json:"mounts"`

	Lease    Duration `json:"-"`
	Grace    Duration `json:"-"`
	Recovery Choice   `json:"-"`
	Restart  Choice   `json:"-"`
	Retain   Choice   `json:"-"`
	Fence    Choice   `json:"-"`
	InGrace  Choice   `json:"-"`
	Hold     Duration `json:"-"`
	Courtesy Duration `json:"-"`
	Delegs   Choice   `json:"-"`
	Delegate Choice   `json:"-"`

	Listen   string `json:"listen"`
	MaxConns int    `json:"max_connections"`
	Rpcbind  Choice `json:"-"`
	Clients  int    `json:"upstream_clients"`

	CacheDir   string `json:"cache_dir"`
	CacheSize  Size   `json:"-"`
	CacheFloor Floor  `json:"-"`
	OriginAway Choice `json:"-"`
	// Consistency is how old an answer from a cache may be, RelaxedAge the greatest age in the mode relaxed.
	Consistency Choice   `json:"-"`
	RelaxedAge  Duration `json:"-"`
	// CacheEntries bounds what is known of the tree, in memory and over restarts.
	CacheEntries int `json:"cache_entries"`

	// IDDomain is the domain of owner names, ManageGIDs on or off.
	IDDomain   string `json:"idmap_domain"`
	ManageGIDs Choice `json:"-"`

	LogFormat Choice `json:"-"`
	LogLevel  Choice `json:"-"`
	LogFile   string `json:"log_file"`

	// Sources says where each scalar setting got its value: default, file, env or flag.
	Sources map[string]string `json:"-"`
}

// Default returns the settings before anybody said anything.
func Default() *Config {
	return &Config{
		Instance:     "default",
		Lease:        Duration(90 * time.Second),
		Grace:        Duration(90 * time.Second),
		Recovery:     Choice{"auto", []string{"auto", "reclaim", "resume"}},
		Restart:      Choice{"auto", []string{"auto", "invisible", "grace"}},
		Retain:       Choice{"negotiated", []string{"always", "negotiated", "never"}},
		Fence:        Choice{"block", []string{"block", "eagain"}},
		InGrace:      Choice{"safe", []string{"safe", "reclaims"}},
		Courtesy:     Duration(24 * time.Hour),
		Delegs:       Choice{"auto", []string{"auto", "on", "off"}},
		Delegate:     Choice{"covered", []string{"covered", "auto", "on", "off"}},
		Listen:       ":2049",
		MaxConns:     20000,
		Rpcbind:      Choice{"auto", []string{"auto", "embedded", "off"}},
		Clients:      4,
		CacheSize:    100 << 30,
		CacheFloor:   Floor{Percent: 10},
		OriginAway:   Choice{"block", []string{"block", "serve"}},
		Consistency:  Choice{"close-to-open", ConsistencyModes},
		CacheEntries: 400_000,
		RelaxedAge:   Duration(10 * time.Minute),
		ManageGIDs:   Choice{"off", []string{"on", "off"}},
		LogFormat:    Choice{"text", []string{"text", "json"}},
		LogLevel:     Choice{"info", []string{"debug", "info", "warn", "error"}},
		Sources:      map[string]string{},
	}
}

// Dir returns the state directory: the setting, or the instance's place below /var/lib/holdfast.
func (c *Config) Dir() string {
	if c.StateDir != "" {
		return c.StateDir
	}
	return filepath.Join("/var/lib/holdfast", c.Instance)
}

// CachePath returns where file data is cached, or "" if it is not. A re-export server caches unless it is told
// not to; a mount, as nfs(5) has it, only if it is asked to: by the option fsc, or by a directory.
func (c *Config) CachePath(role string) string {
	switch {
	case c.CacheDir == "none" || role == "origin":
		return ""
	case c.CacheDir != "":
		return c.CacheDir
	case role == "mount":
		asked := false
		for i := range c.Origins {
			opt, err := c.Origins[i].ParseOptions()
			asked = asked || err == nil && opt.Cache
		}
		if !asked {
			return ""
		}
	}
	return filepath.Join(c.Dir(), "cache")
}

// SocketPath returns the control socket's path: the setting; or, with a state directory of its
// own, a file in it; or the instance's place below /run/holdfast.
func (c *Config) SocketPath() string {
	switch {
	case c.Socket != "":
		return c.Socket
	case c.StateDir != "":
		return filepath.Join(c.StateDir, "control.sock")
	}
	return filepath.Join("/run/holdfast", c.Instance+".sock")
}

// Validate refuses settings that cannot work, all at once, each with its remedy. role is the
// command: serve, mount or origin.
func (c *Config) Validate(role string) error {
	var bad []error
	no := func(format string, a ...any) { bad = append(bad, fmt.Errorf(format, a...)) }
	if strings.ContainsAny(c.Instance, "/\x00 ") || c.Instance == "" || strings.HasPrefix(c.Instance, ".") {
		no("instance %q: use letters, digits and '-'", c.Instance)
	}
	if l := c.Lease.Std(); l < time.Second || l > time.Hour {
		no("lease %v is outside of 1s to 1h; Linux servers use 90s", l)
	}
	if g := c.Grace.Std(); g < c.Lease.Std() {
		no("grace %v is shorter than the lease of %v, so clients that renew late could not reclaim; set grace to at least %v", g, c.Lease, c.Lease)
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		no("listen %q: %v; write HOST:PORT or :PORT", c.Listen, err)
	}
	if c.Clients < 1 || c.Clients > 64 {
		no("upstream-clients %d: 1 to 64", c.Clients)
	}
	if c.MaxConns < 1 {
		no("max-connections %d: at least 1", c.MaxConns)
	}
	if !filepath.IsAbs(c.Dir()) {
		no("state-dir %q: must be an absolute path", c.Dir())
	}
	if c.CacheDir != "" && c.CacheDir != "none" && !filepath.IsAbs(c.CacheDir) {
		no("cache-dir %q: must be an absolute path, or none", c.CacheDir)
	}
	if z := c.CacheSize; z > 0 && z < 1<<20 {
		no("cache-size %s is too small to be of use; set at least 1MiB, or --cache-dir=none", z.String())
	}
	if a := c.RelaxedAge.Std(); a < time.Second || a > 24*time.Hour {
		no("relaxed-age %v is outside of 1s to 24h; for trees that never change there is --consistency=immutable", a)
	}
	if c.CacheEntries < 10_000 {
		no("cache-entries %d: at least 10000", c.CacheEntries)
	}
	if len(c.SocketPath()) > 100 {
		no("the control socket's path %q is longer than the 100 bytes that a socket name can have; set --socket", c.SocketPath())
	}
	if role == "serve" || role == "mount" {
		if len(c.Origins) == 0 {
			no("no origin: name one as SERVER:/PATH, or under origins: in the file")
		}
		names := map[string]bool{}
		for i := range c.Origins {
			o := &c.Origins[i]
			if names[o.Name] {
				no("two origins are named %q", o.Name)
			}
			names[o.Name] = true
			if o.Server == "" || !strings.HasPrefix(o.Path, "/") {
				no("origin %q: needs a server and an absolute path", o.Name)
			}
			if _, err := o.ParseOptions(); err != nil {
				no("origin %q: %v", o.Name, err)
			}
		}
		dirs := map[string]bool{}
		for _, m := range c.Mounts {
			if !names[m.Origin] {
				no("mount %s: there is no origin %q", m.Dir, m.Origin)
			}
			if !filepath.IsAbs(m.Dir) || dirs[m.Dir] {
				no("mount %q: must be an absolute path, used once", m.Dir)
			}
			dirs[m.Dir] = true
		}
	}
	if role != "mount" {
		if _, err := c.ExportList(); err != nil {
			bad = append(bad, err)
		}
	}
	return errors.Join(bad...)
}

// ParseOrigin parses SERVER:/PATH, SERVER:PORT:/PATH, [V6]:/PATH or nfs://SERVER[:PORT]/PATH.
func ParseOrigin(s string) (Origin, error) {
	bad := func() (Origin, error) {
		return Origin{}, fmt.Errorf("%q is not an origin; write SERVER:/PATH", s)
	}
	var server, path string
	if rest, ok := strings.CutPrefix(s, "nfs://"); ok {
		i := strings.IndexByte(rest, '/')
		if i < 1 {
			return bad()
		}
		server, path = rest[:i], rest[i:]
	} else {
		i := strings.Index(s, ":/")
		if i < 1 {
			return bad()
		}
		server, path = s[:i], s[i+1:]
	}
	return Origin{Name: OriginName(server, path), Server: server, Path: filepath.Clean(path)}, nil
}

// OriginName makes the name of an origin that was given on the command line. It is part of our
// client owner string, so it must be the same at every start.
func OriginName(server, path string) string {
	return server + ":" + filepath.Clean(path)
}

// Hostname is the name of this machine, for client owner strings and logs.
func Hostname() string {
	h, err := os.Hostname()
	if err != nil || h == "" {
		return "localhost"
	}
	return h
}
