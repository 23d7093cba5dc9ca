package coredump

import (
	"io"
	"time"

	"github.com/goinquest/inquest"
)

// TextLimits bound what is kept of a crash text. Zero values take the
// defaults.
type TextLimits struct {
	KeepBytes int // of the beginning, default 1 MiB; what follows is counted and its goroutines bucketed
	Buckets   int // default 256
}

const (
	defaultKeepBytes = 1 << 20
	defaultBuckets   = 256
)

func (l TextLimits) withDefaults() TextLimits {
	if l.KeepBytes <= 0 {
		l.KeepBytes = defaultKeepBytes
	}
	if l.Buckets <= 0 {
		l.Buckets = defaultBuckets
	}
	return l
}

// Text is what a crash text says.
type Text struct {
	Class   string // see inquest.Crash; inquest.ClassUnknown if the line that says it is missing
	Message string // the line as it was written, with what was written before or after it to explain it
	// Signal is the one that the text names: it ended the process, or it is
	// what the runtime made the panic of. 0 if there is none.
	Signal int
	Frames []inquest.Frame // of the goroutine that died, innermost first, at most inquest.CrashFrames
	// Goroutine is the one that died. 0 if that was the runtime on a stack of
	// its own, with none running.
	Goroutine int64
	At        time.Time // the first line, by the log it was in; zero if that does not say
	Text      inquest.CrashText
	Head      []byte // the beginning of the text, as long as TextLimits allow
}

// Crash takes what the text says into a crash. It leaves alone what no text can
// tell, and the class if the text has none while c has one.
func (t *Text) Crash(c *inquest.Crash) {
	if t.Class != inquest.ClassUnknown || c.Class == "" {
		c.Class = t.Class
	}
	if t.Message != "" {
		c.Message = t.Message
	}
	if t.Signal != 0 {
		c.Signal = t.Signal
	}
	if len(t.Frames) > 0 {
		c.Frames = t.Frames
	}
	text := t.Text
	c.Text = &text
}

// ParseText reads what a Go program of any release since 1.20 wrote when it
// died: the runtime's report, whatever GOTRACEBACK was, or a report of the race
// detector, with lines of a log before, between and behind. Lines may be those
// of a log of Docker, of CRI or of journald, or have a time before them.
//
// It takes time in proportion to the text and bounded memory. If nothing in it
// is of a crash the error is of kind inquest.ErrInvalid; an error of r comes
// back as it is, with what was parsed before.
func ParseText(r io.Reader, limits TextLimits) (*Text, error) {
	p := NewTextParser(limits)
	_, err := io.Copy(p, r)
	t := p.Text()
	if err == nil && !p.Found() {
		err = inquest.Errorf(inquest.ErrInvalid, "no line of %d bytes is of a Go crash: want one that begins with panic:, fatal error:, SIG… or goroutine", t.Text.Bytes)
	}
	return t, err
}
