package proc

import (
	"os"
	"testing"
)

// Missing skips a test that cannot run here; under CI nothing may be missing
// that can be installed, and the test fails.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}
