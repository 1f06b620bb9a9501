//go:build !broken_purge_in_grace

package broken

// PurgeInGrace: what the last boot held is void as soon as grace begins (DESIGN 4: nothing is compacted before the end).
const PurgeInGrace = false
