package capture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/host"
	"github.com/goinquest/inquest/coredump"
	"github.com/goinquest/inquest/symbolize"
)

// stored is a core in a file.
type stored struct {
	file  *os.File
	own   bool // file is ours, and not the listener's
	notes *coredump.Notes
	build *inquest.Build
	path  string               // of the executable, as the process saw it
	exe   *os.File             // nil: it is not at hand
	funcs *symbolize.Functions // nil, too
}

// file deals with a death of which there is a core in a file. The process is
// gone, and its pid may be another's.
func (j *death) file(ctx context.Context) (outcome string, err error) {
	s, err := j.openStored(ctx)
	if errors.Is(err, coredump.ErrNotGo) {
		return outcomeForeign, j.d.Foreign()
	}
	if err != nil {
		return outcomeFailed, err
	}
	defer func() { _ = s.Close() }() // only read
	j.describeStored(s)
	key := coredump.CaptureKey(s.notes.Process, s.funcs)
	j.event.Class, j.event.Key = key.Class, key.Hash
	j.event.Frames = key.Frames[:min(len(key.Frames), inquest.CrashFrames)]
	return j.decide(ctx, func(tier inquest.Tier) error { return j.takeStored(ctx, s, tier) })
}

// openStored opens a core, unpacked: what cannot be read at any place becomes
// a file without a name first.
func (j *death) openStored(ctx context.Context) (*stored, error) {
	s := &stored{}
	var ok bool
	if s.file, ok = j.d.Stream.(*os.File); !ok {
		if j.d.Stream == nil {
			return nil, inquest.Errorf(inquest.ErrInvalid, "core %q cannot be unpacked", j.d.Path)
		}
		var err error
		if s.file, err = unpack(ctx, j.d.Stream, j.opts.TempDir); err != nil {
			return nil, fmt.Errorf("unpack core %q: %w", j.d.Path, err)
		}
		s.own = true
	}
	if err := s.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open core %q: %w", j.d.Path, err), s.Close())
	}
	return s, nil
}

// Close closes what is not the listener's.
func (s *stored) Close() error {
	var err error
	if s.exe != nil {
		err = s.exe.Close()
	}
	if s.own {
		err = errors.Join(err, s.file.Close())
	}
	return err
}

func (s *stored) open() error {
	info, err := s.file.Stat()
	if err != nil {
		return err
	}
	if s.notes, err = coredump.OpenCoreFile(s.file, info.Size()); err != nil {
		return err
	}
	build, exe, err := s.notes.Process.Identify()
	if errors.Is(err, inquest.ErrNotFound) {
		return coredump.ErrNotGo
	}
	if err != nil {
		return err
	}
	s.build, s.path = build, exe
	s.findExe()
	return nil
}

// findExe looks whether the host has the executable where the process had it.
// In a container it may be another file: the ids must be the same.
func (s *stored) findExe() {
	if !filepath.IsAbs(s.path) {
		return
	}
	info, err := os.Stat(s.path)
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	f, err := os.Open(s.path)
	if err != nil {
		return
	}
	if b, err := symbolize.ReadBuild(f); err != nil || b.ID == "" || b.ID != s.build.ID {
		_ = f.Close() // only read
		return
	}
	s.exe = f
	s.notes.Process.Exe, s.notes.Process.ExeSize = f, info.Size()
	if funcs, err := symbolize.OpenFunctions(f, info.Size()); err == nil {
		s.funcs = funcs
	}
}

// describeStored fills in what a core, and who stored it, say of a process.
func (j *death) describeStored(s *stored) {
	e := &j.event
	*e = inquest.Crash{
		Kind: inquest.CrashDeath, At: j.d.At.UTC(), PID: j.d.PID, Agent: j.opts.Agent, Host: j.opts.Host, Tier: inquest.TierNone,
		Source: []string{j.d.Source}, Exe: clip(s.path), Build: s.build.ID, UID: j.d.UID, Signal: j.d.Signal,
	}
	if e.At.IsZero() {
		e.At = j.began.UTC()
	}
	if e.PID == 0 {
		e.PID = s.notes.PID
	}
	if e.Signal == 0 {
		e.Signal = s.notes.Signal
	}
	if e.UID < 0 {
		e.UID = s.notes.UID
	}
	if t := j.d.Told["EXE"]; t != "" {
		e.Exe = clip(t)
	}
	e.Facts = toldFacts(j.d.Told)
	e.Instance = j.opts.Host
	if e.Service, _, _ = strings.Cut(strings.TrimSuffix(e.Facts.Unit, ".service"), "@"); e.Service == "" || !strings.HasSuffix(e.Facts.Unit, ".service") ||
		inquest.ValidateLabel(inquest.LabelService, e.Service) != nil {
		e.Service = host.ProgramName(s.build.Path, e.Exe)
	}
	// Its start is not known, so neither is the process: the same core is the
	// same death, however often it is found.
	e.ID = inquest.TextID(e.Service, e.Host, e.At, []byte(j.d.Path))
}

// toldFacts are those that systemd-coredump stored.
func toldFacts(told map[string]string) *inquest.Facts {
	f := &inquest.Facts{}
	if p := told["CGROUP"]; p != "" {
		g := ParseCgroup([]byte("0::" + p + "\n"))
		g.Describe(f)
	}
	setFact(&f.Unit, told["UNIT"])
	if env := told["ENVIRON"]; env != "" {
		Environment(bytes.ReplaceAll([]byte(env), []byte("\n"), []byte{0}), f)
	}
	f.Rlimits = parseLimits([]byte(told["PROC_LIMITS"]))
	hostFacts(f)
	return f
}

// takeStored makes an image of a core in a file.
func (j *death) takeStored(ctx context.Context, s *stored, tier inquest.Tier) error {
	e := &j.event
	info, err := s.file.Stat()
	if err != nil {
		return err
	}
	if need := packedSize(uint64(allocated(info))); j.opts.Sink.Room()-j.opts.FreeBytes < need {
		e.Reason = fmt.Sprintf("there is no room for a core of about %s", size(uint64(need)))
		return nil
	}
	t := &taking{funcs: s.funcs}
	blanker, err := j.blanker(s.notes.Process, 0)
	if err != nil {
		return err
	}
	begun := *e
	begun.Tier, begun.Core = tier, &inquest.Core{
		Crash: e.ID, Tier: tier, Arch: s.notes.Process.Arch, GoVersion: s.build.GoVersion, Build: s.build.ID, GoBuildID: s.build.GoBuildID,
		Threads: len(s.notes.Process.Threads), MemoryBytes: allocated(info),
	}
	file, err := j.opts.Sink.Begin(begun)
	if err != nil {
		return fmt.Errorf("begin core: %w", err)
	}
	ledger, err := coredump.ImportFile(ctx, s.file, file, coredump.ImportOptions{
		Core: inquest.Core{Crash: e.ID, Tier: tier}, Blank: blanker.Blank, BlankNotes: blanker.BlankNotes,
		Select: func(p *coredump.Process) ([]coredump.Extent, error) { return t.choose(p, nil, j.opts.MiniBytes) },
		Describe: func(c *inquest.Core) {
			c.Missing = append(c.Missing, t.missing...)
			c.Blanked = blanker.What()
		},
	})
	if err != nil {
		return errors.Join(err, file.Abort())
	}
	core := ledger.Header().Core
	e.Tier, e.Core = tier, &core
	if err := file.Commit(*e, ledger); err != nil {
		e.Tier, e.Core = inquest.TierNone, nil
		return fmt.Errorf("commit core: %w", err)
	}
	j.budget.copied(core.MemoryBytes, j.now())
	j.metrics.memory.Add(float64(core.MemoryBytes))
	j.metrics.stored.Add(float64(core.StoredBytes))
	return nil
}

// unpack writes a stream into a file that has no name, leaving out zeros.
func unpack(ctx context.Context, r io.Reader, dir string) (_ *os.File, err error) {
	f, err := os.CreateTemp(dir, "inquest-core-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if err := os.Remove(f.Name()); err != nil {
		return nil, err
	}
	buf, zeros := make([]byte, 64<<10), make([]byte, 64<<10)
	var at int64
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, err := io.ReadFull(r, buf)
		if n > 0 && !bytes.Equal(buf[:n], zeros[:n]) {
			if _, err := f.WriteAt(buf[:n], at); err != nil {
				return nil, err
			}
		}
		at += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return f, f.Truncate(at)
		}
		if err != nil {
			return nil, err
		}
	}
}
