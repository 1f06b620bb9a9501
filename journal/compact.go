package journal

import (
	"context"
	"fmt"

	"holdfast/internal/crash"
)

var (
	crashCompactBefore = crash.Register("journal.compact.before")
	crashCompactMid    = crash.Register("journal.compact.mid")
)

// compactChunk is how many records go in one group.
const compactChunk = 512

// Compact deletes void records, a chunk at a time. Ending it anywhere is harmless. A record that is
// written again while it runs stays. It returns how many it found void and deleted.
func (j *Journal) Compact(ctx context.Context) (int, error) {
	if j.disk == nil {
		return 0, ErrReadOnly
	}
	var void []op
	err := j.store.view(func(v view) error {
		rules, err := loadRules(v)
		if err != nil {
			return err
		}
		var clients []op // last, as they say that their opens and locks are void
		err = scanRecords(v, func(key, value []byte, r any) (bool, error) {
			if !rules.void(r) {
				return true, ctx.Err()
			}
			o := op{key: append([]byte(nil), key...), only: recordHash(keyHash(key), value)}
			if _, ok := r.(*Client); ok {
				clients = append(clients, o)
			} else {
				void = append(void, o)
			}
			return true, ctx.Err()
		})
		void = append(void, clients...)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("journal %s: compact: %w", j.dir, err)
	}
	crashCompactBefore.Hit()
	deleted := 0
	for len(void) > 0 {
		n := min(len(void), compactChunk)
		b := &Batch{ops: void[:n:n]}
		for _, o := range b.ops {
			b.size += len(o.key) + opOverhead
		}
		if err := j.Commit(ctx, b); err != nil {
			return deleted, err
		}
		deleted += n
		void = void[n:]
		crashCompactMid.Hit()
	}
	return deleted, nil
}
