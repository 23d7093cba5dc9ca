package crashtext

import (
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/goinquest/inquest/agent/host"
)

const (
	goneFor   = 10 * time.Second // a text comes at most so long after the process was seen
	maxOwners = 4096
)

// owners knows which processes write to which files, also a while after they
// have died. It is safe for concurrent use.
type owners struct {
	builds builds

	mu   sync.Mutex
	byID map[string]*owner
}

// owner is a process that was seen.
type owner struct {
	process   *process
	inode     string // of its standard error, "" if that is no file
	container string
	seen      time.Time
	told      bool // its death
}

// look remembers processes; it returns the files that are their standard error,
// with when the process was started.
func (o *owners) look(pids []int) (files map[string]time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	files = map[string]time.Time{}
	now := time.Now()
	for id, w := range o.byID {
		if now.Sub(w.seen) > 2*goneFor {
			delete(o.byID, id)
		}
	}
	for _, pid := range pids {
		id, err := host.Identify(pid)
		if err != nil || len(o.byID) >= maxOwners {
			continue
		}
		w := o.byID[id.ID]
		if w == nil || w.process.Exe != id.Exe {
			p, err := o.builds.look(pid)
			if err != nil {
				continue
			}
			cgroup, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup") // then it is in none
			w = &owner{process: p, container: containerIn(string(cgroup))}
			o.byID[id.ID] = w
		}
		if host.Alive(id.ID) {
			w.seen = now
		}
		if path, inode := stderrOf(pid); inode != "" {
			w.inode = inode
			if path != "" {
				files[path] = id.Started
			}
		}
	}
	return files
}

// stderrOf is the file a process writes its errors to; path is "" if it is not
// to be found from here.
func stderrOf(pid int) (path, inode string) {
	dir := "/proc/" + strconv.Itoa(pid)
	info, err := os.Stat(dir + "/fd/2")
	if err != nil || !info.Mode().IsRegular() {
		return "", ""
	}
	inode = inodeKey(info)
	name, err := os.Readlink(dir + "/fd/2")
	if err != nil {
		return "", inode
	}
	for _, path := range []string{name, dir + "/root" + name} {
		if at, err := os.Stat(path); err == nil && inodeKey(at) == inode {
			return path, inode
		}
	}
	return "", inode
}

// died is the process that wrote a text to a file just now: of those that are
// gone, whose death is not told yet, the one that was started last. If all that
// write to the file still live, it waits a moment for one to be gone. nil if there
// is none, or the text is old.
func (o *owners) died(inode, path string, past bool) *process {
	if past {
		return nil
	}
	for end := time.Now().Add(lastTimeout); ; time.Sleep(10 * time.Millisecond) {
		gone, living := o.writers(inode, path)
		if gone != nil {
			o.mu.Lock()
			defer o.mu.Unlock()
			gone.told = true
			return gone.process
		}
		if !living || time.Now().After(end) {
			return nil
		}
	}
}

// writers are those that write to a file: the one that died last, and whether
// others live.
func (o *owners) writers(inode, path string) (gone *owner, living bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, w := range o.byID {
		switch {
		case !w.writes(inode, path) || w.told || time.Since(w.seen) > goneFor:
		case host.Alive(id):
			living = true
		case gone == nil || w.process.Started.After(gone.process.Started):
			gone = w
		}
	}
	return gone, living
}

func (w *owner) writes(inode, path string) bool {
	if w.inode != "" && w.inode == inode {
		return true
	}
	facts := containerOfLog(path)
	return facts != nil && w.container == facts.Container
}

// byPID is a process that was seen a moment ago or is still there.
func (o *owners) byPID(pid int) *process {
	o.mu.Lock()
	var best *owner
	for _, w := range o.byID {
		if w.process.PID == pid && (best == nil || w.process.Started.After(best.process.Started)) {
			best = w
		}
	}
	o.mu.Unlock()
	if best != nil {
		return best.process
	}
	p, err := o.builds.look(pid)
	if err != nil {
		return nil
	}
	return p
}
