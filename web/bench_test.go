package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	kgzip "github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/web"
)

// The load generator runs as a process of its own, so that the CPU it takes is
// not the collector's: the test binary started again with these set.
const (
	loadURL      = "INQUEST_BENCH_URL"
	loadProfiles = "INQUEST_BENCH_PROFILES"
	loadWriters  = "INQUEST_BENCH_WRITERS"
	loadEncoding = "INQUEST_BENCH_ENCODING" // "" or zstd
)

// loadResult is what the load generator says at its end.
type loadResult struct {
	Seconds float64
	Bytes   int64
	Errors  int64
	Error   string
}

// loadBodies are the bodies of the benchmark: CPU and heap profiles of real
// programs, in equal parts.
func loadBodies() []corpus.Body {
	cpu, heap := corpus.Load("cpu"), corpus.Load("heap")
	n := min(len(cpu), len(heap))
	out := make([]corpus.Body, 0, 2*n)
	for i := range n {
		out = append(out, cpu[i], heap[i])
	}
	return out
}

// loadClient is the load generator; it reports whether this process is one.
func loadClient() bool {
	url := os.Getenv(loadURL)
	if url == "" {
		return false
	}
	profiles, _ := strconv.Atoi(os.Getenv(loadProfiles))
	writers, _ := strconv.Atoi(os.Getenv(loadWriters))
	encoding := os.Getenv(loadEncoding)
	bodies := loadBodies()
	if encoding == "zstd" {
		recompress(bodies)
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: writers}}
	var next, failed, sent atomic.Int64
	var firstErr atomic.Value
	began := time.Now()
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(profiles) {
					return
				}
				b := bodies[i%int64(len(bodies))]
				if err := pushOne(client, url, encoding, began, i, b); err != nil {
					failed.Add(1)
					firstErr.CompareAndSwap(nil, err.Error())
				}
				sent.Add(int64(len(b.Data)))
			}
		})
	}
	wg.Wait()
	r := loadResult{Seconds: time.Since(began).Seconds(), Bytes: sent.Load(), Errors: failed.Load()}
	r.Error, _ = firstErr.Load().(string)
	_ = json.NewEncoder(os.Stdout).Encode(r)
	return true
}

// recompress makes zstd of the bodies, as the agent sends them.
func recompress(bodies []corpus.Body) {
	zw, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		panic(err)
	}
	defer func() { _ = zw.Close() }()
	for i := range bodies {
		zr, err := kgzip.NewReader(bytes.NewReader(bodies[i].Data))
		if err != nil {
			panic(err)
		}
		raw, err := io.ReadAll(zr)
		if err != nil {
			panic(err)
		}
		bodies[i].Data = zw.EncodeAll(raw, nil)
	}
}

// pushOne sends profile i, which is of one of twenty instances of its program,
// ten seconds after the one before.
func pushOne(client *http.Client, url, encoding string, began time.Time, i int64, b corpus.Body) error {
	round := i / 400
	start := began.Add(time.Duration(round)*10*time.Second - 2*time.Hour)
	q := values("service", b.Program, "instance", fmt.Sprintf("10.0.0.%d:8080", i%20), "kind", b.Kind, "release", "v1",
		"temporality", "delta", "interval", "10", "start", strconv.FormatInt(start.Unix(), 10), "end", strconv.FormatInt(start.Unix()+10, 10))
	r, err := http.NewRequest("POST", url+"/api/v1/profiles?"+q, bytes.NewReader(b.Data))
	if err != nil {
		return err
	}
	r.Header.Set("Idempotency-Key", fmt.Sprintf("%016x%016x", began.UnixNano(), i))
	if encoding != "" {
		r.Header.Set("Content-Encoding", encoding)
	}
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status + ": " + string(answer))
	}
	return err
}

// cpuTime is the CPU this process has taken.
func cpuTime() time.Duration {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// gunzipTime is the CPU klauspost takes to gunzip one body, on average over n.
func gunzipTime(b *testing.B, bodies []corpus.Body, n int) time.Duration {
	b.Helper()
	var zr kgzip.Reader
	var src bytes.Reader
	buf := make([]byte, 0, 1<<20)
	out := bytes.NewBuffer(buf)
	began := cpuTime()
	for i := range n {
		src.Reset(bodies[i%len(bodies)].Data)
		if err := zr.Reset(&src); err != nil {
			b.Fatal(err)
		}
		out.Reset()
		if _, err := out.ReadFrom(&zr); err != nil {
			b.Fatal(err)
		}
	}
	return (cpuTime() - began) / time.Duration(n)
}

// BenchmarkIngestHTTP sends b.N profiles over loopback HTTP by 64 writers, each
// of which waits for its profile to be durable. It reports the CPU the
// collector takes per profile and how that compares to klauspost's gunzip of
// the same bodies in the same run. Use -benchtime=20000x.
func BenchmarkIngestHTTP(b *testing.B) {
	for _, encoding := range []string{"gzip", "zstd"} {
		b.Run(encoding, func(b *testing.B) { benchmarkIngest(b, encoding) })
	}
}

func benchmarkIngest(b *testing.B, encoding string) {
	const writers = 64
	w := newWorld(b, web.Options{})
	bodies := loadBodies()
	gunzip := gunzipTime(b, bodies, max(400, min(b.N, 4000)))
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), loadURL+"="+w.url, loadProfiles+"="+strconv.Itoa(b.N), loadWriters+"="+strconv.Itoa(writers))
	if encoding == "zstd" {
		cmd.Env = append(cmd.Env, loadEncoding+"=zstd")
	}
	cmd.Stderr = os.Stderr
	before := cpuTime()
	b.ResetTimer()
	out, err := cmd.Output()
	b.StopTimer()
	used := cpuTime() - before
	if err != nil {
		b.Fatal(err)
	}
	var r loadResult
	if err := json.Unmarshal(out, &r); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	if r.Errors > 0 {
		b.Fatalf("%d of %d profiles were refused, the first: %s", r.Errors, b.N, r.Error)
	}
	perProfile := used / time.Duration(b.N)
	b.ReportMetric(float64(perProfile.Microseconds()), "cpu-µs/profile")
	b.ReportMetric(float64(gunzip.Microseconds()), "gunzip-µs/profile")
	b.ReportMetric(float64(perProfile)/float64(gunzip), "x-gunzip")
	b.ReportMetric(float64(b.N)/r.Seconds, "profiles/s")
	b.ReportMetric(float64(r.Bytes)/float64(b.N), "B/profile")
	b.ReportMetric(0, "ns/op")
}
