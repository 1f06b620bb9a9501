package v3

import (
	"net"
	"slices"
	"testing"

	"holdfast/internal/nfs3"
	"holdfast/nfsdown"
)

// TestCounters: what clients called, what of it failed, and how much they read and wrote. An answer that is given again
// is not counted again.
func TestCounters(t *testing.T) {
	w := newWorld(t, nil)
	p := w.peer(0)
	root := p.root()
	want(t, "MNT", p.mnt("/none").Status, nfs3.ErrNoEnt)
	fh := p.mkfile(root, "f", 0o644, "some text")
	call3[*nfs3.ReadRes](p, nfs3.ProcRead, &nfs3.ReadArgs{FH: fh, Count: 100})
	call3[*nfs3.ReadRes](p, nfs3.ProcRead, &nfs3.ReadArgs{FH: fh, Offset: 5, Count: 2})
	call3[*nfs3.LookupRes](p, nfs3.ProcLookup, &nfs3.Dirop{Dir: root, Name: "f"})
	call3[*nfs3.LookupRes](p, nfs3.ProcLookup, &nfs3.Dirop{Dir: root, Name: "none"})
	for _, proc := range []uint32{nfs3.ProcNull, nfs3.NumProcs, 99} {
		if _, err := p.raw(nfs3.Program, nfs3.Version, proc, nil); (err == nil) != (proc == nfs3.ProcNull) {
			t.Errorf("procedure %d: %v", proc, err)
		}
	}
	if _, err := p.raw(nfs3.Program, nfs3.Version, nfs3.ProcGetattr, nil); err == nil {
		t.Error("GETATTR without arguments was answered")
	}
	if _, err := p.raw(nfs3.MountProgram, nfs3.MountV3, 99, nil); err == nil {
		t.Error("a procedure of MOUNT that there is not was answered")
	}
	nc, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for range 2 {
		if _, err := nc.Write(record(7, nfs3.ProcMkdir, &nfs3.MkdirArgs{Where: nfs3.Dirop{Dir: root, Name: "once"}})); err != nil {
			t.Fatal(err)
		}
		reply(t, nc)
	}
	got := w.down.OpStats()
	for i := range got {
		got[i].Nanos = 0
	}
	if want := []nfsdown.OpStat{
		{Program: "NFSv3", Op: "NULL", Count: 1},
		{Program: "NFSv3", Op: "GETATTR", Count: 1, Errors: 1},
		{Program: "NFSv3", Op: "LOOKUP", Count: 2, Errors: 1},
		{Program: "NFSv3", Op: "READ", Count: 2, Out: 11},
		{Program: "NFSv3", Op: "WRITE", Count: 1, In: 9},
		{Program: "NFSv3", Op: "CREATE", Count: 1},
		{Program: "NFSv3", Op: "MKDIR", Count: 1},
		{Program: "NFSv3", Op: "ILLEGAL", Count: 2, Errors: 2},
		{Program: "MOUNT", Op: "MNT", Count: 2, Errors: 1},
		{Program: "MOUNT", Op: "ILLEGAL", Count: 1, Errors: 1},
	}; !slices.Equal(got, want) {
		t.Errorf("counted\n%+v, want\n%+v", got, want)
	}
}
