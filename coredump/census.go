package coredump

import (
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"slices"
	"strings"

	"github.com/goinquest/inquest"
)

const (
	censusChunk  = 1 << 14 // goroutines that are held at once
	censusFrames = 100     // of a goroutine; the runtime writes as many
	maxStacks    = 1 << 14 // different ones
	maxCensus    = 1 << 22 // goroutines that are looked at
	maxCalls     = 1 << 25 // of all of them
)

// census looks at all goroutines of a process. It reads them chunk by chunk, each in
// the order of addresses, as packed memory is read best.
type census struct {
	a      *analysis
	b      *buckets
	seed   maphash.Seed
	stacks map[uint64]int // bucket by state and addresses of code; -1: none
	labels profLabels
	now    int64
	since  map[int]int64   // by bucket, the earliest
	waits  map[int64]int64 // by goroutine, since when
	first  uint64          // address of the one that died, in a deadlock the first of all

	absent, unread int
	left           int         // of maxCalls
	calls          []stackCall // used again
}

func newCensus(a *analysis) *census {
	c := &census{
		a: a, b: a.b, left: maxCalls, seed: maphash.MakeSeed(), stacks: map[uint64]int{}, now: a.limits.Now, since: map[int]int64{}, waits: map[int64]int64{}, first: a.died.Addr,
		labels: profLabels{m: &a.types.m, release: a.r.Release(), known: map[uint64]map[string]string{}},
	}
	return c
}

// run fills the report.
func (c *census) run() {
	if c.first == 0 && strings.HasSuffix(c.a.rep.Class, " - deadlock!") {
		for g := range c.a.r.Goroutines() { // the first one that a text tells of
			c.first = g.Addr
			break
		}
	}
	var chunk []uint64
	looked := 0
	for addr := range c.a.r.list() {
		if looked++; looked > maxCensus {
			c.a.problem("only the first %d goroutines were looked at", maxCensus)
			break
		}
		if chunk = append(chunk, addr); len(chunk) == censusChunk {
			c.chunk(chunk)
			chunk = chunk[:0]
		}
	}
	c.chunk(chunk)
	c.finish()
}

// chunk takes some goroutines.
func (c *census) chunk(addrs []uint64) {
	slices.Sort(addrs)
	list := make([]Goroutine, 0, len(addrs))
	for i, addr := range addrs {
		if i > 0 && addr == addrs[i-1] {
			continue
		}
		switch g, ok := c.a.r.goroutine(addr); {
		case ok:
			list = append(list, g)
		case !c.a.r.readable(addr):
			c.unread++
		}
	}
	slices.SortFunc(list, func(x, y Goroutine) int { return cmp.Compare(x.SP, y.SP) })
	for i := range list {
		c.goroutine(&list[i])
	}
}

// goroutine takes one.
func (c *census) goroutine(g *Goroutine) {
	c.b.total++
	first := g.Addr == c.first && g.Addr != 0
	bucket := c.bucket(g, first)
	if bucket >= 0 {
		c.b.count(bucket, g.ID, g.Locked, first)
	}
	if since := g.WaitSince; since > 0 && (g.State == "waiting" || g.State == "syscall") {
		if c.a.limits.Now == 0 {
			c.now = max(c.now, since)
		}
		if was := c.since[bucket]; was == 0 || since < was {
			c.since[bucket] = since
		}
		if len(c.a.rep.Goroutines) < c.a.limits.Goroutines {
			c.waits[g.ID] = since
		}
	}
	if first && c.a.rep.Goroutine == 0 {
		c.a.rep.Goroutine, c.a.rep.Frames, c.a.rep.Cut = g.ID, c.b.list[bucket].Frames, c.b.list[bucket].Cut
		c.a.rep.Frames = c.a.rep.Frames[:min(len(c.a.rep.Frames), inquest.CrashFrames)]
	}
	if len(c.a.rep.Goroutines) < c.a.limits.Goroutines {
		c.a.rep.Goroutines = append(c.a.rep.Goroutines, inquest.Goroutine{
			ID: g.ID, State: g.shown(), Locked: g.Locked, Thread: g.TID, Parent: g.Parent, System: c.system(g), Labels: c.labels.read(g.Labels), Bucket: bucket,
		})
	}
}

// shown is what tracebacks write between brackets.
func (g *Goroutine) shown() string {
	if g.State == "leaked" && g.WaitReason != "" {
		return g.WaitReason + " (leaked)"
	}
	return cmp.Or(g.WaitReason, g.State)
}

// system reports whether a goroutine is the runtime's own, by its first
// function (isSystemGoroutine in runtime/traceback.go).
func (c *census) system(g *Goroutine) bool {
	name := c.a.u.name(g.Start)
	switch name {
	case "runtime.main", "runtime.corostart", "runtime.handleAsyncEvent":
		return false
	}
	return strings.HasPrefix(name, "runtime.")
}

// bucket is where a goroutine belongs; -1 if there is no space for it. Stacks with
// the same addresses are symbolized once.
func (c *census) bucket(g *Goroutine, first bool) int {
	var s stack
	s.u, s.calls = c.a.u, c.calls[:0]
	cut := false
	switch {
	case g.Addr == c.a.died.Addr && c.a.died.Addr != 0:
		s.calls, cut = c.a.dead, !ended(c.a.dead)
	case g.SP != 0:
		if c.left > 0 {
			s.walkOwn(g)
			c.left -= len(s.calls) + 1
		}
		c.calls = s.calls
		cut = !ended(s.calls)
	case g.State == "running":
		c.absent++
		cut = true
	}
	hash := c.hash(g, s.calls)
	i, ok := c.stacks[hash]
	if ok && (i >= 0 || !first) {
		return i
	}
	if !ok && len(c.stacks) >= maxStacks && !first {
		c.b.full = true
		return -1
	}
	t := textStack{stateName: g.shown(), frames: c.a.symbolized(s.calls, censusFrames+1), cut: cut}
	if len(t.frames) > censusFrames {
		t.frames, t.cut = t.frames[:censusFrames], true
	}
	if by, ok := c.a.starter(g); ok {
		t.by = &by
	}
	i = c.b.place(&t, first)
	c.stacks[hash] = i
	return i
}

// walkOwn walks the stack of a goroutine, and no other.
func (s *stack) walkOwn(g *Goroutine) {
	s.u.walk(g.call(), gobuf{}, func(f call, name string, signal *signalFrame) bool {
		if f.sp <= g.Stack.Addr || f.sp > g.Stack.End() {
			return false
		}
		s.calls = append(s.calls, stackCall{f.at() - s.u.bias, f.pc, f.sp, name, signal})
		return len(s.calls) <= censusFrames
	})
}

func (c *census) hash(g *Goroutine, calls []stackCall) uint64 {
	var h maphash.Hash
	h.SetSeed(c.seed)
	_, _ = h.WriteString(g.shown()) // never fails
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], g.CreatedBy)
	_, _ = h.Write(b[:])
	for i := range calls {
		binary.LittleEndian.PutUint64(b[:], calls[i].addr)
		_, _ = h.Write(b[:])
	}
	return h.Sum64()
}

// starter is what started a goroutine, as tracebacks write it: the function as the
// linker has it, and the line in whatever was inlined there.
func (a *analysis) starter(g *Goroutine) (by inquest.Frame, ok bool) {
	if g.CreatedBy == 0 || g.ID == 1 {
		return by, false
	}
	frames := a.funcs.Frames(nil, g.CreatedBy-1-a.u.bias)
	if len(frames) == 0 {
		return by, false
	}
	by = frames[len(frames)-1]
	by.File, by.Line = frames[0].File, frames[0].Line
	return by, true
}

// finish orders what was found.
func (c *census) finish() {
	rep := c.a.rep
	for i, since := range c.since {
		if i >= 0 {
			c.b.list[i].Wait = minutes(c.now - since)
		}
	}
	order, cut := c.b.order(c.a.limits.Buckets)
	place := map[int]int{}
	for i, b := range order {
		slices.Sort(c.b.list[b].IDs)
		rep.Buckets = append(rep.Buckets, c.b.list[b])
		place[b] = i
	}
	slices.SortFunc(rep.Goroutines, func(x, y inquest.Goroutine) int { return cmp.Compare(x.ID, y.ID) })
	for i := range rep.Goroutines {
		g := &rep.Goroutines[i]
		if at, ok := place[g.Bucket]; ok {
			g.Bucket = at
		} else {
			g.Bucket = -1
		}
		if since := c.waits[g.ID]; since != 0 {
			g.Wait = minutes(c.now - since)
		}
	}
	rep.Total = c.b.total
	rep.Truncated = cut || len(rep.Goroutines) < rep.Total
	c.tell()
}

// tell adds what is missing.
func (c *census) tell() {
	if c.absent > 0 {
		c.a.problem("%d goroutines ran on threads that are not here", c.absent)
	}
	if c.unread > 0 {
		c.a.problem("%d goroutines are not in the core", c.unread)
	}
	if c.left <= 0 {
		c.a.problem("the stacks of some goroutines were not followed: there are too many")
	}
	if c.labels.cut {
		c.a.problem("there are too many labels of goroutines")
	}
}

func minutes(ns int64) int { return int(max(0, ns) / 60e9) }
