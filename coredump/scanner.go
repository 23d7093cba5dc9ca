package coredump

import (
	"bytes"
	"time"
)

const (
	strayLines   = 16      // that are not of a crash text may stand within one
	messageLines = 64      // of a panic's value may come before the first stack
	messageBytes = 1 << 16 //
)

// Scanner finds crash texts in the lines of a log. It is fed lines as they
// come; where a text ends it calls the function it was made with.
//
// What looks like one is not always: servers log panics they recover from, with
// a stack. So a text is one only if its parts come as the runtime writes them:
// the reason at the beginning of a line, an empty line (which journald leaves
// out), and the stack of a goroutine that is not busy writing its own stack. A
// text without any stack, as GOTRACEBACK=none leaves it, counts if the log ends
// with it. A Scanner holds one TextParser and a few lines; it is not safe for
// concurrent use.
type Scanner struct {
	limits  TextLimits
	found   func(*Text)
	decoder logDecoder

	p         *TextParser // nil: between texts
	source    logSource   // of its lines
	confirmed bool        // a stack was there
	reasoned  bool        // it begins as the runtime does
	blank     bool        // an empty line was there before it
	first     bool        // the next function is the innermost one
	thread    bool        // another thread begins to tell its stack
	held      [][]byte    // lines that are only of the text if more of it comes
	strays    int         // of them, not empty
	bytes     int         // before the first stack
	notices   [][]byte    // of the runtime, before it says why it throws
}

// NewScanner returns a Scanner that calls found with each text; the text
// belongs to found.
func NewScanner(l TextLimits, found func(*Text)) *Scanner {
	return &Scanner{limits: l, found: found}
}

// Line takes the next line of the log, without its end.
func (s *Scanner) Line(raw []byte) {
	s.decoder.decode(raw[:min(len(raw), maxLine)], s.line)
}

// Message takes a line as journald keeps it: nothing stands before it, and empty
// ones are left out.
func (s *Scanner) Message(text []byte, at time.Time) {
	s.line(logLine{text: text[:min(len(text), maxLine)], at: at, source: logRuntime})
}

// Inside reports whether a text has begun that may go on.
func (s *Scanner) Inside() bool { return s.p != nil }

// Flush ends what has begun. last says that nothing more will come, as the
// process is gone; else nothing came for a while.
func (s *Scanner) Flush(last bool) {
	s.notices = nil
	if s.p != nil {
		s.end(s.confirmed || last && s.strays == 0)
	}
}

func (s *Scanner) line(l logLine) {
	kind := kindOf(l.text)
	if s.p == nil {
		s.between(kind, l)
		return
	}
	if l.source != s.source && kind != lineBlank {
		kind = lineOther // written by something else
	}
	switch {
	case !s.confirmed:
		s.reason(kind, l)
	case s.begins(kind, l) && kind != lineRaised && len(s.held) > 0 && !s.thread:
		s.end(true)
		s.between(kind, l)
	case kind == lineExit:
		s.end(true)
	case kind == lineOther || kind == lineBlank:
		s.hold(kind, l)
	case s.first && kind == lineFunction:
		s.first = false
		if bytes.HasPrefix(l.text, []byte("runtime/debug.Stack(")) || bytes.HasPrefix(l.text, []byte("runtime/debug.PrintStack(")) {
			s.end(false)
			return
		}
		s.take(l.text)
	default:
		s.thread = kind == lineThread || s.thread && kind != lineHeader
		s.take(l.text)
	}
}

// begins says whether a text may begin with the line.
func (s *Scanner) begins(kind lineKind, l logLine) bool {
	switch kind {
	case linePanic, lineFatal:
		return !isIndented(l.text)
	case lineSignal, lineRaised:
		return true
	}
	return false
}

// between looks for the beginning of a text.
func (s *Scanner) between(kind lineKind, l logLine) {
	if kind == lineNotice {
		if len(s.notices) < 4 {
			s.notices = append(s.notices, bytes.Clone(l.text))
		}
		return
	}
	if !s.begins(kind, l) {
		s.notices = s.notices[:0]
		return
	}
	s.p, s.source = NewTextParser(s.limits), l.source
	s.confirmed, s.blank, s.first, s.thread, s.bytes = false, false, true, false, 0
	s.reasoned = kind != lineSignal // whose address follows
	for _, n := range s.notices {
		s.take(n)
	}
	s.notices = s.notices[:0]
	s.p.at = l.at
	s.take(l.text)
}

// reason takes the lines above the first stack.
func (s *Scanner) reason(kind lineKind, l logLine) {
	s.bytes += len(l.text) + 1
	s.reasoned = s.reasoned || kind == lineDetail
	switch {
	case kind == lineHeader || kind == lineStack:
		if !s.blank && s.source != logRuntime {
			s.end(false)
			return
		}
		s.confirmed = true
		s.take(l.text)
	case kind == lineExit:
		s.end(true)
	case kind == lineBlank:
		s.blank = true
		s.hold(kind, l)
	case kind == lineOther && !bytes.HasPrefix(l.text, []byte("\t")), kind == lineFunction:
		if s.blank || s.strays >= messageLines {
			s.end(false)
			return
		}
		s.held = append(s.held, bytes.Clone(l.text))
		s.strays++
	default:
		s.take(l.text)
	}
	if s.bytes > messageBytes {
		s.end(false)
	}
}

// hold keeps a line until it is known whether the text goes on behind it.
func (s *Scanner) hold(kind lineKind, l logLine) {
	if kind != lineBlank {
		s.strays++
	}
	s.held = append(s.held, bytes.Clone(l.text))
	if s.strays > strayLines || len(s.held) > 2*strayLines && s.confirmed {
		s.end(true)
	}
}

func (s *Scanner) take(line []byte) {
	for _, h := range s.held {
		s.write(h)
	}
	s.held, s.strays = s.held[:0], 0
	s.write(line)
}

func (s *Scanner) write(line []byte) {
	_, _ = s.p.Write(line) // never fails
	_, _ = s.p.Write([]byte{'\n'})
}

// end ends the text; is says whether it was one.
func (s *Scanner) end(is bool) {
	p := s.p
	s.p, s.held, s.strays = nil, nil, 0
	if is && s.reasoned && p.Found() {
		s.found(p.Text())
	}
}
