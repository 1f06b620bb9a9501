package remote_test

import (
	"fmt"
	"testing"

	"holdfast/fs"
	"holdfast/fs/remote"
	"holdfast/internal/nfs4"
	"holdfast/nfsdown/state"
)

// Several upstream clients are counted together, also behind a mount that is soft.
func TestOperationsOfAllUpstreamClientsAreCounted(t *testing.T) {
	s := friendly(t, directory(t), state.RetainAlways)
	for _, soft := range []bool{false, true} {
		m := s.mount(t, t.TempDir(), func(c *remote.Config) { c.Clients, c.Soft = 4, soft })
		must(t, m.ReclaimComplete(t.Context()))
		before := m.OpStats()[nfs4.OP_OPEN].Count
		d := m.workdir(t)
		const n = 12
		for i := range n {
			m.create(t, d, fmt.Sprint("f", i), fs.Owner{Client: fmt.Sprint("end client ", i), Owner: "o"})
		}
		if got := m.OpStats()[nfs4.OP_OPEN].Count - before; got != n {
			t.Errorf("soft %v: %d OPENs are counted, want %d", soft, got, n)
		}
		m.crash()
	}
}
