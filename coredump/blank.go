package coredump

import (
	"bytes"
	"cmp"
	"io"
	"path"
	"slices"
	"strings"
)

// BlankOptions say what stays of arguments and environment.
type BlankOptions struct {
	// AllowEnv are names of variables whose values stay, as patterns of
	// path.Match, besides AllowedEnv.
	AllowEnv []string
	// AllowArgs are names of flags whose values stay, without dashes, as patterns.
	AllowArgs []string
	// KeepArgs keeps all arguments but the values of flags that look like
	// secrets. Without it only flags and what AllowArgs has stay.
	KeepArgs bool
}

// AllowedEnv are the variables whose values always stay: they are no secrets,
// and tell how the process ran.
var AllowedEnv = []string{
	"GOMAXPROCS", "GOGC", "GOMEMLIMIT", "GODEBUG", "GOTRACEBACK", "GOCOVERDIR", "GORACE",
	"PATH", "HOME", "PWD", "OLDPWD", "USER", "LOGNAME", "SHELL", "SHLVL", "TERM", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR", "_",
	"HOSTNAME", "POD_NAME", "POD_NAMESPACE", "POD_IP", "NODE_NAME", "NAMESPACE", "KUBERNETES_*",
	"INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "NOTIFY_SOCKET",
}

// secretFlags are what flags of secrets have in their names.
var secretFlags = []string{"pass", "secret", "token", "key", "cred", "auth", "dsn", "pwd", "private", "cookie", "session", "signature"}

const (
	blankByte = 'x'

	minValue  = 8   // bytes of a value that is looked for wherever it may be
	minText   = 4   // of a short one with its name in front
	pieceSize = 128 // longer values are looked for in pieces
)

// Blanker overwrites secrets in copied memory: the values of variables and
// arguments that are not allowed, wherever they are. Lengths stay. It is safe for
// concurrent use once it is made.
type Blanker struct {
	memory  io.ReaderAt // of the process, as it is
	places  []Extent    // where the kernel put them, sorted
	long    *matcher
	short   *matcher
	edge    int    // the longest pattern less one
	command string // the arguments as they were, and blanked
	blanked string
	names   []string
	args    int
}

// NewBlanker makes a blanker for the copied memory of a process, which is read
// where a secret may reach over the end of what is to be blanked.
func NewBlanker(p *Process, a *Arguments, o BlankOptions) *Blanker {
	b := &Blanker{memory: p.Memory}
	c := &collector{b: b, kept: map[string]bool{}, seen: map[string]bool{}}
	secret := make([]bool, len(a.Env))
	for i, v := range a.Env {
		name, value, _ := strings.Cut(v.Text, "=")
		secret[i] = value != "" && !allowed(name, AllowedEnv) && !allowed(name, o.AllowEnv)
		if !secret[i] {
			c.kept[value] = true
		}
	}
	for i, v := range a.Env {
		if secret[i] {
			name, _, _ := strings.Cut(v.Text, "=")
			b.names = append(b.names, name)
			c.add(v, len(name)+1)
		}
	}
	c.arguments(a.Args, o)
	slices.SortFunc(b.places, func(a, b Extent) int { return cmp.Compare(a.Addr, b.Addr) })
	slices.Sort(b.names)
	b.long, b.short = newMatcher(c.long), newMatcher(c.short)
	for _, p := range slices.Concat(c.long, c.short) {
		b.edge = max(b.edge, len(p.text)-1)
	}
	return b
}

func allowed(name string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, name)
		return ok && err == nil
	})
}

// What says for people what is blanked, see inquest.Core.
func (b *Blanker) What() []string {
	var out []string
	if len(b.names) > 0 {
		out = append(out, "environment: "+strings.Join(slices.Compact(slices.Clone(b.names)), ", "))
	}
	if b.args > 0 {
		out = append(out, "arguments")
	}
	return out
}

// collector gathers what a Blanker looks for.
type collector struct {
	b           *Blanker
	kept        map[string]bool // values that are allowed somewhere else
	seen        map[string]bool
	long, short []pattern
}

// arguments adds the values of flags, and what is no flag.
func (c *collector) arguments(args []Argument, o BlankOptions) {
	var before, after []string
	flag := "" // that the next argument may be the value of
	for i, a := range args {
		from := 0
		name, _, assigned := strings.Cut(a.Text, "=")
		isFlag := strings.HasPrefix(a.Text, "-")
		switch {
		case i == 0 || isFlag && !assigned:
			from = len(a.Text)
		case isFlag && c.keeps(name, o):
			from = len(a.Text)
		case isFlag:
			from = len(name) + 1
		case flag != "" && c.keeps(flag, o) || flag == "" && o.KeepArgs:
			from = len(a.Text)
		}
		flag = ""
		if isFlag && !assigned {
			flag = name
		}
		before = append(before, a.Text)
		after = append(after, a.Text[:from]+strings.Repeat(string(rune(blankByte)), len(a.Text)-from))
		if from < len(a.Text) {
			c.b.args++
			c.add(a, from)
		}
	}
	c.b.command, c.b.blanked = strings.Join(before, " "), strings.Join(after, " ")
}

// keeps reports whether the value of a flag stays.
func (c *collector) keeps(flag string, o BlankOptions) bool {
	name := strings.ToLower(strings.TrimLeft(flag, "-"))
	if allowed(strings.TrimLeft(flag, "-"), o.AllowArgs) {
		return true
	}
	return o.KeepArgs && !slices.ContainsFunc(secretFlags, func(s string) bool { return strings.Contains(name, s) })
}

// add takes a string that is secret from an offset on.
func (c *collector) add(t Argument, from int) {
	value := t.Text[from:]
	if t.Addr != 0 {
		c.b.places = append(c.b.places, Extent{t.Addr + uint64(from), uint64(len(value))})
	}
	text, secret := t.Text, from
	if len(value) >= minValue && !c.kept[value] {
		text, secret = value, 0
	}
	if c.seen[text] || len(text) < minText || secret == 0 && len(text) < minValue {
		return // too short to be told from anything else
	}
	c.seen[text] = true
	if secret > 0 || len(text) <= 2*pieceSize {
		c.pattern(pattern{[]byte(text), secret})
		return
	}
	for ; len(text) > 2*pieceSize; text = text[pieceSize:] {
		c.pattern(pattern{[]byte(text[:pieceSize]), 0})
	}
	c.pattern(pattern{[]byte(text), 0})
}

func (c *collector) pattern(p pattern) {
	if len(p.text) >= minValue {
		c.long = append(c.long, p)
	} else {
		c.short = append(c.short, p)
	}
}

// Blank overwrites secrets in p, which is a copy of the memory at addr, and
// returns how many bytes were. Secrets that reach over an end of p are blanked
// as far as they are in p: what is beyond is read from the process. Where that
// is not there, what looks like at least 8 bytes of one is blanked.
func (b *Blanker) Blank(p []byte, addr uint64) int {
	marks := b.placed(nil, p, addr)
	mark := func(at, end int) {
		if at, end = max(at, 0), min(end, len(p)); at < end {
			marks = append(marks, Extent{uint64(at), uint64(end - at)})
		}
	}
	before, behind := b.around(p, addr)
	for _, m := range []*matcher{b.long, b.short} {
		if m == nil {
			continue
		}
		m.find(p, func(at int, x *pattern) { mark(at+x.from, at+len(x.text)) })
		b.edges(m, p, before, behind, mark)
	}
	n := 0
	for _, e := range marks {
		for i := e.Addr; i < e.End(); i++ {
			if p[i] != blankByte {
				p[i] = blankByte
				n++
			}
		}
	}
	return n
}

// placed marks what the kernel put at known addresses.
func (b *Blanker) placed(marks []Extent, p []byte, addr uint64) []Extent {
	end := addr + uint64(len(p))
	i, _ := slices.BinarySearchFunc(b.places, addr, func(e Extent, addr uint64) int {
		if e.End() <= addr {
			return -1
		}
		return 1
	})
	for ; i < len(b.places) && b.places[i].Addr < end; i++ {
		from, to := max(b.places[i].Addr, addr), min(b.places[i].End(), end)
		marks = append(marks, Extent{from - addr, to - from})
	}
	return marks
}

// around reads what comes before p and behind it, nothing if that is missing.
func (b *Blanker) around(p []byte, addr uint64) (before, behind []byte) {
	start := addr - min(addr, uint64(b.edge))
	before = b.beyond(start, addr)
	if near := (addr - 1) &^ (wordPageBytes - 1); len(before) < b.edge && near > start && near < addr {
		start = near
		before = b.beyond(start, addr)
	}
	if uint64(len(before)) < addr-start {
		before = nil // something is missing between
	}
	return before, b.beyond(addr+uint64(len(p)), addr+uint64(len(p)+b.edge))
}

// edges looks for what reaches over the ends of p.
func (b *Blanker) edges(m *matcher, p, before, behind []byte, mark func(at, end int)) {
	head := slices.Concat(before, p[:min(len(p), b.edge)])
	if len(p) < b.edge {
		head = append(head, behind...)
	}
	m.find(head, func(at int, x *pattern) { mark(at-len(before)+x.from, at-len(before)+len(x.text)) })
	tail := max(0, len(p)-b.edge)
	m.find(slices.Concat(p[tail:], behind), func(at int, x *pattern) { mark(tail+at+x.from, tail+at+len(x.text)) })
	for i := range m.patterns {
		x := &m.patterns[i]
		if len(before) == 0 {
			if n := suffixAt(p, x.text); n >= minValue {
				mark(max(0, n-len(x.text)+x.from), n)
			}
		}
		if len(behind) == 0 {
			if n := prefixAt(p, x.text); n >= minValue {
				mark(len(p)-n+x.from, len(p))
			}
		}
	}
}

// beyond reads from one address to another, up to where something is missing.
func (b *Blanker) beyond(from, to uint64) []byte {
	if b.memory == nil || to <= from || to >= maxAddr {
		return nil
	}
	buf := make([]byte, to-from)
	n, _ := b.memory.ReadAt(buf, int64(from))
	return buf[:max(0, min(n, len(buf)))]
}

// suffixAt is how many bytes p begins with that text ends with.
func suffixAt(p, text []byte) int {
	for n := min(len(p), len(text)-1); n >= minValue; n-- {
		if bytes.Equal(p[:n], text[len(text)-n:]) {
			return n
		}
	}
	return 0
}

// prefixAt is how many bytes p ends with that text begins with.
func prefixAt(p, text []byte) int {
	for n := min(len(p), len(text)-1); n >= minValue; n-- {
		if bytes.Equal(p[len(p)-n:], text[:n]) {
			return n
		}
	}
	return 0
}

// maxCommand is what the kernel keeps of arguments in notes (ELF_PRARGSZ).
const maxCommand = 79

// BlankNotes overwrites the arguments in the notes of a core (NT_PRPSINFO has
// the first of them), and returns how many bytes.
func (b *Blanker) BlankNotes(notes []byte) int {
	was, is := b.command, b.blanked
	if len(was) > maxCommand {
		was, is = was[:maxCommand], is[:maxCommand]
	}
	if was == is || was == "" {
		return 0
	}
	n := 0
	for at := 0; ; at += len(was) {
		i := bytes.Index(notes[at:], []byte(was))
		if i < 0 {
			return n
		}
		at += i
		for j := range len(was) {
			if was[j] != is[j] {
				notes[at+j] = is[j]
				n++
			}
		}
	}
}
