package capture

// registerNotes are the sets of registers that a core has of every thread.
var registerNotes = []int{noteStatus, noteFloats, noteXState}

// The general registers: size in bytes, and where two of them are, in words
// (struct user_regs_struct).
const (
	generalSize = 27 * 8
	generalPC   = 16
	generalSP   = 19
)
