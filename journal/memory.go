package journal

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"sync"
)

// A Memory is a disk for journals that are opened again millions of times, to explore what a crash may leave:
// the entries outlive the Journal, are copied in no time, and are never written to a file. All else is the
// code of every journal. It is for tests.
type Memory struct {
	mu      sync.RWMutex
	entries map[string][]byte // guarded by mu; values are never changed
	mark    mark              // guarded by mu
	marked  bool              // guarded by mu
}

// NewMemory makes an empty one.
func NewMemory() *Memory { return &Memory{entries: map[string][]byte{}} }

// Clone is a copy of what is there now.
func (m *Memory) Clone() *Memory {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return &Memory{entries: maps.Clone(m.entries), mark: m.mark, marked: m.marked}
}

// Open is the package's Open. The Journal before it must have been closed.
func (m *Memory) Open(o Options) (*Journal, *Report, error) {
	o.setDefaults()
	o.MinFree = -1
	state := markMissing
	if m.marked {
		state = markGood
	}
	r := &Report{}
	j, err := start("memory", o, nil, memoryDisk{m}, r, &inspection{files: m.marked}, m.mark, state)
	if err != nil {
		return nil, nil, err
	}
	go j.commitLoop()
	return j, r, nil
}

// Load is what Journal.Load of the next boot would find if these batches were durable too: what can be
// reclaimed. Epoch is 0. The batches are not changed.
func (m *Memory) Load(with ...*Batch) (*Snapshot, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	all := m.entries
	if len(with) > 0 {
		all = maps.Clone(all)
	}
	s := &Snapshot{}
	for _, b := range with {
		for _, o := range b.ops {
			if o.value == nil {
				delete(all, string(o.key))
			} else {
				all[string(o.key)] = seal(o.key, bytes.Clone(o.value), 0)
			}
		}
		if b.endGrace == 0 {
			continue
		}
		body, _, err := unseal(headKey, all[string(headKey)])
		if err != nil {
			return nil, err
		}
		h, err := decodeHead(headKey, body)
		if err != nil {
			return nil, err
		}
		h.endedGrace = max(h.endedGrace, b.endGrace)
		all[string(headKey)] = seal(headKey, encodeHead(h), h.seq)
	}
	return s, s.read(memoryView(all))
}

type memoryDisk struct{ m *Memory }

var _ disk = memoryDisk{}

func (d memoryDisk) view(f func(view) error) error {
	d.m.mu.RLock()
	defer d.m.mu.RUnlock()
	return f(memoryView(d.m.entries))
}

type memoryView map[string][]byte

func (v memoryView) get(key []byte) ([]byte, error) { return v[string(key)], nil }

func (v memoryView) scan(prefix, from []byte, f func(key, value []byte) (bool, error)) error {
	first := string(slices.MaxFunc([][]byte{prefix, from}, bytes.Compare))
	keys := make([]string, 0, len(v))
	for k := range v {
		if k >= first && strings.HasPrefix(k, string(prefix)) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		if more, err := f([]byte(k), v[k]); err != nil || !more {
			return err
		}
	}
	return nil
}

func (d memoryDisk) begin() transaction { return &memoryTxn{d.m, map[string][]byte{}} }

// memoryTxn is the changes; nil deletes.
type memoryTxn struct {
	m       *Memory
	changes map[string][]byte
}

func (t *memoryTxn) set(key, value []byte) error {
	t.changes[string(key)] = bytes.Clone(value)
	return nil
}

func (t *memoryTxn) delete(key []byte) error {
	t.changes[string(key)] = nil
	return nil
}

func (t *memoryTxn) commit() error {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	for k, v := range t.changes {
		if v == nil {
			delete(t.m.entries, k)
		} else {
			t.m.entries[k] = v
		}
	}
	return nil
}

func (t *memoryTxn) discard() {}

func (d memoryDisk) settle(m mark) error { return d.writeMark(m) }

func (d memoryDisk) sync() error { return nil }

func (d memoryDisk) writeMark(m mark) error {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	d.m.mark, d.m.marked = m, true
	return nil
}

func (d memoryDisk) syncMark() error { return nil }

func (d memoryDisk) close(bool) error { return nil }
