package journal

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// A view is a consistent state of all entries. Slices are valid only during the call they are given to.
type view interface {
	// get returns nil if there is no such key.
	get(key []byte) ([]byte, error)
	// scan calls f for each key that begins with prefix and is not before from, in order, until f
	// returns false or an error.
	scan(prefix, from []byte, f func(key, value []byte) (bool, error)) error
}

// A store gives views.
type store interface {
	view(f func(view) error) error
}

// A disk is what a journal that is written is kept on: a store with one writer.
type disk interface {
	store
	begin() transaction
	// settle makes all that was written durable, for the first time, and then writes the mark, durably.
	settle(m mark) error
	// sync returns when what was committed before is durable.
	sync() error
	// writeMark outlives the process, syncMark the kernel.
	writeMark(m mark) error
	syncMark() error
	close(failed bool) error
}

// A transaction is committed whole or not at all.
type transaction interface {
	set(key, value []byte) error
	delete(key []byte) error
	commit() error
	discard()
}

type badgerView struct{ txn *badger.Txn }

func (v badgerView) get(key []byte) ([]byte, error) {
	item, err := v.txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return item.ValueCopy(nil)
}

func (v badgerView) scan(prefix, from []byte, f func(key, value []byte) (bool, error)) error {
	o := badger.DefaultIteratorOptions
	o.PrefetchValues = false // they are in the same blocks
	o.Prefix = prefix
	it := v.txn.NewIterator(o)
	defer it.Close()
	more := true
	for it.Seek(slices.MaxFunc([][]byte{prefix, from}, bytes.Compare)); more && it.Valid(); it.Next() {
		item := it.Item()
		err := item.Value(func(value []byte) (err error) {
			more, err = f(item.Key(), value)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// rawStore is what inspect collected; it does not change.
type rawStore []rawEntry

func (s rawStore) view(f func(view) error) error { return f(s) }

func (s rawStore) find(key []byte) (int, bool) {
	return slices.BinarySearchFunc(s, key, func(e rawEntry, k []byte) int { return bytes.Compare(e.key, k) })
}

func (s rawStore) get(key []byte) ([]byte, error) {
	if i, ok := s.find(key); ok {
		return s[i].value, nil
	}
	return nil, nil
}

func (s rawStore) scan(prefix, from []byte, f func(key, value []byte) (bool, error)) error {
	i, _ := s.find(slices.MaxFunc([][]byte{prefix, from}, bytes.Compare))
	for ; i < len(s) && bytes.HasPrefix(s[i].key, prefix); i++ {
		if more, err := f(s[i].key, s[i].value); err != nil || !more {
			return err
		}
	}
	return nil
}

const memTableSize = 8 << 20

// badgerOptions keeps the database small: a few MB of memory, a replay that is bounded by two
// memtables, all values beside their keys (so the value log stays empty), no caches. Checksums are
// verified whenever a block is read, so that compaction cannot copy rot.
func badgerOptions(dir string, logger *slog.Logger) badger.Options {
	o := badger.DefaultOptions(dir)
	o.SyncWrites = false // see syncer: one fdatasync for each group, not two of Badger's
	o.MemTableSize = memTableSize
	o.NumMemtables = 2
	o.ValueThreshold = maxValueSize
	o.ValueLogFileSize = 1 << 20 // the least there is
	o.BlockCacheSize = 0
	o.IndexCacheSize = 0
	o.Compression = options.None
	o.ChecksumVerificationMode = options.OnBlockRead
	o.NumCompactors = 2
	o.NumGoroutines = 1
	o.NumVersionsToKeep = 1
	o.DetectConflicts = false
	o.MetricsEnabled = false
	o.Logger = badgerLog{logger}
	return o
}

// badgerLog passes on what Badger says; its small talk is for debugging.
type badgerLog struct{ l *slog.Logger }

func (b badgerLog) Errorf(f string, a ...any)   { b.l.Error(line(f, a), "from", "badger") }
func (b badgerLog) Warningf(f string, a ...any) { b.l.Warn(line(f, a), "from", "badger") }
func (b badgerLog) Infof(f string, a ...any)    { b.l.Debug(line(f, a), "from", "badger") }
func (b badgerLog) Debugf(string, ...any)       {}

func line(f string, a []any) string { return strings.TrimSpace(fmt.Sprintf(f, a...)) }
