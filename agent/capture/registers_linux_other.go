//go:build !amd64 && !arm64

package capture

var registerNotes = []int{noteStatus, noteFloats}
