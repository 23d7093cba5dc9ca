package coredump

import (
	"encoding/binary"
	"io"
)

// words reads words of a process and keeps pages of it. It reads each page at
// most once as long as few are wanted. It is not safe for concurrent use.
type words struct {
	r     io.ReaderAt
	pages [wordPages]wordPage
}

const (
	wordPages     = 64 // a power of two
	wordPageBytes = 4 << 10

	// maxAddr is where addresses of programs end.
	maxAddr = 1 << 56
)

type wordPage struct {
	no uint64 // number of the page +1; 0: empty
	b  []byte // what is there of it
}

// page returns what there is of a page.
func (m *words) page(no uint64) []byte {
	slot := &m.pages[no%wordPages]
	if slot.no == no+1 {
		return slot.b
	}
	if slot.b == nil {
		slot.b = make([]byte, wordPageBytes)
	}
	n, _ := m.r.ReadAt(slot.b[:wordPageBytes], int64(no*wordPageBytes)) // what is missing is not there
	slot.no, slot.b = no+1, slot.b[:max(0, min(n, wordPageBytes))]
	return slot.b
}

// word reads 8 bytes.
func (m *words) word(addr uint64) (uint64, bool) {
	var buf [8]byte
	b := m.read(buf[:0], addr, 8)
	if b == nil {
		return 0, false
	}
	return binary.LittleEndian.Uint64(b), true
}

// number reads 4 bytes.
func (m *words) number(addr uint64) (uint32, bool) {
	var buf [4]byte
	b := m.read(buf[:0], addr, 4)
	if b == nil {
		return 0, false
	}
	return binary.LittleEndian.Uint32(b), true
}

// read returns n bytes, which are valid until the next call, or nil if they
// are not all there. It uses buf where pages meet.
func (m *words) read(buf []byte, addr, n uint64) []byte {
	if addr >= maxAddr || n > wordPageBytes {
		return nil
	}
	page, at := m.page(addr/wordPageBytes), addr%wordPageBytes
	if at+n <= uint64(len(page)) {
		return page[at : at+n]
	}
	if len(page) < wordPageBytes {
		return nil
	}
	buf = append(buf[:0], page[at:]...)
	page = m.page(addr/wordPageBytes + 1)
	if rest := n - uint64(len(buf)); rest <= uint64(len(page)) {
		return append(buf, page[:rest]...)
	}
	return nil
}
