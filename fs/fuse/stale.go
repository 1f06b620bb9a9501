package fuse

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// fsType is our type of file system in /proc/self/mountinfo.
const fsType = "fuse." + subtype

const subtype = "holdfast"

// probeTime bounds how long we wait for another daemon to say that it lives.
const probeTime = 5 * time.Second

// ErrMounted means that another daemon of ours serves the mount point.
var ErrMounted = errors.New("the mount point is in use by another holdfast")

// A mountEntry is a line of /proc/self/mountinfo, proc_pid_mountinfo(5).
type mountEntry struct {
	device string // major:minor
	point  string
	typ    string
	source string
}

// parseMountInfo reads mountinfo; lines that it does not understand are left out. Later mounts come
// later.
func parseMountInfo(r io.Reader) ([]mountEntry, error) {
	var out []mountEntry
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		head, tail, ok := strings.Cut(lines.Text(), " - ")
		h, t := strings.Fields(head), strings.Fields(tail)
		if !ok || len(h) < 6 || len(t) < 2 {
			continue
		}
		out = append(out, mountEntry{device: h[2], point: unescape(h[4]), typ: unescape(t[0]), source: unescape(t[1])})
	}
	return out, lines.Err()
}

// unescape undoes the kernel's octal escapes of blanks and backslashes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// topMount returns what is mounted on a directory, the last one if there are several.
func topMount(point string) (*mountEntry, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	mounts, err := parseMountInfo(f)
	if err != nil {
		return nil, err
	}
	var top *mountEntry
	for i := range mounts {
		if mounts[i].point == point {
			top = &mounts[i]
		}
	}
	return top, nil
}

// cleanStale unmounts what a dead daemon of ours left on the mount point: every access to it fails with
// ENOTCONN, and a new mount could not be made. What is alive, or is not ours, is left alone.
func cleanStale(point string) (cleaned int, err error) {
	for {
		top, err := topMount(point)
		if err != nil || top == nil || top.typ != fsType {
			return cleaned, err
		}
		switch err := probe(point); {
		case errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNABORTED):
		case errors.Is(err, errNoAnswer):
			return cleaned, fmt.Errorf("%w on %s, which does not answer; end it, or: umount -l %[2]s", ErrMounted, point)
		default:
			return cleaned, fmt.Errorf("%w: %s", ErrMounted, point)
		}
		if err := unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return cleaned, fmt.Errorf("unmount the dead mount on %s: %w", point, err)
		}
		cleaned++
	}
}

var errNoAnswer = errors.New("no answer")

// probe asks for the attributes of the root of a mount that is not of this process. A daemon that
// hangs keeps the asking thread, so it is not waited for.
func probe(point string) error {
	answer := make(chan error, 1)
	go func() {
		var st unix.Statx_t
		answer <- unix.Statx(unix.AT_FDCWD, point, unix.AT_STATX_FORCE_SYNC|unix.AT_NO_AUTOMOUNT, unix.STATX_MODE, &st)
	}()
	timer := time.NewTimer(probeTime)
	defer timer.Stop()
	select {
	case err := <-answer:
		return err
	case <-timer.C:
		return errNoAnswer
	}
}

// realPath is the path of a mount point as mountinfo has it. The last element is not looked at: it
// may be dead, or be ours.
func realPath(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return "", err
	}
	return filepath.Join(parent, filepath.Base(abs)), nil
}
