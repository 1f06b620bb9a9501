package nfsdown

import (
	"context"
	"errors"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast/internal/nfs4"
)

// Owners and groups go out as numbers in decimal, RFC 8881 5.9, as Linux servers send them to users of AUTH_SYS; or,
// with Config.IDDomain, as name@domain where this host knows a name. Numbers come in, and names as "user" or
// "user@domain" that are known here.

// idLife is how long the answers of the user and group databases are kept, and idMost how many.
const (
	idLife = 10 * time.Minute
	idMost = 16384
)

// ids keeps what the databases said.
type ids struct {
	now func() time.Time
	mu  sync.Mutex
	// +checklocks:mu
	known map[idKey]idValue
	// asking are the questions that somebody asks just now: the others wait for that answer.
	// +checklocks:mu
	asking map[idKey]chan struct{}
	limit  chan struct{} // questions at once
}

// idKey is a question: the groups of a user, the name of a user or group, or the number of a name.
type idKey struct {
	kind uint8
	id   uint32
	name string
}

const (
	askGroups uint8 = iota
	askUserName
	askGroupName
	askUID
	askGID
)

type idValue struct {
	name   string
	id     uint32
	groups []uint32
	ok     bool
	until  time.Time
}

// maxAsking is how many questions the databases are asked at once: a client can name any number of users.
const maxAsking = 8

func newIDs(now func() time.Time) *ids {
	return &ids{now: now, known: map[idKey]idValue{}, asking: map[idKey]chan struct{}{}, limit: make(chan struct{}, maxAsking)}
}

// get gives the answer to a question, by ask if it is not known. Questions that are the same are asked once. If ctx
// ends first there is no answer.
func (m *ids) get(ctx context.Context, k idKey, ask func() idValue) idValue {
	for {
		m.mu.Lock()
		if v, ok := m.known[k]; ok && m.now().Before(v.until) {
			m.mu.Unlock()
			return v
		}
		wait := m.asking[k]
		if wait == nil {
			m.asking[k] = make(chan struct{})
			m.mu.Unlock()
			break
		}
		m.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return idValue{}
		}
	}
	var v idValue
	select {
	case m.limit <- struct{}{}:
		v = ask()
		<-m.limit
		v.until = m.now().Add(idLife)
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.known) >= idMost {
		clear(m.known)
	}
	if !v.until.IsZero() {
		m.known[k] = v
	}
	close(m.asking[k])
	delete(m.asking, k)
	return v
}

// ownerString is owner or owner_group of a number.
func (s *Server) ownerString(id uint32, group bool) string {
	if s.cfg.IDDomain != "" {
		kind, find := askUserName, s.cfg.Names.UserName
		if group {
			kind, find = askGroupName, s.cfg.Names.GroupName
		}
		v := s.ids.get(s.ctx, idKey{kind: kind, id: id}, func() (v idValue) {
			v.name, v.ok = find(id)
			return v
		})
		if v.ok {
			return v.name + "@" + s.cfg.IDDomain
		}
	}
	return strconv.FormatUint(uint64(id), 10)
}

// ownerID understands owner and owner_group.
func (s *Server) ownerID(v string, group bool) (uint32, error) {
	if n, err := strconv.ParseUint(v, 10, 32); err == nil {
		return uint32(n), nil
	}
	if v == "" {
		return 0, nfs4.NFS4ERR_INVAL // no principal at all
	}
	name, domain, at := strings.Cut(v, "@")
	if name == "" || at && s.cfg.IDDomain != "" && !strings.EqualFold(domain, s.cfg.IDDomain) {
		return 0, nfs4.NFS4ERR_BADOWNER
	}
	kind, find := askUID, s.cfg.Names.UID
	if group {
		kind, find = askGID, s.cfg.Names.GID
	}
	found := s.ids.get(s.ctx, idKey{kind: kind, name: name}, func() (v idValue) {
		v.id, v.ok = find(name)
		return v
	})
	if !found.ok {
		return 0, nfs4.NFS4ERR_BADOWNER
	}
	return found.id, nil
}

// groupsOf are the groups that count for a user: those that the client sent, at most 16 of them; or with ManageGIDs
// those that this host says the user is in, however many. A user that is not known here keeps the client's.
func (s *Server) groupsOf(uid uint32, sent []uint32) []uint32 {
	if !s.cfg.ManageGIDs {
		return sent
	}
	v := s.ids.get(s.ctx, idKey{kind: askGroups, id: uid}, func() (v idValue) {
		ctx, stop := context.WithTimeout(s.ctx, resolveTime)
		defer stop()
		var err error
		v.groups, err = s.cfg.LookupGroups(ctx, uid)
		if err != nil && !errors.Is(err, errNoUser) {
			s.log.Warn("manage-gids: groups cannot be looked up", "uid", uid, "err", err)
		}
		v.ok = err == nil
		return v
	})
	if !v.ok {
		return sent
	}
	return v.groups
}

var errNoUser = errors.New("no such user")

// lookupGroups asks the name service of this host for the groups of a user, as getgrouplist(3) does.
func lookupGroups(ctx context.Context, uid uint32) ([]uint32, error) {
	out, err := exec.CommandContext(ctx, "id", "-G", "--", "+"+strconv.FormatUint(uint64(uid), 10)).Output()
	var status *exec.ExitError
	if errors.As(err, &status) && status.ExitCode() == 1 {
		return nil, errNoUser
	}
	if err != nil {
		return nil, err
	}
	groups := []uint32{}
	for _, f := range strings.Fields(string(out)) {
		n, err := strconv.ParseUint(f, 10, 32)
		if err != nil {
			return nil, err
		}
		groups = append(groups, uint32(n))
	}
	return groups, nil
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

func (localNames) UserName(uid uint32) (string, bool) {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return "", false
	}
	return u.Username, true
}

func (localNames) GroupName(gid uint32) (string, bool) {
	g, err := user.LookupGroupId(strconv.FormatUint(uint64(gid), 10))
	if err != nil {
		return "", false
	}
	return g.Name, true
}
