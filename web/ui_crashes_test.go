package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
	"github.com/goinquest/inquest/store"
	"github.com/goinquest/inquest/web"
)

// tinyCore is a core of two pages, for pages to show.
func tinyCore(t testing.TB, crash string) *coredump.Image {
	t.Helper()
	at := coredump.Extent{Addr: 0x400000, Size: 8192}
	h := &coredump.Header{
		Core:    inquest.Core{Crash: crash, Tier: inquest.TierFull, Arch: "amd64", GoVersion: "go1.26.8", Threads: 7, Missing: []string{"memory of devices"}, Blanked: []string{"7 values of the environment"}},
		Machine: 62, Segments: []coredump.Segment{{Extent: at, Flags: 6}}, Extents: []coredump.Extent{at},
	}
	var file bytes.Buffer
	w, err := coredump.NewWriter(&file, h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(bytes.Repeat([]byte("core"), 2048)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	im, err := coredump.OpenImage(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// newCrashWorld is a collector with crashes of three services; the id is that
// of one with everything there is.
func newCrashWorld(t *testing.T) (*world, string) {
	t.Helper()
	w := newWorld(t, web.Options{})
	var all []inquest.Crash
	for n := range 40 {
		c := crashNow(n, "checkout", "ab12")
		c.At = c.At.Add(-time.Duration(n*n) * 4 * time.Minute)
		c.Message = "panic: runtime error: invalid memory address or nil pointer dereference"
		c.Class = "signal:SIGSEGV"
		c.Frames = []inquest.Frame{{Function: "runtime.sigpanic", File: "/usr/local/go/src/runtime/signal_unix.go", Line: 922},
			{Function: "example.com/shop/cart.(*Basket).Total", File: "/src/shop/cart/basket.go", Line: 118}, {Function: "main.(*server).serveHTTP.func1", File: "/src/shop/cmd/checkout/main.go", Line: 42}}
		all = append(all, c)
	}
	oom := crashNow(1, "recommendations", "")
	oom.Kind, oom.Class, oom.Message, oom.Frames = inquest.CrashOOM, "oom", "killed for memory", nil
	oom.Facts = &inquest.Facts{MemoryBytes: 512 << 20, MemoryLimit: 512 << 20, OOMKills: 3, Pod: "recommendations-5f7", Namespace: "shop"}
	hostile := crashNow(2, "<script>alert(1)</script>", "")
	hostile.Class, hostile.Message = "panic:<b>"+strings.Repeat("very-long-type-name", 20), "<img src=x onerror=alert(1)>"
	all = append(all, oom, hostile)
	if a := w.send("POST", "/api/v1/crashes", all, nil); a.StatusCode != 200 {
		t.Fatalf("%s: %s", a.Status, a.body)
	}
	c := all[0]
	c.Facts = &inquest.Facts{Pod: "checkout-7c9f", Namespace: "shop", Container: strings.Repeat("c0ffee", 10), Runtime: "containerd", Image: "registry.example.com/shop/checkout:v1.4.0", Kernel: "6.18.0", FDs: 42, Threads: 11, MemoryBytes: 93 << 20, MemoryPeak: 120 << 20, MemoryLimit: 256 << 20}
	im := tinyCore(t, c.ID)
	var answer inquest.CoreAnswer
	if a := w.send("POST", "/api/v1/cores", inquest.CoreOffer{Crash: c, Ledger: im.Ledger().Bytes()}, &answer); a.StatusCode != 200 {
		t.Fatalf("%s: %s", a.Status, a.body)
	}
	w.sendBlocks(im, &answer)
	if a := w.send("POST", "/api/v1/cores/"+answer.ID+"/commit", nil, nil); a.StatusCode != 200 {
		t.Fatalf("%s: %s", a.Status, a.body)
	}
	text := "panic: runtime error: invalid memory address or nil pointer dereference\n[signal SIGSEGV: segmentation violation code=0x1 addr=0x18 pc=0x4a1b2c]\n\ngoroutine 7 [running]:\nmain.fall(0x0)\n\t/src/main.go:7 +0x18\nmain.main()\n\t/src/main.go:3 +0x1d\n"
	for n := range 20 {
		text += fmt.Sprintf("\ngoroutine %d [chan receive, %d minutes]:\nmain.wait(0xc000)\n\t/src/wait.go:9 +0x2a\ncreated by main.main in goroutine 1\n\t/src/main.go:2 +0x11\n", 20+n, n)
	}
	if a := w.do("PUT", "/api/v1/crashes/"+c.ID+"/text", strings.NewReader(text)); a.StatusCode != 200 {
		t.Fatalf("%s: %s", a.Status, a.body)
	}
	return w, c.ID
}

// putReport has the core of a crash tell something.
func putReport(t *testing.T, w *world, id string) {
	t.Helper()
	crash, err := w.store.Crash(id)
	if err != nil {
		t.Fatal(err)
	}
	stack := []inquest.Frame{{Function: "runtime.gopark", File: "/go/src/runtime/proc.go", Line: 435}, {Function: "main.(*pool).worker", File: "/src/pool.go", Line: 31}}
	r := &inquest.CoreReport{
		Class: "signal:SIGSEGV", Message: "panic: <script>alert(2)</script>", Goroutine: 7, Total: 341, GoVersion: "go1.26.8",
		Frames: stack[1:], Signal: &inquest.DeathSignal{Name: "SIGSEGV", Code: 1, Addr: 0x18, PC: 0x4a1b2c},
		Panics:   []inquest.Panic{{Type: "*main.failure", Value: "6: no", Recovered: true, Fields: []inquest.PanicField{{Name: "code", Value: "6"}}}, {Type: "string", Value: strings.Repeat("again and ", 40)}},
		Buckets:  []inquest.GoroutineBucket{{State: "chan receive", Count: 340, Wait: 3, Frames: stack, By: &inquest.Frame{Function: "main.main"}}, {State: "running", Count: 1, First: true, Frames: stack[1:]}},
		Problems: []string{"2 stacks lie in memory that is missing"},
	}
	for n := range 340 {
		r.Goroutines = append(r.Goroutines, inquest.Goroutine{ID: int64(n), Labels: map[string]string{"queue": fmt.Sprint("q", n%3)}})
	}
	raw, err := json.Marshal(&inquest.CoreAnalysis{State: inquest.AnalysisDone, Version: 1, Took: 71 * time.Millisecond, Trust: inquest.TrustExact, Report: r})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.store.PutCoreReport(t.Context(), crash.Core.ID, 1, raw); err != nil {
		t.Fatal(err)
	}
}

func testCrashPages(t *testing.T, br *browser) {
	w, id := newCrashWorld(t)
	b := br.tab(t, 1440, 900)
	b.open(w.url + "/crashes")
	b.wait("three groups", `document.querySelectorAll(".crashes tbody tr").length === 3`)
	page := b.text("main")
	for _, want := range []string{"42 deaths in 3 groups", "signal:SIGSEGV", "example.com/shop/cart.(*Basket).Total", "recommendations", "<script>alert(1)</script>", "<img src=x onerror=alert(1)>"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	b.click(fmt.Sprintf(`a[href="/crashes/%s"]`, id))
	b.wait("the crash", fmt.Sprintf(`location.pathname === "/crashes/%s" && document.querySelector("#download button")`, id))
	page = b.text("main")
	for _, want := range []string{
		"signal:SIGSEGV", "invalid memory address", "basket.go:118", "checkout-7c9f", "containerd", "go1.26.8 amd64, 7 threads", "memory of devices", "7 values of the environment",
		"inquest core download -to " + w.url, "profiles of the 10 minutes before", "21 in the text", "chan receive", "created by",
	} {
		if !strings.Contains(page, want) && !strings.Contains(eval[string](b, `document.querySelector("main").textContent`), want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	crash, err := w.store.Crash(id)
	if err != nil {
		t.Fatal(err)
	}
	if link := eval[string](b, `document.querySelector('main a[href^="/explore"]').href`); !strings.Contains(link, "checkout") || !strings.Contains(link, url.QueryEscape(crash.At.Add(-10*time.Minute).UTC().Format("2006-01-02T15:04"))) {
		t.Errorf("the link to profiles is %s", link)
	}
	if got := eval[string](b, `document.querySelector("#analysis").textContent`); !strings.Contains(got, "waiting") || !strings.Contains(got, "the executable of build b1 is not here") {
		t.Errorf("how far the analysis is: %q", got)
	}
	putReport(t, w, id)
	b.open(w.url + "/crashes/" + id)
	b.wait("what the core tells", `document.querySelector("#analysis")?.dataset.state === "done"`)
	page = eval[string](b, `document.querySelector("main").textContent`)
	for _, want := range []string{"done in 71 ms", "panic: <script>alert(2)</script>", "*main.failure: 6: no", "recovered", "code = 6", "SIGSEGV, code 1, address 0x18, at 0x4a1b2c", "7 died", "341 in the core", "main.(*pool).worker", "queue=q0", "2 stacks lie in memory that is missing"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page of what a core tells does not say %q", want)
		}
	}
	if open := eval[int](b, `document.querySelectorAll("details.bucket[open]").length`); open != 1 {
		t.Errorf("%d stacks are open", open)
	}
	b.shot("crash-report")
	// An empty collector says what to do; a crash there is none of is an error.
	empty := newWorld(t, web.Options{})
	b.open(empty.url + "/crashes")
	b.wait("what to do", `document.querySelector(".notice code").textContent.includes(location.origin + "/api/v1/crashes")`)
	b.shot("crashes-empty")
	if a := w.get("/crashes/"+strings.Repeat("0", 32), "Accept: text/html"); a.StatusCode != 404 {
		t.Errorf("a crash there is none of: %s", a.Status)
	}
}

func testCrashesThemesAndWidths(t *testing.T, br *browser) {
	w, id := newCrashWorld(t)
	putReport(t, w, id)
	b := br.tab(t, 1440, 1400)
	for _, p := range []struct{ name, path string }{{"crashes", "/crashes"}, {"crash", "/crashes/" + id}} {
		for _, scheme := range []string{"light", "dark"} {
			b.prefer(scheme)
			for _, width := range []int{1440, 360, 768, 2560} {
				b.resize(width, 1400)
				b.open(w.url + p.path)
				b.wait("the page", `document.querySelector("main h1") && document.querySelector("time")`)
				if nameless := eval[[]string](b, namelessControls); len(nameless) > 0 {
					t.Errorf("%s has controls without a name for screen readers: %q", p.name, nameless)
				}
				if wide := eval[int](b, "document.scrollingElement.scrollWidth"); wide > width {
					t.Errorf("%s is %d px wide in a window of %d", p.name, wide, width)
				}
				b.shot(fmt.Sprintf("%s-%s-%d", p.name, scheme, width))
			}
		}
	}
}

func testSnapshotDialog(t *testing.T, br *browser) {
	b, w := br.tab(t, 1440, 900), newWorld(t, web.Options{})
	if _, err := w.fleet.Report("node-1/a", report(time.Now().UTC()), "10.0.0.1"); err != nil {
		t.Fatal(err)
	}
	go func() {
		commands, err := w.fleet.Next(context.Background(), "node-1/a", 30*time.Second)
		if err == nil && len(commands) == 1 && commands[0].Tier == inquest.TierFull {
			_ = w.fleet.Done("node-1/a", commands[0].ID, &inquest.CommandResult{Crash: strings.Repeat("a", 32), Stopped: 3 * time.Millisecond})
		}
	}()
	b.open(w.url + "/targets")
	b.wait("the buttons", `document.querySelectorAll('[data-key$="/snapshot"]').length === 2`)
	b.click(`[data-key$="/snapshot"]`)
	b.set("#snapshot-tier", "full", "change")
	b.click("#snapshot-go")
	b.wait("the result", `document.querySelector("#snapshot-result a")?.getAttribute("href") === "/crashes/`+strings.Repeat("a", 32)+`"`)
	b.shot("snapshot")
	var audit struct{ Values []store.AuditEntry }
	w.getJSON("/api/v1/audit", &audit)
	if len(audit.Values) != 1 || audit.Values[0].Action != "snapshot" || audit.Values[0].Notes["tier"] != "full" {
		t.Errorf("audit: %+v", audit)
	}
}
