//go:build !broken_grant_before_journal

package broken

// GrantBeforeJournal: a grant is answered before it is in the journal (DESIGN 3.2, I2).
const GrantBeforeJournal = false
