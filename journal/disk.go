package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// badgerDisk is a running database and the mark beside it.
type badgerDisk struct {
	dir  string // of the journal
	db   *badger.DB
	logs syncer
	mark *os.File // nil before settle
}

var _ disk = (*badgerDisk)(nil)

// openBadger opens the database of the journal in dir.
func openBadger(dir string, o badger.Options) (*badgerDisk, error) {
	db, err := badger.Open(o)
	if err != nil {
		return nil, err
	}
	return &badgerDisk{dir: dir, db: db, logs: syncer{dir: filepath.Join(dir, dbName)}}, nil
}

func (d *badgerDisk) view(f func(view) error) error {
	return d.db.View(func(txn *badger.Txn) error { return f(badgerView{txn}) })
}

func (d *badgerDisk) begin() transaction { return badgerTxn{d.db.NewTransaction(true)} }

type badgerTxn struct{ txn *badger.Txn }

func (t badgerTxn) set(key, value []byte) error { return t.txn.Set(key, value) }
func (t badgerTxn) delete(key []byte) error     { return t.txn.Delete(key) }
func (t badgerTxn) commit() error               { return t.txn.Commit() }
func (t badgerTxn) discard()                    { t.txn.Discard() }

func (d *badgerDisk) settle(m mark) error {
	path := filepath.Join(d.dir, dbName)
	if err := errors.Join(d.logs.sync(), tighten(path), syncDir(path)); err != nil {
		return err
	}
	var err error
	d.mark, err = openMark(d.dir, m)
	return err
}

func (d *badgerDisk) sync() error { return d.logs.sync() }

func (d *badgerDisk) writeMark(m mark) error {
	if err := writeMark(d.mark, m); err != nil {
		return fmt.Errorf("write mark: %w", err)
	}
	return nil
}

func (d *badgerDisk) syncMark() error {
	if err := d.mark.Sync(); err != nil {
		return fmt.Errorf("sync mark: %w", err)
	}
	return nil
}

func (d *badgerDisk) close(failed bool) error {
	err := d.logs.close()
	if d.mark != nil {
		err = errors.Join(err, d.mark.Sync(), d.mark.Close())
	}
	if !failed {
		return errors.Join(err, d.db.Close(), tighten(filepath.Join(d.dir, dbName)))
	}
	// Badger tries again and again to write its tables, which a full disk will not take. What is
	// durable is in the log.
	ended := make(chan error, 1)
	go func() { ended <- d.db.Close() }()
	select {
	case e := <-ended:
		return errors.Join(err, e)
	case <-time.After(5 * time.Second):
		return err
	}
}
