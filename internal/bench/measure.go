package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/pprof/profile"
	"github.com/klauspost/compress/gzip"
	"golang.org/x/sync/errgroup"

	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/internal/fleet"
	"github.com/goinquest/inquest/internal/proc"
)

// The flame graph that is timed is that of one service with the CPU profiles
// of one program of the corpus as they are, over and over.
const (
	flameService  = "prometheus"
	flameProfiles = 1000
)

func measure(ctx context.Context, o options, dir string, stderr io.Writer) (*result, error) {
	items, err := makeItems(o, stderr)
	if err != nil {
		return nil, err
	}
	res := &result{Profiles: len(items)}
	for _, it := range items {
		res.BodyBytes += float64(len(it.Body)) / float64(len(items))
	}
	if res.GunzipMillis, err = gunzipCost(items); err != nil {
		return nil, err
	}
	flame := flameItems(items[0].Start)
	var total int64
	if total, res.PprofMillis, err = pprofMerge(flame); err != nil {
		return nil, err
	}
	res.FlameProfiles = int64(len(flame))

	bin := o.collector
	if bin == "" {
		bin = filepath.Join(dir, "collector")
		if err := proc.Build(ctx, bin, "github.com/goinquest/inquest/cmd/collector"); err != nil {
			return nil, err
		}
	}
	data := o.data
	if data == "" {
		data = filepath.Join(dir, "data")
	}
	addr, err := proc.FreeAddr()
	if err != nil {
		return nil, err
	}
	c, err := proc.StartCollector(ctx, stderr, bin, addr, data)
	if err != nil {
		return nil, err
	}
	defer func() { c.Kill() }()
	if err := load(ctx, o, c, items, res, stderr); err != nil {
		return nil, err
	}
	if res.PeakRSS, err = c.PeakRSS(); err != nil {
		return nil, err
	}
	for i := range flame {
		if err := post(ctx, http.DefaultClient, c.URL, &flame[i]); err != nil {
			return nil, err
		}
	}
	got := 0.0
	if res.FlameMillis, got, err = flameGraph(ctx, c.URL, flame); err != nil {
		return nil, err
	}
	res.FlameEqual = got == float64(total)
	if err := c.Stop(time.Minute); err != nil {
		return nil, err
	}
	if res.RawBytes, err = blockBytes(data); err != nil {
		return nil, err
	}
	res.RawBytes /= float64(len(items) + len(flame))

	if c, err = proc.StartCollector(ctx, stderr, bin, addr, data); err != nil {
		return nil, err
	}
	if res.FlameBlockMillis, got, err = flameGraph(ctx, c.URL, flame); err != nil {
		return nil, err
	}
	res.FlameEqual = res.FlameEqual && got == float64(total)
	res.FlameRatio = res.PprofMillis / max(res.FlameMillis, res.FlameBlockMillis)
	return res, c.Stop(time.Minute)
}

func makeItems(o options, stderr io.Writer) ([]fleet.Item, error) {
	from := time.Now().Add(-12 * time.Hour).Truncate(time.Second)
	f := fleet.New(fleet.Options{Seed: 1, From: from, Services: o.services, KeepHeap: o.keepHeap})
	p := progress{w: stderr, what: "making profiles"}
	items := make([]fleet.Item, o.profiles)
	for i := range items {
		it, err := f.Item(i)
		if err != nil {
			return nil, err
		}
		items[i] = it
		p.step(i+1, len(items))
	}
	return items, nil
}

// gunzipCost is the CPU time to decompress a body with klauspost/compress, in
// ms, mean over all bodies. Every processor is at it at the same time, as it
// is when the collector and its senders run: two that share a core, or a
// frequency, take longer together than alone.
func gunzipCost(items []fleet.Item) (float64, error) {
	workers := runtime.GOMAXPROCS(0)
	begin := selfCPU()
	var all errgroup.Group
	for w := range workers {
		all.Go(func() error {
			var z gzip.Reader
			var out bytes.Buffer
			for i := w; i < len(items); i += workers {
				out.Reset()
				if err := z.Reset(bytes.NewReader(items[i].Body)); err != nil {
					return err
				}
				if _, err := out.ReadFrom(&z); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := all.Wait()
	return (selfCPU() - begin).Seconds() * 1000 / float64(len(items)), err
}

// flameItems are the profiles of flameService: of twenty instances, one a
// minute each.
func flameItems(from time.Time) []fleet.Item {
	bodies := corpus.Load("cpu")
	bodies = slices.DeleteFunc(bodies, func(b corpus.Body) bool { return b.Program != flameService })
	items := make([]fleet.Item, flameProfiles)
	for i := range items {
		instance := i % 20
		start := from.Add(time.Duration(i/20)*time.Minute + time.Duration(instance)*3*time.Second)
		items[i] = fleet.Item{
			Service: flameService, Instance: fmt.Sprintf("host-%d:8080", instance), Process: fmt.Sprintf("boot-%d:1:1", instance), Kind: "cpu",
			Start: start, End: start.Add(5 * time.Second), Body: bodies[i%len(bodies)].Data,
		}
	}
	return items
}

// pprofMerge parses and merges profiles as `go tool pprof` would, and returns
// the total cpu ns and the wall time in ms.
func pprofMerge(items []fleet.Item) (total int64, millis float64, err error) {
	begin := time.Now()
	ps := make([]*profile.Profile, len(items))
	for i, it := range items {
		if ps[i], err = profile.ParseData(it.Body); err != nil {
			return 0, 0, err
		}
	}
	m, err := profile.Merge(ps)
	if err != nil {
		return 0, 0, err
	}
	millis = time.Since(begin).Seconds() * 1000
	for _, s := range m.Sample {
		total += s.Value[1]
	}
	return total, millis, nil
}

// load sends all items and records rate, latency and the collector's CPU.
func load(ctx context.Context, o options, c *proc.Collector, items []fleet.Item, res *result, stderr io.Writer) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: o.writers}}
	defer client.CloseIdleConnections()
	cpu, err := c.CPU()
	if err != nil {
		return err
	}
	var (
		next    atomic.Int64
		wg      sync.WaitGroup
		mu      sync.Mutex
		failed  error
		lat     = make([]time.Duration, len(items))
		p       = progress{w: stderr, what: "sending profiles"}
		started = time.Now()
	)
	for range o.writers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(items) || ctx.Err() != nil {
					return
				}
				begin := time.Now()
				err := post(ctx, client, c.URL, &items[i])
				lat[i] = time.Since(begin)
				mu.Lock()
				if err != nil && failed == nil {
					failed = err
					next.Store(int64(len(items)))
				}
				p.step(i+1, len(items))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	took := time.Since(started)
	if failed != nil {
		return failed
	}
	after, err := c.CPU()
	if err != nil {
		return err
	}
	slices.Sort(lat)
	res.PerSecond = float64(len(items)) / took.Seconds()
	res.P50Millis = lat[len(lat)/2].Seconds() * 1000
	res.P99Millis = lat[len(lat)*99/100].Seconds() * 1000
	res.CPUMillis = (after - cpu).Seconds() * 1000 / float64(len(items))
	res.CPURatio = res.CPUMillis / res.GunzipMillis
	return ctx.Err()
}

func post(ctx context.Context, client *http.Client, base string, it *fleet.Item) error {
	req, err := it.Request(ctx, base)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("POST profiles: %s: %s", resp.Status, answer)
	}
	return nil
}

// flameGraph asks for the flame graph of items 51 times and returns the median
// time in ms and the total. The answer must cover them all; it comes without
// Content-Encoding.
func flameGraph(ctx context.Context, base string, items []fleet.Item) (millis, total float64, err error) {
	q := url.Values{
		"query": {`{service="` + flameService + `"}`}, "type": {"cpu"}, "max_nodes": {"8192"},
		"from":  {items[0].Start.Add(-time.Minute).UTC().Format(time.RFC3339)},
		"until": {items[len(items)-1].Start.Add(time.Minute).UTC().Format(time.RFC3339)},
	}
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	defer client.CloseIdleConnections()
	times := make([]float64, 51)
	for i := range times {
		begin := time.Now()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/api/v1/flamegraph?"+q.Encode(), nil)
		if err != nil {
			return 0, 0, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0, 0, err
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return 0, 0, err
		}
		times[i] = time.Since(begin).Seconds() * 1000
		var a struct {
			Total    float64
			Coverage struct{ Profiles int64 }
		}
		if err := json.Unmarshal(body, &a); err != nil || resp.StatusCode != http.StatusOK {
			return 0, 0, fmt.Errorf("flame graph: %s: %.200s", resp.Status, body)
		}
		if a.Coverage.Profiles != int64(len(items)) {
			return 0, 0, fmt.Errorf("flame graph covers %d profiles, %d were acknowledged", a.Coverage.Profiles, len(items))
		}
		total = a.Total
	}
	slices.Sort(times)
	return times[len(times)/2], total, nil
}

// blockBytes adds up the files of finished blocks in a data directory.
func blockBytes(data string) (float64, error) {
	sum := 0.0
	err := filepath.Walk(filepath.Join(data, "store", "blocks"), func(_ string, fi os.FileInfo, err error) error {
		if err == nil && !fi.IsDir() {
			sum += float64(fi.Size())
		}
		return err
	})
	return sum, err
}

// selfCPU is the CPU time this process has used.
func selfCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
