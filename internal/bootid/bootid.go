// Package bootid tells the boots of this host apart: what is in the page cache outlives a process, and no boot.
package bootid

import (
	"errors"
	"os"
	"strings"
)

// File is where the kernel says which boot it is in.
const File = "/proc/sys/kernel/random/boot_id"

// Read is the name of the running boot.
func Read() (string, error) {
	b, err := os.ReadFile(File)
	if err != nil {
		return "", err
	}
	id := strings.TrimSpace(string(b))
	if id == "" {
		return "", errors.New(File + " is empty")
	}
	return id, nil
}
