package coredump

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/symbolize"
)

// Runtime is Go's runtime in the memory of a process. It is not safe for
// concurrent use.
type Runtime struct {
	p      *Process
	u      *unwinder
	layout *layout
	allgs  Extent // the addresses of all g, 8 bytes each
	stop   map[uint64]*Thread
}

// maxGoroutines is more than a process can have; what says more is wrong.
const maxGoroutines = 1 << 27

// OpenRuntime finds the runtime of a process: the list of goroutines by its
// shape among Go's variables, whose places funcs knows in stripped programs,
// too; and where each has what by the release. Of a release that is not known
// it takes the nearest that fits. It reads those variables and some goroutines.
// The error is of kind inquest.ErrNotFound if nothing fits, or funcs is nil.
func OpenRuntime(p *Process, funcs *symbolize.Functions) (*Runtime, error) {
	if funcs == nil {
		return nil, inquest.Errorf(inquest.ErrNotFound, "find goroutines: the executable is not known")
	}
	r := &Runtime{p: p, u: newUnwinder(p, funcs), stop: map[uint64]*Thread{}}
	for i := range p.Threads {
		r.stop[uint64(p.Threads[i].TID)] = &p.Threads[i]
	}
	order := layoutsFor(funcs.GoVersion())
	for _, list := range r.lists(funcs) {
		for _, l := range order {
			if r.fits(list, l) {
				r.allgs, r.layout = list, l
				return r, nil
			}
		}
	}
	return nil, inquest.Errorf(inquest.ErrNotFound, "find goroutines: nothing in memory looks like those of Go 1.%d to 1.%d",
		layouts[0].release, layouts[len(layouts)-1].release)
}

// layoutsFor returns all layouts, the one of a version first.
func layoutsFor(version string) []*layout {
	number := release(version)
	if number == 0 {
		number = layouts[len(layouts)-1].release
	}
	var out []*layout
	for i := range layouts {
		out = append(out, &layouts[i])
	}
	slices.SortStableFunc(out, func(a, b *layout) int {
		return cmp.Compare(max(a.release-number, number-a.release), max(b.release-number, number-b.release))
	})
	return out
}

// release is the number of the release in a version, 0 if there is none.
func release(version string) int {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 || parts[0] != "go1" {
		return 0
	}
	n, _ := strconv.Atoi(digits(parts[1]))
	return n
}

// digits is what a string begins with of them.
func digits(s string) string { return s[:len(s)-len(strings.TrimLeft(s, "0123456789"))] }

// What is searched for the list of goroutines at most.
const (
	maxVariables = 256 << 20 // bytes of variables
	maxLists     = 64        // candidates that are looked at closely
	chunkBytes   = 256 << 10
)

// lists returns what looks like a slice of goroutines among Go's variables, the
// longest first.
func (r *Runtime) lists(funcs *symbolize.Functions) []Extent {
	data := funcs.Data()
	var out []Extent
	left := uint64(maxVariables)
	buf := make([]byte, chunkBytes)
	for _, i := range []int{2, 1} { // variables with pointers: zero at the start first
		start, end := data[i].Start+r.u.bias, data[i].End+r.u.bias
		if end < start || end-start > left || end > maxAddr {
			continue
		}
		left -= end - start
		// Slices may lie over the end of a chunk: each begins 16 bytes early.
		for at := start &^ 7; at < end && len(out) < maxLists; at += chunkBytes - 16 {
			n, _ := r.p.Memory.ReadAt(buf[:min(chunkBytes, end-at)], int64(at))
			out = r.slices(out, buf[:max(n, 0)])
		}
	}
	slices.SortFunc(out, func(a, b Extent) int { return cmp.Compare(b.Size, a.Size) })
	return out
}

// slices appends the slices of goroutines that are in b.
func (r *Runtime) slices(out []Extent, b []byte) []Extent {
	le := binary.LittleEndian
	for ; len(b) >= 24 && len(out) < maxLists; b = b[8:] {
		addr, n, room := le.Uint64(b), le.Uint64(b[8:]), le.Uint64(b[16:])
		if n == 0 || n > room || room > maxGoroutines || addr == 0 || addr%8 != 0 || addr >= maxAddr {
			continue
		}
		list := Extent{addr, n * 8}
		if slices.Contains(out, list) {
			continue
		}
		g, ok := r.u.m.word(addr)
		if self, ok2 := r.u.m.word(g + schedG); ok && ok2 && g != 0 && self == g {
			out = append(out, list)
		}
	}
	return out
}

// samples is how many goroutines are looked at to see whether a layout fits.
const samples = 64

// fits reports whether what a list names is goroutines of that layout. Some may
// be in the making.
func (r *Runtime) fits(list Extent, l *layout) bool {
	n := list.Size / 8
	step := max(1, n/samples)
	good, bad := 0, 0
	for i := uint64(0); i < n; i += step {
		addr, ok := r.u.m.word(list.Addr + i*8)
		if ok && r.sound(addr, l) {
			good++
		} else {
			bad++
		}
	}
	return good > 0 && bad*10 <= good
}

// sound checks what is true of every goroutine.
func (r *Runtime) sound(addr uint64, l *layout) bool {
	var buf [1024]byte
	b := r.u.m.read(buf[:0], addr, uint64(l.gSize))
	if b == nil {
		return false
	}
	g := gFields{b}
	status := g.number(l.gStatus) &^ statusScan
	if g.word(l.gSchedG) != addr || status > statusDeadExtra || int(b[l.gWaitReason]) >= len(l.waitReasons) {
		return false
	}
	if status == statusDead || status == statusDeadExtra || status == statusIdle {
		return true
	}
	id, lo, hi := g.word(l.gID), g.word(l.gStackLo), g.word(l.gStackHi)
	sp := g.word(l.gSchedSP)
	return id > 0 && id < 1<<40 && lo < hi && (status != statusWaiting || sp > lo && sp <= hi)
}

// readable reports whether a g is in memory.
func (r *Runtime) readable(addr uint64) bool {
	_, ok := r.u.m.word(addr + uint64(r.layout.gSchedG))
	_, ok2 := r.u.m.word(addr + uint64(r.layout.gID))
	return ok && ok2
}

// gFields are the bytes of a g.
type gFields struct{ b []byte }

func (g gFields) word(at int) uint64   { return binary.LittleEndian.Uint64(g.b[at:]) }
func (g gFields) number(at int) uint32 { return binary.LittleEndian.Uint32(g.b[at:]) }
