package main

import (
	"fmt"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/goinquest/inquest/internal/program"
	"github.com/goinquest/inquest/internal/settings"
	"github.com/goinquest/inquest/query"
	"github.com/goinquest/inquest/store"
)

// leastMemory is the smallest budget a collector works with.
const leastMemory = 128 << 20

// budget divides the memory of the process over its parts. What is resident
// counts, so it is cut from the outside in:
//
//	total      what -memory says
//	outside    not of Go's heap: pages of the program itself and of the mapped
//	           catalog, stacks of threads; a sixteenth, 32 MiB at least
//	soft       total − outside: the soft limit of the Go runtime
//	garbage    a fifth of soft: what is not in use and not collected yet.
//	           Without it the collector of garbage would run all the time
//	fixed      code's own data, connections, metrics, the agent within
//
// and what is left is divided by these shares. Each part keeps to its own by
// itself: it waits, gives back, or refuses.
type budget struct {
	total, soft int64

	heads     int64 // profiles that are not in blocks yet, their keys and states
	keys      int64 // keys of blocks
	caches    int64 // trees of blocks
	tables    int64 // of functions of binaries
	queries   int64 // what queries read and answer
	decoding  int64 // bodies being unpacked and decoded
	waiting   int64 // decoded profiles on their way to the log
	bodies    int64 // bodies being received
	blocks    int64 // blocks being written; nobody has to ask for it
	decoders  int   // bodies decoded at once
	rawBytes  int64 // largest body, unpacked
	bodyBytes int64 // largest body, as received

	connections int // open at once; they are of the fixed part
}

// shares of what is left, in percent.
const (
	shareHeads    = 27
	shareKeys     = 7
	shareCaches   = 6
	shareTables   = 4
	shareQueries  = 22
	shareDecoding = 14
	shareWaiting  = 7
	shareBodies   = 7
	shareBlocks   = 6
)

// connectionShare is the budget that goes with one connection, which takes some
// 20 KiB of it while nothing is asked.
const connectionShare = 256 << 10

// A decoder at work holds the unpacked body and twice as much in columns; see
// ingest.Options.Limits.
const decoderFactor = 3

// Bounds of the largest body unpacked.
const (
	leastRawBytes = 5 << 19
	mostRawBytes  = 64 << 20
)

// divide makes the budget of a total; maxBody is the largest body anybody
// wants to send.
func divide(total, maxBody int64, processors int) (*budget, error) {
	if total < leastMemory {
		return nil, settings.Errorf("-memory %d MiB is too little: a collector needs %d MiB", total>>20, leastMemory>>20)
	}
	b := &budget{total: total}
	b.soft = total - min(max(total/16, 32<<20), 512<<20)
	fixed := 16<<20 + b.soft/64
	left := b.soft/5*4 - fixed
	share := func(percent int64) int64 { return left / 100 * percent }
	b.heads, b.keys, b.caches, b.queries = share(shareHeads), share(shareKeys), min(share(shareCaches), 1<<30), share(shareQueries)
	b.tables = share(shareTables)
	b.decoding, b.waiting, b.bodies, b.blocks = share(shareDecoding), share(shareWaiting), share(shareBodies), share(shareBlocks)

	// Two at once, if that leaves room for bodies of some size, and as many as
	// there are processors where there is room.
	b.rawBytes = min(max(b.decoding/decoderFactor/2, leastRawBytes), mostRawBytes)
	b.decoders = int(min(max(b.decoding/decoderFactor/b.rawBytes, 1), int64(processors)))
	b.connections = int(total / connectionShare)
	b.bodyBytes = min(maxBody, b.rawBytes, b.bodies)
	return b, nil
}

// memory is the budget of the process: what -memory says, else 80 % of what
// its control group may use or half of the machine's memory, whichever is
// less.
func (o *options) memory() (*budget, error) {
	total := o.Memory
	if total == 0 {
		total = max(program.MemoryLimit(80, 50), leastMemory)
	}
	return divide(total, o.MaxBody, runtime.GOMAXPROCS(0))
}

// logBytes bounds the log: what is in it was in memory and will be again when
// it is replayed.
func (b *budget) logBytes() int64 { return min(512<<20, 4*b.heads) }

// register shows the budget and what is used of it.
func (b *budget) register(r prometheus.Registerer, s *store.Store, q *query.Engine) error {
	gauge := func(name, help string, labels prometheus.Labels, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "inquest_memory_" + name, Help: help, ConstLabels: labels}, f)
	}
	all := []prometheus.Collector{
		gauge("budget_bytes", "Memory the process may take, see -memory.", nil, func() float64 { return float64(b.total) }),
	}
	for _, p := range []struct {
		part  string
		bytes int64
		used  func() float64
	}{
		{"heads", b.heads, func() float64 { return float64(s.MemoryUse().Heads) }},
		{"keys", b.keys, func() float64 { return float64(s.MemoryUse().Keys) }},
		{"caches", b.caches, func() float64 { return float64(s.MemoryUse().Caches) }},
		{"tables", b.tables, nil},
		{"queries", b.queries, func() float64 { return float64(q.Budget().UsedBytes) }},
		{"decoding", b.decoding, nil},
		{"waiting", b.waiting, nil},
		{"bodies", b.bodies, nil},
	} {
		label := prometheus.Labels{"part": p.part}
		all = append(all, gauge("share_bytes", "Memory a part of the collector may take.", label, func() float64 { return float64(p.bytes) }))
		if p.used != nil {
			all = append(all, gauge("used_bytes", "Memory a part of the collector takes, about.", label, p.used))
		}
	}
	for _, c := range all {
		if err := r.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return registerQueries(r, q)
}

// registerQueries shows how queries are admitted.
func registerQueries(r prometheus.Registerer, q *query.Engine) error {
	count := func(name, help string, f func(query.Budget) int64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "inquest_query_" + name, Help: help},
			func() float64 { return float64(f(q.Budget())) })
	}
	gauge := func(name, help string, f func(query.Budget) int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "inquest_query_" + name, Help: help},
			func() float64 { return float64(f(q.Budget())) })
	}
	for _, c := range []prometheus.Collector{
		gauge("running", "Queries that run.", func(b query.Budget) int { return b.Running }),
		gauge("waiting", "Queries that wait for their turn.", func(b query.Budget) int { return b.Waiting }),
		count("refused_busy_total", "Queries refused because too many wait.", func(b query.Budget) int64 { return b.Busy }),
		count("refused_yielded_total", "Queries refused so that others have their memory.", func(b query.Budget) int64 { return b.Yielded }),
		count("refused_large_total", "Queries refused because they need more memory than there is for all.", func(b query.Budget) int64 { return b.Large }),
	} {
		if err := r.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}
