package journal

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	markName = "MARK"
	// layoutVersion is that of the whole directory. It changes only when an older Holdfast could do
	// harm to what a newer one wrote.
	layoutVersion = 2

	markMagic = "HFJM"
	markSize  = 32 // of one copy: magic (4), layout (4), seq (8), epoch (4), kernel (8), CRC (4)
)

// A mark says what was acknowledged. It is read before anything else is touched.
type mark struct {
	layout uint32
	seq    uint64
	epoch  uint32
	kernel [8]byte // which boot of the kernel wrote it; zero in layout 1, or if it is not known
}

func (m mark) encode() []byte {
	b := make([]byte, 0, 2*markSize)
	b = append(b, markMagic...)
	b = binary.BigEndian.AppendUint32(b, m.layout)
	b = binary.BigEndian.AppendUint64(b, m.seq)
	b = binary.BigEndian.AppendUint32(b, m.epoch)
	b = append(b, m.kernel[:]...)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return append(b, b...)
}

func decodeMark(b []byte) (m mark, ok bool) {
	if len(b) < markSize || string(b[:4]) != markMagic ||
		crc32.Checksum(b[:markSize-4], castagnoli) != binary.BigEndian.Uint32(b[markSize-4:]) {
		return m, false
	}
	return mark{
		layout: binary.BigEndian.Uint32(b[4:]),
		seq:    binary.BigEndian.Uint64(b[8:]),
		epoch:  binary.BigEndian.Uint32(b[16:]),
		kernel: [8]byte(b[20:28]),
	}, true
}

// markState is how a mark was found.
type markState uint8

const (
	markGood markState = iota
	markWorn           // one copy is bad
	markBad            // both are
	markMissing
)

func readMark(dir string) (mark, markState, error) {
	b, err := os.ReadFile(filepath.Join(dir, markName))
	if errors.Is(err, fs.ErrNotExist) {
		return mark{}, markMissing, nil
	}
	if err != nil {
		return mark{}, markBad, err
	}
	first, ok1 := decodeMark(b)
	second, ok2 := decodeMark(b[min(len(b), markSize):])
	var m mark
	state := markGood
	switch {
	case ok1 && ok2 && first == second && len(b) == 2*markSize:
		m = first
	case ok1 && ok2 && second.seq > first.seq, !ok1 && ok2:
		m, state = second, markWorn
	case ok1:
		m, state = first, markWorn
	default:
		return mark{}, markBad, nil
	}
	if m.layout > layoutVersion {
		return m, state, &VersionError{Dir: dir, Found: m.layout, Known: layoutVersion}
	}
	return m, state, nil
}

// openMark opens the file for writing, writes m, and syncs file and directory.
func openMark(dir string, m mark) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, markName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = writeMark(f, m)
	if err == nil {
		err = f.Truncate(2 * markSize)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func writeMark(f *os.File, m mark) error {
	_, err := f.WriteAt(m.encode(), 0)
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
