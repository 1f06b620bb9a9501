package nfsdown

import (
	"crypto/sha256"
	"encoding/binary"
	"path"
	"strings"

	"holdfast/fs"
)

// A filehandle that clients see is one of two kinds, told apart by its first byte:
//
//	01 export(4) backend handle     a file of an export
//	02 node(8)                      a directory of the pseudo file system
//
// Both are made of paths and of what the backend says, so they survive a restart of this server. The
// backend authenticates its own part: a forged handle is its BadHandle.
const (
	kindFile   = 0x01
	kindPseudo = 0x02

	filePrefix = 1 + 4
)

// ExportID is the export id in filehandles that an export at path has if none is configured. It depends
// on the path only.
func ExportID(p string) uint32 {
	sum := sha256.Sum256([]byte("export\x00" + cleanPath(p)))
	return binary.BigEndian.Uint32(sum[:])
}

func nodeID(p string) uint64 {
	sum := sha256.Sum256([]byte("node\x00" + p))
	return binary.BigEndian.Uint64(sum[:]) >> 1 // some clients keep file ids in a signed number
}

// cleanPath is an absolute path without "." and "..".
func cleanPath(p string) string { return path.Clean("/" + strings.TrimLeft(p, "/")) }

// wrap makes the handle that clients see of a backend's.
func wrap(id uint32, h fs.Handle) fs.Handle {
	b := make([]byte, filePrefix, filePrefix+len(h))
	b[0] = kindFile
	binary.BigEndian.PutUint32(b[1:], id)
	return fs.Handle(append(b, h...))
}

// unwrap takes it apart.
func unwrap(h fs.Handle) (id uint32, backend fs.Handle, ok bool) {
	if len(h) <= filePrefix || h[0] != kindFile {
		return 0, "", false
	}
	return binary.BigEndian.Uint32([]byte(h[1:filePrefix])), h[filePrefix:], true
}

func wrapNode(id uint64) fs.Handle {
	return fs.Handle(binary.BigEndian.AppendUint64([]byte{kindPseudo}, id))
}

func unwrapNode(h fs.Handle) (uint64, bool) {
	if len(h) != 9 || h[0] != kindPseudo {
		return 0, false
	}
	return binary.BigEndian.Uint64([]byte(h[1:])), true
}
