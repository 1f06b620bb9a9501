package fuse

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// raiseReadAhead lets the kernel read further ahead in our files than the 128 KiB that FUSE can ask
// for. It needs root; without it reads are slower, nothing else.
func raiseReadAhead(device string, kib int) error {
	path := filepath.Join("/sys/class/bdi", device, "read_ahead_kb")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if now, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && now >= kib {
		return nil
	}
	return os.WriteFile(path, []byte(strconv.Itoa(kib)), 0)
}

// adoptDevice keeps /dev/fuse from programs that the daemon starts: while one of them has it, the
// mount would outlive the daemon, and hang. It returns the connection of the mount with that device
// number once more, for disconnected; nil if the kernel does not tell which it is.
func adoptDevice(device string) (conn *os.File, err error) {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, err
	}
	_, minor, _ := strings.Cut(device, ":")
	for _, fd := range fds {
		target, err := os.Readlink("/proc/self/fd/" + fd.Name())
		n, nerr := strconv.Atoi(fd.Name())
		if err != nil || nerr != nil || target != "/dev/fuse" {
			continue
		}
		syscall.CloseOnExec(n)
		info, err := os.ReadFile("/proc/self/fdinfo/" + fd.Name())
		if err != nil || conn != nil || connectionOf(info) != minor || minor == "" {
			continue
		}
		if dup, err := unix.FcntlInt(uintptr(n), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			conn = os.NewFile(uintptr(dup), "/dev/fuse")
		}
	}
	return conn, nil
}

// abortConnection ends a connection whose mount is in no directory any more.
func abortConnection(device string) error {
	_, minor, _ := strings.Cut(device, ":")
	return os.WriteFile(filepath.Join("/sys/fs/fuse/connections", minor, "abort"), []byte("1"), 0)
}

// connectionOf reads the number of the connection from /proc/self/fdinfo.
func connectionOf(info []byte) string {
	for line := range strings.Lines(string(info)) {
		if n, ok := strings.CutPrefix(line, "fuse_connection:"); ok {
			return strings.TrimSpace(n)
		}
	}
	return ""
}

// disconnected tells whether the kernel has ended a connection.
func disconnected(conn *os.File) (dead bool) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	err = raw.Control(func(fd uintptr) {
		poll := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(poll, 0)
		dead = err == nil && n > 0 && poll[0].Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0
	})
	return dead && err == nil
}
