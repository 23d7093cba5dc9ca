// Package analysis makes the report of a core in a sandboxed child, which gets
// the stored blocks, the ledger and the executable as files, and gives JSON
// back. Whatever the core or the executable does to the child, the caller gets
// a bounded report without control characters, or an error.
//
// Everything here is safe for concurrent use; each call has a child of its own.
package analysis

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
	"github.com/goinquest/inquest/internal/sandbox"
	"github.com/goinquest/inquest/symbolize"
)

const stageName = "analysis"

// The files a child gets, in this order.
const (
	blocksFile = iota
	ledgerFile
	exeFile
)

const maxLedgerBytes = 1 << 28

// Stage is what runs in children, for sandbox.Main.
func Stage() sandbox.Stage { return sandbox.Stage{Name: stageName, Start: start} }

// args is what a child is told at its start.
type args struct {
	Blocks int    `json:"blocks"` // leading ones that are here
	Build  string `json:"build"`  // that the core is said to be of, if its memory does not tell
}

// request asks for a report.
type request struct {
	Goroutines int `json:"goroutines"` // that are listed
}

// result is the answer.
type result struct {
	Trust  inquest.Trust       `json:"trust"`
	Report *inquest.CoreReport `json:"report"`
}

// opened is a core with its executable, in the child.
type opened struct {
	process *coredump.Process
	funcs   *symbolize.Functions
	trust   inquest.Trust
	problem string // about trust
}

func start(c *sandbox.Child) (sandbox.Handler, error) {
	var a args
	if err := c.Args(&a); err != nil {
		return nil, err
	}
	o, err := open(c.Files(), a)
	if err != nil {
		return nil, err
	}
	return func(raw json.RawMessage) (any, error) {
		var r request
		if err := json.Unmarshal(raw, &r); err != nil {
			return nil, err
		}
		rep := coredump.Analyze(o.process, o.funcs, coredump.ReportLimits{Goroutines: r.Goroutines})
		if o.problem != "" {
			rep.Problems = append(rep.Problems, o.problem)
		}
		return result{o.trust, rep}, nil
	}, nil
}

// open opens the files, once it is clear that they belong together.
func open(files []*os.File, a args) (*opened, error) {
	im, err := image(files[blocksFile], files[ledgerFile], a.Blocks)
	if err != nil {
		return nil, err
	}
	o := &opened{trust: inquest.TrustExact}
	if o.process, err = im.Process(); err != nil {
		return nil, inquest.Errorf(inquest.ErrInvalid, "read the core: %w", err)
	}
	exe := files[exeFile]
	if err := o.identify(exe, a.Build); err != nil {
		return nil, err
	}
	info, err := exe.Stat()
	if err != nil {
		return nil, err
	}
	if o.funcs, err = symbolize.OpenFunctions(exe, info.Size()); err != nil {
		return nil, fmt.Errorf("read the executable: %w", err)
	}
	return o, nil
}

// identify compares what the memory and the executable say of their build.
func (o *opened) identify(exe *os.File, said string) error {
	b, err := symbolize.ReadBuild(exe)
	if err != nil {
		return fmt.Errorf("read the executable: %w", err)
	}
	of, _, err := o.process.Identify()
	if err != nil && !errors.Is(err, inquest.ErrNotFound) {
		return err
	}
	switch {
	case err != nil || of.ID == "" && of.GoBuildID == "":
		if said == "" || said != b.ID && said != b.GoBuildID {
			return inquest.Errorf(inquest.ErrConflict, "%s: the core does not tell its build, the executable is build %s", mismatch, b.ID)
		}
		o.trust, o.problem = inquest.TrustNone, "the memory does not tell of which build it is: the executable is of the one that was told with the core"
	case !same(b, of):
		return inquest.Errorf(inquest.ErrConflict, "%s: the core is of build %s, the executable is build %s", mismatch, of.ID, b.ID)
	}
	return nil
}

const mismatch = "executable does not match"

// same says whether two builds are one. Either may lack one of its ids.
func same(a, b *inquest.Build) bool {
	if a.GoBuildID != "" && b.GoBuildID != "" && a.GoBuildID != b.GoBuildID {
		return false
	}
	return a.ID != "" && a.ID == b.ID || a.GoBuildID != "" && a.GoBuildID == b.GoBuildID
}

// image is the stored core.
func image(blocks, ledger *os.File, here int) (*coredump.Image, error) {
	raw, err := io.ReadAll(io.NewSectionReader(ledger, 0, maxLedgerBytes))
	if err != nil {
		return nil, err
	}
	l, err := coredump.ParseLedger(raw)
	if err != nil {
		return nil, err
	}
	list := l.Blocks()
	return coredump.NewImage(l, func(n int) ([]byte, error) {
		b := make([]byte, list[n].Stored)
		if _, err := blocks.ReadAt(b, list[n].Offset); err != nil {
			return nil, fmt.Errorf("read block %d: %w", n, err)
		}
		return b, nil
	}, func(n int) bool { return n < here }), nil
}
