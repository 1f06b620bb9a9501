package nfsdown

import (
	"os/user"
	"strconv"
	"strings"

	"holdfast/internal/nfs4"
)

// Owners and groups go out as numbers in decimal, RFC 8881 5.9; numbers come in, and names as
// "user" or "user@domain" that are known here.

func ownerString(id uint32) string { return strconv.FormatUint(uint64(id), 10) }

// ownerID understands owner and owner_group.
func (s *Server) ownerID(v string, group bool) (uint32, error) {
	if n, err := strconv.ParseUint(v, 10, 32); err == nil {
		return uint32(n), nil
	}
	if v == "" {
		return 0, nfs4.NFS4ERR_INVAL
	}
	name, domain, at := strings.Cut(v, "@")
	if name == "" || at && s.cfg.IDDomain != "" && !strings.EqualFold(domain, s.cfg.IDDomain) {
		return 0, nfs4.NFS4ERR_BADOWNER
	}
	find := s.cfg.Names.UID
	if group {
		find = s.cfg.Names.GID
	}
	if id, ok := find(name); ok {
		return id, nil
	}
	return 0, nfs4.NFS4ERR_BADOWNER
}

// localNames asks the user and group databases of this host.
type localNames struct{}

func (localNames) UID(name string) (uint32, bool) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(u.Uid, 10, 32)
	return uint32(n), err == nil
}

func (localNames) GID(name string) (uint32, bool) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(g.Gid, 10, 32)
	return uint32(n), err == nil
}
