package journal

import (
	"crypto/sha256"
	"sync"

	"holdfast/internal/bootid"
)

// kernelBoot is a digest of what names the running boot of the kernel; zero if that is not known.
var kernelBoot = sync.OnceValue(func() (k [8]byte) {
	if id, err := bootid.Read(); err == nil {
		sum := sha256.Sum256([]byte(id))
		copy(k[:], sum[:])
	}
	return k
})

// partial says why what was found is not all that the clients were told; empty if it is. What shrinks
// a client's state is written before the answer but not synced, so it is there after the death of the
// process, and may be missing after that of the kernel.
func partial(r *Report, m mark, h *head, kernel [8]byte) string {
	switch {
	case r.New:
		return ""
	case r.State >= Damaged || !r.Complete:
		return "the journal is damaged"
	case m.layout < layoutVersion:
		return "the journal was written by an older Holdfast, which did not record stateids"
	case m.kernel == [8]byte{}:
		return "the journal was restored, or failed at its last use"
	case kernel == [8]byte{}:
		return bootid.File + " cannot be read, so it is not known whether the host was rebooted"
	case m.kernel != kernel:
		return "the host was rebooted: what clients gave back last may not be in the journal"
	case h.graceSince != 0:
		return "the last grace period did not end"
	}
	return ""
}

// markOf is the mark of a group.
func (j *Journal) markOf(h *head) mark {
	return mark{layout: layoutVersion, seq: h.seq, epoch: h.epoch, kernel: j.kernel}
}
