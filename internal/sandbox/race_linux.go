//go:build race

package sandbox

// memoryFactor is for what the race detector takes besides what it watches.
const memoryFactor = 12
