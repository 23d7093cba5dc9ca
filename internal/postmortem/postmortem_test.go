package postmortem_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
	"github.com/goinquest/inquest/ingest"
	"github.com/goinquest/inquest/internal/postmortem"
	"github.com/goinquest/inquest/internal/proc"
	"github.com/goinquest/inquest/internal/remote"
	"github.com/goinquest/inquest/query"
	"github.com/goinquest/inquest/store"
	"github.com/goinquest/inquest/web"
)

// collector is a real one, whose answers can be cut off.
type collector struct {
	client *remote.Client
	fleet  *ingest.Fleet
	cut    atomic.Int64 // answers from now on until one is cut off; negative: none
}

func newCollector(t *testing.T, capture ingest.Capture) *collector {
	t.Helper()
	s, err := store.Open(context.Background(), store.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	crashes, err := ingest.NewCrashes(ingest.CrashesOptions{Store: s, Capture: capture})
	if err != nil {
		t.Fatal(err)
	}
	binaries, err := ingest.NewBinaries(ingest.BinariesOptions{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(binaries.Stop)
	analyses := ingest.NewAnalyses(ingest.AnalysesOptions{Store: s, Binaries: binaries, Crashes: crashes}) // is not started
	c := &collector{fleet: ingest.NewFleet(ingest.FleetOptions{})}
	c.cut.Store(-1)
	w, err := web.New(web.Options{Store: s, Crashes: crashes, Fleet: c.fleet, Binaries: binaries, Analyses: analyses, Ingest: ingest.New(ingest.Options{Store: s}), Query: query.New(query.Options{Store: s})})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if c.cut.Add(-1) == 0 {
			rw.Header().Set("Content-Length", "100")
			_, _ = rw.Write([]byte("x"))
			panic(http.ErrAbortHandler)
		}
		w.Handler().ServeHTTP(rw, r)
	}))
	t.Cleanup(server.Close)
	if c.client, err = remote.New(remote.Options{URL: server.URL, Connections: 1}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.client.Close)
	return c
}

// coreFile is the core of a real program that panicked.
func coreFile(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	source := "package main\n\nfunc main() {\n\tb := make([]byte, 8<<20)\n\tfor i := range b {\n\t\tb[i] = byte(i * i >> 3)\n\t}\n\tpanic(string(b[:3]))\n}\n"
	for name, text := range map[string]string{"go.mod": "module example.com/dies\n\ngo 1.26\n", "main.go": source} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-o", "dies", ".")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	release := proc.TakeCorePattern(t, "core")
	cmd := exec.Command("sh", "-c", "ulimit -c unlimited; exec ./dies")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOTRACEBACK=crash")
	out, _ := cmd.CombinedOutput() // it dies
	release()
	cores, err := filepath.Glob(filepath.Join(dir, "core*"))
	if err != nil || len(cores) != 1 {
		proc.Missing(t, "no core was written: %s", out)
	}
	return cores[0]
}

// TestCoreThereAndBack sends a core file and brings it back, over a network
// that cuts it off.
func TestCoreThereAndBack(t *testing.T) {
	c := newCollector(t, ingest.Capture{Default: inquest.TierFull})
	ctx := context.Background()
	name := coreFile(t)
	for range 2 { // the second time nothing is sent
		if _, err := postmortem.Send(ctx, c.client, postmortem.Push{File: name, Service: "shop"}); err != nil {
			t.Fatal(err)
		}
	}
	groups, err := postmortem.Groups(ctx, c.client, postmortem.Query{})
	if err != nil || len(groups) != 1 || groups[0].Count != 1 || groups[0].Cores != 1 {
		t.Fatalf("groups: %+v, %v", groups, err)
	}
	core, err := postmortem.FindCore(ctx, c.client, groups[0].Newest[:10])
	if err != nil || core.Tier != inquest.TierFull || !core.Complete {
		t.Fatalf("core: %+v, %v", core, err)
	}
	to := filepath.Join(t.TempDir(), "core")
	c.cut.Store(4)
	short, cancel := context.WithCancel(ctx)
	if _, err := postmortem.Download(short, c.client, core.ID, to, func(part float64, _ string) {
		if part > 0.3 {
			cancel()
		}
	}); err == nil {
		t.Fatal("a download that was ended did not fail")
	}
	cancel()
	if _, err := os.Stat(to); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half a core has its name: %v", err)
	}
	got, err := postmortem.Download(ctx, c.client, core.ID, to, nil)
	if err != nil || got.Tier != inquest.TierFull {
		t.Fatalf("download: %+v, %v", got, err)
	}
	st, err := os.Stat(to)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode: %v, %v", st.Mode(), err)
	}
	if used := st.Sys().(*syscall.Stat_t).Blocks * 512; used > st.Size() {
		t.Errorf("%d bytes take %d on the disk", st.Size(), used)
	}
	sameCore(t, name, to)
	if rest, _ := filepath.Glob(to + "?*"); len(rest) > 0 {
		t.Errorf("left: %v", rest)
	}
	if _, err := postmortem.Download(ctx, c.client, core.ID, to, nil); !errors.Is(err, inquest.ErrConflict) {
		t.Errorf("over a file that is there: %v", err)
	}
	if err := postmortem.Pin(ctx, c.client, core.ID, true); err != nil {
		t.Error(err)
	}
	if err := postmortem.Delete(ctx, c.client, core.ID); err != nil {
		t.Error(err)
	}
	if _, err := postmortem.FindCore(ctx, c.client, core.ID); !errors.Is(err, inquest.ErrNotFound) {
		t.Errorf("a core that was deleted: %v", err)
	}
	var out bytes.Buffer
	crash, err := postmortem.OneCrash(ctx, c.client, groups[0].Newest)
	if err == nil {
		err = postmortem.WriteCrash(&out, crash, time.Now())
	}
	if err != nil || !strings.Contains(out.String(), "not here any more") {
		t.Errorf("%v: %s", err, out.String())
	}
}

// sameCore compares the memory of two core files, where the first has any.
func sameCore(t *testing.T, want, got string) {
	t.Helper()
	read := func(name string) *coredump.Notes {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		st, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		n, err := coredump.OpenCoreFile(f, st.Size())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	a, b := read(want), read(got)
	if len(a.Process.Threads) != len(b.Process.Threads) {
		t.Errorf("%d threads, want %d", len(b.Process.Threads), len(a.Process.Threads))
	}
	compared := 0
	for _, m := range a.Process.Mappings {
		x, y := make([]byte, 4096), make([]byte, 4096)
		for addr := m.Addr; addr < min(m.End(), m.Addr+16<<20); addr += 4096 {
			if _, err := a.Process.Memory.ReadAt(x, int64(addr)); err != nil {
				break
			}
			if _, err := b.Process.Memory.ReadAt(y, int64(addr)); err != nil || !bytes.Equal(x, y) {
				t.Fatalf("memory at %#x differs: %v", addr, err)
			}
			compared++
		}
	}
	if compared < 2000 {
		t.Errorf("only %d pages were compared", compared)
	}
}

// TestTake takes a snapshot of a target whose agent sends it.
func TestTake(t *testing.T) {
	c := newCollector(t, ingest.Capture{})
	ctx := context.Background()
	name := coreFile(t)
	report := inquest.AgentReport{ID: "a", Protocol: inquest.ProtocolVersion, Clock: time.Now(), Started: time.Now(), Targets: []inquest.Target{{ID: "t1", Service: "shop", Instance: "h:1"}, {ID: "t2", Service: "cart", Instance: "h:2"}}}
	if _, err := c.fleet.Report("a", &report, "h"); err != nil {
		t.Fatal(err)
	}
	go func() {
		commands, err := c.fleet.Next(ctx, "a", 10*time.Second)
		if err != nil || len(commands) != 1 {
			return
		}
		pushed, err := postmortem.Send(ctx, c.client, postmortem.Push{File: name, Service: "shop"})
		result := inquest.CommandResult{Stopped: time.Millisecond}
		if err != nil {
			result.Error = err.Error()
		} else {
			result.Crash = pushed.Crash
		}
		_ = c.fleet.Done("a", commands[0].ID, &result)
	}()
	s, err := postmortem.Take(ctx, c.client, "shop/h:1", inquest.TierMini, nil)
	if err != nil || s.Core == nil || s.Stopped != time.Millisecond {
		t.Errorf("%+v, %v", s, err)
	}
	for target, kind := range map[string]error{"desk": inquest.ErrNotFound, "shop/h:9": inquest.ErrNotFound} {
		if _, err := postmortem.Take(ctx, c.client, target, inquest.TierMini, nil); !errors.Is(err, kind) {
			t.Errorf("%s: %v", target, err)
		}
	}
}

// TestTables writes what hostile programs say of themselves.
func TestTables(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	var out bytes.Buffer
	found := &inquest.CoreAnalysis{State: inquest.AnalysisDone, Report: &inquest.CoreReport{
		Class: "panic:\x1b[31m", Goroutine: 7, Total: 31, Panics: []inquest.Panic{{Type: "*main.failure", Value: "no", Recovered: true}}, Signal: &inquest.DeathSignal{Name: "SIGSEGV", Code: 1, Addr: 0x18},
		Buckets: []inquest.GoroutineBucket{{State: "running\u0085", Count: 1, First: true}, {State: "chan receive", Count: 30, Wait: 4, Frames: []inquest.Frame{{Function: "main.wait"}}, By: &inquest.Frame{Function: "main.start"}}},
	}}
	crash := postmortem.Crash{Crash: inquest.Crash{ID: strings.Repeat("ab", 16), At: now.Add(-time.Hour), Service: "shop\x1b[31m", Class: "panic:\u0085x", Frames: []inquest.Frame{{Function: "runtime.gopanic"}, {Function: "main.f"}}}}
	if err := errors.Join(postmortem.WriteCrashes(&out, []postmortem.Crash{crash}, now), postmortem.WriteGroups(&out, []postmortem.Group{{ID: "g", Count: 7, Newest: crash.ID}}, now),
		postmortem.WriteCores(&out, []postmortem.Core{{Service: "shop", At: now}}, now), postmortem.WriteCrash(&out, &crash, now),
		postmortem.WriteAnalysis(&out, &inquest.CoreAnalysis{State: inquest.AnalysisFailed, Reason: "\x1b[2J"}, true), postmortem.WriteAnalysis(&out, found, true)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"7 died, of 31", "*main.failure: no [recovered]", "30 goroutines [chan receive, up to 4 minutes]:", "created by main.start", "SIGSEGV, code 1, address 0x18"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not said", want)
		}
	}
	if strings.ContainsAny(out.String(), "\x1b\u0085") || !strings.Contains(out.String(), "main.f") || !strings.Contains(out.String(), "1h ago") {
		t.Errorf("%q", out.String())
	}
}
