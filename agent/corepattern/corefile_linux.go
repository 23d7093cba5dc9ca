package corepattern

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/goinquest/inquest"
)

// minCoreBytes is the least RLIMIT_CORE that the kernel writes a file for.
const minCoreBytes = 4096

// pageBytes is the unit in which zeros of a core become holes.
const pageBytes = 4096

// writeCoreFile writes a core where the kernel would have written it, under
// the same rules: as the process's user, in its root and its directory, no
// link followed at the end, a new file of its own with mode 0600, no more than
// RLIMIT_CORE. Of a program with rights of its own (suid) it is root's, and
// only under an absolute pattern.
func writeCoreFile(d *Death, core io.Reader, pattern string) error {
	name := expansion(d, pattern).expand(pattern, true)
	if on, _ := readSysctl(usesPIDFile); on == "1" && !uses(pattern, 'p') && !uses(pattern, 'P') {
		name += "." + last(statusFields(procFile(d.PID, "status"))["NSpid"])
	}
	if d.Suid && !path.IsAbs(name) {
		return inquest.Errorf(inquest.ErrForbidden, "no core file of a suid program below a directory of its user's choice")
	}
	f, err := createCore(d, name)
	if err != nil {
		return fmt.Errorf("core file %s of process %d: %w", name, d.PID, err)
	}
	err = writeSparse(f, core, d.CoreLimit)
	return errors.Join(err, f.Close())
}

// createCore makes the file, on a thread that has the rights of the process
// and ends with it.
func createCore(d *Death, name string) (f *os.File, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread is not used again
		var from *os.File
		if from, err = coreRoot(d, name); err != nil {
			return
		}
		defer from.Close()
		if err = become(d); err == nil {
			f, err = openCore(from, name, d.Suid)
		}
	}()
	<-done
	return f, err
}

// coreRoot is the directory that the name counts from.
func coreRoot(d *Death, name string) (*os.File, error) {
	dir := procFile(d.PID, "cwd")
	switch {
	case d.Suid:
		dir = "/proc/1/root" // the host's, whatever the process calls root
	case path.IsAbs(name):
		dir = procFile(d.PID, "root")
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), dir), nil
}

// become gives the thread the process's rights to files.
func become(d *Death) error {
	if d.Suid {
		return nil
	}
	status := statusFields(procFile(d.PID, "status"))
	uid, gid := last(status["Uid"]), last(status["Gid"]) // those for files are the last
	u, err := strconv.Atoi(uid)
	g, err2 := strconv.Atoi(gid)
	if err = errors.Join(err, err2); err != nil {
		return fmt.Errorf("rights of process %d: %w", d.PID, err)
	}
	var groups []uint32
	for _, s := range strings.Fields(status["Groups"]) {
		if n, err := strconv.ParseUint(s, 10, 32); err == nil {
			groups = append(groups, uint32(n))
		}
	}
	return setThreadRights(u, g, groups)
}

// openCore makes a new file of that name below from; what else has the name
// goes first, as the kernel does it.
func openCore(from *os.File, name string, suid bool) (*os.File, error) {
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	if !path.IsAbs(name) {
		how.Resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS
	}
	if suid {
		how.Resolve |= unix.RESOLVE_NO_SYMLINKS
	}
	dir, err := unix.Openat2(int(from.Fd()), path.Dir(name), how)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	base := path.Base(name)
	if !suid {
		unix.Unlinkat(dir, base, 0)
	}
	fd, err := unix.Openat(dir, base, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_LARGEFILE, 0o600)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 || st.Mode&0o677 != 0o600 {
		f.Close()
		return nil, errors.Join(err, inquest.Errorf(inquest.ErrForbidden, "it is not a plain file of the process's own"))
	}
	return f, nil
}

// writeSparse copies a core into a file, with holes where pages are zero, and
// at most limit bytes besides.
func writeSparse(f *os.File, core io.Reader, limit uint64) error {
	buf := make([]byte, 64*pageBytes)
	zero := make([]byte, pageBytes)
	var at int64
	var written uint64
	for {
		n, err := io.ReadFull(core, buf)
		for p := buf[:n]; len(p) > 0; {
			page := p[:min(pageBytes, len(p))]
			p = p[len(page):]
			if !bytes.Equal(page, zero[:len(page)]) {
				if written += uint64(len(page)); written > limit {
					return nil // cut off here, as the process wished
				}
				if _, err := f.WriteAt(page, at); err != nil {
					return err
				}
			}
			at += int64(len(page))
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return f.Truncate(at)
		}
		if err != nil {
			return err
		}
	}
}
