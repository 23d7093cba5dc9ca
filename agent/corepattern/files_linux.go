package corepattern

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/goinquest/inquest"
)

// fileKey is a version of a file.
type fileKey struct {
	dev, ino uint64
	changed  int64 // ns
}

func keyOf(st *unix.Stat_t) fileKey {
	return fileKey{st.Dev, st.Ino, st.Mtim.Nano()}
}

// found is a core file that may be offered.
type found struct {
	key  fileKey
	dir  *os.File
	name string
	stat *unix.Stat_t
	in   *place
}

// path is the file as this process can open it.
func (f *found) path() string { return filepath.Join(f.dir.Name(), f.name) }

// open opens the file that was found, and no other that has its name now.
func (f *found) open() (*os.File, error) {
	fd, err := unix.Openat(int(f.dir.Fd()), f.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: f.path(), Err: err}
	}
	file := os.NewFile(uintptr(fd), f.path())
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && keyOf(&st) != f.key {
		err = inquest.Errorf(inquest.ErrUnavailable, "%s has changed", f.path())
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// offers remembers which files were offered, and how many are offered now. It
// is safe for concurrent use.
type offers struct {
	mu    sync.Mutex
	max   int                   // at once
	open  int                   // now
	until map[fileKey]time.Time // when to offer again; zero: while the file is there, not
}

func newOffers(max int) *offers { return &offers{max: max, until: map[fileKey]time.Time{}} }

// begin says whether to offer a file now; if so, end must be called for it.
func (o *offers) begin(k fileKey, now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	at, offered := o.until[k]
	if o.open >= o.max || offered && (at.IsZero() || now.Before(at)) {
		return false
	}
	o.open++
	o.until[k] = time.Time{}
	return true
}

// end says when to offer the file again: after a while, or never if after is 0.
func (o *offers) end(k fileKey, after time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open--
	if after > 0 {
		o.until[k] = time.Now().Add(after)
	}
}

// keep forgets the files that are not there any more.
func (o *offers) keep(there map[fileKey]bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for k := range o.until {
		if !there[k] {
			delete(o.until, k)
		}
	}
}

// startFiles looks for files until the listener stops.
func (l *Listener) startFiles(p *Plan) error {
	rounds := l.directoryRounds
	if l.mode == ModeSystemd {
		rounds = l.systemdRounds
	}
	look, done, err := rounds(p)
	if err != nil {
		return err
	}
	l.wg.Go(func() {
		defer done()
		tick := time.NewTicker(l.o.Poll)
		defer tick.Stop()
		for {
			look()
			select {
			case <-l.ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	return nil
}

// directoryRounds is one look at the directories of the core pattern, in every
// mount namespace, since the kernel writes as the process sees it.
func (l *Listener) directoryRounds(p *Plan) (look, done func(), err error) {
	ps, err := newPlaces()
	if err != nil {
		return nil, nil, err
	}
	usesPID, _ := readSysctl(usesPIDFile)
	name := newCoreName(p.Pattern, usesPID == "1")
	w := &watch{l: l, places: ps, offers: newOffers(l.o.AtOnce), still: map[fileKey]stillness{}}
	w.dirs = p.Watched
	w.name = func(dir, file string, d *Death) bool {
		if name.parse(file, d) {
			return true
		}
		return slices.Contains(l.o.Cores, dir)
	}
	return w.look, func() { w.wg.Wait(); ps.close() }, nil
}

// watch looks for core files in directories. It belongs to one goroutine.
type watch struct {
	l      *Listener
	dirs   []string
	places *places
	name   func(dir, file string, d *Death) bool
	offers *offers
	still  map[fileKey]stillness
	wg     sync.WaitGroup // of deaths that use places
}

// stillness is how long a file has been as it is.
type stillness struct {
	size  int64
	since time.Time
}

func (w *watch) look() {
	now := time.Now()
	w.places.find(now)
	there, dirs := map[fileKey]bool{}, map[[2]uint64]bool{}
	for _, p := range w.places.all {
		for _, name := range w.dirs {
			dir, err := p.open(name, unix.O_RDONLY|unix.O_DIRECTORY)
			if err != nil {
				continue // most containers have none
			}
			var st unix.Stat_t
			err = unix.Fstat(int(dir.Fd()), &st)
			if id := [2]uint64{st.Dev, st.Ino}; err == nil && !dirs[id] { // the same may be in many namespaces
				dirs[id] = true
				w.lookIn(p, name, dir, there, now)
			}
			dir.Close()
		}
	}
	w.offers.keep(there)
	for k := range w.still {
		if !there[k] {
			delete(w.still, k)
		}
	}
}

// lookIn offers the finished cores of one directory.
func (w *watch) lookIn(p *place, name string, dir *os.File, there map[fileKey]bool, now time.Time) {
	names, _ := dir.Readdirnames(-1)
	for _, file := range names {
		d := &Death{UID: -1, GID: -1, Source: ModeDirectory, CoreLimit: NoCoreLimit}
		if !w.name(name, file, d) {
			continue
		}
		f := statCore(dir, file)
		if f == nil {
			continue
		}
		f.in = p
		there[f.key] = true
		if w.offers.begin(f.key, now) && !w.offer(f, d, now) {
			w.offers.end(f.key, time.Nanosecond) // in the next round
		}
	}
}

// statCore finds a plain file, nil if there is none of that name.
func statCore(dir *os.File, name string) *found {
	var st unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	return &found{key: keyOf(&st), dir: dir, name: name, stat: &st}
}

// offer gives a file to the handler if it is finished.
func (w *watch) offer(f *found, d *Death, now time.Time) bool {
	file, err := f.open()
	if err != nil {
		return false
	}
	dir, err := unix.FcntlInt(f.dir.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil || !w.finished(f, file, now) || !isCore(file) {
		file.Close()
		unix.Close(dir)
		return false
	}
	f.dir = os.NewFile(uintptr(dir), f.dir.Name())
	w.fill(f, d, file)
	w.wg.Add(1)
	w.l.wg.Go(func() {
		defer w.wg.Done()
		w.l.handle(d)
	})
	return true
}

// fill says of a death what its file tells.
func (w *watch) fill(f *found, d *Death, file *os.File) {
	if d.UID < 0 {
		d.UID, d.GID = int(f.stat.Uid), int(f.stat.Gid)
	}
	if d.At.IsZero() {
		d.At = time.Unix(0, f.stat.Mtim.Nano())
	}
	d.Path, d.Stream = f.path(), file
	d.Open = func(name string) (*os.File, error) { return f.in.open(name, unix.O_RDONLY) }
	settled := false
	d.Taken = func() {
		settled = true
		if err := f.remove(); err != nil {
			w.l.fail("remove "+f.path(), err)
		}
	}
	d.Foreign = func() error {
		settled = true // it stays where it is
		d.Release()
		return nil
	}
	d.Release = sync.OnceFunc(func() {
		file.Close()
		f.dir.Close()
		if settled {
			w.offers.end(f.key, 0)
		} else {
			w.offers.end(f.key, w.l.o.Again)
		}
	})
}

// remove removes the file that was found, and no other of its name.
func (f *found) remove() error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(f.dir.Fd()), f.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Dev != f.key.dev || st.Ino != f.key.ino {
		return inquest.Errorf(inquest.ErrConflict, "another file has its name now")
	}
	return unix.Unlinkat(int(f.dir.Fd()), f.name, 0)
}

// finished says that nobody writes a file any more. The kernel tells where
// leases can be had: there is none on a file that somebody may write. Elsewhere
// the file must have been as it is for a while.
func (w *watch) finished(f *found, file *os.File, now time.Time) bool {
	_, err := unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	if err == nil {
		unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
		return f.stat.Size > 0
	}
	if err == unix.EAGAIN {
		return false
	}
	s, ok := w.still[f.key]
	if !ok || s.size != f.stat.Size {
		w.still[f.key] = stillness{f.stat.Size, now}
		return false
	}
	return now.Sub(s.since) >= w.l.o.Settle
}

// isCore says that a file is an ELF core: ET_CORE is 4, in either byte order.
func isCore(file *os.File) bool {
	head := make([]byte, 18)
	_, err := file.ReadAt(head, 0)
	return err == nil && string(head[:4]) == "\x7fELF" && head[16]+head[17] == 4 && head[16]*head[17] == 0
}
