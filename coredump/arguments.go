package coredump

import (
	"bytes"
	"slices"

	"github.com/goinquest/inquest"
)

// Arguments are what a process was started with.
type Arguments struct {
	Args []Text
	Env  []Text // NAME=value
}

// Text is a string in the memory of a process.
type Text struct {
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
// them in front of the auxiliary vector. The error is of kind inquest.ErrNotFound if they are not there.
func ReadArguments(p *Process) (*Arguments, error) {
	m := &words{r: p.Memory}
	end := p.Auxv[auxExecName]
	at := findAuxv(p, m, end)
	if at == 0 {
		return nil, inquest.Errorf(inquest.ErrNotFound, "find arguments: they are not on the stack where the kernel puts them")
	}
	a := &Arguments{}
	size := 0
	read := func() (list []Text) {
		for len(list) < maxArguments && size < maxArgumentsBytes {
			at -= 8
			addr, ok := m.word(at)
			if !ok || addr <= at || addr >= end {
				break
			}
			text := m.text(addr, end)
			size += len(text)
			list = append(list, Text{addr, text})
		}
		slices.Reverse(list)
		return list
	}
	at -= 8 // the end of the environment's pointers
	a.Env = read()
	a.Args = read()
	return a, nil
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
	for entry != 0 {
		kind, ok := m.word(entry - 16)
		if !ok || kind == 0 || kind > auxMaxKind {
			break
		}
		entry -= 16
	}
	return entry
}

// text reads up to a zero byte.
func (m *words) text(addr, end uint64) string {
	var out []byte
	for addr < end && len(out) < maxArgumentsBytes {
		page := m.page(addr / wordPageBytes)
		page = page[min(addr%wordPageBytes, uint64(len(page))):]
		if page = page[:min(uint64(len(page)), end-addr)]; len(page) == 0 {
			break
		}
		if i := bytes.IndexByte(page, 0); i >= 0 {
			return string(append(out, page[:i]...))
		}
		out = append(out, page...)
		addr += uint64(len(page))
	}
	return string(out)
}
