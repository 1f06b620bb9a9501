// Package e2e proves what end clients see, with end clients that we did not write: real Linux
// kernels in VMs mount the built program, hold locks, and watch it being killed.
//
// It runs with HOLDFAST_E2E=1, as root, after scripts/setup: make e2e does both. Everything that a
// test starts is a process of its own, is ended by its id, and lives in a scratch directory and on
// a bridge of its own.
package e2e
