package coredump

import (
	"bytes"
	"slices"

	"github.com/goinquest/inquest"
)

// Arguments are what a process was started with.
type Arguments struct {
	Args []Argument
	Env  []Argument // NAME=value
}

// Argument is a string in the memory of a process, an argument or a variable.
type Argument struct {
	Addr uint64 // 0 if it is not known where it is
	Text string
}

// Entries of the auxiliary vector (linux/auxvec.h) that tell where strings are.
const (
	auxExecName = 31 // AT_EXECFN: comes right behind the environment
	auxMaxKind  = 64

	maxArguments      = 1 << 16
	maxArgumentsBytes = 8 << 20
)

// ReadArguments reads the arguments and the environment where the kernel put
// them: on the first stack, below the name of the executable, with pointers to
// them in front of the auxiliary vector. The error is of kind inquest.ErrNotFound
// if they are not all there: then nobody knows what to blank.
func ReadArguments(p *Process) (*Arguments, error) {
	m := &words{r: p.Memory}
	end := p.Auxv[auxExecName]
	at := findAuxv(p, m, end)
	if at == 0 {
		return nil, inquest.Errorf(inquest.ErrNotFound, "find arguments: they are not on the stack where the kernel puts them")
	}
	l := lister{m: m, at: at - 8, end: end}
	env := l.list()
	none := l.stop == 0
	args := l.list()
	if !none || l.stop != uint64(len(args)) || l.cut {
		return nil, inquest.Errorf(inquest.ErrNotFound, "read arguments: they are not whole")
	}
	return &Arguments{Args: args, Env: env}, nil
}

// lister reads lists of strings by their pointers, backwards.
type lister struct {
	m    *words
	at   uint64 // behind the last pointer
	end  uint64 // of the strings
	size int
	stop uint64 // the word that ended a list
	cut  bool   // something is missing
}

func (l *lister) list() (out []Argument) {
	for {
		l.at -= 8
		addr, ok := l.m.word(l.at)
		if l.cut = l.cut || !ok || len(out) >= maxArguments || l.size >= maxArgumentsBytes; l.cut {
			return nil
		}
		if addr <= l.at || addr >= l.end {
			l.stop = addr
			slices.Reverse(out)
			return out
		}
		text, whole := l.m.text(addr, l.end)
		l.cut = !whole
		l.size += len(text)
		out = append(out, Argument{addr, text})
	}
}

// findAuxv finds the auxiliary vector on the stack: some way below the strings,
// one of its entries points to where they end.
func findAuxv(p *Process, m *words, end uint64) uint64 {
	if end == 0 || end >= maxAddr {
		return 0
	}
	entry := uint64(0)
	for at := end &^ 15; at+maxArgumentsBytes > end && at > 16 && entry == 0; at -= 8 {
		kind, ok := m.word(at)
		if !ok {
			return 0
		}
		if v, _ := m.word(at + 8); kind == auxExecName && v == end {
			entry = at
		}
	}
	for n := 0; entry != 0 && n < auxMaxKind; n++ {
		kind, ok := m.word(entry - 16)
		if !ok || kind == 0 || kind > auxMaxKind {
			break
		}
		entry -= 16
	}
	return entry
}

// text reads up to a zero byte; whole is false if something is missing before.
func (m *words) text(addr, end uint64) (s string, whole bool) {
	var out []byte
	for addr < end && len(out) < maxArgumentsBytes {
		page := m.page(addr / wordPageBytes)
		page = page[min(addr%wordPageBytes, uint64(len(page))):]
		if page = page[:min(uint64(len(page)), end-addr)]; len(page) == 0 {
			return string(out), false
		}
		if i := bytes.IndexByte(page, 0); i >= 0 {
			return string(append(out, page[:i]...)), true
		}
		out = append(out, page...)
		addr += uint64(len(page))
	}
	return string(out), addr >= end
}
