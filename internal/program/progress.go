package program

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// ProgressLine shows how far long work is, if somebody watches: one line of a
// terminal, written over and over.
type ProgressLine struct {
	w     io.Writer // nil = nobody watches
	wide  int       // columns of what stands there
	shown time.Time
}

// NewProgressLine shows progress on w if that is a terminal.
func NewProgressLine(w io.Writer) *ProgressLine {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return &ProgressLine{w: w}
	}
	return &ProgressLine{}
}

// Show says what is done, as a part from 0 to 1 and what is at hand; part < 0
// if it is not known. What comes too fast to be read is left out, but the end.
func (l *ProgressLine) Show(part float64, what string) {
	if l.w == nil || part != 1 && time.Since(l.shown) < 100*time.Millisecond {
		return
	}
	l.shown = time.Now()
	text := fmt.Sprintf("%.78s", what)
	if part >= 0 {
		text = fmt.Sprintf("%3.0f %% %.72s", 100*part, what)
	}
	fmt.Fprintf(l.w, "\r%-*s", l.wide, text)
	l.wide = len(text)
}

// Clear takes the line away.
func (l *ProgressLine) Clear() {
	if l.w != nil && l.wide > 0 {
		fmt.Fprintf(l.w, "\r%*s\r", l.wide, "")
		l.wide = 0
	}
}
