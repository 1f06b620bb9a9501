package fuse

import (
	"bytes"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"holdfast/fs"
)

// credTTL bounds how long a process that calls setgroups and nothing else keeps its old groups.
const credTTL = time.Second

// maxCreds bounds the memory of the cache; it is emptied when full.
const maxCreds = 4096

// creds remembers the supplementary groups of processes: FUSE tells uid and gid, not the groups.
// A process is known by its number and by the inode of its directory in /proc, which is another one
// for every process, so that a number that is used again does not inherit.
type creds struct {
	machine string
	mu      sync.Mutex
	known   map[credKey]credEntry // guarded by mu
}

type credKey struct {
	pid, uid, gid uint32
	ino           uint64
}

type credEntry struct {
	cred *fs.Cred
	read time.Time
}

// of returns the credential of a caller. Without a process (pid 0: the kernel itself, or a process
// of another PID namespace) there are no groups.
func (c *creds) of(uid, gid, pid uint32) *fs.Cred {
	dir := "/proc/" + strconv.FormatUint(uint64(pid), 10)
	var st syscall.Stat_t
	if pid == 0 || syscall.Stat(dir, &st) != nil {
		return &fs.Cred{UID: uid, GID: gid, Machine: c.machine}
	}
	key := credKey{pid, uid, gid, st.Ino}
	now := time.Now()
	c.mu.Lock()
	entry, ok := c.known[key]
	c.mu.Unlock()
	if ok && now.Sub(entry.read) < credTTL {
		return entry.cred
	}
	cred := &fs.Cred{UID: uid, GID: gid, Machine: c.machine}
	if text, err := os.ReadFile(dir + "/status"); err == nil {
		cred.Groups = parseGroups(text)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= maxCreds {
		c.known = make(map[credKey]credEntry)
	}
	c.known[key] = credEntry{cred, now}
	return cred
}

// parseGroups reads the Groups line of /proc/PID/status.
func parseGroups(text []byte) []uint32 {
	for line := range bytes.Lines(text) {
		list, ok := bytes.CutPrefix(line, []byte("Groups:"))
		if !ok {
			continue
		}
		var groups []uint32
		for _, word := range bytes.Fields(list) {
			gid, err := strconv.ParseUint(string(word), 10, 32)
			if err != nil {
				return nil
			}
			groups = append(groups, uint32(gid))
		}
		return groups
	}
	return nil
}

// cred is whom the request is done for.
func (r *request) cred() *fs.Cred {
	if r.who == nil {
		r.who = r.srv.creds.of(r.head.Uid, r.head.Gid, r.head.Pid)
	}
	return r.who
}
