package coredump

import (
	"cmp"
	"hash/maphash"
	"slices"

	"github.com/goinquest/inquest"
)

// What is held of goroutines at once.
const (
	maxStack      = 128      // frames of one; the runtime writes 100
	heldBuckets   = 4096     // while reading, those with the most goroutines are chosen at the end
	heldFrames    = 1 << 16  // of all of these
	heldNameBytes = 4 << 20  // of functions, files and states
	maxName       = 4 << 10  // bytes of one
	idsPerBucket  = 8        // goroutines that a bucket names
	maxStackless  = 4096     // goroutines that were on other threads
	anonymous     = "(more)" // a name for which there is no space
)

// textStack is one goroutine as it is read. Its slices are used again.
type textStack struct {
	header
	stateName string
	frames    []inquest.Frame
	by        *inquest.Frame
	byFrame   inquest.Frame
	cut       bool
	absent    bool // ran on another thread
}

// buckets counts goroutines with the same stack.
type buckets struct {
	seed   maphash.Seed
	byHash map[uint64]int
	list   []inquest.GoroutineBucket
	frames int
	names  map[string]string
	bytes  int
	total  int
	full   bool
}

func newBuckets() *buckets {
	return &buckets{seed: maphash.MakeSeed(), byHash: map[uint64]int{}, names: map[string]string{}}
}

// name is s as a string that is kept once.
func (b *buckets) name(s []byte) string {
	if n, ok := b.names[string(s)]; ok {
		return n
	}
	if b.bytes+len(s) > heldNameBytes || len(s) > maxName {
		b.full = true
		return anonymous
	}
	n := string(s)
	b.names[n] = n
	b.bytes += len(s) + 32
	return n
}

func (b *buckets) add(s *textStack, first bool) {
	b.total++
	if i := b.place(s, first); i >= 0 {
		b.count(i, s.id, s.locked, first)
		b.list[i].Wait = max(b.list[i].Wait, s.wait)
	}
}

// place is the index of the bucket that a goroutine with that state and stack
// belongs in; -1 if there is no space for a new one, but that of the goroutine
// that died always has some.
func (b *buckets) place(s *textStack, first bool) int {
	hash := b.hash(s)
	i, ok := b.byHash[hash]
	if ok {
		return i
	}
	if (len(b.list) >= heldBuckets || b.frames+len(s.frames) > heldFrames) && !first {
		b.full = true
		return -1
	}
	i = len(b.list)
	b.byHash[hash] = i
	b.frames += len(s.frames)
	g := inquest.GoroutineBucket{State: s.stateName, Frames: slices.Clone(s.frames), Cut: s.cut}
	if g.Frames == nil {
		g.Frames = []inquest.Frame{}
	}
	if s.by != nil {
		by := *s.by
		g.By = &by
	}
	b.list = append(b.list, g)
	return i
}

// count counts a goroutine of bucket i.
func (b *buckets) count(i int, id int64, locked, first bool) {
	g := &b.list[i]
	g.Count++
	if len(g.IDs) < idsPerBucket {
		g.IDs = append(g.IDs, id)
	}
	g.Locked = g.Locked || locked
	g.First = g.First || first
}

func (b *buckets) hash(s *textStack) uint64 {
	var h maphash.Hash
	h.SetSeed(b.seed)
	frame := func(f *inquest.Frame) {
		_, _ = h.WriteString(f.Function) // never fails, nor do the others
		_ = h.WriteByte(0)
		_, _ = h.WriteString(f.File)
		for n := f.Line; n > 0; n >>= 8 {
			_ = h.WriteByte(byte(n))
		}
		_ = h.WriteByte(0)
	}
	_, _ = h.WriteString(s.stateName)
	for i := range s.frames {
		frame(&s.frames[i])
	}
	if s.by != nil {
		_ = h.WriteByte(1)
		frame(s.by)
	}
	return h.Sum64()
}

// top are the n largest, and that of the goroutine that died; cut says that
// there were more.
func (b *buckets) top(n int) (list []inquest.GoroutineBucket, cut bool) {
	order, cut := b.order(n)
	for _, i := range order {
		list = append(list, b.list[i])
	}
	return list, cut
}

// order are the indices of what top returns.
func (b *buckets) order(n int) (order []int, cut bool) {
	for i := range b.list {
		order = append(order, i)
	}
	slices.SortStableFunc(order, func(x, y int) int {
		return cmp.Compare(b.list[y].Count, b.list[x].Count)
	})
	if len(order) <= n {
		return order, b.full
	}
	if i := slices.IndexFunc(order, func(g int) bool { return b.list[g].First }); i >= n {
		order[n-1] = order[i]
	}
	return order[:n], true
}
