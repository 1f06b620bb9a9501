package journal

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
)

// A backup is a line, then entries of (key length, value length, key, value) with lengths as uvarints,
// sorted by key; then two zeros, and the CRC-32C (4) of all before.
const backupMagic = "holdfast journal backup 1\n"

// restoreJump is how far the epoch moves in a Restore: more than the boots that may have been between
// the backup and now, so that no client id and no stateid is given out twice.
const restoreJump = 1000

// Backup writes all records as of now to w. It does not stop commits.
func (j *Journal) Backup(w io.Writer) error {
	sum := crc32.New(castagnoli)
	out := bufio.NewWriter(io.MultiWriter(w, sum))
	out.WriteString(backupMagic) // errors stick
	var lengths []byte
	err := j.store.view(func(v view) error {
		return v.scan(nil, nil, func(key, value []byte) (bool, error) {
			if _, _, err := unseal(key, value); err != nil {
				return false, err
			}
			lengths = binary.AppendUvarint(lengths[:0], uint64(len(key)))
			lengths = binary.AppendUvarint(lengths, uint64(len(value)))
			out.Write(lengths)
			out.Write(key)
			_, err := out.Write(value)
			return true, err
		})
	})
	if err != nil {
		return fmt.Errorf("journal %s: backup: %w", j.dir, err)
	}
	out.Write([]byte{0, 0})
	if err := out.Flush(); err != nil {
		return fmt.Errorf("journal %s: backup: %w", j.dir, err)
	}
	if _, err := w.Write(binary.BigEndian.AppendUint32(nil, sum.Sum32())); err != nil {
		return fmt.Errorf("journal %s: backup: %w", j.dir, err)
	}
	return nil
}

// summed computes the checksum of what is read.
type summed struct {
	r   *bufio.Reader
	crc uint32
}

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.crc = crc32.Update(s.crc, castagnoli, p[:n])
	return n, err
}

func (s *summed) ReadByte() (byte, error) {
	b, err := s.r.ReadByte()
	if err == nil {
		s.crc = crc32.Update(s.crc, castagnoli, []byte{b})
	}
	return b, err
}

var errBackup = errors.New("not a backup of a journal, or not all of it")

func readBackup(r io.Reader) ([]rawEntry, error) {
	in := &summed{r: bufio.NewReader(r)}
	magic := make([]byte, len(backupMagic))
	if _, err := io.ReadFull(in, magic); err != nil || string(magic) != backupMagic {
		return nil, errBackup
	}
	var entries []rawEntry
	for {
		klen, err := binary.ReadUvarint(in)
		if err != nil {
			return nil, errBackup
		}
		vlen, err := binary.ReadUvarint(in)
		if err != nil || klen > maxKeySize || vlen > maxValueSize || (klen == 0) != (vlen == 0) {
			return nil, errBackup
		}
		if klen == 0 {
			break
		}
		// Growing with what comes keeps a lying length from taking memory.
		var b bytes.Buffer
		if n, err := io.CopyN(&b, in, int64(klen+vlen)); err != nil || n != int64(klen+vlen) {
			return nil, errBackup
		}
		e := rawEntry{key: b.Bytes()[:klen:klen], value: b.Bytes()[klen:]}
		if n := len(entries); n > 0 && bytes.Compare(entries[n-1].key, e.key) >= 0 {
			return nil, errBackup
		}
		entries = append(entries, e)
	}
	want := in.crc
	var sum [4]byte
	if _, err := io.ReadFull(in, sum[:]); err != nil || binary.BigEndian.Uint32(sum[:]) != want {
		return nil, errBackup
	}
	return entries, nil
}

// Restore makes a journal in dir, which must be empty or absent, from what Backup wrote. As there
// may be locks that were granted after the backup, the journal is incomplete until the next grace
// period has ended.
func Restore(dir string, r io.Reader) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	lock, err := lockDir(dir, true)
	if err != nil {
		return err
	}
	err = restore(dir, r)
	return errors.Join(err, unlockDir(dir, lock, true))
}

func restore(dir string, r io.Reader) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.Name() != lockName {
			return fmt.Errorf("restore journal: %s is not empty", dir)
		}
	}
	entries, err := readBackup(r)
	if err != nil {
		return fmt.Errorf("restore journal: %w", err)
	}
	t, err := take(rawStore(entries))
	if err != nil {
		return fmt.Errorf("restore journal: %w", err)
	}
	if t.head == nil || len(t.bad) > 0 || t.count != t.head.count || t.sum != t.head.sum {
		return fmt.Errorf("restore journal: %w", errBackup)
	}
	h := *t.head
	if h.epoch > math.MaxUint32-restoreJump-1 {
		return errors.New("restore journal: boot count overflow")
	}
	h.epoch += restoreJump
	h.incompleteSince = h.epoch + 1 // what the first boot will be
	h.seq++
	for i := range entries {
		if entries[i].key[0] == kindHead {
			entries[i].value = seal(headKey, encodeHead(&h), h.seq)
		}
	}
	if err := build(dir, entries, slog.New(slog.DiscardHandler)); err != nil {
		return fmt.Errorf("restore journal: %w", err)
	}
	// With the mark first, a crash before the rename leaves a journal that finishSwap completes.
	f, err := openMark(dir, mark{layout: layoutVersion, seq: h.seq, epoch: h.epoch})
	if err != nil {
		return fmt.Errorf("restore journal: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("restore journal: %w", err)
	}
	if err := tighten(filepath.Join(dir, newDBName)); err != nil {
		return err
	}
	return finishSwap(dir)
}
