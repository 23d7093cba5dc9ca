package coredump

//go:generate sh -c "go run ../symbolize/layouts > layouts.new && mv layouts.new layouts.go"

// layout says where the runtime of one release keeps what: offsets in bytes, -1
// of what that release does not have. layouts.go has them all.
type layout struct {
	release int // 26: Go 1.26

	gStackLo, gStackHi                              int
	gPanic, gM                                      int
	gSchedSP, gSchedPC, gSchedG, gSchedLR, gSchedBP int
	gSyscallSP, gSyscallPC                          int
	gStatus, gID, gWaitSince, gWaitReason           int
	gSig, gSigcode0, gSigcode1, gSigPC              int
	gParent, gCreatedBy, gStart, gLabels, gLockedM  int
	gSize                                           int
	mG0, mSignal, mCurrent, mTID, mNext, mThrowing  int
	mSize                                           int
	panicArg, panicLink, panicStartPC, panicStartSP int
	panicRecovered, panicRepanicked, panicGoexit    int
	panicSize                                       int
	backlogSize                                     int // of runtime.printBacklog
	waitReasons                                     []string
}

// The states of a goroutine, of all releases (runtime/runtime2.go).
const (
	statusIdle      = 0
	statusRunnable  = 1
	statusRunning   = 2
	statusSyscall   = 3
	statusWaiting   = 4
	statusDead      = 6
	statusCopystack = 8
	statusPreempted = 9
	statusLeaked    = 10 // since Go 1.26
	statusDeadExtra = 11 // since Go 1.26
	statusScan      = 0x1000
)
