package debug

import (
	"fmt"
	"maps"
	"slices"

	"github.com/go-delve/delve/pkg/proc"
	"github.com/go-delve/delve/service/api"

	"github.com/goinquest/inquest"
)

// Goroutine is one goroutine of a core.
type Goroutine struct {
	ID      int64             `json:"id"`
	State   string            `json:"state"` // as in tracebacks: "running", "chan receive"
	Thread  int               `json:"thread,omitempty"`
	System  bool              `json:"system,omitempty"` // of the runtime itself
	At      Frame             `json:"at"`               // innermost frame that is not of the runtime
	Started Frame             `json:"started"`          // its function
	By      Frame             `json:"by"`               // the go statement
	Labels  map[string]string `json:"labels,omitempty"` // of runtime/pprof
	Problem string            `json:"problem,omitempty"`
}

type goroutinePage struct {
	Goroutines []Goroutine `json:"goroutines"`
	Next       int         `json:"next"`
}

// maxLabels bounds the labels of a goroutine.
const maxLabels = 64

func (t *target) goroutines(start, count int) (*goroutinePage, error) {
	if start < 0 || count < 0 {
		return nil, inquest.Errorf(inquest.ErrInvalid, "%d goroutines from %d on; both must be positive", count, start)
	}
	if count == 0 || count > PageGoroutines {
		count = PageGoroutines
	}
	list, next, err := t.page(start, count)
	if err != nil {
		return nil, err
	}
	out := &goroutinePage{Goroutines: make([]Goroutine, 0, len(list)), Next: next}
	for _, g := range list {
		out.Goroutines = append(out.Goroutines, t.goroutine(g))
	}
	return out, nil
}

// page reads goroutines and remembers where they are.
func (t *target) page(start, count int) ([]*proc.G, int, error) {
	list, next, err := proc.GoroutinesInfo(t.target, start, count)
	if err != nil {
		return nil, 0, inquest.Errorf(inquest.ErrInvalid, "goroutines: %w", err)
	}
	for _, g := range list {
		if g.Unreadable == nil {
			t.pages[g.ID] = int32(start)
		}
	}
	if next > 0 && next <= start {
		return nil, 0, inquest.Errorf(inquest.ErrInvalid, "the list of goroutines does not end")
	}
	return list, next, nil
}

// findPage is how many goroutines are read at once to find one.
const findPage = 100

// find returns a goroutine. Delve's own search reads all goroutines up to it,
// and keeps them.
func (t *target) find(id int64) (*proc.G, error) {
	for _, th := range t.target.ThreadList() {
		if g, err := proc.GetG(th); err == nil && g != nil && g.ID == id {
			return g, nil
		}
	}
	start, known := t.pages[id]
	for at := int(start); at >= 0; {
		list, next, err := t.page(at, findPage)
		if err != nil {
			return nil, err
		}
		for _, g := range list {
			if g.ID == id && g.Unreadable == nil {
				return g, nil
			}
		}
		t.target.ClearCaches()
		if known && next-int(start) > PageGoroutines+findPage {
			break
		}
		at = next
	}
	return nil, inquest.Errorf(inquest.ErrNotFound, "the process had no goroutine %d", id)
}

func (t *target) goroutine(g *proc.G) Goroutine {
	if g.Unreadable != nil {
		return Goroutine{ID: g.ID, Problem: g.Unreadable.Error()}
	}
	out := Goroutine{
		ID:      g.ID,
		State:   t.state(g),
		System:  g.System(t.target),
		At:      location(g.UserCurrent()),
		Started: location(g.StartLoc(t.target)),
		By:      location(g.Go()),
		Labels:  g.Labels(),
	}
	if g.Thread != nil {
		out.Thread = g.Thread.ThreadID()
	}
	if len(out.Labels) > maxLabels {
		few := map[string]string{}
		for _, k := range slices.Sorted(maps.Keys(out.Labels))[:maxLabels] {
			few[k] = out.Labels[k]
		}
		out.Labels = few
	}
	return out
}

// states are those that tracebacks spell so, by runtime.g.atomicstatus.
var states = map[uint64]string{0: "idle", 1: "runnable", 2: "running", 3: "syscall", 4: "waiting", 6: "dead", 8: "copystack", 9: "preempted", 10: "leaked", 11: "deadextra"}

// scanned is set in the state while the collector looks at the goroutine.
const scanned = 0x1000

func (t *target) state(g *proc.G) string {
	s, ok := states[g.Status&^scanned]
	if !ok {
		return fmt.Sprintf("state %d", g.Status)
	}
	if s == "waiting" && g.WaitReason > 0 {
		return api.WaitReasonString(&t.golang, g.WaitReason)
	}
	return s
}
