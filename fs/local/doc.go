// Package local answers [fs.Backend] from a directory of this host: it is what `holdfast origin`
// exports.
package local
