package agent

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/symbolize"
)

const (
	maxHeldExes   = 16
	heldAskTime   = 10 * time.Minute // without being asked, the collector is asked whether it has it
	heldLookEvery = time.Minute
	heldTries     = 6 // uploads that fail, before an executable is let go
)

// heldExes are executables of processes that died. A process that is gone has
// no /proc/PID/exe, but a file that is open can be read, deleted or not; and
// of what the collector seems to lack a copy goes to the core spool, for the
// next start.
type heldExes struct {
	agent *Agent
	fresh chan struct{}

	mu    sync.Mutex
	exes  []*heldExe      // oldest first
	there map[string]bool // builds that the collector has
}

// heldExe is one executable.
type heldExe struct {
	id    string
	build *inquest.Build // nil until the file was read
	file  *os.File       // nil if there is only the copy
	since time.Time
	tries int
}

func newHeldExes(a *Agent) *heldExes {
	return &heldExes{agent: a, fresh: make(chan struct{}, 1), there: map[string]bool{}}
}

// hold keeps the executable of a process that is dying, of the build it is
// said to be. It does not read it.
func (h *heldExes) hold(id string, pid int) {
	if id == "" || pid <= 0 || slices.Contains(h.agent.refuses(), inquest.RefuseUpload) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.there[id] || h.find(id) != nil || len(h.exes) >= maxHeldExes {
		return
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return // it cannot be helped: others may run the build
	}
	h.exes = append(h.exes, &heldExe{id: id, file: f, since: h.agent.now()})
	select {
	case h.fresh <- struct{}{}:
	default:
	}
}

// find finds what is held of a build. Callers hold h.mu.
func (h *heldExes) find(id string) *heldExe {
	for _, e := range h.exes {
		if e.id == id {
			return e
		}
	}
	return nil
}

// run looks at what was held, keeps copies, and asks the collector about what
// it does not ask for, until ctx ends.
func (h *heldExes) run(ctx context.Context) {
	h.restore()
	ticker := time.NewTicker(heldLookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.fresh:
			h.inspect(ctx)
		case <-ticker.C:
			h.ask()
		}
	}
}

// restore takes up the copies in the spool.
func (h *heldExes) restore() {
	for _, id := range h.agent.cores.Exes() {
		f, err := h.agent.cores.OpenExe(id)
		if err != nil {
			continue
		}
		b, err := symbolize.ReadBuild(f)
		_ = f.Close() // only read
		if err != nil || b.ID != id {
			h.agent.log.Warn("executable in the core spool is damaged, dropped", inquest.LogBuildID, id, inquest.LogErr, err)
			h.agent.cores.DropExe(id)
			continue
		}
		h.mu.Lock()
		h.exes = append(h.exes, &heldExe{id: id, build: b, since: h.agent.now()})
		h.mu.Unlock()
	}
}

// inspect reads what was held and not read yet.
func (h *heldExes) inspect(ctx context.Context) {
	h.mu.Lock()
	exes := slices.Clone(h.exes)
	h.mu.Unlock()
	for _, e := range exes {
		if e.build != nil || ctx.Err() != nil {
			continue
		}
		b, err := symbolize.ReadBuild(e.file)
		if err != nil || b.ID != e.id {
			h.release(e.id, false) // the pid was another process's
			continue
		}
		h.mu.Lock()
		e.build = b
		h.mu.Unlock()
		if h.agent.channel.lacks(e.id) {
			h.keep(ctx, e)
		}
	}
}

// keep copies an executable to the spool.
func (h *heldExes) keep(ctx context.Context, e *heldExe) {
	info, err := e.file.Stat()
	if err == nil {
		err = h.agent.cores.KeepExe(e.id, io.NewSectionReader(&endingReader{ctx, e.file}, 0, info.Size()), info.Size())
	}
	if err != nil && ctx.Err() == nil {
		h.agent.log.Warn("executable of a process that died is not kept over a restart", inquest.LogBuildID, e.id, inquest.LogErr, err)
	}
}

// ask has those uploaded that the collector did not ask for: if it has them
// that costs a request.
func (h *heldExes) ask() {
	h.mu.Lock()
	defer h.mu.Unlock()
	var ids []string
	for _, e := range h.exes {
		if e.build != nil && h.agent.now().Sub(e.since) > heldAskTime {
			ids = append(ids, e.id)
		}
	}
	h.agent.binaries.want(ids)
}

// builds are those that are told in reports.
func (h *heldExes) builds() []inquest.Build {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []inquest.Build
	for _, e := range h.exes {
		if e.build != nil {
			out = append(out, *e.build)
		}
	}
	return out
}

// has reports whether the executable of a build is held.
func (h *heldExes) has(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.find(id) != nil
}

// open opens the executable of a build, for itself. Of kind
// inquest.ErrNotFound if it is not held.
func (h *heldExes) open(id string) (*os.File, error) {
	h.mu.Lock()
	e := h.find(id)
	if e != nil && e.file != nil {
		defer h.mu.Unlock()
		return os.Open(fmt.Sprintf("/proc/self/fd/%d", e.file.Fd()))
	}
	h.mu.Unlock()
	return h.agent.cores.OpenExe(id)
}

// uploaded notes what became of an upload of a build.
func (h *heldExes) uploaded(id string, err error) {
	if err == nil {
		h.release(id, true)
		return
	}
	h.mu.Lock()
	e := h.find(id)
	if e != nil {
		e.tries++
		e.since = h.agent.now()
	}
	give := e != nil && e.tries >= heldTries
	h.mu.Unlock()
	if give {
		h.release(id, false)
	}
}

// release lets go of an executable; there says that the collector has it.
func (h *heldExes) release(id string, there bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if there {
		h.there[id] = true
	}
	h.exes = slices.DeleteFunc(h.exes, func(e *heldExe) bool {
		if e.id != id {
			return false
		}
		if e.file != nil {
			_ = e.file.Close() // only read
		}
		return true
	})
	h.agent.cores.DropExe(id)
}

// close lets go of all files; copies stay.
func (h *heldExes) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.exes {
		if e.file != nil {
			_ = e.file.Close() // only read
		}
	}
	h.exes = nil
}

// mergeBuilds adds builds that are not in all, by id.
func mergeBuilds(all, more []inquest.Build) []inquest.Build {
	for _, b := range more {
		if !slices.ContainsFunc(all, func(o inquest.Build) bool { return o.ID == b.ID }) {
			all = append(all, b)
		}
	}
	slices.SortFunc(all, func(x, y inquest.Build) int { return strings.Compare(x.ID, y.ID) })
	return all
}
