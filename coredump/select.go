package coredump

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/goinquest/inquest"
)

// What is taken of each thing at most, in bytes; the most useful things first.
// The budget is the caller's and may end it earlier.
const (
	diedStackBytes   = 256 << 10 // of the goroutine that died, from its innermost call
	outerStackBytes  = 64 << 10  // and from its outermost
	threadStackBytes = 64 << 10  // of another thread
	hopBytes         = 8 << 20   // that the stack of the goroutine that died leads to
	variableBytes    = 64 << 20  // of each program or library
	otherStackBytes  = 64 << 10  // of each other goroutine
	privateBytes     = 16 << 20  // of memory that is neither of these nor Go's heap
	moreHopBytes     = 4 << 20   // that other stacks and variables lead to

	hopWindow    = 1 << 10 // behind a pointer
	hopScan      = 256     // of which this is searched for more pointers
	hopDepth     = 3       // a value in an interface, a string in it, its bytes
	maxScanBytes = 32 << 20
	maxTargets   = 1 << 16 // that are followed at once

	// How many places are looked at on the way; each is a read while the process
	// may be held.
	crashPlaces = 1 << 14
	morePlaces  = 1 << 13
)

// Selection says what Select may take.
type Selection struct {
	// Present are the pages that are there and the process's own, not those of
	// a mapped file: sorted by address, disjoint. nil: all that is writable is there.
	Present []Extent
	Bytes   uint64 // budget; 0 is 64 MiB
}

// Select chooses what a minicore keeps of a process: stacks, goroutines,
// variables and a little of what they point to, but not Go's heap. The extents
// are disjoint, of whole pages, each within one mapping, and the most useful
// come first: an image that is cut short can be read as far as it goes.
// Mappings that are NoDump or of a device are never taken or read. r may be nil: then
// there are stacks of threads, variables, and what both point to.
func Select(p *Process, r *Runtime, o Selection) ([]Extent, error) {
	if p.PageSize == 0 || p.PageSize&(p.PageSize-1) != 0 {
		return nil, inquest.Errorf(inquest.ErrInvalid, "pages of %d bytes", p.PageSize)
	}
	s := newSelector(p, r, o)
	s.crash()
	s.goroutines()
	s.variables()
	s.otherStacks()
	s.private()
	s.moreHops()
	return s.out, nil
}

// selector collects extents.
type selector struct {
	p     *Process
	r     *Runtime // may be nil
	m     *words
	pages pageSet
	own   bool     // pages of files are known not to be among the pages
	left  uint64   // of the budget
	looks int      // places that may still be looked at
	out   []Extent // of the stages that are done
	stage []Extent // of the one that goes on

	died  Goroutine
	heap  []bool // by mapping: has goroutines or their stacks, so it is Go's heap
	roots []Extent
}

func newSelector(p *Process, r *Runtime, o Selection) *selector {
	if !slices.IsSortedFunc(p.Mappings, mappingOrder) {
		sorted := *p
		sorted.Mappings = slices.SortedFunc(slices.Values(p.Mappings), mappingOrder)
		p = &sorted
	}
	s := &selector{p: p, r: r, own: o.Present != nil, left: o.Bytes, heap: make([]bool, len(p.Mappings))}
	if s.left == 0 {
		s.left = 64 << 20
	}
	s.pages = newPageSet(p, o.Present)
	if r != nil {
		s.m = &r.u.m
		s.died, _ = r.Died()
	} else {
		s.m = &words{r: p.Memory}
	}
	return s
}

func mappingOrder(a, b Mapping) int { return cmp.Compare(a.Addr, b.Addr) }

// take adds the pages of a range, as long as the budget lasts, and returns how many bytes
// were new.
func (s *selector) take(addr, size uint64) uint64 {
	if addr >= maxAddr || size == 0 {
		return 0
	}
	before := s.left
	s.stage, s.left = s.pages.take(s.stage, addr, min(addr+size, maxAddr), s.left)
	return before - s.left
}

// done ends a stage: its extents are sorted, and neighbours joined.
func (s *selector) done() {
	slices.SortFunc(s.stage, func(a, b Extent) int { return cmp.Compare(a.Addr, b.Addr) })
	from := len(s.out)
	for _, e := range s.stage {
		if n := len(s.out); n > from && s.out[n-1].End() == e.Addr && s.pages.mapping(e.Addr) == s.pages.mapping(s.out[n-1].Addr) {
			s.out[n-1].Size += e.Size
		} else {
			s.out = append(s.out, e)
		}
	}
	s.stage = s.stage[:0]
}

// crash takes the stacks of threads, that of the goroutine that died and what
// it leads to.
func (s *selector) crash() {
	s.looks = crashPlaces
	var roots []Extent
	if g := s.died; g.Addr != 0 {
		live := g.Live()
		inner := Extent{live.Addr, min(live.Size, diedStackBytes)}
		outer := min(live.Size, outerStackBytes)
		s.take(inner.Addr-min(inner.Addr, redZone), inner.Size+redZone)
		s.take(live.End()-outer, outer)
		s.done()
		s.takeGoroutine(&g)
		roots = append(roots, inner)
	}
	for i := range s.p.Threads {
		t := &s.p.Threads[i]
		stack := s.threadStack(t, i == 0)
		s.take(stack.Addr, stack.Size)
		s.take(t.PC&^(s.p.PageSize-1), 1) // where it is not a file's
		if i == 0 {
			roots = append(roots, stack)
			s.hopTo([]uint64{t.FP, t.G, t.LR}, hopDepth, hopBytes)
		}
		if t.TLS != 0 {
			s.take(t.TLS-min(t.TLS, 64), 128)
		}
	}
	s.done()
	s.hops(roots, hopDepth, hopBytes)
	s.done()
}

// redZone is what code may use below its stack pointer.
const redZone = 128

// threadStack is the part of a thread's stack that is in use.
func (s *selector) threadStack(t *Thread, died bool) Extent {
	i := s.pages.mapping(t.SP)
	if i < 0 {
		return Extent{}
	}
	limit := uint64(threadStackBytes)
	if died {
		limit = diedStackBytes
	}
	start := t.SP - min(redZone, t.SP-s.p.Mappings[i].Addr)
	return Extent{start, min(s.p.Mappings[i].End()-start, limit)}
}

// goroutines takes the list of goroutines, their structures and those of their
// threads.
func (s *selector) goroutines() {
	if s.r == nil {
		return
	}
	s.take(s.r.allgs.Addr, s.r.allgs.Size)
	for addr := range s.r.list() {
		s.mark(addr)
		s.take(addr, uint64(s.r.layout.gSize))
	}
	for g := range s.r.Goroutines() {
		s.mark(g.Stack.Addr)
		s.takeGoroutine(&g)
		if s.left == 0 {
			break
		}
	}
	s.done()
}

// mark notes that the heap is where addr is.
func (s *selector) mark(addr uint64) {
	if i := s.pages.mapping(addr); i >= 0 && s.p.Mappings[i].Inode == 0 {
		s.heap[i] = true
	}
}

// takeGoroutine takes a goroutine's structure, and that of its thread with its
// other goroutines.
func (s *selector) takeGoroutine(g *Goroutine) {
	s.take(g.Addr, g.structure)
	if g.m == 0 {
		return
	}
	s.take(g.m, g.mSize)
	for _, at := range []int{s.r.layout.mG0, s.r.layout.mSignal} {
		if other, ok := s.m.word(g.m + uint64(at)); ok {
			s.take(other, g.structure)
		}
	}
}

// variables takes the writable parts of programs and libraries, and what follows
// them: variables that are zero at the start.
func (s *selector) variables() {
	var end uint64 // of the writable mapping of a file before
	for i := range s.p.Mappings {
		m := &s.p.Mappings[i]
		switch {
		case s.pages.barred(i):
		case m.Inode != 0 && m.Offset == 0:
			s.take(m.Addr, s.p.PageSize) // its headers and ids
		}
		// What is not writable and yet the process's own was relocated.
		own := m.Inode != 0 && (m.Flags&2 != 0 || s.own)
		variables := !m.Shared && (own || m.Flags&2 != 0 && m.Inode == 0 && m.Addr == end && m.Path == "" && !s.heap[i])
		if variables && !s.pages.barred(i) {
			s.take(m.Addr, min(m.Size, variableBytes))
			s.roots = append(s.roots, m.Extent)
			end = m.End()
		}
	}
	s.done()
}

// otherStacks takes what is in use of the stacks of the other goroutines.
func (s *selector) otherStacks() {
	if s.r == nil {
		return
	}
	for g := range s.r.Goroutines() {
		live := g.Live()
		live.Size = min(live.Size, otherStackBytes)
		s.take(live.Addr-min(live.Addr, redZone), live.Size+redZone)
		s.roots = append(s.roots, live)
		if s.left == 0 {
			break
		}
	}
	s.done()
}

// private takes what else the process has for itself, which is not Go's heap:
// structures of the runtime, stacks, what C allocated. Small mappings come first.
func (s *selector) private() {
	if s.r == nil {
		return // nothing says which of it is the heap
	}
	var order []int
	for i, m := range s.p.Mappings {
		if m.Inode == 0 && !m.Shared && !s.heap[i] && !strings.HasPrefix(m.Path, "[v") {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(s.pages.count(a), s.pages.count(b))
	})
	left := uint64(privateBytes)
	for _, i := range order {
		m := s.p.Mappings[i]
		if m.Path == "[stack]" { // arguments and environment are at its end
			m.Addr, m.Size = m.End()-min(m.Size, diedStackBytes), min(m.Size, diedStackBytes)
		}
		if n := s.pages.count(i) * s.p.PageSize; n <= left {
			left -= s.take(m.Addr, m.Size)
		}
	}
	for i, m := range s.p.Mappings { // of the kernel, always small
		if strings.HasPrefix(m.Path, "[vdso]") && !s.pages.barred(i) {
			s.take(m.Addr, m.Size)
		}
	}
	s.done()
}

// moreHops follows pointers from all that was taken.
func (s *selector) moreHops() {
	s.looks = morePlaces
	s.hops(s.roots, 2, moreHopBytes)
	s.done()
}

// hops follows the pointers in ranges.
func (s *selector) hops(ranges []Extent, depth int, limit uint64) {
	var targets []uint64
	left := uint64(maxScanBytes)
	buf := make([]byte, chunkBytes)
	for _, e := range ranges {
		for at := e.Addr &^ 7; at < e.End() && left > 0 && limit > 0 && s.left > 0 && s.looks > 0; at += chunkBytes {
			for _, have := range s.pages.present(Extent{at, min(e.End()-at, chunkBytes)}) {
				n, _ := s.p.Memory.ReadAt(buf[:min(have.Size, left)], int64(have.Addr))
				left -= uint64(max(n, 0))
				targets = s.pointers(targets[:0], buf[:max(n, 0)])
				limit -= min(limit, s.hopTo(targets, depth, limit))
			}
		}
	}
}

// pointers appends the words of b that point into memory that is there.
func (s *selector) pointers(out []uint64, b []byte) []uint64 {
	for ; len(b) >= 8; b = b[8:] {
		if v := binary.LittleEndian.Uint64(b); v >= 1<<16 && v < maxAddr && s.pages.has(v) {
			out = append(out, v)
		}
	}
	return out
}

// hopTo takes what is behind pointers, and what is behind those in there, the
// nearest first. It returns how much was new.
func (s *selector) hopTo(targets []uint64, depth int, limit uint64) uint64 {
	var taken uint64
	buf := make([]byte, hopScan)
	for ; depth > 0 && len(targets) > 0; depth-- {
		var next []uint64
		for _, v := range targets {
			if taken >= limit || s.left == 0 || s.looks <= 0 {
				return taken
			}
			if s.pages.visited(v) {
				continue
			}
			s.looks--
			taken += s.take(v, hopWindow)
			if depth > 1 && len(next) < maxTargets {
				if b := s.m.read(buf[:0], v&^7, hopScan); b != nil {
					next = s.pointers(next, b)
				}
			}
		}
		targets = next
	}
	return taken
}
