//go:build !amd64 && !arm64

package capture

// Cores of other machines are not known to package coredump, so nothing is
// copied there.
var registerNotes = []int{noteStatus, noteFloats}

const (
	generalSize = 2 * 8
	generalPC   = 0
	generalSP   = 1
)
