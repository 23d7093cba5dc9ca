package corespool

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/durable"
)

// exe is a copy of an executable.
type exe struct {
	build string
	size  int64
}

// KeepExe keeps a copy of the executable of a build, read from r, which has
// size bytes. One that is there already is not read. Of kind
// inquest.ErrDiskFull if there is no room.
func (p *Pool) KeepExe(build string, r io.Reader, size int64) error {
	if !validID(build) {
		return inquest.Errorf(inquest.ErrInvalid, "%q is not the id of a build", build)
	}
	defer p.tellLost()
	p.mu.Lock()
	err := error(nil)
	switch {
	case p.closed:
		err = inquest.Errorf(inquest.ErrUnavailable, "the core spool is closed")
	case p.exe(build) != nil:
		p.mu.Unlock()
		return nil
	default:
		err = p.room(size, true)
	}
	if err == nil {
		p.bytes += size
	}
	p.mu.Unlock()
	if err != nil {
		return err
	}
	err = p.copyExe(build, r, size)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.bytes -= size
		return diskError("keep executable", err)
	}
	p.exes = append(p.exes, &exe{build: build, size: size})
	return nil
}

// copyExe writes an executable's file.
func (p *Pool) copyExe(build string, r io.Reader, size int64) error {
	temp := p.files.Path(dirExes, durable.PrefixTemp+build)
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, io.LimitReader(r, size))
	p.files.Did("write " + build + extExe)
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(temp, p.files.Path(dirExes, build+extExe))
		p.files.Did("rename " + build + extExe)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return p.files.SyncDir(dirExes)
}

// OpenExe opens the copy of a build's executable. The file can be read as long
// as it is open, dropped or not. Of kind inquest.ErrNotFound if there is none.
func (p *Pool) OpenExe(build string) (*os.File, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.exe(build)
	if e == nil {
		return nil, inquest.Errorf(inquest.ErrNotFound, "the core spool has no executable of build %s", build)
	}
	f, err := os.Open(p.files.Path(dirExes, build+extExe))
	if errors.Is(err, fs.ErrNotExist) {
		p.removeExe(e)
	}
	return f, err
}

// DropExe removes the copy of a build's executable.
func (p *Pool) DropExe(build string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.exe(build); e != nil {
		p.removeExe(e)
	}
}

// Exes are the builds of whose executables there are copies, oldest first.
func (p *Pool) Exes() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]string, len(p.exes))
	for i, e := range p.exes {
		out[i] = e.build
	}
	return out
}

func (p *Pool) exe(build string) *exe {
	for _, e := range p.exes {
		if e.build == build {
			return e
		}
	}
	return nil
}

// removeExe removes a copy. Callers hold p.mu.
func (p *Pool) removeExe(e *exe) {
	p.exes = slices.DeleteFunc(p.exes, func(o *exe) bool { return o == e })
	p.bytes -= e.size
	if err := p.files.Remove(dirExes + "/" + e.build + extExe); err != nil {
		p.fail("remove executable", err)
	}
}

// byAge sorts the oldest first.
func byAge(a, b durable.Found) int { return a.Info.ModTime().Compare(b.Info.ModTime()) }

// recoverExes finds the copies there are.
func (p *Pool) recoverExes() error {
	list, err := p.files.List(dirExes)
	if err != nil {
		return err
	}
	slices.SortStableFunc(list, byAge)
	for _, f := range list {
		build, ok := strings.CutSuffix(f.Name, extExe)
		if !ok || !validID(build) {
			p.quarantine(dirExes, f.Name, errors.New("the name is not that of an executable"))
			continue
		}
		p.exes = append(p.exes, &exe{build: build, size: f.Info.Size()})
		p.bytes += f.Info.Size()
	}
	return nil
}
