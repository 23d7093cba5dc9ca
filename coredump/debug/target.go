package debug

import (
	"errors"
	"fmt"
	"os"

	"github.com/go-delve/delve/pkg/goversion"
	"github.com/go-delve/delve/pkg/proc"
	"github.com/go-delve/delve/pkg/proc/core"
	"github.com/go-delve/delve/pkg/version"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
	"github.com/goinquest/inquest/internal/sandbox"
	"github.com/goinquest/inquest/symbolize"
)

// target is an opened core, in the child.
type target struct {
	target *proc.Target
	build  string
	trust  inquest.Trust
	golang goversion.GoVersion
	pages  map[int64]int32 // where in the runtime's list goroutines were seen, see find
}

// openTarget opens the files the child has, once it is clear that they belong
// together.
func openTarget(c *sandbox.Child) (*target, error) {
	t, err := identified(c)
	if err != nil {
		return nil, err
	}
	group, err := core.OpenCore(c.Path(coreFile), c.Path(exeFile), nil)
	if err != nil {
		return nil, inquest.Errorf(inquest.ErrInvalid, "open the core: %w", err)
	}
	t.target = group.Selected
	t.golang = goversion.ParseProducer(t.target.BinInfo().Producer())
	if t.target.BinInfo().Images[0].Stripped() {
		return nil, inquest.Errorf(inquest.ErrInvalid, "the executable has no debug information; one of the same build that was not stripped is needed")
	}
	return t, nil
}

// identified compares the build ids of the files.
func identified(c *sandbox.Child) (*target, error) {
	var args openArgs
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	files := c.Files()
	exe, err := symbolize.ReadBuild(files[exeFile])
	if err != nil {
		return nil, fmt.Errorf("read the executable: %w", err)
	}
	of, err := buildOf(files[coreFile])
	switch {
	case errors.Is(err, inquest.ErrNotFound) && args.Unidentified:
		return &target{build: exe.ID, trust: inquest.TrustNone, pages: map[int64]int32{}}, nil
	case errors.Is(err, inquest.ErrNotFound):
		return nil, inquest.Errorf(inquest.ErrConflict, "the core does not tell what it is of: %w", err)
	case err != nil:
		return nil, err
	case !same(exe, of):
		return nil, inquest.Errorf(inquest.ErrConflict, "the core is of build %s, the executable is build %s", of.ID, exe.ID)
	}
	return &target{build: exe.ID, trust: inquest.TrustExact, pages: map[int64]int32{}}, nil
}

// buildOf is what a core says of its build.
func buildOf(f *os.File) (*inquest.Build, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	notes, err := coredump.OpenCoreFile(f, info.Size())
	if err != nil {
		return nil, err
	}
	b, _, err := notes.Process.Identify()
	if err == nil && b.ID == "" && b.GoBuildID == "" {
		err = inquest.Errorf(inquest.ErrNotFound, "no build id in its memory")
	}
	return b, err
}

// same says whether two builds are one. Either may lack one of its ids.
func same(a, b *inquest.Build) bool {
	if a.GoBuildID != "" && b.GoBuildID != "" && a.GoBuildID != b.GoBuildID {
		return false
	}
	if a.ID != "" && a.ID == b.ID {
		return true
	}
	return a.GoBuildID != "" && a.GoBuildID == b.GoBuildID
}

func delveVersion() string {
	v := version.DelveVersion
	return v.Major + "." + v.Minor + "." + v.Patch
}

func (t *target) info() (*Info, error) {
	producer := t.target.BinInfo().Producer()
	out := &Info{GoVersion: t.golang.String(), Build: t.build, Trust: t.trust, Delve: delveVersion()}
	if err := goversion.Compatible(t.target.BinInfo().DwarfVersion(), producer, false); err != nil {
		out.Warning = err.Error()
	}
	first := t.target.CurrentThread()
	out.Threads = append(out.Threads, t.thread(first))
	for _, th := range t.target.ThreadList() {
		if th.ThreadID() != first.ThreadID() && len(out.Threads) < maxThreads {
			out.Threads = append(out.Threads, t.thread(th))
		}
	}
	return out, nil
}
