package e2e_test

import (
	"context"
	be "encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/internal/fleet"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/store"
)

// wideStore fills a data directory with what makes queries take memory: many
// services that have no function in common, one with very many instances, and
// per-sample labels with very many values.
func wideStore(t *testing.T, data string, from time.Time) {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Dir: filepath.Join(data, "store"), CommitDelay: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	bodies := map[string]corpus.Body{}
	for _, b := range corpus.Load("cpu", "heap") {
		bodies[b.Kind+b.Program] = b
	}
	var seq atomic.Uint64
	put := func(p *profile.Profile, kind inquest.Kind, at time.Duration, labels map[string]string) {
		r := &store.Record{Profile: p, BodyHash: 1, Meta: inquest.ProfileMeta{
			Kind: kind, Start: from.Add(at), End: from.Add(at + 10*time.Second), Hold: time.Minute, Labels: inquest.NewLabels(labels),
		}}
		n := seq.Add(1)
		be.BigEndian.PutUint64(r.Key[:8], n*0x9e3779b97f4a7c15) // no number of a sender
		be.BigEndian.PutUint64(r.Key[8:], n)
		if _, err := s.Append(context.Background(), r); err != nil {
			t.Error(err)
		}
	}
	work := make(chan func(d *profile.Decoder))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			d := profile.NewDecoder(profile.Limits{})
			for f := range work {
				f(d)
			}
		})
	}
	programs := []string{"etcd", "prometheus", "caddy", "gocompile"}
	for service := range 120 {
		for i, kind := range []string{"cpu", "heap"} {
			work <- func(d *profile.Decoder) {
				p := decode(t, d, bodies[kind+programs[service%len(programs)]].Data)
				ownNames(p, service)
				for n := range 6 {
					put(p, inquest.Kind(kind), time.Duration(n)*time.Minute+time.Duration(i), map[string]string{
						"service": fmt.Sprint("service-", service), "instance": fmt.Sprint("host-", n), "build": fmt.Sprint("b", service),
					})
				}
			}
		}
	}
	for n := range 200 {
		work <- func(d *profile.Decoder) {
			p := decode(t, d, bodies["cpuetcd"].Data)
			p.Truncate(8)
			for i := range 100 {
				traced(p, n*100+i)
				put(p, inquest.KindCPU, time.Duration(n)*time.Second, map[string]string{
					"service": "wide", "instance": fmt.Sprintf("10.%d.%d.1:8080", n, i), "pod": fmt.Sprintf("pod-%d-%d-%s", n, i, strings.Repeat("x", 60)),
				})
			}
		}
	}
	close(work)
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func decode(t *testing.T, d *profile.Decoder, body []byte) *profile.Profile {
	p, err := d.Decode(body)
	if err != nil {
		t.Error(err)
	}
	return p
}

// ownNames gives the functions of a profile names that no other service has.
func ownNames(p *profile.Profile, service int) {
	done := map[uint32]bool{}
	for i := range p.Functions {
		if n := p.Functions[i].Name; !done[n] {
			done[n] = true
			p.Strings[n] = fmt.Appendf(nil, "example.com/service%d/%s", service, p.Strings[n])
		}
	}
}

// traced gives every sample of a profile a label with a value of its own.
func traced(p *profile.Profile, n int) {
	p.Labels, p.LabelEnds = p.Labels[:0], p.LabelEnds[:0]
	key := uint32(len(p.Strings))
	p.Strings = append(p.Strings[:key:key], []byte("trace"))
	for i := range p.NumSamples() {
		p.Strings = append(p.Strings, fmt.Appendf(nil, "%016x-%d-%d", uint64(n)*0x9e3779b97f4a7c15, n, i))
		p.Labels = append(p.Labels, profile.Label{Key: key, Str: uint32(len(p.Strings) - 1)})
		p.LabelEnds = append(p.LabelEnds, uint32(len(p.Labels)))
	}
}

// TestMemoryBudget has a collector with 256 MiB answer what takes most memory,
// many times at once and while profiles come in. It may make callers wait or
// refuse them, saying so, but it must not take more than it was given. With
// -memory 8GiB the same takes more than 500 MiB.
func TestMemoryBudget(t *testing.T) {
	const memory, most = "256MiB", 256 << 20
	data, from := t.TempDir(), time.Now().Add(-6*time.Hour).Truncate(time.Second)
	wideStore(t, data, from)
	c := startCollector(t, freeAddr(t), data, "-memory", memory, "-query-timeout", "20s")

	all := url.Values{"from": {from.Add(-time.Hour).Format(time.RFC3339)}, "until": {"now"}}
	query := func(path string, more ...string) string {
		q := url.Values{}
		for k, v := range all {
			q[k] = v
		}
		for i := 0; i < len(more); i += 2 {
			q.Set(more[i], more[i+1])
		}
		return c.URL + "/api/v1/" + path + "?" + q.Encode()
	}
	queries := []string{
		query("flamegraph", "type", "cpu", "max_nodes", "1000000"),
		query("flamegraph", "type", "inuse_space", "max_nodes", "1000000"),
		query("top", "type", "alloc_space", "limit", "100000"),
		query("series", "type", "cpu", "by", "instance,pod", "step", "60s"),
		query("profile", "type", "inuse_space"),
		query("profile", "type", "cpu"),
		query("flamegraph", "type", "cpu", "query", `{trace=~".*7.*"}`),
		query("labels/trace/values", "limit", "10000"),
		query("labels/pod/values", "limit", "10000"),
		query("profiles", "type", "cpu", "limit", "10000"),
		query("services"),
		query("flamegraph", "type", "cpu", "query", `{service="service-7"}`),
		query("series", "type", "cpu", "query", `{service=~"service-1."}`),
	}
	var statuses [1000]atomic.Int64
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for worker := range 24 {
		wg.Go(func() {
			for i := worker; ctx.Err() == nil; i++ {
				if status := status(ctx, t, queries[i%len(queries)]); status != 0 {
					statuses[status].Add(1)
				}
			}
		})
	}
	fl, err := fleet.New(fleet.Options{Seed: 1, From: from.Add(5 * time.Hour), Services: 40})
	if err != nil {
		t.Fatal(err)
	}
	items := make([]fleet.Item, 400)
	for i := range items {
		if items[i], err = fl.Item(i); err != nil {
			t.Fatal(err)
		}
	}
	var pushed atomic.Int64
	for worker := range 8 {
		wg.Go(func() {
			for i := worker; ctx.Err() == nil; i += 8 {
				switch s, answer := post(ctx, c.URL, fmt.Sprintf("%032x", i), &items[i%len(items)]); s {
				case http.StatusOK:
					pushed.Add(1)
				case 0, http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusConflict:
				default:
					t.Errorf("push: status %d: %s", s, answer)
				}
			}
		})
	}
	wg.Wait()

	for s := range statuses {
		if n := statuses[s].Load(); n > 0 {
			t.Logf("%d answers of status %d", n, s)
			switch s {
			case http.StatusOK, http.StatusRequestEntityTooLarge, http.StatusTooManyRequests, http.StatusServiceUnavailable:
			default:
				t.Errorf("%d answers of status %d", n, s)
			}
		}
	}
	if statuses[http.StatusOK].Load() == 0 || pushed.Load() == 0 {
		t.Errorf("%d queries were answered, %d profiles taken", statuses[http.StatusOK].Load(), pushed.Load())
	}
	// Alone, a query has all the memory for queries.
	for _, q := range queries {
		began := time.Now()
		s := status(t.Context(), t, q)
		t.Logf("alone: %d in %v: %s", s, time.Since(began).Round(time.Millisecond), q[len(c.URL):])
		if s != http.StatusOK && s != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: status %d", q, s)
		}
	}
	peak, err := c.PeakRSS()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("took up to %d MiB; %d profiles were taken meanwhile", peak>>20, pushed.Load())
	if peak > most {
		t.Errorf("the collector took %d MiB, with -memory %s", peak>>20, memory)
	}
}

// status asks and reads the answer to its end; 0 when the test has ended.
func status(ctx context.Context, t *testing.T, u string) int {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		t.Error(err)
		return 0
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if ctx.Err() == nil {
			t.Error(err)
		}
		return 0
	}
	defer resp.Body.Close()
	body := io.Reader(resp.Body)
	if resp.StatusCode >= 400 {
		text, err := io.ReadAll(io.LimitReader(resp.Body, 1000))
		if err == nil && resp.StatusCode >= 500 && resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s: %s", u, text)
		}
		return resp.StatusCode
	}
	if _, err := io.Copy(io.Discard, body); err != nil && ctx.Err() == nil {
		t.Errorf("%s: %v", u, err)
	}
	return resp.StatusCode
}
