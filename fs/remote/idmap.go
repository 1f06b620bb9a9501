package remote

import (
	"os/user"
	"strconv"
	"strings"
	"sync"
)

// nobody is who an owner is that has no number here.
const nobody = 65534

// idmap turns the owner strings of RFC 8881 5.9 into numbers. A string of digits is the number, as
// AUTH_SYS servers send it; name@domain is looked up on this host, and is nobody if it is unknown.
type idmap struct {
	domain string // if not empty, names of other domains are nobody
	// lookups, replaced in tests
	lookupUser, lookupGroup func(name string) (string, error)

	mu sync.Mutex
	// +checklocks:mu
	users, groups map[string]uint32
}

// maxNames bounds each map: a hostile origin may send any number of names.
const maxNames = 10000

func newIDMap(domain string) *idmap {
	return &idmap{
		domain: domain,
		lookupUser: func(name string) (string, error) {
			u, err := user.Lookup(name)
			if err != nil {
				return "", err
			}
			return u.Uid, nil
		},
		lookupGroup: func(name string) (string, error) {
			g, err := user.LookupGroup(name)
			if err != nil {
				return "", err
			}
			return g.Gid, nil
		},
		users:  make(map[string]uint32),
		groups: make(map[string]uint32),
	}
}

func (m *idmap) uid(s string) uint32 { return m.id(s, m.users, m.lookupUser) }
func (m *idmap) gid(s string) uint32 { return m.id(s, m.groups, m.lookupGroup) }

func (m *idmap) id(s string, cache map[string]uint32, lookup func(string) (string, error)) uint32 {
	if n, ok := number(s); ok {
		return n
	}
	m.mu.Lock()
	n, ok := cache[s]
	m.mu.Unlock()
	if ok {
		return n
	}
	n = nobody
	name, domain, _ := strings.Cut(s, "@")
	if name != "" && (m.domain == "" || domain == "" || strings.EqualFold(domain, m.domain)) {
		if found, err := lookup(name); err == nil {
			if v, ok := number(found); ok {
				n = v
			}
		}
	}
	m.mu.Lock()
	if len(cache) >= maxNames {
		clear(cache)
	}
	cache[s] = n
	m.mu.Unlock()
	return n
}

// number parses what RFC 8881 5.9 has for numeric owners: digits without a leading zero.
func number(s string) (uint32, bool) {
	if s == "" || (s[0] == '0' && len(s) > 1) || s[0] == '+' {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil
}
