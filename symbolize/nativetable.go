package symbolize

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/goinquest/inquest"
)

// nativeTable is the native functions of a file. It is read only: any number of
// goroutines may ask it.
type nativeTable struct {
	damaged string // what of the debug information could not be read, "" if all could
	names   nativeStrings
	files   nativeStrings

	functionName, functionLine, functionSource nativeColumn

	nodeFunction, nodeCaller, callFile, callLine nativeColumn

	count   int // of segments
	first   nativeColumn
	blockAt nativeColumn
	blocks  []byte
}

// frames appends the frames of an address, innermost first, and returns the
// slice; nothing if no function is known there. Addresses are as in the file.
func (t *nativeTable) frames(dst []inquest.Frame, addr uint64) []inquest.Frame {
	s := t.find(addr)
	file, line := int(s.file), int(s.line)
	for node := int(s.node); node > 0; {
		node--
		fn := int(t.nodeFunction.at(node))
		dst = append(dst, inquest.Frame{
			Function:  t.names.at(int(t.functionName.at(fn))),
			File:      t.files.at(file),
			Line:      line,
			StartLine: int(t.functionLine.at(fn)),
		})
		file, line = int(t.callFile.at(node)), int(t.callLine.at(node))
		node = int(t.nodeCaller.at(node))
	}
	return dst
}

// source says where the name of the function at an address comes from, "" if
// none is known there.
func (t *nativeTable) source(addr uint64) string {
	s := t.find(addr)
	if s.node == 0 {
		return ""
	}
	return nativeSources[t.functionSource.at(int(t.nodeFunction.at(int(s.node)-1)))]
}

// functions returns the code of all functions of a name that are not inlined,
// ascending. A function in several parts has several ranges. It reads the
// whole table.
func (t *nativeTable) functions(name string) [][2]uint64 {
	from := sort.Search(t.functionName.count, func(i int) bool { return t.names.at(int(t.functionName.at(i))) >= name })
	until := from
	for until < t.functionName.count && t.names.at(int(t.functionName.at(until))) == name {
		until++
	}
	if from == until {
		return nil
	}
	var out [][2]uint64
	in := uint32(0) // the node of the last range, while it goes on
	// A block that does not decode was refused when the table was opened.
	_ = t.each(func(s nativeSegment) error {
		root := s.node
		for root > 0 {
			caller := t.nodeCaller.at(int(root) - 1)
			if caller == 0 {
				break
			}
			root = uint32(caller)
		}
		if in > 0 && root != in {
			out[len(out)-1][1] = s.addr
			in = 0
		}
		if fn := 0; root > 0 && in == 0 {
			if fn = int(t.nodeFunction.at(int(root) - 1)); fn >= from && fn < until {
				out = append(out, [2]uint64{s.addr, math.MaxUint64})
				in = root
			}
		}
		return nil
	})
	return out
}

// find returns the segment around an address; its node is 0 if there is none.
func (t *nativeTable) find(addr uint64) nativeSegment {
	lo, hi := 0, t.first.count
	for lo < hi {
		if mid := (lo + hi) / 2; t.first.at(mid) <= addr {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == 0 {
		return nativeSegment{}
	}
	b := t.blocks[t.blockAt.at(lo-1):]
	s := nativeSegment{addr: t.first.at(lo - 1)}
	for range min(nativeBlock, t.count-(lo-1)*nativeBlock) {
		next, n := s.next(b)
		if n <= 0 || next.addr > addr {
			break
		}
		s, b = next, b[n:]
	}
	return s
}

// next decodes the segment after s and says how many bytes it has, 0 if it is
// damaged.
func (s nativeSegment) next(b []byte) (nativeSegment, int) {
	head, n := nativeUvarint(b)
	if n <= 0 {
		return s, 0
	}
	s.addr += head >> 2
	d, k := nativeUvarint(b[n:])
	if k <= 0 {
		return s, 0
	}
	n += k
	s.line = uint32(int64(s.line) + nativeSigned(d))
	if head&1 != 0 {
		if d, k = nativeUvarint(b[n:]); k <= 0 {
			return s, 0
		}
		n += k
		s.node = uint32(int64(s.node) + nativeSigned(d))
	}
	if head&2 != 0 {
		if d, k = nativeUvarint(b[n:]); k <= 0 {
			return s, 0
		}
		n += k
		s.file = uint32(int64(s.file) + nativeSigned(d))
	}
	return s, n
}

// nativeUvarint is binary.Uvarint, faster for numbers of one byte.
func nativeUvarint(b []byte) (uint64, int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	return binary.Uvarint(b)
}

// nativeSigned undoes what binary.AppendVarint does to signs.
func nativeSigned(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

// each calls f with all segments, ascending.
func (t *nativeTable) each(f func(nativeSegment) error) error {
	b := t.blocks
	var s nativeSegment
	for i := range t.count {
		if i%nativeBlock == 0 {
			s = nativeSegment{addr: t.first.at(i / nativeBlock)}
			if int(t.blockAt.at(i/nativeBlock)) != len(t.blocks)-len(b) {
				return fmt.Errorf("block %d of segments is not where it should be", i/nativeBlock)
			}
		}
		next, n := s.next(b)
		if n <= 0 {
			return fmt.Errorf("segment %d is damaged", i)
		}
		s, b = next, b[n:]
		if err := f(s); err != nil {
			return err
		}
	}
	if len(b) > 0 {
		return fmt.Errorf("%d bytes follow the last segment", len(b))
	}
	return nil
}

// check sees that every reference in the table leads somewhere, so that
// questions need not.
func (t *nativeTable) check() error {
	functions, nodes := t.functionName.count, t.nodeFunction.count
	switch {
	case t.functionLine.count != functions || t.functionSource.count != functions:
		return fmt.Errorf("columns of functions differ in length")
	case t.nodeCaller.count != nodes || t.callFile.count != nodes || t.callLine.count != nodes:
		return fmt.Errorf("columns of calls differ in length")
	case t.first.count != t.blockAt.count || t.first.count != (t.count+nativeBlock-1)/nativeBlock:
		return fmt.Errorf("%d segments are in %d blocks", t.count, t.first.count)
	case t.files.ends.count == 0:
		return fmt.Errorf("the unknown file is missing")
	case !t.functionName.below(t.names.ends.count) || !t.functionSource.below(len(nativeSources)) || !t.functionLine.below(math.MaxInt32+1):
		return fmt.Errorf("a function refers to what is not there")
	case !t.nodeFunction.below(functions) || !t.callFile.below(t.files.ends.count) || !t.callLine.below(math.MaxInt32+1):
		return fmt.Errorf("a call refers to what is not there")
	}
	depth := make([]uint16, nodes)
	for i := range nodes {
		caller := t.nodeCaller.at(i)
		if caller > uint64(i) { // so that no chain of callers is a circle
			return fmt.Errorf("call %d comes before its caller", i)
		}
		if caller > 0 {
			if depth[i] = depth[caller-1] + 1; depth[i] >= nativeMaxDepth {
				return fmt.Errorf("call %d is %d calls deep", i, depth[i])
			}
		}
	}
	names := make([]string, functions)
	for i := range names {
		names[i] = t.names.at(int(t.functionName.at(i)))
	}
	if !slices.IsSorted(names) {
		return fmt.Errorf("functions are not ordered by name")
	}
	last, begun := uint64(0), false
	var end nativeSegment
	err := t.each(func(s nativeSegment) error {
		if begun && s.addr <= last {
			return fmt.Errorf("segments do not go up at %#x", s.addr)
		}
		if int64(s.node) > int64(nodes) || int64(s.file) >= int64(t.files.ends.count) || s.line > math.MaxInt32 {
			return fmt.Errorf("the segment at %#x refers to what is not there", s.addr)
		}
		last, begun, end = s.addr, true, s
		return nil
	})
	if err == nil && end.node != 0 {
		err = fmt.Errorf("the last segment has no end")
	}
	return err
}
