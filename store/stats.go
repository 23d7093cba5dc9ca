package store

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Stats is the state of a store in numbers.
type Stats struct {
	Blocks, Profiles                   int64 // Profiles in blocks and heads
	BlockBytes, LogBytes, CatalogBytes int64 // on the disk; BlockBytes of blocks with profiles
	RollupBytes                        int64 // on the disk, of rollups and digests
	Pending                            int64 // blocks with profiles that are not in rollups yet
	HeadBytes                          int64 // memory of heads, about
	FreeBytes                          int64 // on the disk
	Quarantined                        []string
	Replaying                          bool
}

// Stats returns the state of the store.
func (s *Store) Stats() Stats {
	st := Stats{LogBytes: s.log.bytes(), CatalogBytes: s.catalog.size(), Replaying: !s.replayed.Load(), Quarantined: s.quarantineList()}
	if free, err := s.ops.Free(s.o.Dir); err == nil {
		st.FreeBytes = free
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, b := range s.blocks {
		st.Blocks++
		if b.info.level == levelRollup {
			st.RollupBytes += b.info.size
			continue
		}
		st.BlockBytes += b.info.size
		if !b.info.rolled {
			st.Pending++
		}
		st.Profiles += int64(b.info.keys)
	}
	st.HeadBytes = s.memory.used.Load()
	for _, h := range s.allHeads() {
		h.mu.Lock()
		st.Profiles += h.rows
		h.mu.Unlock()
	}
	return st
}

// MemoryUse is what parts of a store take of their memory, in bytes, about.
type MemoryUse struct {
	Heads, Keys, Caches int64 // see Options
}

// MemoryUse returns what the store takes now.
func (s *Store) MemoryUse() MemoryUse {
	return MemoryUse{Heads: s.memory.used.Load(), Keys: s.keys.memory(), Caches: s.trees.memory()}
}

// stats are the counters behind Stats and the metrics.
type stats struct {
	reg        prometheus.Registerer
	registered []prometheus.Collector

	free          atomic.Int64
	quarantined   atomic.Int64
	profiles      atomic.Int64
	keysForgotten atomic.Int64
	crowded       atomic.Int64
	crowdedOut    atomic.Int64
	bytes         atomic.Int64
	commits       prometheus.Histogram
	syncs         prometheus.Histogram
	blocks        prometheus.Histogram
}

func newStats(s *Store, reg prometheus.Registerer) (*stats, error) {
	latency := prometheus.ExponentialBuckets(0.0001, 2, 16)
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: "inquest_store_" + name, Help: help, Buckets: latency})
	}
	st := &stats{
		reg:     reg,
		commits: histogram("commit_seconds", "Time to make a batch of profiles durable."),
		syncs:   histogram("fsync_seconds", "Time to write and sync a batch in the log."),
		blocks:  histogram("block_write_seconds", "Time to write a block and its catalog row."),
	}
	if reg == nil {
		return st, nil
	}
	st.registered = append(st.registered, st.commits, st.syncs, st.blocks)
	counter := func(name, help string, v *atomic.Int64) {
		st.registered = append(st.registered, prometheus.NewCounterFunc(
			prometheus.CounterOpts{Name: "inquest_store_" + name, Help: help}, func() float64 { return float64(v.Load()) }))
	}
	gauge := func(name, help string, f func() float64) {
		st.registered = append(st.registered, prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Name: "inquest_store_" + name, Help: help}, f))
	}
	counter("profiles_appended_total", "Profiles made durable since the start.", &st.profiles)
	counter("log_written_bytes_total", "Bytes written to the log since the start.", &st.bytes)
	counter("quarantined_total", "Damaged pieces of log and blocks found since the start.", &st.quarantined)
	gauge("log_bytes", "Size of the log.", func() float64 { return float64(s.log.bytes()) })
	gauge("catalog_bytes", "Size of the catalog.", func() float64 { return float64(s.catalog.size()) })
	gauge("free_bytes", "Free space of the disk.", func() float64 { return float64(s.Stats().FreeBytes) })
	gauge("heads", "Services with an open or closing epoch.", func() float64 {
		s.mu.RLock()
		defer s.mu.RUnlock()
		return float64(len(s.heads) + len(s.closing) + len(s.recovered))
	})
	gauge("head_bytes", "Memory of all heads, about.", func() float64 { return float64(s.memory.used.Load()) })
	gauge("key_bytes", "Memory of the keys of blocks.", func() float64 { return float64(s.keys.memory()) })
	counter("keys_forgotten_total", "Keys forgotten before their time because there was no memory for them.", &st.keysForgotten)
	counter("head_waits_total", "Writers that had to wait until heads took less memory.", &st.crowded)
	counter("head_refusals_total", "Writers refused because heads took all of their memory.", &st.crowdedOut)
	gauge("blocks", "Block files.", func() float64 {
		s.mu.RLock()
		defer s.mu.RUnlock()
		return float64(len(s.blocks))
	})
	gauge("block_bytes", "Size of the files of blocks with profiles.", func() float64 { return float64(s.Stats().BlockBytes) })
	gauge("rollup_bytes", "Size of the files of rollups and function digests.", func() float64 { return float64(s.Stats().RollupBytes) })
	gauge("pending_blocks", "Blocks that are not rolled up yet.", func() float64 { return float64(s.Stats().Pending) })
	counter("retention_deleted_blocks_total", "Blocks deleted for their age or for want of space since the start.", &s.retainer.blocks)
	counter("retention_deleted_bytes_total", "Bytes deleted for their age or for want of space since the start.", &s.retainer.bytes)
	counter("retention_early_total", "Times that profiles were deleted early because the disk was short of space.", &s.retainer.early)
	gauge("binaries", "Stored binaries.", func() float64 { return float64(s.BinaryStats().Files) })
	gauge("binary_bytes", "Size of the files of binaries.", func() float64 { return float64(s.BinaryStats().Bytes) })
	gauge("binary_uploads", "Uploads of binaries that are not whole yet.", func() float64 { return float64(s.BinaryStats().Uploads) })
	gauge("crashes", "Records of crashes.", func() float64 { return float64(s.CrashStats().Records) })
	gauge("crash_deaths", "Deaths counted in groups of crashes.", func() float64 { return float64(s.CrashStats().Deaths) })
	gauge("cores", "Stored cores.", func() float64 { return float64(s.CoreStats().Cores) })
	gauge("core_bytes", "Size of the files of cores.", func() float64 { return float64(s.CoreStats().Bytes) })
	gauge("core_uploads", "Cores of which blocks are missing.", func() float64 { return float64(s.CoreStats().Uploads) })
	gauge("cores_evicted", "Cores deleted for want of space since the start.", func() float64 { return float64(s.CoreStats().Evicted) })
	counter("binaries_evicted_total", "Binaries deleted because they took more than their bound, since the start.", &s.binaries.evicted)
	counter("builds_unnoted_total", "Profiles whose build was not noted because too many builds were seen.", &s.seen.full)
	for r := Raw; r <= Day; r++ {
		st.registered = append(st.registered, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "inquest_store_retention_horizon_seconds", Help: "Unix time from which on rows of a resolution are kept, of services without exception; 0 if all are.",
			ConstLabels: prometheus.Labels{"resolution": r.String()},
		}, func() float64 { return s.horizonSeconds(r) }))
	}
	gauge("deletion_blocks", "Blocks that hold something that was deleted on request and is not taken out yet.", func() float64 {
		s.mu.RLock()
		defer s.mu.RUnlock()
		return float64(s.deletions.n)
	})
	gauge("replay_progress", "How much of the log is replayed, 0 to 1.", func() float64 {
		if s.replayed.Load() {
			return 1
		}
		return s.replay.progress()
	})
	for i, c := range st.registered {
		if err := reg.Register(c); err != nil {
			st.registered = st.registered[:i]
			st.unregister()
			return nil, err
		}
	}
	return st, nil
}

func (st *stats) unregister() {
	for _, c := range st.registered {
		st.reg.Unregister(c)
	}
}

func (st *stats) committed(profiles, bytes int, took time.Duration) {
	st.profiles.Add(int64(profiles))
	st.bytes.Add(int64(bytes))
	st.commits.Observe(took.Seconds())
}

func (st *stats) synced(took time.Duration) { st.syncs.Observe(took.Seconds()) }

func (st *stats) blockWritten(took time.Duration) { st.blocks.Observe(took.Seconds()) }
