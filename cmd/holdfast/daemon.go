package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"holdfast/internal/config"
)

// readyFD is the environment variable by which a daemon's starter hears how the start went.
const readyFD = "HOLDFAST_READY_FD"

// detach starts this command again in the background and waits until it is ready or has failed.
// The log must go to a file, since nobody reads stderr.
func detach(settings func() (*config.Config, error)) error {
	c, err := settings()
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var args []string
	for _, a := range os.Args[1:] {
		if a != "-d" && a != "--daemon" && a != "--daemon=true" {
			args = append(args, a)
		}
	}
	if strings.HasSuffix(os.Args[0], "mount.holdfast") {
		args = append([]string{"mount"}, args...)
	}
	logFile := c.LogFile
	if logFile == "" {
		logFile = filepath.Join(c.Dir(), "log")
		args = append(args, "--log-file", logFile)
	}
	if err := os.MkdirAll(c.Dir(), 0o700); err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), readyFD+"=3")
	cmd.ExtraFiles = []*os.File{w}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = null, null, null
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := errors.Join(w.Close(), null.Close()); err != nil {
		return err
	}
	line, err := bufio.NewReader(r).ReadString('\n')
	switch {
	case err == io.EOF && line == "":
		return fmt.Errorf("the daemon ended before it was ready; see its log: %s", logFile)
	case err != nil:
		return err
	}
	line = strings.TrimSpace(line)
	if line == "ready" {
		return cmd.Process.Release()
	}
	code, text, _ := strings.Cut(line, " ")
	n, err := strconv.Atoi(code)
	if err != nil {
		n = exitFailed
	}
	return withExit(n, errors.New(text))
}

// ready tells systemd and whoever detached us that service has begun.
func ready(status string) error {
	_, err := sd.SdNotify(false, sd.SdNotifyReady+"\nSTATUS="+status)
	return errors.Join(err, tellStarter("ready"))
}

// failed tells whoever detached us why it did not begin.
func failed(err error) error {
	if err == nil {
		return nil
	}
	var exit *exitError
	code := exitFailed
	if errors.As(err, &exit) {
		code = exit.code
	}
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	return errors.Join(err, tellStarter(fmt.Sprintf("%d %s", code, text)))
}

func tellStarter(line string) error {
	fd, err := strconv.Atoi(os.Getenv(readyFD))
	if err != nil {
		return nil // nobody waits
	}
	if err := os.Unsetenv(readyFD); err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "ready")
	_, err = f.WriteString(line + "\n")
	return errors.Join(err, f.Close())
}

// notifyStatus updates the line that systemctl status shows.
func notifyStatus(text string) {
	// without systemd there is nobody to tell; that is no failure
	_, _ = sd.SdNotify(false, "STATUS="+text)
}
