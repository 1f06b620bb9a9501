package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// serverID is so_major_id and the scope of our server (RFC 8881 2.5): made once, kept beside the
// journal, so that a restart, also on another host with this state, is a restart of the same server.
func serverID(dir string) (string, error) {
	path := filepath.Join(dir, "server-id")
	b, err := os.ReadFile(path)
	switch {
	case err == nil && len(b) == 32:
		return "holdfast-" + string(b), nil
	case err == nil:
		return "", fmt.Errorf("%s is damaged: it must have 32 hex digits; without it clients cannot reclaim. Restore it, or remove it and lose their locks", path)
	case !errors.Is(err, os.ErrNotExist):
		return "", err
	}
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return "", err
	}
	text := hex.EncodeToString(id[:])
	f, err := os.CreateTemp(dir, "server-id-")
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return "", err
	}
	d, err := os.Open(dir)
	if err != nil {
		return "", err
	}
	return "holdfast-" + text, errors.Join(d.Sync(), d.Close())
}
