package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
)

// A Memory is a disk for journals that are opened again thousands of times, to explore what a crash may leave:
// the entries outlive the Journal, and are never written to a file. All else is the code of every journal.
// It is for tests.
type Memory struct {
	dir string
	db  *badger.DB
}

// NewMemory makes an empty one. dir is for the small files beside the database; nobody else may use it.
func NewMemory(dir string) (*Memory, error) {
	o := badgerOptions("", nil)
	o.InMemory, o.SyncWrites, o.Logger = true, false, nil
	o.MemTableSize, o.ValueThreshold = 1<<20, 1<<16
	db, err := badger.Open(o)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return &Memory{dir, db}, os.MkdirAll(filepath.Join(dir, dbName), 0o700)
}

// Open is the package's Open. The Journal before it must have been closed.
func (m *Memory) Open(o Options) (*Journal, *Report, error) {
	o.setDefaults()
	o.MinFree = -1
	lock, err := lockDir(m.dir, true)
	if err != nil {
		return nil, nil, err
	}
	mk, state, err := readMark(m.dir)
	if err == nil {
		r := &Report{Dir: m.dir}
		var j *Journal
		if j, err = start(m.dir, o, lock, m.db, r, &inspection{files: state == markGood}, mk, state); err == nil {
			j.lasting = true
			go j.commitLoop()
			return j, r, nil
		}
	}
	return nil, nil, errors.Join(err, unlockDir(m.dir, lock, true))
}

// Close ends it, and all is gone.
func (m *Memory) Close() error { return m.db.Close() }
