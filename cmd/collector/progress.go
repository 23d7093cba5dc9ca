package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// progressLine shows how far long work is, if somebody watches: one line of a
// terminal, written over and over.
type progressLine struct {
	w     io.Writer // nil = nobody watches
	wide  int       // columns of what stands there
	shown time.Time
}

func newProgressLine(w io.Writer) *progressLine {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return &progressLine{w: w}
	}
	return &progressLine{}
}

// show says what is done, as a part from 0 to 1 and what is at hand; part < 0
// if it is not known.
func (l *progressLine) show(part float64, what string) {
	if l.w == nil || time.Since(l.shown) < 100*time.Millisecond {
		return
	}
	l.shown = time.Now()
	text := fmt.Sprintf("%.60s", what)
	if part >= 0 {
		text = fmt.Sprintf("%3.0f %% %s", 100*part, text)
	}
	fmt.Fprintf(l.w, "\r%-*s", l.wide, text)
	l.wide = len(text)
}

// clear takes the line away.
func (l *progressLine) clear() {
	if l.w != nil && l.wide > 0 {
		fmt.Fprintf(l.w, "\r%*s\r", l.wide, "")
	}
}

// sizeText spells a number of bytes for people: 12.3 MB.
func sizeText(n int64) string {
	v, unit := float64(n), "B"
	for _, u := range []string{"KB", "MB", "GB", "TB"} {
		if v < 1000 {
			break
		}
		v, unit = v/1000, u
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, unit)
}
