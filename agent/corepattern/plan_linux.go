package corepattern

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/goinquest/inquest"
)

// pipesAtOnce is how many handlers the kernel may run at the same time; beyond
// that it drops deaths. A handler takes little but waits as long as the
// process is held.
const pipesAtOnce = "128"

// systemdCores is where systemd-coredump stores cores.
const systemdCores = "/var/lib/systemd/coredump"

// Look says what Start would do with these options, and changes nothing.
func Look(o Options) (*Plan, error) {
	o = o.withDefaults()
	p := &Plan{Mode: ModeOff}
	_, _, p.Kernel = kernelRelease()
	var err error
	if p.Pattern, err = readSysctl(patternFile); err != nil {
		return nil, err
	}
	if p.Limit, err = readSysctl(limitFile); err != nil {
		return nil, err
	}
	if err := p.findOld(o.Dir); err != nil {
		return nil, err
	}
	p.Modes = []ModeState{p.socketMode(o), p.pipeMode(o), p.systemdMode(o), p.directoryMode(o)}
	if o.Mode == ModeOff {
		p.Problem = "capturing is switched off"
		return p, nil
	}
	if o.Mode != ModeAuto && !slices.ContainsFunc(p.Modes, func(m ModeState) bool { return m.Mode == o.Mode }) {
		return nil, inquest.Errorf(inquest.ErrInvalid, "there is no way to capture called %q; there are socket, pipe, systemd, directory and off", o.Mode)
	}
	p.choose(o)
	return p, nil
}

// findOld finds out whose the pattern is, and what there was before.
func (p *Plan) findOld(dir string) error {
	p.Old = p.Pattern
	owner := patternDir(p.Pattern)
	if owner == "" {
		return nil
	}
	boot, err := readSysctl(bootFile)
	if err != nil {
		return err
	}
	st, _ := readState(owner, boot)
	p.Old = st.old()
	lock, err := lockFile(lockPath(owner))
	if err == nil {
		lock.Close()
		return nil // that agent is gone
	}
	if errors.Is(err, inquest.ErrConflict) {
		p.Other = owner
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// choose takes the mode that is wanted, or the first that can be used.
func (p *Plan) choose(o Options) {
	if p.Other != "" {
		p.Problem = fmt.Sprintf("another agent of this host, with %s, takes the cores", p.Other)
		return
	}
	var reasons []string
	for _, m := range p.Modes {
		if o.Mode != ModeAuto && o.Mode != m.Mode {
			continue
		}
		if m.Usable {
			p.Mode = m.Mode
			break
		}
		reasons = append(reasons, m.Mode+": "+m.Reason)
	}
	switch p.Mode {
	case ModeOff:
		p.Problem = "no way to get at cores. " + strings.Join(reasons, "; ")
	case ModeSocket:
		p.Then = "@@" + socketPath(o.Dir)
	case ModePipe:
		exe, _ := o.hostExe()
		p.Then, p.ThenLimit = pipePattern(exe, o.Dir), pipesAtOnce
	case ModeSystemd:
		p.Watched = systemdDirs(o)
	case ModeDirectory:
		p.Watched, p.Limited = directories(o, p.Pattern), true
	}
	if len(reasons) > 0 && p.Mode != ModeOff {
		p.Problem = "less than the best. " + strings.Join(reasons, "; ")
	}
}

// pipePattern has numbers only: a program's own name never gets into a command
// line.
func pipePattern(exe, dir string) string {
	return "|" + exe + " " + CommandPipe + " " + handPath(dir) + " " + pipeSpecifiers
}

// changeable says why the host's pattern cannot be ours.
func (p *Plan) changeable(o Options) string {
	if err := sysctlWritable(patternFile); err != nil {
		return fmt.Sprintf("the core pattern cannot be set (%v): that takes root of the host and a writable /proc/sys", err)
	}
	if patternKind(p.Old) == patternSocket {
		return "cores go to the socket " + p.Old + " of another program, which could not be given what is none of ours"
	}
	if !filepath.IsAbs(o.Dir) || strings.ContainsAny(o.Dir, "% \t\n") {
		return fmt.Sprintf("the directory %q would not do in a core pattern: it must be absolute, without spaces and %%", o.Dir)
	}
	if !sameForKernel(o.Dir) {
		return fmt.Sprintf("the directory %s is not the host's own: mount the host's there under the same name", o.Dir)
	}
	return ""
}

// sameForKernel says that the kernel, which looks names up from the root of
// the first process, finds what this process finds. It must not have to follow
// links. What cannot be told is assumed to be well.
func sameForKernel(name string) bool {
	for !exists(name) { // a directory yet to be made is where its parent is
		if name == filepath.Dir(name) {
			return true
		}
		name = filepath.Dir(name)
	}
	var here, there unix.Stat_t
	if unix.Stat(name, &here) != nil || unix.Stat("/proc/1/root", &there) != nil {
		return true
	}
	root, err := unix.Open("/proc/1/root", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return true
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, strings.TrimPrefix(name, "/"), &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS})
	if name == "/" {
		fd, err = unix.Dup(root)
	}
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.Fstat(fd, &there) == nil && here.Dev == there.Dev && here.Ino == there.Ino
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

func (p *Plan) socketMode(o Options) ModeState {
	m := ModeState{Mode: ModeSocket}
	switch {
	case !hasSocket():
		m.Reason = "the kernel is " + p.Kernel + ", and sockets that can refuse a core came with 6.17"
	case len("@@"+socketPath(o.Dir)) > maxPattern:
		m.Reason = fmt.Sprintf("the directory %s is too long for a core pattern", o.Dir)
	default:
		m.Reason = p.changeable(o)
	}
	if m.Usable = m.Reason == ""; m.Usable {
		m.Reason = "the kernel asks what to do with each death before it makes a core"
	}
	return m
}

func (p *Plan) pipeMode(o Options) ModeState {
	m := ModeState{Mode: ModePipe}
	exe, err := o.hostExe()
	switch {
	case err != nil:
		m.Reason = "the agent's own executable has no name: " + err.Error()
	case strings.ContainsAny(exe, "% \t\n"):
		m.Reason = fmt.Sprintf("the agent's name %q would not do in a core pattern", exe)
	case len(pipePattern(exe, o.Dir)) > maxPattern:
		m.Reason = fmt.Sprintf("the names %s and %s are too long together for a core pattern of %d bytes", exe, o.Dir, maxPattern)
	case !sameForKernel(exe):
		m.Reason = "the agent's executable " + exe + " is not there for the host under this name"
	default:
		m.Reason = p.changeable(o)
	}
	if m.Usable = m.Reason == ""; m.Usable {
		m.Reason = "the kernel starts a handler for each death, which hands it to the agent"
	}
	return m
}

func (p *Plan) systemdMode(o Options) ModeState {
	dirs := systemdDirs(o)
	switch {
	case !isSystemd(p.Old) && len(o.Cores) == 0:
		return ModeState{ModeSystemd, false, "systemd-coredump does not get the cores of this host"}
	case !slices.ContainsFunc(dirs, exists):
		return ModeState{ModeSystemd, false, "there is no directory " + strings.Join(dirs, " nor ")}
	}
	return ModeState{ModeSystemd, true, "cores are stored by systemd-coredump first, and taken from there"}
}

func systemdDirs(o Options) []string {
	if len(o.Cores) > 0 {
		return o.Cores
	}
	return []string{systemdCores}
}

func (p *Plan) directoryMode(o Options) ModeState {
	dirs := directories(o, p.Pattern)
	if len(dirs) == 0 {
		return ModeState{ModeDirectory, false, fmt.Sprintf("the core pattern %q names no directory", p.Pattern)}
	}
	return ModeState{ModeDirectory, true, "the kernel writes whole cores, which are taken from " + strings.Join(dirs, ", ")}
}

// directories are those that the kernel writes cores into under a pattern, as
// the processes name them, and those that are named besides.
func directories(o Options, pattern string) []string {
	dirs := slices.Clone(o.Cores)
	if patternKind(pattern) == patternFiles && filepath.IsAbs(pattern) {
		if dir := filepath.Dir(pattern); !strings.Contains(dir, "%") && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}
