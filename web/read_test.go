package web_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pprof "github.com/google/pprof/profile"

	"github.com/goinquest/inquest/internal/proc"
	"github.com/goinquest/inquest/query"
	"github.com/goinquest/inquest/web"
)

// filled is a collector with two CPU profiles of shop and one of cart.
func filled(t *testing.T, o web.Options) (w *world, ids []string) {
	w = newWorld(t, o)
	at := recent()
	auth := "Authorization: Bearer secret-ingest"
	for _, p := range []string{"service=shop&instance=h1:80", "service=shop&instance=h2:80", "service=cart&instance=h1:81"} {
		ids = append(ids, w.push(p+"&release=v1&interval=60", cpuBody(at), auth).ID)
	}
	return w, ids
}

func TestQueries(t *testing.T) {
	w, _ := filled(t, web.Options{})
	shop := values("query", `{service="shop"}`, "type", "cpu")

	var flame struct {
		Names []string
		Nodes struct {
			Name      []int
			Parent    []int
			Self, Cum []int64
		}
		Total    int64
		Unit     string
		Coverage query.Coverage
	}
	w.getJSON("/api/v1/flamegraph?"+shop, &flame)
	if flame.Total != 80e6 || flame.Unit != "nanoseconds" || flame.Coverage.Profiles != 2 || flame.Coverage.Processes != 2 || len(flame.Nodes.Name) != 3 {
		t.Errorf("flame graph = %+v", flame)
	}
	if flame.Nodes.Parent[0] != -1 || flame.Nodes.Cum[0] != 80e6 {
		t.Errorf("root = %+v", flame.Nodes)
	}
	w.getJSON("/api/v1/flamegraph?max_nodes=2&"+shop, &flame)
	if flame.Total != 80e6 || flame.Coverage.Pruned.Nodes == 0 {
		t.Errorf("pruned flame graph = %+v", flame)
	}

	var top query.TopAnswer
	w.getJSON("/api/v1/top?limit=1&"+shop, &top)
	want := []query.TopRow{{Name: "main.work", Self: 60e6, Cum: 60e6, File: "main.go", Line: 10}}
	if diff := cmp.Diff(want, top.Rows); diff != "" || top.Total != 80e6 || top.Count != 2 {
		t.Errorf("top: total %v of %d (-want +got):\n%s", top.Total, top.Count, diff)
	}
	w.getJSON("/api/v1/top?by=service&type=cpu", &top)
	if len(top.Rows) != 2 || top.Rows[0].Name != "shop" || top.Rows[0].Self != 80e6 {
		t.Errorf("top by service = %+v", top.Rows)
	}
	var series query.SeriesAnswer
	w.getJSON("/api/v1/series?by=service&type=cpu", &series)
	if len(series.Series) != 2 || series.Step <= 0 {
		t.Errorf("series = %+v", series)
	}
	w.getJSON("/api/v1/series?by=service,release&step=5m&type=cpu", &series)
	if series.Step != 300 || series.Series[0].Labels["release"] != "v1" {
		t.Errorf("series = %+v", series)
	}
	wantError(t, w.get("/api/v1/series?step=1ms&type=cpu"), 400, "invalid", "at least 1s")
	wantError(t, w.get("/api/v1/series?step=1s&from=-30d&type=cpu"), 400, "invalid", "11000")
	wantError(t, w.get("/api/v1/top?limit=0&type=cpu"), 400, "invalid", "from 1 to")
	wantError(t, w.get("/api/v1/top?rate=maybe&type=cpu"), 400, "invalid", "true or false")
	wantError(t, w.get("/api/v1/top?query=%7Bservice&type=cpu"), 400, "invalid", "")
	wantError(t, w.get("/api/v1/top?agg=median&type=cpu"), 400, "invalid", "")
}

func TestCatalog(t *testing.T) {
	w, _ := filled(t, web.Options{})
	for path, want := range map[string][]string{
		"/api/v1/labels":                {"build", "instance", "release", "service"},
		"/api/v1/labels/service/values": {"cart", "shop"},
		"/api/v1/labels/instance/values?query={service=%22shop%22}&type=cpu": {"h1:80", "h2:80"},
		"/api/v1/labels/nothing/values":                                      {},
	} {
		var got struct{ Values []string }
		w.getJSON(path, &got)
		if got.Values == nil || !slices.Equal(got.Values, want) {
			t.Errorf("GET %s = %q, want %q", path, got.Values, want)
		}
	}
	var services struct{ Values []query.ServiceInfo }
	w.getJSON("/api/v1/services", &services)
	var releases struct{ Values []string }
	w.getJSON("/api/v1/releases?service="+services.Values[0].Name, &releases)
	if len(releases.Values) == 0 || !slices.Equal(releases.Values, services.Values[0].Releases) {
		t.Errorf("releases %q, services has %q", releases.Values, services.Values[0].Releases)
	}
	if len(services.Values) != 2 || services.Values[1].Name != "shop" || services.Values[1].Instances != 2 {
		t.Errorf("services = %+v", services)
	}
	var types struct {
		Values []struct{ Name, Kind, Unit, Temporality string }
	}
	w.getJSON("/api/v1/types", &types)
	if len(types.Values) != 2 || types.Values[0].Temporality != "delta" {
		t.Errorf("types = %+v", types)
	}
}

func TestProfileDownload(t *testing.T) {
	w, ids := filled(t, web.Options{})
	a := w.get("/api/v1/profile?type=cpu")
	if a.StatusCode != 200 || a.Header.Get("Content-Type") != "application/octet-stream" || a.Header.Get("Content-Disposition") != "attachment; filename=cpu.pb.gz" {
		t.Fatalf("%s %v", a.Status, a.Header)
	}
	if got := total(t, a.body); got != 120e6 {
		t.Errorf("merged total = %d, want 120e6", got)
	}
	a = w.get("/api/v1/profile?id=" + ids[0])
	if got := total(t, a.body); got != 40e6 {
		t.Errorf("total of one = %d, want 40e6", got)
	}
	wantError(t, w.get("/api/v1/profile?id=x&type=cpu"), 400, "invalid", "cannot stand beside")
	a = w.get("/api/v1/profile?id=" + strings.Repeat("0", 32) + "-abc")
	wantError(t, a, 404, "not_found", "")
	if a.Header.Get("Content-Disposition") != "" {
		t.Error("an error is a file to download")
	}
	wantError(t, w.get("/api/v1/profile?id=../../etc/passwd"), 400, "invalid", "")
}

// total is the sum of the cpu column of a pprof.
func total(t *testing.T, body []byte) int64 {
	t.Helper()
	p, err := pprof.ParseData(body)
	if err != nil {
		t.Fatalf("%v: %.200s", err, body)
	}
	i := slices.IndexFunc(p.SampleType, func(s *pprof.ValueType) bool { return s.Type == "cpu" })
	sum := int64(0)
	for _, s := range p.Sample {
		sum += s.Value[i]
	}
	return sum
}

// goTool finds the go command.
func goTool(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("go")
	if err != nil {
		proc.Missing(t, "needs the go command")
	}
	return path
}

func TestGoToolPprof(t *testing.T) {
	goCmd := goTool(t)
	w, _ := filled(t, web.Options{Tokens: tokens()})
	host := strings.TrimPrefix(w.url, "http://")
	run := func(wantTotal int64, args ...string) {
		t.Helper()
		out := filepath.Join(t.TempDir(), "out.pb.gz")
		cmd := exec.Command(goCmd, append([]string{"tool", "pprof", "-proto", "-symbolize=none", "-output=" + out}, args...)...)
		cmd.Env = append(os.Environ(), "PPROF_TMPDIR="+t.TempDir())
		if b, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go tool pprof %q: %v\n%s", args, err, b)
		}
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		if got := total(t, b); got != wantTotal {
			t.Errorf("go tool pprof %q: total %d, want %d", args, got, wantTotal)
		}
	}
	base := "http://x:secret-read@" + host + "/api/v1/profile?type=cpu"
	run(120e6, base)
	run(80e6, base+`&query={service="shop"}`)
	run(120e6, "-seconds=1", base)
	run(40e6, base+`&query={instance="h2:80"}&from=-30m&until=now`)
}

// go tool pprof's own pages work on what is served.
func TestGoToolPprofHTTP(t *testing.T) {
	goCmd := goTool(t)
	w, _ := filled(t, web.Options{})
	ln, err := net.Listen("tcp", "127.0.0.1:0") // pprof does not say which port it was given
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	cmd := exec.Command(goCmd, "tool", "pprof", "-http="+addr, "-no_browser", w.url+`/api/v1/profile?query={service="shop"}&type=cpu`)
	cmd.Env = append(os.Environ(), "PPROF_TMPDIR="+t.TempDir())
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	const prefix = "Serving web UI on "
	url := ""
	var seen strings.Builder
	for sc := bufio.NewScanner(stderr); url == "" && sc.Scan(); {
		seen.WriteString(sc.Text() + "\n")
		if rest, ok := strings.CutPrefix(sc.Text(), prefix); ok {
			url = rest
		}
	}
	go func() { _, _ = io.Copy(io.Discard, stderr) }()
	if url == "" {
		t.Fatalf("go tool pprof -http did not start:\n%s", seen.String())
	}
	client := http.Client{Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	resp, err := client.Get(url + "/top")
	for i := 0; err != nil && i < 100; i++ { // it says so a little before it listens
		time.Sleep(50 * time.Millisecond)
		resp, err = client.Get(url + "/top")
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || !bytes.Contains(b, []byte("main.work")) {
		t.Errorf("%s: %s, %v; no main.work in %d bytes", url, resp.Status, err, len(b))
	}
}
