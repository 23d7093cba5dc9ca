package agent

import (
	"slices"
	"sync"
	"time"

	"github.com/goinquest/inquest/agent/capture"
)

const (
	endedKept = 10 * time.Minute // a text may come a while after its process ended
	maxEnded  = 4096
)

// endedTargets remembers what processes were called that are targets no more.
type endedTargets struct {
	mu    sync.Mutex
	specs map[string]*spec // by process
	order []endedTarget    // oldest first
}

type endedTarget struct {
	process string
	at      time.Time
}

// add notes that the process of a spec is not scraped any more.
func (e *endedTargets) add(s *spec, now time.Time) {
	if s.process == "" {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.order) > 0 && (len(e.order) >= maxEnded || now.Sub(e.order[0].at) > endedKept) {
		delete(e.specs, e.order[0].process)
		e.order = e.order[1:]
	}
	if e.specs[s.process] == nil {
		e.order = append(e.order, endedTarget{s.process, now})
	}
	e.specs[s.process] = s
}

func (e *endedTargets) find(process string) *spec {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.specs[process]
}

// captureTarget names a process as discovery knows it, or did until lately, so
// that a crash has the labels of the profiles before it. A process that
// discovery never saw has only what all targets of the host have.
func (a *Agent) captureTarget(_ int, process string) (capture.Target, bool) {
	var s *spec
	if list := a.list(); process != "" {
		i := slices.IndexFunc(list, func(t *target) bool { return t.current().process == process })
		if i >= 0 {
			s = list[i].current()
		} else {
			s = a.ended.find(process)
		}
	}
	if s != nil {
		return capture.Target{Service: s.service, Instance: s.instance, Release: s.release, Labels: s.labels}, true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return capture.Target{Labels: joined(a.config.Labels, a.config.Host.Labels)}, true
}
