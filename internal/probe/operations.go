package probe

import (
	"context"
	"errors"

	"holdfast/internal/nfs4"
	"holdfast/internal/plain"
)

// Values of the whence of SEEK, RFC 7862 15.11.
const contentHole = 1

// tryOperations tries what is optional, on the scratch file. An answer other than "no such
// operation" means that it is there.
func (p *prober) tryOperations(ctx context.Context) error {
	p.say("operations of NFSv4.2")
	put, open := &nfs4.PutfhArgs{FH: p.file.fh}, p.file.open
	data := make([]byte, 64<<10)
	if _, err := p.holder.Do(ctx, true, put, &nfs4.WriteArgs{Stateid: open, Stable: nfs4.FILE_SYNC4, Data: data}); err != nil {
		return err
	}
	trials := []struct {
		name string
		ops  []nfs4.Args
	}{
		{"SEEK", []nfs4.Args{put, &nfs4.SeekArgs{Stateid: open, What: contentHole}}},
		{"ALLOCATE", []nfs4.Args{put, &nfs4.AllocateArgs{Stateid: open, Offset: 128 << 10, Length: 4096}}},
		{"DEALLOCATE", []nfs4.Args{put, &nfs4.DeallocateArgs{Stateid: open, Offset: 4096, Length: 4096}}},
		{"READ_PLUS", []nfs4.Args{put, &nfs4.ReadPlusArgs{Stateid: open, Count: 4096}}},
		{"COPY", []nfs4.Args{put, &nfs4.SavefhArgs{}, put, &nfs4.CopyArgs{SrcStateid: open, DstStateid: open, DstOffset: 256 << 10, Count: 4096, Consecutive: true, Synchronous: true}}},
		{"CLONE", []nfs4.Args{put, &nfs4.SavefhArgs{}, put, &nfs4.CloneArgs{SrcStateid: open, DstStateid: open, DstOffset: 512 << 10, Count: 4096}}},
		{"SETXATTR", []nfs4.Args{put, &nfs4.SetxattrArgs{Name: "holdfast-probe", Value: []byte("1")}}},
		{"GETXATTR", []nfs4.Args{put, &nfs4.GetxattrArgs{Name: "holdfast-probe"}}},
	}
	for _, t := range trials {
		if p.report.Minor < 2 {
			p.report.Operations[t.name] = No
			continue
		}
		_, err := p.holder.Do(ctx, true, t.ops...)
		var refused *plain.StatusError
		if err != nil && !errors.As(err, &refused) {
			return err
		}
		answer := Yes
		if err != nil {
			switch refused.Status {
			case nfs4.NFS4ERR_NOTSUPP, nfs4.NFS4ERR_OP_ILLEGAL:
				answer = No
			default:
				answer = Unknown
			}
		}
		p.report.Operations[t.name] = answer
	}
	return nil
}
