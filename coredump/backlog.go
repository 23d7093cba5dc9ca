package coredump

import (
	"bytes"
	"strings"

	"github.com/goinquest/inquest/symbolize"
)

var fatalPrefix = []byte("fatal error: ")

// fatalParts are what to search for: of a prefix that the end of the ring cuts in two
// one of them is whole.
var fatalParts = [][]byte{fatalPrefix, fatalPrefix[:7], fatalPrefix[7:]}

// backlog finds what the runtime wrote when it threw, with the lines before
// it: runtime.printBacklog is a ring of what it printed last before it began to
// die. The result is "" if that is not there.
func (r *Runtime) backlog(funcs *symbolize.Functions) string {
	if text := r.backlogBySymbol(); text != "" {
		return text
	}
	return r.backlogByShape(funcs)
}

// backlogBySymbol reads the ring where the executable says that it is.
func (r *Runtime) backlogBySymbol() string {
	if r.p.Exe == nil {
		return ""
	}
	ring, _, err := symbolize.Variable(r.p.Exe, r.p.ExeSize, "runtime.printBacklog")
	if err != nil {
		return ""
	}
	index, _, err := symbolize.Variable(r.p.Exe, r.p.ExeSize, "runtime.printBacklogIndex")
	if err != nil {
		return ""
	}
	size := uint64(r.layout.backlogSize)
	at, ok := r.u.m.word(index + r.u.bias)
	b := r.u.m.read(make([]byte, 0, size), ring+r.u.bias, size)
	if !ok || b == nil || at >= size {
		return ""
	}
	return fatalText(append(bytes.Clone(b[at:]), b[:at]...))
}

// backlogByShape searches the variables without pointers for it.
func (r *Runtime) backlogByShape(funcs *symbolize.Functions) (text string) {
	data := funcs.Data()[3]
	start, end := data.Start+r.u.bias, data.End+r.u.bias
	if end < start || end-start > maxVariables || end > maxAddr {
		return ""
	}
	for _, part := range fatalParts {
		tries := 0
		eachMatch(r.p.Memory, Extent{start, end - start}, part, func(at uint64) bool {
			text = r.backlogAt(at, Extent{start, end - start})
			tries++
			return text == "" && tries < maxLists
		})
		if text != "" {
			break
		}
	}
	return text
}

// backlogAt reads the ring that has a text at an address: what lies between zeros. A ring
// that is full begins anywhere.
func (r *Runtime) backlogAt(at uint64, within Extent) string {
	size := uint64(r.layout.backlogSize)
	from := max(within.Addr, at-min(at, size))
	b := make([]byte, min(within.End(), at+size)-from)
	n, _ := r.p.Memory.ReadAt(b, int64(from))
	b = b[:max(0, n)]
	own := int(at - from)
	if own > len(b) {
		return ""
	}
	first, last := bytes.LastIndexByte(b[:own], 0)+1, len(b)
	if i := bytes.IndexByte(b[own:], 0); i >= 0 {
		last = own + i
	}
	if b = b[first:last]; len(b) == int(size) {
		b = append(bytes.Clone(b), b...)
		if i := bytes.LastIndexByte(b, '\n'); i >= 0 { // what follows is cut off
			b = b[:i+1]
		}
	}
	return fatalText(b)
}

// fatalText is the last fatal error in what was printed, with the lines of the
// runtime right before it.
func fatalText(b []byte) string {
	at := bytes.LastIndex(b, fatalPrefix)
	for at > 0 && b[at-1] != '\n' && b[at-1] != 0 {
		at = bytes.LastIndex(b[:at], fatalPrefix)
	}
	if at < 0 {
		return ""
	}
	end := len(b)
	if i := bytes.IndexByte(b[at:], '\n'); i >= 0 {
		end = at + i
	}
	for end+1 < len(b) && b[end+1] == '\t' { // the message has several lines
		next := bytes.IndexByte(b[end+1:], '\n')
		if next < 0 {
			break
		}
		end += 1 + next
	}
	from := at
	for from > 0 {
		line := bytes.LastIndexByte(b[:from-1], '\n') + 1
		switch kindOf(bytes.Trim(b[line:from-1], "\x00")) {
		case lineNotice, linePanic:
			from = line
			continue
		}
		break
	}
	return valid(strings.Trim(string(b[from:end]), "\x00\n"))
}
