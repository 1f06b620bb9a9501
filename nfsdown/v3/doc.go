// Package v3 serves NFS version 3 and its MOUNT protocol (RFC 1813) over the exports of an nfsdown.Server, on its
// connections. Every I/O is anonymous in the sense of RFC 8881 8.2.3: permission is asked for each call, and the
// deny modes of NFSv4 and NLM opens hold. What is recovering is JUKEBOX here.
//
// Procedures that change something and cannot be repeated go through a duplicate request cache.
package v3
