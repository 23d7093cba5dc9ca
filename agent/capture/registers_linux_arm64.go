package capture

// registerNotes are the sets of registers that a core has of every thread.
var registerNotes = []int{noteStatus, noteFloats, noteARMTLS}
