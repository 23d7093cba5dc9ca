package analysis

import (
	"cmp"
	"context"
	"errors"
	"os"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/sandbox"
)

// Version is that of the analyser: a newer one looks again at what an older one
// has looked at.
const Version = 1

// Limits of a child, and of what it answers.
const (
	memoryBytes     = 768 << 20
	cpuTime         = 2 * time.Minute
	callTime        = 2 * time.Minute
	answerBytes     = 16 << 20
	answerValues    = 500_000
	goroutines      = 20_000 // listed
	fewerGoroutines = 1_000  // if that is more than an answer may have
)

// Input is a core with the executable it is of.
type Input struct {
	// Blocks has the stored blocks of the core where its ledger says, Ledger the
	// ledger's bytes, Exe the executable. They were opened for reading, and stay the
	// caller's.
	Blocks, Ledger, Exe *os.File
	Here                int    // leading blocks that are here
	Build               string // that the core is said to be of
	Limits              sandbox.Limits
	Unconfined          bool // also where the base of the sandbox does not hold
}

// Run makes the report of a core, and says how far the executable is the one
// that ran. The error is of kind ErrConflict if they do not belong together,
// ErrInvalid or ErrTooLarge if they are too bad or too much, ErrUnavailable if
// it can be tried again. How a child ended is a *sandbox.Failure.
func Run(ctx context.Context, in Input) (*inquest.CoreReport, inquest.Trust, error) {
	l := in.Limits
	l.MemoryBytes = cmp.Or(l.MemoryBytes, memoryBytes)
	l.CPU, l.Call = cmp.Or(l.CPU, cpuTime), cmp.Or(l.Call, callTime)
	l.AnswerBytes, l.AnswerValues = answerBytes, answerValues
	child, err := sandbox.Start(ctx, sandbox.Options{
		Stage: stageName, Args: args{in.Here, in.Build}, Files: []*os.File{blocksFile: in.Blocks, ledgerFile: in.Ledger, exeFile: in.Exe},
		Limits: l, Unconfined: in.Unconfined,
	})
	if err != nil {
		return nil, "", err
	}
	defer child.Close()
	var out result
	err = child.Call(ctx, request{goroutines}, &out)
	if failed := (*sandbox.Failure)(nil); errors.Is(err, inquest.ErrTooLarge) && !errors.As(err, &failed) {
		out = result{}
		err = child.Call(ctx, request{fewerGoroutines}, &out)
	}
	if err != nil {
		return nil, "", err
	}
	if out.Report == nil || out.Trust != inquest.TrustExact && out.Trust != inquest.TrustNone {
		return nil, "", inquest.Errorf(inquest.ErrInvalid, "the analyser gave no report")
	}
	clean(out.Report)
	return out.Report, out.Trust, nil
}
