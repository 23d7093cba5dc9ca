package proc

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// NeedKernel skips a test, in CI too, where the kernel is older than the test
// needs: another one is nothing that can be installed.
func NeedKernel(t testing.TB, major, minor int) {
	t.Helper()
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	var a, b int
	if _, err := fmt.Sscanf(string(release), "%d.%d", &a, &b); err != nil {
		t.Fatalf("kernel release %q: %v", release, err)
	}
	if a < major || a == major && b < minor {
		t.Skipf("needs Linux %d.%d, and this is %s", major, minor, strings.TrimSpace(string(release)))
	}
}
