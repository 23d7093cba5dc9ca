package doctor

// tracebackInForce reads the level from the process's memory; known is false
// if it cannot be found there, as in a stripped program.
func tracebackInForce(pid int) (crashes, known bool) { return false, false }
