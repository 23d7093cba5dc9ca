package push

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/goinquest/inquest/internal/settings"
)

// pace says how fast a file goes.
type pace struct {
	file  *File
	show  func(part float64, what string)
	start time.Time
	first int64 // bytes that were there at the start
}

// have tells that so many bytes are there or on the way.
func (p *pace) have(n int64) {
	now := time.Now()
	if p.start.IsZero() {
		p.start, p.first = now, n
	}
	text := fmt.Sprintf("%s  %s of %s", filepath.Base(p.file.Path), settings.SizeText(n), settings.SizeText(p.file.Bytes))
	if d := now.Sub(p.start).Seconds(); d > 0.5 && n > p.first {
		rate := float64(n-p.first) / d
		text += fmt.Sprintf("  %s/s", settings.SizeText(int64(rate)))
		if left := time.Duration(float64(p.file.Bytes-n) / rate * float64(time.Second)); left > time.Second {
			text += "  " + settings.FormatDuration(left.Round(time.Second)) + " left"
		}
	}
	if n == p.file.Bytes {
		text += ", being stored"
	}
	p.show(float64(n)/float64(p.file.Bytes), text)
}
