package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A syncer makes durable what Badger wrote into its logs. Badger would do it twice for each transaction,
// log by log; we ask once for each group. A log whose table is on disk (Badger syncs tables and
// manifest) may be gone at any time. It is used by one goroutine.
type syncer struct {
	dir  string
	list *os.File // the directory, to be read; nil before the first sync
	open map[string]*os.File
}

// sync returns when everything that was written is on disk.
func (s *syncer) sync() error {
	names, err := s.logs()
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	if s.open == nil {
		s.open = make(map[string]*os.File)
	}
	there := make(map[string]bool, len(names))
	fresh := false
	for _, name := range names {
		there[name] = true
		f := s.open[name]
		if f == nil {
			f, err = os.Open(filepath.Join(s.dir, name))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return fmt.Errorf("sync: %w", err)
			}
			s.open[name], fresh = f, true
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return fmt.Errorf("sync %s: %w", name, err)
		}
	}
	for name, f := range s.open {
		if !there[name] {
			delete(s.open, name)
			if err := f.Close(); err != nil {
				return fmt.Errorf("sync: %w", err)
			}
		}
	}
	if fresh {
		return syncDir(s.dir)
	}
	return nil
}

// logs lists the logs that are there. The directory stays open: it is read for each group.
func (s *syncer) logs() (names []string, err error) {
	if s.list == nil {
		s.list, err = os.Open(s.dir)
	} else {
		_, err = s.list.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, err
	}
	all, err := s.list.Readdirnames(-1)
	for _, name := range all {
		if strings.HasSuffix(name, ".mem") {
			names = append(names, name)
		}
	}
	return names, err
}

func (s *syncer) close() error {
	var errs []error
	if s.list != nil {
		errs = append(errs, s.list.Close())
		s.list = nil
	}
	for _, f := range s.open {
		errs = append(errs, f.Close())
	}
	s.open = nil
	return errors.Join(errs...)
}
