package symbolize

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/goinquest/inquest"
)

// goWriter turns Go's table of functions into the parts of ours.
type goWriter struct {
	t    *pclntab
	tree *windows
	ids  funcIDs
	left int // steps through pc tables and inlined calls that are still allowed
	rec  record
	buf  []byte

	row   []byte
	local []int32 // number of each record of the inline tree in rec.calls, 0 if it has none yet
	raw   []inlined
}

// inlined is a record of the inline tree.
type inlined struct {
	index    int32 // in the tree
	id       byte
	parentPC int32 // an instruction of the call, from the function's entry
}

// funcIDs are the numbers of functions that decide whether a wrapper is
// shown. They differ from release to release, so they are taken from the
// functions that bear them.
type funcIDs struct {
	wrapper uint8
	panics  [3]uint8 // gopanic, sigpanic, panicwrap; 0 if they are not there
}

// hides reports whether runtime.Callers leaves out a wrapper that called a
// function with this id. It shows those that a panic comes from.
func (ids funcIDs) hides(wrapper, callee uint8) bool {
	return wrapper == ids.wrapper && ids.wrapper != 0 && (callee == 0 || bytes.IndexByte(ids.panics[:], callee) < 0)
}

// funcIDs looks at all functions.
func (t *pclntab) funcIDs() (ids funcIDs) {
	var last uint8
	for i := range t.nfunc {
		row := t.row(i)
		if row == nil || row[funcID] == 0 {
			continue
		}
		id := row[funcID]
		switch string(t.name(t.order.Uint32(row[funcName:]))) {
		case "runtime.gopanic":
			ids.panics[0] = id
		case "runtime.sigpanic":
			ids.panics[1] = id
		case "runtime.panicwrap":
			ids.panics[2] = id
		case "runtime.systemstack_switch":
			ids.wrapper = id + 1 // the next and last one, from Go 1.20 to 1.26
		}
		last = max(last, id)
	}
	if ids.wrapper == 0 { // names were made unreadable
		ids.wrapper = last
	}
	return ids
}

// writeGo writes the parts of Go's functions, and returns where these are.
func writeGo(w *partWriter, f *image) (text Range, err error) {
	t, err := openPclntab(f)
	if err != nil {
		return text, err
	}
	if err := t.checkRows(); err != nil {
		return text, err
	}
	le := binary.LittleEndian
	var index [3][]byte // entries, offsets of records, names
	var written uint64
	w.begin(partRecords)
	for _, c := range t.encode() {
		if c.err != nil {
			return text, c.err
		}
		for j := range c.ends {
			index[0] = le.AppendUint32(index[0], uint32(t.entry(c.from+j)))
			start := uint32(0)
			if j > 0 {
				start = c.ends[j-1]
			}
			index[1] = le.AppendUint32(index[1], uint32(written)+start)
			index[2] = le.AppendUint32(index[2], c.names[j])
		}
		if written += uint64(len(c.records)); written > maxPartBytes {
			return text, inquest.Errorf(inquest.ErrTooLarge, "functions of more than %d MB", maxPartBytes>>20)
		}
		if _, err := w.Write(c.records); err != nil {
			return text, err
		}
	}
	index[0] = le.AppendUint32(index[0], uint32(t.entry(t.nfunc)))
	index[1] = le.AppendUint32(index[1], uint32(written))
	var head []byte
	for _, v := range []uint64{t.text, t.text + t.entry(t.nfunc), uint64(t.nfunc), uint64(len(t.names))} {
		head = le.AppendUint64(head, v)
	}
	for _, p := range []struct {
		id    uint32
		bytes [][]byte
	}{{partIndex, index[:]}, {partGo, [][]byte{head}}, {partStrings, [][]byte{t.names, t.files}}} {
		w.begin(p.id)
		for _, b := range p.bytes {
			if _, err := w.Write(b); err != nil {
				return text, err
			}
		}
	}
	return Range{t.text, t.text + t.entry(t.nfunc)}, nil
}

// chunk is some of the functions, encoded.
type chunk struct {
	from    int // the first
	records []byte
	ends    []uint32 // of each record
	names   []uint32 // as in the records
	err     error
}

const (
	chunkFunctions = 1024
	maxEncoders    = 4
)

// encode makes the records of all functions, on several processors: nearly
// all of the time it takes to write a table is here.
func (t *pclntab) encode() []chunk {
	chunks := make([]chunk, (t.nfunc+chunkFunctions-1)/chunkFunctions)
	ids := t.funcIDs()
	var next atomic.Int64
	var encoders sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), maxEncoders) {
		encoders.Go(func() {
			// Tables of functions overlap where they are equal, but not so much that
			// reading them all takes many times their size, unless somebody wants that.
			g := &goWriter{t: t, tree: &windows{f: t.f}, ids: ids, left: 4*len(t.pctab) + 4*len(t.funcs)}
			for i := next.Add(1) - 1; i < int64(len(chunks)); i = next.Add(1) - 1 {
				chunks[i].from = int(i) * chunkFunctions
				if chunks[i].err = g.chunk(&chunks[i]); chunks[i].err != nil {
					next.Store(int64(len(chunks))) // the others end, too
				}
			}
		})
	}
	encoders.Wait()
	return chunks
}

// chunk encodes the functions of a chunk.
func (g *goWriter) chunk(c *chunk) error {
	g.buf = g.buf[:0]
	for i := c.from; i < min(c.from+chunkFunctions, g.t.nfunc); i++ {
		if err := g.function(i); err != nil {
			return err
		}
		g.buf = g.rec.append(g.buf)
		c.ends = append(c.ends, uint32(len(g.buf)))
		c.names = append(c.names, g.rec.calls[0].name)
	}
	c.records = bytes.Clone(g.buf)
	return nil
}

// checkRows sees that functions are sorted and in the table.
func (t *pclntab) checkRows() error {
	for i := range t.nfunc {
		if t.entry(i) > t.entry(i+1) || t.row(i) == nil {
			return inquest.Errorf(inquest.ErrInvalid, "Go's table of functions: row %d of %d is wrong", i, t.nfunc)
		}
	}
	return nil
}

var errOverlap = inquest.Errorf(inquest.ErrInvalid, "Go's table of functions has more in it than its size allows")

// function makes the record of function i.
func (g *goWriter) function(i int) error {
	t := g.t
	g.row = t.row(i)
	g.rec.reset()
	for n := 1; n < len(g.raw); n++ {
		g.local[g.raw[n].index] = 0
	}
	g.raw = append(g.raw[:0], inlined{index: 0, id: g.row[funcID]})
	g.rec.calls = append(g.rec.calls, call{
		name: g.nameRef(t.order.Uint32(g.row[funcName:])), start: int32(t.order.Uint32(g.row[funcStart:])), caller: -1, file: -1,
	})
	if err := g.spans(uint32(t.entry(i+1) - t.entry(i))); err != nil {
		return err
	}
	for n := 1; n < len(g.rec.calls); n++ {
		if g.left--; g.left < 0 {
			return errOverlap
		}
		g.caller(n)
	}
	return nil
}

// spans merges the tables of files, lines and inlined calls.
func (g *goWriter) spans(size uint32) error {
	t := g.t
	files := t.cursor(t.order.Uint32(g.row[funcPcfile:]))
	lines := t.cursor(t.order.Uint32(g.row[funcPcln:]))
	calls := noTable
	if tree, ok := t.inlineTree(g.row); ok {
		g.tree.base = tree
		calls = t.cursor(t.pcdata(g.row, pcdataInline))
	}
	cu := uint64(t.order.Uint32(g.row[funcCU:]))
	file, fileAt := int32(-1), int32(-1) // as in the record, as in the table
	inner, innerAt := int32(0), int32(-1)
	for pc := uint64(0); pc < uint64(size); {
		for ; files.pc <= pc; g.left-- {
			files.next()
		}
		for ; lines.pc <= pc; g.left-- {
			lines.next()
		}
		for ; calls.pc <= pc; g.left-- {
			calls.next()
		}
		if files.val != fileAt {
			g.left -= len(g.rec.files) / 32
			fileAt = files.val
			file = g.file(cu, fileAt)
		}
		if calls.val != innerAt {
			innerAt = calls.val
			inner = g.call(innerAt)
		}
		if g.left < 0 {
			return errOverlap
		}
		pc = min(uint64(size), files.pc, lines.pc, calls.pc)
		s := span{uint32(pc), inner, file, lines.val}
		if fileAt < 0 || s.line == -1 || int(fileAt) >= len(t.files) {
			s.file, s.line = -1, 0 // the runtime says "?", 0
		}
		g.rec.add(s)
	}
	return nil
}

// file returns the index in the record of a file of a compilation unit.
func (g *goWriter) file(cu uint64, no int32) int32 {
	t := g.t
	at := (cu + uint64(uint32(no))) * 4
	if no < 0 || at+4 > uint64(len(t.cus)) {
		return -1
	}
	off := t.order.Uint32(t.cus[at:])
	if uint64(off) >= uint64(len(t.files)) {
		return -1
	}
	return g.rec.file(uint32(len(t.names)) + off)
}

// nameRef is an offset of the pool +1, 0 if it is not in the pool. (The
// runtime has no name for the first of the pool, which is the first function
// of the program; we do.)
func (g *goWriter) nameRef(off uint32) uint32 {
	if uint64(off) >= uint64(len(g.t.names)) {
		return 0
	}
	return off + 1
}

// call returns the number of a record of the inline tree in rec.calls, where
// it is added if it is new; 0, which is the function itself, for -1.
func (g *goWriter) call(index int32) int32 {
	if index < 0 || index >= maxInlineIndex {
		return 0
	}
	if int(index) >= len(g.local) {
		g.local = append(g.local, make([]int32, int(index)+1-len(g.local))...)
	}
	if n := g.local[index]; n != 0 {
		return n
	}
	b := g.tree.record(uint64(index))
	if b == nil {
		return 0
	}
	n := int32(len(g.rec.calls))
	g.local[index] = n
	order := g.t.order
	g.raw = append(g.raw, inlined{index, b[0], int32(order.Uint32(b[8:]))})
	g.rec.calls = append(g.rec.calls, call{name: g.nameRef(order.Uint32(b[4:])), start: int32(order.Uint32(b[12:])), caller: -1, file: -1})
	return n
}

// maxHidden is how many wrappers in a row are passed over.
const maxHidden = 100

// caller finds out what is shown after call n: the call around it, but for
// wrappers that runtime.Callers hides.
func (g *goWriter) caller(n int) {
	at := n
	for range maxHidden {
		s := g.outer(at)
		if !g.ids.hides(g.raw[s.call].id, g.raw[n].id) {
			c := &g.rec.calls[n]
			c.caller, c.file, c.line = s.call, s.file, s.line
			return
		}
		if s.call == 0 {
			return
		}
		at = int(s.call)
	}
}

// outer finds the span that call n was made from, in terms of rec.calls.
func (g *goWriter) outer(n int) span {
	return g.rec.at(g.raw[n].parentPC)
}

// windows reads inline trees, which lie scattered between other constants.
type windows struct {
	f    *image
	base uint64 // of the tree that is read
	kept map[uint64][]byte
	read uint64 // windows until now
}

const (
	windowBytes = 1 << 16
	maxWindows  = 1 << 10 // that are kept
	maxRereads  = 8       // of the whole file
)

// record returns one record of the tree; nil if it is not in the file.
func (w *windows) record(index uint64) []byte {
	off, left, ok := w.f.fileRange(w.base + index*inlineSize)
	if !ok || left < inlineSize {
		return nil
	}
	no, at := off/windowBytes, off%windowBytes
	if at+inlineSize > windowBytes {
		b, err := w.f.read(off, inlineSize)
		if err != nil {
			return nil
		}
		return b
	}
	b, ok := w.kept[no]
	if !ok {
		if w.read++; w.read > maxRereads*(w.f.size/windowBytes+1) {
			return nil
		}
		var err error
		b, err = w.f.read(no*windowBytes, min(windowBytes, w.f.size-no*windowBytes))
		if err != nil {
			return nil
		}
		if w.kept == nil || len(w.kept) >= maxWindows {
			w.kept = map[uint64][]byte{}
		}
		w.kept[no] = b
	}
	return b[at : at+inlineSize]
}
