package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dgraph-io/badger/v4"
)

// An inspection is what the files of a Badger directory are found to be, before Badger sees them.
// It changes nothing.
type inspection struct {
	dir    string
	files  bool // there is anything at all
	tables map[uint64]string
	known  map[uint64]bool // those in the manifest; nil if that cannot be read
	scans  []*tableScan    // of the tables that count
	logs   []*walScan
	// broken says that Badger must not be given these files: it would fail, or drop what is good.
	broken bool
	torn   bool     // a log ends in a group that was cut off
	faults []string // rot, in words
	junk   []string // files that hold nothing, and that Badger is better off without
}

func (in *inspection) fault(format string, args ...any) {
	in.faults = append(in.faults, fmt.Sprintf(format, args...))
}

// inspect reads all files. With keep it keeps what it read, for collect.
func inspect(dir string, keep bool) (*inspection, error) {
	in := &inspection{dir: dir, tables: make(map[uint64]string)}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return in, nil
	}
	if err != nil {
		return nil, err
	}
	var logs []string
	hasManifest, hasRegistry := false, false
	for _, e := range entries { // sorted by name, so logs are in order
		name := e.Name()
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() {
			continue
		}
		in.files = true
		var id uint64
		switch ext := filepath.Ext(name); {
		case name == badger.ManifestFilename:
			hasManifest = true
		case name == badger.KeyRegistryFileName:
			hasRegistry = true
		case name == "DISCARD":
			err = in.inspectUnused(name, 0)
		case ext == ".vlog":
			err = in.inspectUnused(name, walHeader)
			in.junk = append(in.junk, name)
		case ext == ".mem":
			if info.Size() == 0 { // created, and then the process died
				in.junk = append(in.junk, name)
			} else {
				logs = append(logs, name)
			}
		case ext == ".sst":
			if _, err := fmt.Sscanf(name, "%d.sst", &id); err == nil {
				in.tables[id] = name
			}
		}
		if err != nil {
			return nil, err
		}
	}
	if !in.files {
		return in, nil
	}
	if hasRegistry {
		if err := in.inspectRegistry(); err != nil {
			return nil, err
		}
	}
	if err := in.inspectManifest(hasManifest, len(logs) > 0); err != nil {
		return nil, err
	}
	if err := in.inspectTables(keep); err != nil {
		return nil, err
	}
	return in, in.inspectLogs(logs, keep)
}

// inspectUnused looks at a file that has only zeros after its header, since we have no value log.
func (in *inspection) inspectUnused(name string, header int) error {
	b, err := os.ReadFile(filepath.Join(in.dir, name))
	if err != nil {
		return err
	}
	zero := len(bytes.Trim(b[min(header, len(b)):], "\x00")) == 0
	if header == walHeader && len(b) >= header {
		zero = zero && len(bytes.Trim(b[:8], "\x00")) == 0 // the key id
	}
	if !zero {
		in.fault("%s: bytes that nobody wrote; the file is not used", name)
		in.junk = append(in.junk, name)
	}
	return nil
}

// inspectRegistry checks the key registry, which without encryption is 16 random bytes and a word.
func (in *inspection) inspectRegistry() error {
	b, err := os.ReadFile(filepath.Join(in.dir, badger.KeyRegistryFileName))
	if err != nil {
		return err
	}
	if len(b) != 16+12 || string(b[16:]) != "Hello Badger" {
		in.fault("%s: unreadable; it holds no key and is made anew", badger.KeyRegistryFileName)
		in.junk = append(in.junk, badger.KeyRegistryFileName)
	}
	return nil
}

func (in *inspection) inspectManifest(has, logs bool) error {
	if !has {
		if len(in.tables) > 0 || logs {
			in.fault("%s: missing", badger.ManifestFilename)
			in.broken = true
		}
		return nil
	}
	f, err := os.Open(filepath.Join(in.dir, badger.ManifestFilename))
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	m, end, err := badger.ReplayManifestFile(f, 0, badger.Options{})
	if err != nil {
		in.fault("%s: %v", badger.ManifestFilename, err)
		in.broken = true
		return nil
	}
	if end != info.Size() {
		in.fault("%s: cut off at byte %d of %d", badger.ManifestFilename, end, info.Size())
		in.broken = true
		return nil
	}
	in.known = make(map[uint64]bool, len(m.Tables))
	for id := range m.Tables {
		in.known[id] = true
		if in.tables[id] == "" {
			in.fault("%06d.sst: missing", id)
			in.broken = true
		}
	}
	return nil
}

func (in *inspection) inspectTables(keep bool) error {
	ids := make([]uint64, 0, len(in.tables))
	for id := range in.tables {
		if in.known == nil || in.known[id] { // others were being made, or about to be deleted
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		data, err := os.ReadFile(filepath.Join(in.dir, in.tables[id]))
		if err != nil {
			return err
		}
		t := scanTable(in.tables[id], data)
		if len(t.faults) > 0 {
			in.broken = true
			in.faults = append(in.faults, t.faults...)
		}
		if !keep {
			t.blocks = nil
		}
		in.scans = append(in.scans, t)
	}
	return nil
}

func (in *inspection) inspectLogs(names []string, keep bool) error {
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(in.dir, name))
		if err != nil {
			return err
		}
		w := scanWAL(name, data)
		switch {
		case w.keyID != 0:
			in.fault("%s: bad header", name)
			in.broken = true
		case w.later:
			in.fault("%s: bad bytes at %d, with good records behind them", name, w.end)
			in.broken = true
		case w.junk > 0:
			in.torn = true
		}
		if !keep {
			w.entries = nil
			if w.junk == 0 {
				w.beyond = nil
			}
		}
		in.logs = append(in.logs, w)
	}
	return nil
}

// behind tells that the logs hold parts of a group that the mark says was acknowledged, so that
// they are worth keeping.
func (in *inspection) behind(marked uint64) bool {
	for _, w := range in.logs {
		if len(w.beyond) == 0 {
			continue
		}
		if len(w.seqs) == 0 || w.seqs[len(w.seqs)-1] < marked {
			return true
		}
	}
	return false
}

// gaps returns the groups after base that are missing between those in the logs, and between the
// last of them and the mark, if there are any in the logs.
func (in *inspection) gaps(base, marked uint64) []SeqRange {
	var seqs []uint64
	for _, w := range in.logs {
		seqs = append(seqs, w.seqs...)
	}
	slices.Sort(seqs)
	var out []SeqRange
	for i, s := range seqs {
		if i > 0 && s > seqs[i-1]+1 && s > base {
			out = append(out, SeqRange{First: max(seqs[i-1]+1, base), Last: s - 1})
		}
	}
	if n := len(seqs); n > 0 && seqs[n-1] < marked {
		out = append(out, SeqRange{First: seqs[n-1] + 1, Last: marked})
	}
	return out
}

// collect returns the live entries of everything that is good, sorted by key; inspect must have kept
// it. all includes what stands beyond the end of the logs.
func (in *inspection) collect(all bool) []rawEntry {
	newest := make(map[string]rawEntry)
	add := func(e rawEntry) {
		if strings.IndexByte(kinds, e.key[0]) < 0 { // one of Badger's own
			return
		}
		// Within one version the same entry may stand in a log and in a table.
		if old, ok := newest[string(e.key)]; !ok || e.version >= old.version {
			newest[string(e.key)] = e
		}
	}
	for _, t := range in.scans {
		for _, b := range t.blocks {
			entries, err := blockEntries(b)
			if err != nil {
				continue // scanTable has looked at it
			}
			for _, e := range entries {
				add(e)
			}
		}
	}
	for _, w := range in.logs {
		for _, e := range w.entries {
			add(e)
		}
		if all {
			for _, e := range w.beyond {
				add(e)
			}
		}
	}
	live := make([]rawEntry, 0, len(newest))
	for _, e := range newest {
		if e.meta&metaDelete == 0 {
			live = append(live, e)
		}
	}
	slices.SortFunc(live, func(a, b rawEntry) int { return bytes.Compare(a.key, b.key) })
	return live
}
