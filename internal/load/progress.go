package load

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// Progress shows how far a run is: on a terminal, in one line that is
// overwritten; elsewhere nothing. It is safe for concurrent use.
type Progress struct {
	mu   sync.Mutex
	w    io.Writer // nil: nothing is shown
	last time.Time
}

// NewProgress shows progress on w if that is a terminal.
func NewProgress(w io.Writer) *Progress {
	if f, ok := w.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		w = nil
	}
	return &Progress{w: w}
}

// Step says that done of total are done of something.
func (p *Progress) Step(what string, done, total int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); p.w != nil && now.Sub(p.last) > 200*time.Millisecond {
		p.last = now
		fmt.Fprintf(p.w, "\r\x1b[K%s %d/%d", what, done, total)
	}
}

// Done takes the line away.
func (p *Progress) Done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w != nil {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
