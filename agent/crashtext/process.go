package crashtext

import (
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/host"
	"github.com/goinquest/inquest/symbolize"
)

const rememberBuilds = 256

// process is a process as the agent knows it.
type process struct {
	host.Identity
	build *inquest.Build // nil: not of Go, or not readable
}

// crash is the death of the process.
func (p *process) crash(source string) inquest.Crash {
	c := inquest.Crash{
		Kind: inquest.CrashDeath, Tier: inquest.TierText, Source: []string{source}, Process: p.ID, ID: inquest.CrashID(p.ID),
		PID: p.PID, Exe: p.Exe, UID: p.UID, Started: p.Started,
	}
	if p.build != nil {
		c.Build, c.Service = p.build.ID, host.ProgramName(p.build.Path, p.Exe)
	} else if p.Exe != "" {
		c.Service = filepath.Base(p.Exe)
	}
	if inquest.ValidateLabel(inquest.LabelService, c.Service) != nil {
		c.Service = "unnamed"
	}
	return c
}

// builds reads what executables say of themselves, once each.
type builds struct {
	mu    sync.Mutex
	known map[string]*inquest.Build // by device, inode, size and time
}

// look identifies a process while it lives.
func (b *builds) look(pid int) (*process, error) {
	id, err := host.Identify(pid)
	if err != nil {
		return nil, err
	}
	return &process{Identity: id, build: b.of(pid)}, nil
}

func (b *builds) of(pid int) *inquest.Build {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/exe")
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return nil
	}
	key := fileKey(info)
	b.mu.Lock()
	defer b.mu.Unlock()
	if known, ok := b.known[key]; ok {
		return known
	}
	build, err := symbolize.ReadBuild(f)
	if err != nil {
		build = nil
	}
	if b.known == nil || len(b.known) >= rememberBuilds {
		b.known = map[string]*inquest.Build{}
	}
	b.known[key] = build
	return build
}
