package v3

import (
	"context"
	"slices"
	"strings"
	"sync"

	"holdfast/fs"
	"holdfast/internal/nfs3"
	"holdfast/internal/rpc"
	"holdfast/internal/xdr"
	"holdfast/nfsdown"
)

// mountd is the MOUNT protocol, RFC 1813 5; version 1 for showmount(8) and umount of old clients. The list of who
// has mounted what is for people only and does not outlive the process.
type mountd struct {
	s     *Server
	stats *nfsdown.ProcStats

	mu sync.Mutex
	// +checklocks:mu
	list map[nfs3.MountEntry]struct{}
}

// maxMounts bounds the list; further mounts are not in it.
const maxMounts = 4096

// Versions are 1 to 3: 2 is 1 with PATHCONF, which nobody asks for.
func (m *mountd) Versions() (low, high uint32) { return nfs3.MountV1, nfs3.MountV3 }

// ServeCall serves a call.
func (m *mountd) ServeCall(ctx context.Context, p *nfsdown.Peer, in *rpc.InCall) {
	end := m.stats.Begin(in.Proc)
	sc := p.Scope(&in.Cred)
	host := p.Addr().Addr().String()
	var a nfs3.PathArgs
	if in.Proc == nfs3.MountMnt || in.Proc == nfs3.MountUmnt {
		if a.XDR(in.Body); in.Body.Err() != nil {
			_ = in.Error(rpc.GARBAGE_ARGS, 0, 0)
			end(true)
			return
		}
	}
	var res nfs3.Args = new(nfs3.Void)
	refused := false
	switch in.Proc {
	case nfs3.MountNull:
	case nfs3.MountMnt:
		r := m.mnt(ctx, sc, host, in.Vers, a.Path)
		res, refused = r, r.Status != nfs3.OK
	case nfs3.MountDump:
		res = m.dump()
	case nfs3.MountUmnt:
		m.mu.Lock()
		delete(m.list, nfs3.MountEntry{Host: host, Path: a.Path})
		m.mu.Unlock()
	case nfs3.MountUmntall:
		m.mu.Lock()
		for e := range m.list {
			if e.Host == host {
				delete(m.list, e)
			}
		}
		m.mu.Unlock()
	case nfs3.MountExport:
		res = exportList(sc)
	default:
		_ = in.Error(rpc.PROC_UNAVAIL, 0, 0)
		end(true)
		return
	}
	end(refused)
	m.s.reply(in, func(x *xdr.Codec) { res.XDR(x) })
}

// mnt gives the handle of an exported directory, or of one below it.
func (m *mountd) mnt(ctx context.Context, sc *nfsdown.Scope, host string, vers uint32, path string) *nfs3.MntRes {
	r := &nfs3.MntRes{V1: vers < nfs3.MountV3, Flavors: []uint32{rpc.AUTH_SYS}}
	if !strings.HasPrefix(path, "/") {
		r.Status = nfs3.ErrNoEnt
		return r
	}
	f, err := sc.Path(ctx, path)
	var at *fs.Attr
	if err == nil {
		at, err = f.Backend.GetAttr(ctx, fs.Root, f.Inner)
	}
	switch {
	case err != nil:
		r.Status = toStatus(err)
	case !f.Exported: // a directory above the exports is for NFSv4 only
		r.Status = nfs3.ErrAcces
	case at.Type != fs.Directory:
		r.Status = nfs3.ErrNotDir
	case len(f.Handle) > nfs3.FHSize, r.V1 && len(f.Handle) > nfs3.FHSize2:
		r.Status = nfs3.ErrNotSupp
	}
	if r.Status == nfs3.ErrJukebox {
		r.Status = nfs3.ErrServerFault // mountstat3 has no such word; mount(8) tries again
	}
	if r.Status != nfs3.OK {
		m.s.log.Info("MOUNT was refused", "client", host, "path", path, "status", r.Status, "err", err)
		return r
	}
	r.FH = string(f.Handle)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.list) < maxMounts && len(path) <= nfs3.MaxPath {
		m.list[nfs3.MountEntry{Host: host, Path: path}] = struct{}{}
	}
	return r
}

func (m *mountd) dump() *nfs3.DumpRes {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := &nfs3.DumpRes{}
	for e := range m.list {
		r.List = append(r.List, e)
	}
	slices.SortFunc(r.List, func(a, b nfs3.MountEntry) int {
		return strings.Compare(a.Host+"\x00"+a.Path, b.Host+"\x00"+b.Path)
	})
	return r
}

// exportList is what showmount -e prints. Patterns longer than the protocol takes are cut.
func exportList(sc *nfsdown.Scope) *nfs3.ExportRes {
	r := &nfs3.ExportRes{}
	for _, x := range sc.Exported() {
		e := nfs3.ExportEntry{Path: x.Path}
		for _, g := range x.Clients {
			if g == "*" || g == "" {
				e.Groups = nil // everybody
				break
			}
			e.Groups = append(e.Groups, g[:min(len(g), nfs3.MaxMntName)])
		}
		if len(e.Path) <= nfs3.MaxPath {
			r.List = append(r.List, e)
		}
	}
	return r
}
