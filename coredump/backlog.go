package coredump

import (
	"bytes"
	"strings"

	"github.com/goinquest/inquest/symbolize"
)

// backlogBytes is the size of runtime.printBacklog in every release: what the
// runtime printed last before it began to die, in a ring.
const backlogBytes = 512

var fatalPrefix = []byte("fatal error: ")

// backlog finds what the runtime wrote when it threw, with the lines before
// it; "" if that is not there.
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
	at, ok := r.u.m.word(index + r.u.bias)
	b := r.u.m.read(make([]byte, 0, backlogBytes), ring+r.u.bias, backlogBytes)
	if !ok || b == nil || at >= backlogBytes {
		return ""
	}
	return fatalText(append(bytes.Clone(b[at:]), b[:at]...))
}

// backlogByShape searches the variables without pointers for it.
func (r *Runtime) backlogByShape(funcs *symbolize.Functions) string {
	data := funcs.Data()[3]
	start, end := data.Start+r.u.bias, data.End+r.u.bias
	if end < start || end-start > maxVariables || end > maxAddr {
		return ""
	}
	var found string
	tries := 0
	eachMatch(r.p.Memory, Extent{start, end - start}, fatalPrefix, func(at uint64) bool {
		from := max(start, at-min(at, backlogBytes))
		b := make([]byte, min(end, at+backlogBytes)-from)
		n, _ := r.p.Memory.ReadAt(b, int64(from))
		b = b[:max(0, n)]
		own := int(at - from)
		if own > len(b) {
			return true
		}
		first := bytes.LastIndexByte(b[:own], 0) + 1
		last := len(b)
		if i := bytes.IndexByte(b[own:], 0); i >= 0 {
			last = own + i
		}
		if text := fatalText(b[first:last]); text != "" {
			found = text
		}
		tries++
		return tries < maxLists
	})
	return found
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
