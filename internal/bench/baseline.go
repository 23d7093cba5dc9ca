package main

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/pprof/profile"
	"github.com/klauspost/compress/gzip"
	"golang.org/x/sys/unix"

	"github.com/goinquest/inquest/internal/fleet"
)

// gunzip measures what decompressing bodies with klauspost/compress takes,
// while the collector takes them in: on the same processors in the same
// seconds, so that what else the machine does bears on both alike.
type gunzip struct {
	seen atomic.Int64

	mu     sync.Mutex
	batch  [][]byte
	cpu    time.Duration
	bodies int
	err    error
}

// Of every gunzipEach bodies one is decompressed, gunzipBatch in a row, so that
// the time is that of doing nothing else.
const (
	gunzipEach  = 5
	gunzipBatch = 50
)

// each takes note of one body.
func (g *gunzip) each(it *fleet.Item) {
	if g.seen.Add(1)%gunzipEach != 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.batch = append(g.batch, it.Body); len(g.batch) < gunzipBatch {
		return
	}
	if err := g.measure(); err != nil && g.err == nil {
		g.err = err
	}
	g.batch = g.batch[:0]
}

func (g *gunzip) measure() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var z gzip.Reader
	var out bytes.Buffer
	out.Grow(1 << 20)
	begin, err := threadCPU()
	if err != nil {
		return err
	}
	for _, body := range g.batch {
		out.Reset()
		if err := z.Reset(bytes.NewReader(body)); err != nil {
			return err
		}
		if _, err := out.ReadFrom(&z); err != nil {
			return err
		}
	}
	end, err := threadCPU()
	g.cpu += end - begin
	g.bodies += len(g.batch)
	return err
}

// millis is the CPU time per body.
func (g *gunzip) millis() (float64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.bodies == 0 && g.err == nil {
		return 0, fmt.Errorf("at least %d profiles are needed to measure gunzip", gunzipEach*gunzipBatch)
	}
	return g.cpu.Seconds() * 1000 / float64(g.bodies), g.err
}

// threadCPU is the CPU time the calling thread has used.
func threadCPU() (time.Duration, error) {
	var t unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t)
	return time.Duration(t.Nano()), err
}

// mergeAtOnce bounds the parsed profiles in memory.
const mergeAtOnce = 50

// pprofMerge parses and merges the CPU profiles of one service as `go tool
// pprof` would, some at a time, and returns their total in ns, their number,
// and the wall time in ms, without that of making them: the median time for
// some of them, times how often that was.
func (b *bench) pprofMerge() (total int64, n int, millis float64, err error) {
	var bodies [][]byte
	var merged *profile.Profile
	var times []float64
	merge := func() error {
		began := time.Now()
		parsed := make([]*profile.Profile, 0, mergeAtOnce+1)
		if merged != nil {
			parsed = append(parsed, merged)
		}
		for _, body := range bodies {
			p, err := profile.ParseData(body)
			if err != nil {
				return err
			}
			parsed = append(parsed, p)
		}
		m, err := profile.Merge(parsed)
		times = append(times, time.Since(began).Seconds()*1000*mergeAtOnce/float64(len(bodies)))
		n += len(bodies)
		merged, bodies = m, bodies[:0]
		return err
	}
	perTick := b.services * b.instances * len(kinds)
	first := b.service() * b.instances * len(kinds)
	for tick := 0; tick < b.fleet.Len(); tick += perTick {
		for instance := range b.instances {
			it, err := b.fleet.Item(tick + first + instance*len(kinds)) // kind 0 is cpu
			if err != nil {
				return 0, 0, 0, err
			}
			bodies = append(bodies, it.Body)
		}
		if len(bodies)+b.instances > mergeAtOnce || tick+perTick >= b.fleet.Len() {
			if err := merge(); err != nil {
				return 0, 0, 0, err
			}
		}
		b.progress.Step(b.name+": google/pprof", tick, b.fleet.Len())
	}
	for _, s := range merged.Sample {
		total += s.Value[1]
	}
	slices.Sort(times)
	return total, n, times[len(times)/2] * float64(n) / mergeAtOnce, nil
}
