package corepattern

import (
	"cmp"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/goinquest/inquest"
)

// journalctl is the program that reads the journal, looked up in PATH.
const journalctl = "journalctl"

// imports takes the cores that systemd-coredump has stored. They are left
// where they are: systemd keeps its own house. It belongs to one goroutine.
type imports struct {
	l      *Listener
	dirs   []string
	known  *imported
	offers *offers
}

// systemdRounds is one look at what systemd-coredump has stored.
func (l *Listener) systemdRounds(p *Plan) (look, done func(), err error) {
	known, err := openImported(l.o.StateDir)
	if err != nil {
		return nil, nil, err
	}
	s := &imports{l: l, dirs: p.Watched, known: known, offers: newOffers(l.o.AtOnce)}
	return s.look, func() {}, nil
}

func (s *imports) look() {
	now := time.Now()
	there, names := map[fileKey]bool{}, map[string]bool{}
	for _, name := range s.dirs {
		dir, err := os.Open(name)
		if err != nil {
			names = nil // it may come back: nothing is forgotten
			continue
		}
		for _, f := range storedIn(dir) {
			there[f.key] = true
			if names != nil {
				names[f.path()] = true
			}
			if !s.known.has(f.path(), f.key.changed) && s.offers.begin(f.key, now) {
				s.l.wg.Go(func() { s.offer(f) })
			}
		}
		dir.Close()
	}
	s.offers.keep(there)
	if names == nil {
		return
	}
	if err := s.known.keep(names); err != nil {
		s.l.fail("note what cores were taken", err)
	}
}

// storedCore is a file of systemd-coredump. It is there under this name when
// all of it is there.
type storedCore struct {
	found
	stored
	dirName string
}

func (f *storedCore) path() string { return filepath.Join(f.dirName, f.found.name) }

// storedIn are the cores in a directory, the oldest first.
func storedIn(dir *os.File) []*storedCore {
	names, _ := dir.Readdirnames(-1)
	var list []*storedCore
	for _, name := range names {
		s, ok := parseStored(name)
		if !ok {
			continue
		}
		if f := statCore(dir, name); f != nil {
			f.dir = nil // closed when it is offered
			list = append(list, &storedCore{*f, s, dir.Name()})
		}
	}
	slices.SortFunc(list, func(a, b *storedCore) int { return cmp.Compare(a.at.UnixMicro(), b.at.UnixMicro()) })
	return list
}

// open opens the file, unpacking what is packed.
func (f *storedCore) open() (*os.File, io.ReadCloser, error) {
	dir, err := os.Open(f.dirName)
	if err != nil {
		return nil, nil, err
	}
	defer dir.Close()
	f.dir = dir
	file, err := f.found.open()
	if err != nil {
		return nil, nil, err
	}
	if f.packed == "" {
		return file, file, nil
	}
	r, err := unpack(file, f.packed)
	if err != nil {
		file.Close()
		return nil, nil, inquest.Errorf(inquest.ErrInvalid, "unpack %s: %w", f.path(), err)
	}
	return file, r, nil
}

// offer gives a stored core to the handler.
func (s *imports) offer(f *storedCore) {
	file, r, err := f.open()
	if err != nil {
		s.offers.end(f.key, s.l.o.Again)
		s.l.fail("stored core", err)
		return
	}
	d := &Death{PID: f.pid, UID: f.uid, GID: -1, At: f.at, CoreLimit: NoCoreLimit, Source: ModeSystemd,
		Path: f.path(), Stream: r, Told: told(s.l.ctx, journalctl, file), Open: os.Open}
	d.fillTold()
	settled := false
	remember := func() {
		settled = true
		if err := s.known.add(f.path(), f.key.changed); err != nil {
			s.l.fail("note what cores were taken", err)
		}
	}
	d.Taken = remember
	d.Foreign = func() error {
		remember()
		d.Release()
		return nil
	}
	d.Release = sync.OnceFunc(func() {
		r.Close()
		file.Close()
		if settled {
			s.offers.end(f.key, 0)
		} else {
			s.offers.end(f.key, s.l.o.Again)
		}
	})
	s.l.handle(d)
}

// fillTold takes the numbers from what systemd-coredump told.
func (d *Death) fillTold() {
	for name, to := range map[string]*int{"PID": &d.PID, "UID": &d.UID, "GID": &d.GID, "SIGNAL": &d.Signal} {
		if n, err := strconv.Atoi(d.Told[name]); err == nil && n >= 0 {
			*to = n
		}
	}
	if n, err := strconv.ParseUint(d.Told["RLIMIT"], 10, 64); err == nil {
		d.CoreLimit = n
	}
}
