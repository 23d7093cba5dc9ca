//go:build !linux

package proc

import "testing"

// TakeCorePattern skips the test: other systems have no core pattern.
func TakeCorePattern(t testing.TB, _ string) (release func()) {
	t.Helper()
	t.Skip("only Linux has a core pattern")
	return nil
}
