package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// OpenReadOnly opens the journal of a stopped or crashed instance, and changes nothing in dir.
// Load and Events work, Commit and Post return ErrReadOnly. It reads all into memory. If there is no
// journal the error is fs.ErrNotExist.
func OpenReadOnly(dir string) (*Journal, *Report, error) {
	lock, err := lockDir(dir, false)
	if err != nil {
		return nil, nil, err
	}
	j, r, err := openReadOnly(dir)
	if err != nil {
		return nil, nil, errors.Join(err, unlockDir(dir, lock, false))
	}
	j.lock = lock
	return j, r, nil
}

func openReadOnly(dir string) (*Journal, *Report, error) {
	m, ms, err := readMark(dir)
	if err != nil {
		return nil, nil, err
	}
	path, err := databaseDir(dir)
	if err != nil {
		return nil, nil, err
	}
	in, err := inspect(path, true)
	if err != nil {
		return nil, nil, err
	}
	if !in.files && ms == markMissing {
		return nil, nil, fmt.Errorf("journal %s: %w", dir, fs.ErrNotExist)
	}
	live := rawStore(in.collect(in.broken || in.behind(m.seq)))
	t, err := take(live)
	if err != nil {
		return nil, nil, fmt.Errorf("journal %s: %w", dir, err)
	}
	if len(t.bad) > 0 {
		bad := make(map[string]bool, len(t.bad))
		for _, k := range t.bad {
			bad[string(k)] = true
		}
		good := live[:0:0]
		for _, e := range live {
			if !bad[string(e.key)] {
				good = append(good, e)
			}
		}
		live = good
	}
	r := &Report{Dir: dir}
	r.judge(t, in, m, ms)
	j := &Journal{
		dir: dir, store: live, epoch: r.Epoch,
		failed: make(chan struct{}), news: make(chan struct{}), closed: make(chan struct{}),
		head: head{firstEvent: 1, nextEvent: 1, epoch: r.Epoch},
	}
	if t.head != nil {
		j.head = *t.head
	}
	if t.last >= j.head.nextEvent {
		j.head.nextEvent = t.last + 1
	}
	j.stats.Seq = r.Seq
	j.complete = r.Complete
	return j, r, nil
}

// Verify reads everything in dir, checks every checksum, and changes nothing.
func Verify(dir string) (*Report, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	j, r, err := OpenReadOnly(dir)
	if err != nil {
		return nil, err
	}
	return r, j.Close()
}
