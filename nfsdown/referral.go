package nfsdown

import (
	"strings"
	"time"

	"holdfast/internal/nfs4"
)

// absent is the backend of a referral: a directory without anything. Clients are told NFS4ERR_MOVED before they see
// more of it than fs_locations (RFC 8881 11.3.1).
func absent(now time.Time) pseudo {
	t := &tree{byID: map[uint64]*node{}, byExp: map[uint32]*export{}, change: uint64(now.UnixNano()), born: now}
	t.root = t.newNode(nil, "")
	return pseudo{t}
}

// moved tells whether a ref lies in a file system that is absent here.
func (r *ref) moved() bool { return r.x != nil && len(r.x.Refer) > 0 }

// absentAttrs are the attributes that a file system has that is absent, RFC 8881 11.4.1.
var absentAttrs = nfs4.Bits(nfs4.FATTR4_FSID, nfs4.FATTR4_FS_LOCATIONS, nfs4.FATTR4_MOUNTED_ON_FILEID, nfs4.FATTR4_RDATTR_ERROR)

// locations is fs_locations of an export: where it is in our name space, and where else it can be had.
func (x *export) locations() *nfs4.FSLocations {
	l := &nfs4.FSLocations{Root: pathname(x.Path)}
	list := x.Refer
	if len(list) == 0 {
		list = x.Replicas
	}
	for _, at := range list {
		l.Locations = append(l.Locations, nfs4.FSLocation{Servers: at.Servers, RootPath: pathname(at.Path)})
	}
	return l
}

// pathname is pathname4 of a path; that of the root has no components.
func pathname(p string) []string {
	p = strings.Trim(cleanPath(p), "/")
	if p == "" {
		return nil
	}
	return strings.Split(p, "/")
}
