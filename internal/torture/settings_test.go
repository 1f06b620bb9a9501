package torture

import "strings"

// A setting is a way to run the servers.
type setting struct {
	name          string
	serve, origin []string
}

// settings are the ways that a restart may be recovered from. `make torture` goes through all; otherwise the
// seed picks one. A -serve or -origin of the command line replaces them.
var settings = []setting{
	{"default", nil, nil},
	{"reclaim, one client", strings.Fields("--restart grace --recovery reclaim --upstream-clients 1"), nil},
	{"resume, one client", strings.Fields("--restart grace --recovery resume --upstream-clients 1"), unretained},
	{"resume, four clients", strings.Fields("--restart grace --recovery resume --upstream-clients 4"), unretained},
	{"invisible, reclaim, four clients", strings.Fields("--restart auto --recovery reclaim --upstream-clients 4"), nil},
	{"delegations from the origin and to clients", nil, strings.Fields("--delegate on")},
	{"invisible, resume, one client", strings.Fields("--restart auto --recovery resume --upstream-clients 1"), unretained},
}

// of is the setting of a seed: the seed repeats it.
func of(seed uint64) setting { return settings[seed%uint64(len(settings))] }
