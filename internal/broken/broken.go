// Package broken breaks one invariant at a time, on demand: each constant is true only in a binary that was
// built with its tag, `go build -tags broken_NAME`. Package torture builds them all, and shows that its judge
// catches each. In any other binary the code behind a constant is not even compiled.
package broken

// Tags lists the tags.
var Tags = []string{
	"broken_grant_before_journal",
	"broken_reclaim_as_lock",
	"broken_no_resume_fence",
	"broken_purge_in_grace",
	"broken_early_complete",
}
