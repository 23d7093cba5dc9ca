//go:build race

package sandbox

// The race detector takes several times the memory of the program.
const raceDetector = true
