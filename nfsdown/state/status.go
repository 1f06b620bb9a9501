package state

import (
	"errors"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// StatusIn gives the NFSv4 status that the rules here have decided on, if err is such a decision. An error of a
// backend may have an nfsstat4 as its cause, which is what an origin has told *us*: there the backend's code counts,
// since an origin's BADSESSION, say, means nothing to our clients.
func StatusIn(err error) (nfs4.Status, bool) {
	var s nfs4.Status
	if !errors.As(err, &s) {
		return 0, false
	}
	var e *fs.Error
	var cause nfs4.Status
	if errors.As(err, &e) && errors.As(e.Err, &cause) {
		return 0, false
	}
	return s, true
}
