package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"

	"holdfast/internal/crash"
)

const (
	dbName    = "db"
	newDBName = "db.new"
)

var (
	crashRebuilt = crash.Register("journal.rebuild.built")
	crashSwap    = crash.Register("journal.rebuild.swap")
)

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// databaseDir returns where the database is: in db, or in db.new if the process died between the two
// renames of swap.
func databaseDir(dir string) (string, error) {
	for _, name := range []string{dbName, newDBName} {
		if ok, err := exists(filepath.Join(dir, name)); ok || err != nil {
			return filepath.Join(dir, name), err
		}
	}
	return filepath.Join(dir, dbName), nil
}

// finishSwap ends or undoes a rebuild that a crash cut short.
func finishSwap(dir string) error {
	db, fresh := filepath.Join(dir, dbName), filepath.Join(dir, newDBName)
	hasDB, err := exists(db)
	if err != nil {
		return err
	}
	if hasDB {
		return os.RemoveAll(fresh)
	}
	if ok, err := exists(fresh); !ok || err != nil {
		return err
	}
	if err := os.Rename(fresh, db); err != nil {
		return err
	}
	return syncDir(dir)
}

// build makes a database in dir/db.new out of entries, as they are. It is complete when it returns.
func build(dir string, entries []rawEntry, logger *slog.Logger) error {
	path := filepath.Join(dir, newDBName)
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	db, err := badger.Open(badgerOptions(path, logger))
	if err != nil {
		return fmt.Errorf("build database: %w", err)
	}
	err = fill(db, entries)
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("build database: %w", err)
	}
	return syncDir(path)
}

func fill(db *badger.DB, entries []rawEntry) error {
	for len(entries) > 0 {
		n, size := 0, 0
		for n < len(entries) && n < maxGroupOps && (n == 0 || size < maxGroupBytes-len(entries[n].value)) {
			size += len(entries[n].key) + len(entries[n].value) + opOverhead
			n++
		}
		err := db.Update(func(txn *badger.Txn) error {
			for _, e := range entries[:n] {
				if err := txn.Set(e.key, e.value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		entries = entries[n:]
	}
	return nil
}

// swap puts what build made in the place of db, and returns the name under which db is kept.
func swap(dir string) (aside string, err error) {
	for n := 1; ; n++ {
		aside = fmt.Sprintf("damaged-%d", n)
		ok, err := exists(filepath.Join(dir, aside))
		if err != nil {
			return "", err
		}
		if !ok {
			break
		}
	}
	crashRebuilt.Hit()
	if err := os.Rename(filepath.Join(dir, dbName), filepath.Join(dir, aside)); err != nil {
		return "", err
	}
	if err := syncDir(dir); err != nil {
		return "", err
	}
	crashSwap.Hit()
	return aside, finishSwap(dir)
}
