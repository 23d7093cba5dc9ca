package web_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/query"
	"github.com/goinquest/inquest/store"
	"github.com/goinquest/inquest/web"
)

func TestPush(t *testing.T) {
	w := newWorld(t, web.Options{})
	at := recent()
	const key = "000102030405060708090a0b0c0d0e0f"
	params := values("service", "shop", "instance", "h:80", "release", "v1", "process", "p1", "type", "cpu",
		"start", at.Format(time.RFC3339), "end", at.Add(10*time.Second).Format(time.RFC3339), "interval", "60s", "label.zone", "a", "label.k8s.io/app", "x")
	ack := w.push(params, cpuBody(at), "Idempotency-Key: "+key)
	if ack.Samples != 2 || ack.Duplicate || !strings.HasPrefix(ack.ID, key) ||
		ack.Series != `{build="abcdef0123456789", instance="h:80", k8s.io/app="x", release="v1", service="shop", zone="a"}` {
		t.Errorf("ack = %+v", ack)
	}
	if again := w.push(params, cpuBody(at), "Idempotency-Key: "+key); !again.Duplicate || again.ID != ack.ID {
		t.Errorf("retry: %+v", again)
	}
	wantError(t, w.do("POST", "/api/v1/profiles?"+params, bytes.NewReader(cpuBody(at.Add(1))), "Idempotency-Key: "+key), 409, "conflict", "")

	var list struct{ Values []query.ProfileInfo }
	w.getJSON("/api/v1/profiles?"+values("type", "cpu", "query", `{zone="a"}`), &list)
	if len(list.Values) != 1 {
		t.Fatalf("profiles = %+v", list)
	}
	got := list.Values[0]
	if got.ID != ack.ID || got.Process != "p1" || !got.Start.Equal(at) || !got.End.Equal(at.Add(10*time.Second)) || got.Labels["release"] != "v1" {
		t.Errorf("profile = %+v", got)
	}
	// A sender that does not name its instance is known by its address.
	if ack := w.push("service=shop&kind=cpu", cpuBody(at)); !strings.Contains(ack.Series, `instance="127.0.0.1"`) {
		t.Errorf("series = %s", ack.Series)
	}
}

func TestPushClock(t *testing.T) {
	w := newWorld(t, web.Options{})
	ahead := time.Now().Add(2 * time.Hour)
	ack := w.push("service=shop", cpuBody(ahead.Add(-time.Minute)), inquest.HeaderSentAt+": "+ahead.UTC().Format(time.RFC3339Nano))
	d, err := time.ParseDuration(ack.ClockShift)
	if err != nil || (d+2*time.Hour).Abs() > 10*time.Second {
		t.Errorf("clock_shift = %q, want about -2h", ack.ClockShift)
	}
	wantError(t, w.do("POST", "/api/v1/profiles?service=shop", bytes.NewReader(cpuBody(ahead))), 400, "invalid", "future")
	wantError(t, w.do("POST", "/api/v1/profiles?service=shop", bytes.NewReader(cpuBody(ahead)), inquest.HeaderSentAt+": yesterday"), 400, "invalid", "RFC 3339")
	wantError(t, w.do("POST", "/api/v1/profiles?service=shop", bytes.NewReader(cpuBody(recent().Add(-400*24*time.Hour)))), 400, "invalid", "too old")
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// peakHeap runs f and returns how many bytes the heap grew by at its highest.
func peakHeap(f func()) int64 {
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	stop := make(chan struct{})
	peak := make(chan uint64)
	go func() {
		var top uint64
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			top = max(top, m.HeapInuse)
			select {
			case <-stop:
				peak <- top
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	f()
	close(stop)
	return int64(<-peak) - int64(before.HeapInuse)
}

func TestPushHostileBodies(t *testing.T) {
	w := newWorld(t, web.Options{})
	good := cpuBody(recent())
	flipped := func(i int) []byte {
		b := bytes.Clone(good)
		b[i] ^= 0x10
		return b
	}
	bomb := func(zw io.WriteCloser, out *bytes.Buffer) []byte {
		_, _ = io.CopyN(zw, zeros{}, 80<<20)
		_ = zw.Close()
		return out.Bytes()
	}
	var gz, zs bytes.Buffer
	gw, _ := gzip.NewWriterLevel(&gz, gzip.BestSpeed)
	gzipBomb := bomb(gw, &gz)
	zw, _ := zstd.NewWriter(&zs)
	zstdBomb := bomb(zw, &zs)
	t.Logf("bombs of 80 MiB: gzip %d bytes, zstd %d bytes", len(gzipBomb), len(zstdBomb))
	const mib = 1 << 20
	for _, tt := range []struct {
		name    string
		body    io.Reader
		headers []string
		status  int
		kind    string
		message string
		heap    int64 // most the heap may grow by
	}{
		{"empty", nil, nil, 400, "invalid", "empty", 8 * mib},
		{"HTML", strings.NewReader("<!doctype html><p>hello"), nil, 400, "invalid", "", 8 * mib},
		{"JSON", strings.NewReader(`{"a":1}`), nil, 400, "invalid", "", 8 * mib},
		{"form", strings.NewReader("--x"), []string{"Content-Type: multipart/form-data; boundary=x"}, 400, "invalid", "--data-binary", 8 * mib},
		{"truncated", bytes.NewReader(good[:len(good)/2]), nil, 400, "invalid", "", 8 * mib},
		{"flipped in the middle", bytes.NewReader(flipped(len(good) / 2)), nil, 400, "invalid", "", 8 * mib},
		{"flipped in the checksum", bytes.NewReader(flipped(len(good) - 6)), nil, 400, "invalid", "", 8 * mib},
		{"100 MB announced", &sized{io.LimitReader(zeros{}, 100e6), 100e6}, nil, 413, "too_large", "33554432", 8 * mib},
		{"100 MB not announced", io.LimitReader(zeros{}, 100e6), nil, 413, "too_large", "33554432", 100 * mib},
		{"unknown encoding", bytes.NewReader(good), []string{"Content-Encoding: br"}, 400, "invalid", "gzip, zstd", 8 * mib},
		{"gzip bomb", bytes.NewReader(gzipBomb), nil, 413, "too_large", "", 256 * mib},
		{"gzip encoding bomb", bytes.NewReader(gzipBomb), []string{"Content-Encoding: gzip"}, 413, "too_large", "", 256 * mib},
		{"zstd bomb", bytes.NewReader(zstdBomb), []string{"Content-Encoding: zstd"}, 413, "too_large", "", 256 * mib},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var a answer
			grown := peakHeap(func() { a = w.upload("/api/v1/profiles?service=shop", tt.body, tt.headers) })
			wantError(t, a, tt.status, tt.kind, tt.message)
			if grown > tt.heap {
				t.Errorf("the heap grew by %d MiB, want at most %d", grown/mib, tt.heap/mib)
			}
		})
	}
	w.push("service=shop", good)
}

// sized is a body with a length that is announced.
type sized struct {
	io.Reader
	n int64
}

// upload posts a body, which the server may refuse before it was sent whole.
func (w *world) upload(path string, body io.Reader, headers []string) answer {
	w.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	r, err := http.NewRequest("POST", w.url+path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	if s, ok := body.(*sized); ok {
		r.ContentLength = s.n
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.Write(conn) }) // fails when the server has heard enough
	defer wg.Wait()
	resp, err := http.ReadResponse(bufio.NewReader(conn), r)
	if err != nil {
		w.t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	_ = conn.Close()
	return answer{resp, b}
}

// A sender that announces more than it sends, or that sends slowly, holds
// nothing up for long.
func TestPushSlowAndShort(t *testing.T) {
	w := newWorld(t, web.Options{BodyTimeout: 300 * time.Millisecond})
	raw := func(rest string) string {
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		fmt.Fprintf(conn, "POST /api/v1/profiles?service=shop HTTP/1.1\r\nHost: localhost\r\n%s", rest)
		if strings.Contains(rest, "half") {
			_ = conn.(*net.TCPConn).CloseWrite()
		}
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		b, _ := io.ReadAll(conn)
		return string(b)
	}
	if got := raw("Content-Length: 1000\r\n\r\nhalf"); !strings.Contains(got, "400 Bad Request") || !strings.Contains(got, "ended early, after 4 bytes") {
		t.Errorf("short body: %s", got)
	}
	if got := raw("Content-Length: 1000\r\n\r\nslow"); !strings.Contains(got, "400 Bad Request") || !strings.Contains(got, "did not arrive within 300ms") {
		t.Errorf("slow body: %s", got)
	}
	if got := raw("Transfer-Encoding: chunked\r\n\r\nzz\r\n"); !strings.Contains(got, "400 Bad Request") {
		t.Errorf("broken chunk: %s", got)
	}
}

// Bodies that are received at once share a bounded memory: what does not fit
// is told to come again.
func TestPushMemoryIsShared(t *testing.T) {
	w := newWorld(t, web.Options{MaxBodyBytes: 1 << 20, BodyMemoryBytes: 1 << 20})
	var pipes []*io.PipeWriter
	var wg sync.WaitGroup
	busy := make(chan string, 16)
	for range 8 {
		pr, pw := io.Pipe()
		pipes = append(pipes, pw)
		wg.Go(func() {
			resp, err := w.client.Post(w.url+"/api/v1/profiles?service=shop", "", pr)
			if err != nil {
				return
			}
			defer func() { _ = resp.Body.Close() }()
			if resp.StatusCode == http.StatusTooManyRequests {
				busy <- resp.Header.Get("Retry-After")
			}
		})
	}
	for _, pw := range pipes {
		go func() { _, _ = pw.Write(make([]byte, 400<<10)) }()
	}
	select {
	case after := <-busy:
		if after != "1" {
			t.Errorf("Retry-After = %q", after)
		}
	case <-time.After(10 * time.Second):
		t.Error("eight bodies of 400 KiB were taken into 1 MiB")
	}
	for _, pw := range pipes {
		_ = pw.CloseWithError(io.ErrUnexpectedEOF)
	}
	wg.Wait()
	w.push("service=shop", cpuBody(recent()))
}

// A full disk is told as such, and what is stored can be read.
func TestPushDiskFull(t *testing.T) {
	w := newWorldOn(t, store.Options{MinFreeBytes: 1 << 60}, web.Options{})
	wantError(t, w.do("POST", "/api/v1/profiles?service=shop", bytes.NewReader(cpuBody(recent()))), 507, "disk_full", "")
	var services struct{ Values []query.ServiceInfo }
	w.getJSON("/api/v1/services", &services)
	if services.Values == nil || len(services.Values) != 0 {
		t.Errorf("services = %v", services)
	}
}

// Times are taken as RFC 3339, unix seconds or relative to now.
func TestTimeParameters(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	w := newWorld(t, web.Options{Now: func() time.Time { return now }})
	type window struct{ From, Until time.Time }
	for _, tt := range []struct {
		from, until string
		want        window
	}{
		{"", "", window{now.Add(-time.Hour), now}},
		{"-2d", "now", window{now.Add(-48 * time.Hour), now}},
		{"-1d12h", "-30m", window{now.Add(-36 * time.Hour), now.Add(-30 * time.Minute)}},
		{"now-90s", "now+1m", window{now.Add(-90 * time.Second), now.Add(time.Minute)}},
		{"-1w", "", window{now.Add(-7 * 24 * time.Hour), now}},
		{"2026-11-21T10:00:00+01:00", "2026-11-21T10:00:00.5Z", window{now.Add(-3 * time.Hour), now.Add(-2*time.Hour + time.Second/2)}},
		{fmt.Sprint(now.Unix() - 60), fmt.Sprint(now.Unix()) + ".000000001", window{now.Add(-time.Minute), now.Add(1)}},
		{"", "2026-11-20T00:00:00Z", window{now.Add(-37 * time.Hour), now.Add(-36 * time.Hour)}},
	} {
		var got struct{ Coverage window }
		w.getJSON("/api/v1/top?"+values("type", "cpu", "from", tt.from, "until", tt.until), &got)
		if diff := cmp.Diff(tt.want, got.Coverage); diff != "" {
			t.Errorf("from=%s until=%s (-want +got):\n%s", tt.from, tt.until, diff)
		}
	}
	for _, bad := range []string{"yesterday", "-1x", "--1h", "-", "now-", "1795262400000", "1e9", "2026-11-21", "-1h-1h", "-5"} {
		wantError(t, w.get("/api/v1/top?"+values("type", "cpu", "from", bad)), 400, "invalid", "want a time")
	}
	wantError(t, w.get("/api/v1/top?type=cpu&from=now&until=-1h"), 400, "invalid", "window is empty")
}
