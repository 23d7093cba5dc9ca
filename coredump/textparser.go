package coredump

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/goinquest/inquest"
)

const (
	maxLine    = 64 << 10 // bytes of a line that are looked at
	maxMessage = 4 << 10  // bytes of one
)

// TextParser reads a crash text as it comes. Write takes bytes, Text says what
// was in them so far. It holds at most TextLimits.KeepBytes and about 12 MiB,
// whatever it is fed. It is not safe for concurrent use.
type TextParser struct {
	limits  TextLimits
	head    []byte
	bytes   int64
	at      time.Time
	partial []byte // of a line
	long    bool   // the line goes on beyond maxLine
	decoder logDecoder

	say     verdict
	told    bool // a stack was there: what follows says nothing of why
	lastMsg *string
	races   int // lines of stacks the race detector wrote are indented

	b         *buckets
	cur       textStack
	inside    bool   // cur is being read
	system    bool   // cur is a stack of the runtime's own, not of a goroutine
	ancestor  bool   // what follows is of who started it, and whoever started that
	pending   string // function whose file comes next
	created   bool   // pending started it
	died      []inquest.Frame
	diedID    int64
	decided   bool                // which goroutine died
	ownStack  []inquest.Frame     // runtime stack, goroutine 0
	stackless map[int64]textStack // ran on other threads; their stacks may come later
}

// NewTextParser returns one that has read nothing.
func NewTextParser(l TextLimits) *TextParser {
	return &TextParser{limits: l.withDefaults(), b: newBuckets(), stackless: map[int64]textStack{}}
}

// Write takes the next bytes of the text. It never fails.
func (p *TextParser) Write(data []byte) (int, error) {
	p.bytes += int64(len(data))
	if room := p.limits.KeepBytes - len(p.head); room > 0 {
		p.head = append(p.head, data[:min(room, len(data))]...)
	}
	n := len(data)
	for len(data) > 0 {
		line, rest, ended := bytes.Cut(data, []byte("\n"))
		data = rest
		if !ended {
			p.hold(line)
			break
		}
		if len(p.partial) > 0 || p.long {
			p.hold(line)
			line = p.partial
		}
		p.raw(line[:min(len(line), maxLine)])
		p.partial, p.long = p.partial[:0], false
	}
	return n, nil
}

func (p *TextParser) hold(part []byte) {
	room := maxLine - len(p.partial)
	p.long = p.long || len(part) > room
	p.partial = append(p.partial, part[:min(room, len(part))]...)
}

func (p *TextParser) raw(line []byte) {
	p.decoder.decode(line, func(l logLine) {
		if p.at.IsZero() {
			p.at = l.at
		}
		p.line(l.text)
	})
}

// Found reports whether any line was of a crash.
func (p *TextParser) Found() bool {
	return p.say.signal != "" || p.say.raised != "" || p.say.thrown || len(p.say.panics) > 0 || p.say.raced ||
		p.b.total > 0 || p.inside || len(p.ownStack) > 0 || len(p.stackless) > 0
}

// Text is what has been read. Nothing can be written after it.
func (p *TextParser) Text() *Text {
	if len(p.partial) > 0 {
		p.raw(p.partial)
		p.partial = p.partial[:0]
	}
	p.endStack()
	for _, id := range slices.Sorted(maps.Keys(p.stackless)) {
		s := p.stackless[id]
		p.b.add(&s, false)
	}
	clear(p.stackless)
	t := &Text{At: p.at, Message: p.say.message(), Frames: p.died, Goroutine: p.diedID, Head: p.head}
	t.Class, t.Signal = p.say.class()
	if !p.decided {
		t.Frames = p.ownStack
	}
	t.Frames = t.Frames[:min(len(t.Frames), inquest.CrashFrames)]
	list, cut := p.b.top(p.limits.Buckets)
	t.Text = inquest.CrashText{
		Bytes: p.bytes, Kept: int64(len(p.head)), Goroutines: p.b.total, Buckets: list,
		Truncated: cut || int64(len(p.head)) < p.bytes,
	}
	return t
}

// line takes one line without its end and without what a log put before it.
func (p *TextParser) line(line []byte) {
	kind := kindOf(line)
	if p.pending != "" && kind == lineFile {
		p.frame(line)
		return
	}
	if kind != lineOther {
		p.dropPending()
	}
	switch kind {
	case linePanic, lineFatal, lineRaised, lineSignal, lineNotice, lineRace:
		p.reason(kind, line)
		return
	case lineHeader:
		p.begin(parseStackHead(line))
	case lineStack:
		p.begin(header{state: []byte("runtime stack")})
	case lineFunction:
		p.function(line[:functionEnd(line)], false)
	case lineCreated:
		name, _, _ := bytes.Cut(line[len("created by "):], []byte(" in goroutine "))
		p.function(name, true)
	case lineElided:
		p.cur.cut = true
	case lineAncestor:
		p.ancestor = true
	case lineAbsent:
		p.cur.absent = true
	case lineThread, lineExit:
		p.endStack()
	case lineBlank:
		p.endRace()
	case lineOther, lineFile, lineDetail:
		p.other(line)
	}
	if kind != lineOther && kind != lineFile {
		p.lastMsg = nil
	}
}

// reason takes a line that says why the process died.
func (p *TextParser) reason(kind lineKind, line []byte) {
	p.lastMsg = nil
	if p.told {
		return // of another goroutine that died too, or of a thread that was made to tell its stack
	}
	text := string(bytes.TrimLeft(line[:min(len(line), maxMessage)], " \t"))
	switch kind {
	case linePanic:
		p.panicked(strings.TrimPrefix(text, "panic: "))
	case lineFatal:
		p.say.fatal, p.say.thrown = strings.TrimPrefix(text, "fatal error: "), true
		p.lastMsg = &p.say.fatal
	case lineRaised:
		p.say.raised = text
	case lineSignal:
		p.say.signal, p.say.line = signalName(line), text
	case lineNotice:
		if p.say.notice == "" {
			p.say.notice = text
		}
	case lineRace:
		p.say.raced, p.races = true, 1
	}
}

// panicked takes the value of a panic. Of many on top of each other the first
// and the last are kept.
func (p *TextParser) panicked(value string) {
	value = strings.TrimSuffix(value, " [recovered]")
	value = strings.TrimSuffix(value, " [recovered, repanicked]")
	if len(p.say.panics) < 2 {
		p.say.panics = append(p.say.panics, value)
	} else {
		p.say.panics[1] = value
	}
	p.lastMsg = &p.say.panics[len(p.say.panics)-1]
}

// other takes a line that is of a message with several lines, of the race
// detector, or not of the crash.
func (p *TextParser) other(line []byte) {
	switch {
	case p.lastMsg != nil && line[0] == '\t' && len(*p.lastMsg)+len(line) < maxMessage:
		*p.lastMsg += "\n" + string(line[1:])
		value := strings.TrimSuffix(*p.lastMsg, " [recovered]")
		*p.lastMsg = strings.TrimSuffix(value, " [recovered, repanicked]")
	case p.races == 1 && bytes.HasPrefix(line, []byte("  ")):
		p.raceFrame(bytes.TrimLeft(line, " "))
	}
}

// raceFrame takes a line of the first stack of a race.
func (p *TextParser) raceFrame(line []byte) {
	if len(line) > 0 && functionEnd(line) > 0 {
		if !p.inside {
			p.begin(header{state: []byte("race")})
		}
		p.function(line[:functionEnd(line)], false)
	}
}

// endRace ends the first stack of a race: others follow.
func (p *TextParser) endRace() {
	if p.races == 1 && p.inside {
		p.endStack()
		p.races, p.told = 2, false // a panic may come after it
	}
}

// begin begins the stack of a goroutine.
func (p *TextParser) begin(h header) {
	p.endStack()
	p.cur = textStack{header: h, stateName: p.b.name(h.state), frames: p.cur.frames[:0]}
	p.inside, p.system, p.ancestor, p.told = true, h.id == 0, false, true
}

// function takes the name of a function that was called, or that started the
// goroutine. Its file is on the next line.
func (p *TextParser) function(name []byte, created bool) {
	if !p.inside || p.ancestor {
		return
	}
	if string(name) == "panic" { // so tracebacks spell it
		name = []byte("runtime.gopanic")
	}
	p.pending, p.created = p.b.name(name), created
}

// dropPending: no file followed. Code that is not Go's has none.
func (p *TextParser) dropPending() {
	if p.pending == "non-Go function" && !p.created {
		p.push(inquest.Frame{Function: p.pending})
	}
	p.pending = ""
}

func (p *TextParser) push(f inquest.Frame) {
	if len(p.cur.frames) >= maxStack {
		p.cur.cut = true
		return
	}
	p.cur.frames = append(p.cur.frames, f)
}

// frame takes the file and line of the pending function.
func (p *TextParser) frame(line []byte) {
	rest := bytes.TrimLeft(line, " \t")
	at := fileLine(rest)
	n, _ := number(rest[at:])
	f := inquest.Frame{Function: p.pending, File: p.b.name(rest[:at-1]), Line: int(min(n, 1<<31-1))}
	if p.created {
		p.cur.byFrame = f
		p.cur.by = &p.cur.byFrame
	} else {
		p.push(f)
	}
	p.pending = ""
}

// endStack counts the goroutine that was read.
func (p *TextParser) endStack() {
	p.dropPending()
	if !p.inside {
		return
	}
	p.inside = false
	s := &p.cur
	if p.system {
		if len(p.ownStack) == 0 {
			p.ownStack = append([]inquest.Frame{}, s.frames...)
		}
		return
	}
	first := p.dies(s)
	if !first && p.onThread(s) {
		return
	}
	p.b.add(s, first)
}

// dies decides whether the goroutine is the one that died: the first of the
// text, unless the runtime did on a stack of its own and that one was waiting.
// In a deadlock they all are.
func (p *TextParser) dies(s *textStack) bool {
	if p.decided || p.b.total > 0 || len(p.stackless) > 0 {
		return false
	}
	if len(p.ownStack) > 0 && !s.running && !strings.HasSuffix(p.say.fatal, " - deadlock!") {
		return false
	}
	p.decided, p.diedID = true, s.id
	p.died = append([]inquest.Frame{}, s.frames...)
	return true
}

// onThread keeps back a goroutine that ran on another thread: with
// GOTRACEBACK=crash that thread writes its stack later, under the same number.
func (p *TextParser) onThread(s *textStack) bool {
	if s.absent && len(s.frames) == 0 && len(p.stackless) < maxStackless {
		held := *s
		held.frames = nil
		if s.by != nil {
			by := *s.by
			held.by = &by
		}
		p.stackless[s.id] = held
		return true
	}
	delete(p.stackless, s.id)
	return false
}

// Skip counts n bytes of the text that are not looked at.
func (p *TextParser) Skip(n int) {
	p.bytes += int64(n)
	p.b.full = true
}

// Held is about how many bytes of memory the parser takes.
func (p *TextParser) Held() int64 {
	const frame, bucket = 72, 256
	return int64(cap(p.head)+cap(p.partial)+p.b.bytes+p.b.frames*frame+len(p.b.list)*bucket+len(p.stackless)*bucket) + 1<<10
}
