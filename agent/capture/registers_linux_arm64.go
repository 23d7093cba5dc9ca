package capture

// registerNotes are the sets of registers that a core has of every thread.
var registerNotes = []int{noteStatus, noteFloats, noteARMTLS}

// The general registers: size in bytes, and where two of them are, in words
// (struct user_pt_regs).
const (
	generalSize = 34 * 8
	generalPC   = 32
	generalSP   = 31
)
