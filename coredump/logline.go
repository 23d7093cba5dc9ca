package coredump

import (
	"bytes"
	"encoding/json"
	"time"
)

// logSource is what put something before a line.
type logSource uint8

const (
	logPlain   logSource = iota // nothing
	logRuntime                  // a container runtime or journald: as the program wrote it, in another wrapping
	logTime                     // a time: a supervisor, or the program's own log
)

// logLine is a line as the program wrote it.
type logLine struct {
	text   []byte // valid until the next call
	at     time.Time
	source logSource
}

// logDecoder takes off what logs put before the lines of a program: the JSON
// lines of Docker, the lines of CRI, those of journalctl, names as of docker
// compose, and times. Runtimes break long lines; the decoder joins the parts.
type logDecoder struct {
	parts []byte
	open  bool
}

// decode calls line for the line that is whole with this one, if any.
func (d *logDecoder) decode(raw []byte, line func(logLine)) {
	raw = bytes.TrimSuffix(raw, []byte("\r"))
	l := logLine{text: raw}
	whole := true
	if len(raw) > 0 && raw[0] == '{' {
		whole = l.docker()
	} else if len(raw) > 0 && isDigit(raw[0]) {
		whole = l.cri()
	}
	if !whole || d.open {
		d.parts = append(d.parts, l.text[:min(len(l.text), maxLine-len(d.parts))]...)
		if d.open = !whole; d.open {
			return
		}
		l.text = d.parts
		d.parts = d.parts[:0]
	}
	l.journal()
	l.compose()
	l.time()
	l.text = bytes.TrimSuffix(l.text, []byte("\r"))
	line(l)
}

// docker: {"log":"panic: boom\n","stream":"stderr","time":"2026-11-22T01:02:03.4Z"}.
func (l *logLine) docker() (whole bool) {
	if !bytes.HasPrefix(l.text, []byte(`{"log":"`)) {
		return true
	}
	var entry struct {
		Log  string
		Time time.Time
	}
	if json.Unmarshal(l.text, &entry) != nil {
		return true
	}
	text, whole := bytes.CutSuffix([]byte(entry.Log), []byte("\n"))
	l.text, l.at, l.source = text, entry.Time, logRuntime
	return whole
}

// cri: 2026-11-22T01:02:03.4Z stderr F panic: boom.
func (l *logLine) cri() (whole bool) {
	stamp, rest, ok := bytes.Cut(l.text, []byte(" "))
	if !ok || !bytes.HasPrefix(rest, []byte("std")) {
		return true
	}
	stream, rest, ok := bytes.Cut(rest, []byte(" "))
	tag, text, tagged := bytes.Cut(rest, []byte(" "))
	if !tagged {
		tag, text = rest, nil // an empty line
	}
	at, err := time.Parse(time.RFC3339Nano, string(stamp[:min(len(stamp), 64)]))
	if !ok || err != nil || len(tag) == 0 || string(stream) != "stdout" && string(stream) != "stderr" {
		return true
	}
	l.text, l.at, l.source = text, at, logRuntime
	return tag[0] != 'P'
}

// journal: Nov 22 01:02:03 host svc[123]: panic: boom, with other times too.
func (l *logLine) journal() {
	rest, ok := l.text, false
	if len(rest) > 16 && rest[0] >= 'A' && rest[0] <= 'Z' && rest[9] == ':' && rest[12] == ':' && rest[15] == ' ' {
		rest, ok = rest[16:], true
	} else if n, at := leadingTime(rest); n > 0 && rest[10] == 'T' {
		rest, ok = rest[n:], true
		defer func() {
			if l.source == logRuntime && l.at.IsZero() {
				l.at = at
			}
		}()
	}
	if !ok {
		return
	}
	_, rest, ok = bytes.Cut(rest, []byte(" ")) // the host
	name, text, found := bytes.Cut(rest, []byte("]: "))
	if !found {
		name, found = bytes.CutSuffix(rest, []byte("]:"))
		text = nil
	}
	open := bytes.LastIndexByte(name, '[')
	if !ok || !found || open <= 0 || bytes.ContainsAny(name, " \t") {
		return
	}
	if _, n := number(name[open+1:]); n == 0 || n != len(name)-open-1 {
		return
	}
	l.text, l.source = text, logRuntime
}

// compose: svc-1  | panic: boom.
func (l *logLine) compose() {
	name, text, ok := bytes.Cut(l.text, []byte(" | "))
	if !ok {
		name, ok = bytes.CutSuffix(l.text, []byte(" |"))
		text = nil
	}
	name = bytes.TrimRight(name, " ")
	if !ok || len(name) == 0 || len(name) > 64 || bytes.ContainsAny(name, " \t:(\"'|") {
		return
	}
	l.text, l.source = text, logRuntime
}

// time takes off a time, and the space behind it.
func (l *logLine) time() {
	n, at := leadingTime(l.text)
	if n == 0 {
		return
	}
	l.text, l.source = l.text[n:], logTime
	if l.at.IsZero() {
		l.at = at
	}
}

// leadingTime reads a time as of RFC 3339, with a blank for its T too, or as
// package log writes it: 2026/11/22 01:02:03.456. n counts the space behind it,
// 0 says there is none. What has no zone counts as UTC.
func leadingTime(s []byte) (n int, at time.Time) {
	if len(s) < 19 || !isDigit(s[0]) || s[4] != s[7] || s[4] != '-' && s[4] != '/' || s[13] != ':' || s[16] != ':' || s[10] != 'T' && s[10] != ' ' {
		return 0, time.Time{}
	}
	for n = 19; n < len(s) && n < 40 && s[n] != ' '; n++ {
		if !isDigit(s[n]) && !bytes.ContainsRune([]byte(".,Z+-:"), rune(s[n])) {
			return 0, time.Time{}
		}
	}
	text := []byte(string(s[:n]))
	text[4], text[7], text[10] = '-', '-', 'T'
	if n < len(s) {
		n++
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04:05Z0700"} {
		if at, err := time.Parse(layout, string(text)); err == nil {
			return n, at.UTC()
		}
	}
	return 0, time.Time{}
}
