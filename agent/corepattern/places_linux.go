package corepattern

import (
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// placeGrace is how long the files of a container are looked at after its last
// process has gone.
const placeGrace = 30 * time.Second

// place is one root directory below which cores may be: the host's, or that of
// a mount namespace, such as a container's. It is held open, so that it stays
// when the processes go.
type place struct {
	root *os.File
	name string // as this process can reach it while some process is there
	seen time.Time
}

// open opens a file or directory below the root, whatever links there are.
func (p *place) open(name string, flags int) (*os.File, error) {
	fd, err := unix.Openat2(int(p.root.Fd()), name, &unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: filepath.Join(p.name, name), Err: err}
	}
	return os.NewFile(uintptr(fd), filepath.Join(p.name, name)), nil
}

// openRoot holds a root directory.
func openRoot(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return os.NewFile(uintptr(fd), dir), nil
}

// openBelow makes Death.Open for a process that is held.
func openBelow(pid int) func(string) (*os.File, error) {
	return func(name string) (*os.File, error) {
		root, err := openRoot(procFile(pid, "root"))
		if err != nil {
			return nil, err
		}
		defer root.Close()
		return (&place{root: root, name: root.Name()}).open(name, unix.O_RDONLY)
	}
}

// places are the roots of the host's mount namespaces.
type places struct {
	self string            // own namespace
	all  map[string]*place // by namespace
}

// newPlaces begins with our own root.
func newPlaces() (*places, error) {
	self, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return nil, err
	}
	root, err := openRoot("/")
	if err != nil {
		return nil, err
	}
	return &places{self, map[string]*place{self: {root: root, name: "/"}}}, nil
}

// find looks for namespaces that are new, and forgets those without processes.
func (ps *places) find(now time.Time) {
	proc, err := os.Open("/proc")
	if err != nil {
		return
	}
	names, _ := proc.Readdirnames(-1)
	proc.Close()
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		ns, err := os.Readlink(procFile(pid, "ns/mnt"))
		if err != nil {
			continue
		}
		if p := ps.all[ns]; p != nil {
			p.seen = now
			continue
		}
		if root, err := openRoot(procFile(pid, "root")); err == nil {
			ps.all[ns] = &place{root: root, name: root.Name(), seen: now}
		}
	}
	for ns, p := range ps.all {
		if ns != ps.self && now.Sub(p.seen) > placeGrace {
			p.root.Close()
			delete(ps.all, ns)
		}
	}
}

func (ps *places) close() {
	for _, p := range ps.all {
		p.root.Close()
	}
}
