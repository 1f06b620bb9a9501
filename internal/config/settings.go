package config

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A Value can be set from text; *Duration, *Choice and the two below are.
type Value interface {
	Set(string) error
	String() string
	Type() string
}

type textValue struct{ p *string }

func (v textValue) Set(s string) error { *v.p = s; return nil }
func (v textValue) String() string     { return *v.p }
func (v textValue) Type() string       { return "string" }

type intValue struct{ p *int }

func (v intValue) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil {
		return fmt.Errorf("%q is not a whole number", s)
	}
	*v.p = n
	return nil
}
func (v intValue) String() string { return strconv.Itoa(*v.p) }
func (v intValue) Type() string   { return "int" }

// A Setting is one scalar setting with all its names.
type Setting struct {
	Key   string // in the file, as "locks.lease"
	Flag  string // as "lease"
	Help  string
	Value Value
}

// Env is the environment variable.
func (s *Setting) Env() string {
	return "HOLDFAST_" + strings.ToUpper(strings.ReplaceAll(s.Flag, "-", "_"))
}

// Settings lists the scalar settings of c.
func (c *Config) Settings() []Setting {
	return []Setting{
		{"instance", "instance", "name of this instance; several can run on a host", textValue{&c.Instance}},
		{"state_dir", "state-dir", "where the journal is (default /var/lib/holdfast/INSTANCE)", textValue{&c.StateDir}},
		{"socket", "socket", "control socket (default /run/holdfast/INSTANCE.sock, or in --state-dir)", textValue{&c.Socket}},
		{"exports_file", "exports-file", "more exports, as in exports(5): files, or directories of *.exports, separated by commas", textValue{&c.ExportsFile}},
		{"listen.nfs", "listen", "address that the NFS server listens on", textValue{&c.Listen}},
		{"listen.max_connections", "max-connections", "connections of end clients at once; more are closed", intValue{&c.MaxConns}},
		{"listen.rpcbind", "rpcbind", "how NFSv3 clients find our ports: the host's rpcbind, or if there is none a small one of our own (auto); always our own; or not", &c.Rpcbind},
		{"locks.lease", "lease", "lease of end clients", &c.Lease},
		{"locks.grace", "grace", "longest grace period after a restart", &c.Grace},
		{"locks.in_grace", "in-grace", "what is taken while grace lasts: all that cannot conflict with a reclaim, or reclaims only", &c.InGrace},
		{"locks.recovery", "recovery", "how locks come back from the origin after a restart", &c.Recovery},
		{"locks.restart", "restart", "how end clients see a restart: auto is invisible where the journal is known to be complete, and else grace (they reclaim), as grace always is", &c.Restart},
		{"locks.upstream_clients", "upstream-clients", "clients to be at an origin, 1 to 64: what happens to one does not touch the others", intValue{&c.Clients}},
		{"locks.retain", "retain", "whose locks outlive a client's restart (friendly origin)", &c.Retain},
		{"locks.hold", "hold", "how long a restarted client's locks are held for it (default: the lease)", &c.Hold},
		{"locks.courtesy", "courtesy", "how long an expired client keeps its state while nobody conflicts (origin only)", &c.Courtesy},
		{"locks.delegations", "delegations", "whether to ask the origin for delegations: auto does where they cannot cost a re-export its locks", &c.Delegs},
		{"locks.delegate", "delegate", "which files are delegated to end clients: covered, those that an origin has delegated to us; auto, of a directory too, for reading; on, for reading and writing, if no program of this host uses it", &c.Delegate},
		{"locks.fence", "fence", "what local applications get before re-export begins", &c.Fence},
		{"cache.dir", "cache-dir", "where file data is cached; none for no data cache (default: cache in the state directory; mount: none without -o fsc)", textValue{&c.CacheDir}},
		{"cache.size", "cache-size", "most bytes that the data cache takes on disk; 0: as many as the floor allows", &c.CacheSize},
		{"cache.free_floor", "cache-free-floor", "what the data cache leaves free on its file system, a size or a percentage", &c.CacheFloor},
		{"cache.origin_away", "origin-away", "reads of cached data under granted opens while the origin is away; also by origin: -o away=serve", &c.OriginAway},
		{"cache.consistency", "consistency", "how old an answer from the cache may be; also by origin: -o consistency=MODE", &c.Consistency},
		{"cache.relaxed_age", "relaxed-age", "greatest age of an answer in the mode relaxed; the ac times of -o, where given, go before", &c.RelaxedAge},
		{"cache.entries", "cache-entries", "most files, names, permissions and directory entries that are known at a time, for each origin", intValue{&c.CacheEntries}},
		{"identity.domain", "idmap-domain", "owners go out as name@DOMAIN where a name is known, and come in so (default: numbers go out, any domain comes in)", textValue{&c.IDDomain}},
		{"identity.manage_gids", "manage-gids", "take the groups of a user from this host, not from the client, which can send only 16", &c.ManageGIDs},
		{"log.format", "log-format", "format of the log", &c.LogFormat},
		{"log.level", "log-level", "least level that is logged", &c.LogLevel},
		{"log.file", "log-file", "append the log to this file, not to stderr", textValue{&c.LogFile}},
	}
}

// set gives a setting a value and notes where it came from.
func (c *Config) set(s *Setting, value, source string) error {
	if err := s.Value.Set(value); err != nil {
		return fmt.Errorf("%s (%s): %w", s.Key, source, err)
	}
	c.Sources[s.Key] = source
	return nil
}

// Load merges default, file and environment. path may be empty. The flags come after, by the
// caller, through SetFlag.
func Load(path string, environ []string) (*Config, error) {
	c := Default()
	if path != "" {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if err := c.parse(path, b); err != nil {
			return nil, err
		}
	}
	return c, c.environment(environ)
}

func (c *Config) environment(environ []string) error {
	byEnv := map[string]*Setting{}
	settings := c.Settings()
	for i := range settings {
		byEnv[settings[i].Env()] = &settings[i]
	}
	for _, e := range environ {
		key, value, _ := strings.Cut(e, "=")
		if s := byEnv[key]; s != nil {
			if err := c.set(s, value, "env "+key); err != nil {
				return err
			}
		}
	}
	return nil
}

// SetFlag sets the setting that belongs to a flag.
func (c *Config) SetFlag(flag, value string) error {
	settings := c.Settings()
	for i := range settings {
		if settings[i].Flag == flag {
			return c.set(&settings[i], value, "flag --"+flag)
		}
	}
	return fmt.Errorf("no setting has the flag --%s", flag)
}

// parse reads the file. Unknown keys are errors with line and nearest name.
func (c *Config) parse(path string, text []byte) error {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if len(doc.Content) == 0 {
		return nil
	}
	scalars := map[string]*Setting{}
	sections := map[string]bool{}
	settings := c.Settings()
	for i := range settings {
		scalars[settings[i].Key] = &settings[i]
		if section, _, ok := strings.Cut(settings[i].Key, "."); ok {
			sections[section] = true
		}
	}
	lists := map[string]any{"origins": &c.Origins, "exports": &c.Exports, "mounts": &c.Mounts}
	listFields := map[string][]string{"origins": {"name", "server", "path", "options"}, "mounts": {"origin", "dir", "allow_other"}}

	known := func(prefix string) []string {
		var names []string
		for k := range scalars {
			if rest, ok := strings.CutPrefix(k, prefix); ok {
				head, _, _ := strings.Cut(rest, ".")
				names = append(names, head)
			}
		}
		if prefix == "" {
			for k := range lists {
				names = append(names, k)
			}
		}
		return names
	}
	fail := func(n *yaml.Node, format string, a ...any) error {
		return fmt.Errorf("%s:%d: %s", path, n.Line, fmt.Sprintf(format, a...))
	}
	var walk func(n *yaml.Node, prefix string) error
	walk = func(n *yaml.Node, prefix string) error {
		if n.Kind != yaml.MappingNode {
			return fail(n, "expected keys and values")
		}
		seen := map[string]bool{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			full := prefix + key.Value
			if seen[key.Value] {
				return fail(key, "%q is there twice", full)
			}
			seen[key.Value] = true
			switch {
			case scalars[full] != nil:
				if value.Kind != yaml.ScalarNode {
					return fail(value, "%s takes one value", full)
				}
				if err := c.set(scalars[full], value.Value, fmt.Sprintf("%s:%d", path, value.Line)); err != nil {
					return err
				}
			case prefix == "" && sections[full]:
				if err := walk(value, full+"."); err != nil {
					return err
				}
			case prefix == "" && lists[full] != nil:
				if value.Kind != yaml.SequenceNode {
					return fail(value, "%s is a list", full)
				}
				for _, item := range value.Content {
					for j := 0; item.Kind == yaml.MappingNode && j+1 < len(item.Content); j += 2 {
						k := item.Content[j]
						if !contains(listFields[full], k.Value) {
							return fail(k, "%s has no key %q%s", full, k.Value, nearest(k.Value, listFields[full]))
						}
					}
				}
				if err := value.Decode(lists[full]); err != nil {
					return fail(value, "%v", err)
				}
			default:
				return fail(key, "there is no key %q%s", full, nearest(key.Value, known(prefix)))
			}
		}
		return nil
	}
	if err := walk(doc.Content[0], ""); err != nil {
		return err
	}
	for i := range c.Origins {
		if o := &c.Origins[i]; o.Name == "" {
			o.Name = OriginName(o.Server, o.Path)
		}
	}
	return nil
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// nearest offers the name that a typing error most likely meant.
func nearest(s string, names []string) string {
	best, at := "", 4
	for _, n := range names {
		if d := distance(s, n); d < at || (d == at && n < best) {
			best, at = n, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance is the number of inserted, deleted or changed bytes between two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

// Example is a file with every key, for `holdfast config example`.
const Example = `# /etc/holdfast/holdfast.yaml: every key, with its default where it has one.
# Order of precedence: flag, environment (HOLDFAST_LEASE), this file, default.

instance: default
# state_dir: /var/lib/holdfast/default
# socket: /run/holdfast/default.sock

# What is mounted. options are those of nfs(5), with its units.
origins:
  - {name: filer, server: filer.example, path: /proj, options: "vers=4.2,nconnect=4,hard,sec=sys"}

# Who may mount it here, as in exports(5). The path is that of an origin.
exports:
  - "/proj 10.0.0.0/8(rw,root_squash) admin.example(rw,no_root_squash)"
# More of them in files of exports(5), and in directories of *.exports.
# exports_file: /etc/holdfast/exports,/etc/holdfast/exports.d

# Where local applications see it. Fenced until re-export begins.
mounts:
  - {origin: filer, dir: /mnt/proj, allow_other: true}

listen:
  nfs: ":2049"
  max_connections: 20000
  rpcbind: auto       # auto | embedded | off: how NFSv3 clients find our ports

locks:
  lease: 90s          # of end clients
  grace: 90s          # at least the lease; ends early when all have reclaimed
  recovery: auto      # auto | reclaim | resume
  restart: auto       # auto | invisible | grace: what end clients see of a restart
  upstream_clients: 4 # how many clients to be at an origin, 1 to 64
  retain: negotiated  # always | negotiated | never
  fence: block        # block | eagain
  courtesy: 24h       # holdfast origin only

# File data on a local disk. It survives restarts, and is compared with the origin at each open.
cache:
  # dir: /var/lib/holdfast/default/cache
  size: 100GiB        # 0: as much as free_floor allows
  free_floor: 10%     # of the file system stays free for others; a size or a percentage
  origin_away: block  # block | serve: reads of cached data while the origin does not answer
  consistency: close-to-open # strict | close-to-open | relaxed | immutable; by origin: options: "consistency=strict"
  entries: 400000     # files, names, permissions and directory entries that are known of each origin
  relaxed_age: 10m    # relaxed: how old names, attributes and decisions may be

identity:
  # domain: example.org   # owners as name@example.org; without it, numbers
  manage_gids: off        # on: the groups of a user are looked up here

log:
  format: text
  level: info
`
