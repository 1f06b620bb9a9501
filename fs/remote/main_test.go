package remote

import (
	"testing"

	"go.uber.org/goleak"
)

// A mount that ended leaves nothing running.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
