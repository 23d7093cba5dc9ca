package web_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
	"github.com/goinquest/inquest/internal/proc"
	"github.com/goinquest/inquest/internal/testprog"
	"github.com/goinquest/inquest/store"
	"github.com/goinquest/inquest/symbolize"
	"github.com/goinquest/inquest/web"
)

// heldImage is the core of a program that is held where it dies, as an image.
func heldImage(t *testing.T, h *testprog.Held, c *inquest.Crash, build *inquest.Build) *coredump.Image {
	t.Helper()
	head := coredump.Header{Notes: h.Notes(), Machine: 62}
	head.Core = inquest.Core{Crash: c.ID, Tier: inquest.TierFull, Arch: "amd64", Build: build.ID, GoBuildID: build.GoBuildID, GoVersion: build.GoVersion}
	for _, m := range h.Mappings {
		if m.Flags&4 != 0 && !strings.HasPrefix(m.Path, "[v") {
			head.Segments = append(head.Segments, coredump.Segment{Extent: m.Extent, Flags: m.Flags, Fill: coredump.FillMissing})
			switch {
			case m.Path != "" && m.Flags&2 != 0: // kernels dump all of it, once a page was written to
				head.Extents = append(head.Extents, m.Extent)
			case m.Path != "" && m.Offset == 0: // and the page with the ids
				head.Extents = append(head.Extents, coredump.Extent{Addr: m.Addr, Size: h.PageSize})
			default:
				head.Extents = append(head.Extents, h.Present(m.Extent)...)
			}
		}
	}
	var file bytes.Buffer
	w, err := coredump.NewWriter(&file, &head)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range head.Extents {
		if _, err := io.Copy(w, io.NewSectionReader(h.Memory, int64(e.Addr), int64(e.Size))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return openImage(t, file.Bytes())
}

func openImage(t *testing.T, raw []byte) *coredump.Image {
	t.Helper()
	im, err := coredump.OpenImage(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// mutated is an image with other bytes here and there in its memory, and with
// its own hashes. Some have other notes, too.
func mutated(t *testing.T, im *coredump.Image, random *rand.Rand, of string) *coredump.Image {
	t.Helper()
	old := im.Ledger().Header()
	head := *old
	head.Core.Crash = of
	if random.IntN(4) == 0 {
		head.Notes = bytes.Clone(head.Notes)
		for range 1 + random.IntN(8) {
			head.Notes[random.IntN(len(head.Notes))] = byte(random.Uint32())
		}
	}
	p, err := im.Process()
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	w, err := coredump.NewWriter(&file, &head)
	if err != nil {
		t.Fatal(err)
	}
	rate := 1 << (6 + random.IntN(12)) // bytes for each that is changed
	for _, e := range head.Extents {
		b := make([]byte, e.Size)
		if _, err := p.Memory.ReadAt(b, int64(e.Addr)); err != nil {
			t.Fatal(err)
		}
		for i := random.IntN(2 * rate); i < len(b); i += 1 + random.IntN(2*rate) {
			b[i] = byte(random.Uint32())
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return openImage(t, file.Bytes())
}

// buildOf reads the ids of a program.
func buildOf(t *testing.T, path string) *inquest.Build {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := symbolize.ReadBuild(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// putCore sends a core and returns its id.
func (w *world) putCore(c inquest.Crash, im *coredump.Image) string {
	w.t.Helper()
	var answer inquest.CoreAnswer
	if a := w.send("POST", "/api/v1/cores", inquest.CoreOffer{Crash: c, Ledger: im.Ledger().Bytes()}, &answer); a.StatusCode != http.StatusOK {
		w.t.Fatalf("%s: %s", a.Status, a.body)
	}
	w.sendBlocks(im, &answer)
	if a := w.send("POST", "/api/v1/cores/"+answer.ID+"/commit", nil, nil); a.StatusCode != http.StatusOK {
		w.t.Fatalf("%s: %s", a.Status, a.body)
	}
	return answer.ID
}

// analysed waits until an analysis has a state.
func (w *world) analysed(id, state string) *inquest.CoreAnalysis {
	w.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		var got inquest.CoreAnalysis
		w.getJSON("/api/v1/cores/"+id+"/goroutines", &got)
		if got.State == state {
			return &got
		}
		if got.State == inquest.AnalysisOff {
			proc.Missing(w.t, "cores are not analysed here: %s", got.Reason)
		}
		if time.Now().After(end) {
			w.t.Fatalf("analysis of %s: %s %s, want %s: %s", id, got.State, got.Reason, state, w.log)
		}
	}
}

// TestAnalysis takes cores from their offer to what is known of them: with the
// executable there before, and coming later; of a whole program and a stripped one.
func TestAnalysis(t *testing.T) {
	for _, b := range []testprog.Build{{}, {Stripped: true}} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v,late=%v", b, late), func(t *testing.T) {
				w := newWorld(t, web.Options{})
				exe := b.Path(t)
				raw, err := os.ReadFile(exe)
				if err != nil {
					t.Fatal(err)
				}
				build := buildOf(t, exe)
				h := testprog.Hold(t, exe, testprog.Options{Args: []string{"-kind=custom", "-goroutines=200"}}, 0)
				c := crashNow(1, "shop", "")
				c.Build, c.Class, c.Message, c.Frames = build.ID, "panic", "", nil
				im := heldImage(t, h, &c, build)
				if !late {
					w.mustPut(build.ID, raw)
				}
				id := w.putCore(c, im)
				if late {
					if got := w.analysed(id, inquest.AnalysisWaiting); !strings.Contains(got.Reason, build.ID) {
						t.Errorf("it waits for %q", got.Reason)
					}
					w.mustPut(build.ID, raw)
				}
				got := w.analysed(id, inquest.AnalysisDone)
				r := got.Report
				if r == nil || got.Trust != inquest.TrustExact || got.Took <= 0 || got.Executable == "" {
					t.Fatalf("analysis: %+v", got)
				}
				if r.Class != "panic:string" || !strings.Contains(r.Message, "a failure of our own kind") || r.Total < 200 || len(r.Panics) != 1 || len(r.Problems) != 0 {
					t.Errorf("report: %s, %q, %d goroutines, %+v, %q", r.Class, r.Message, r.Total, r.Panics, r.Problems)
				}
				var crash store.StoredCrash
				w.getJSON("/api/v1/crashes/"+c.ID, &crash)
				if crash.Class != r.Class || crash.Message != r.Message || len(crash.Frames) != len(r.Frames) || crash.Text == nil || crash.Text.Goroutines != r.Total || !strings.Contains(fmt.Sprint(crash.Source), "core") {
					t.Errorf("crash: %s, %q, %d frames, text %v, %v", crash.Class, crash.Message, len(crash.Frames), crash.Text != nil, crash.Source)
				}
				page := string(w.get("/crashes/"+c.ID, "Accept: text/html").body)
				for _, want := range []string{"What the core tells", "done in", "a failure of our own kind", "in the core", "*main.failure", "labels:"} {
					if !strings.Contains(page, want) {
						t.Errorf("the page does not say %q", want)
					}
				}
				if a := w.send("DELETE", "/api/v1/cores/"+id, nil, nil); a.StatusCode != http.StatusNoContent {
					t.Errorf("delete: %s", a.Status)
				}
				if left, _ := os.ReadDir(w.dir + "/cores"); len(left) != 0 {
					t.Errorf("left of a deleted core: %v", left)
				}
			})
		}
	}
}

// TestAnalysisMismatch offers a core as that of another build.
func TestAnalysisMismatch(t *testing.T) {
	w := newWorld(t, web.Options{})
	exe, other := testprog.Build{}.Path(t), testprog.Build{Stripped: true, Trimpath: true}.Path(t)
	raw, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	build := buildOf(t, other)
	h := testprog.Hold(t, exe, testprog.Options{Args: []string{"-kind=nil"}}, 0)
	c := crashNow(1, "shop", "")
	c.Build, c.Class, c.Message = build.ID, "signal:SIGSEGV", "as it was told"
	w.mustPut(build.ID, raw)
	got := w.analysed(w.putCore(c, heldImage(t, h, &c, build)), inquest.AnalysisFailed)
	if got.How != "mismatch" || !strings.Contains(got.Reason, "executable does not match") || got.Report != nil {
		t.Errorf("analysis: %+v", got)
	}
	var crash store.StoredCrash
	if w.getJSON("/api/v1/crashes/"+c.ID, &crash); crash.Message != c.Message {
		t.Errorf("the crash says %q", crash.Message)
	}
}

// TestAnalysisHostile has cores whose memory is damaged: each has an outcome,
// and the collector goes on.
func TestAnalysisHostile(t *testing.T) {
	w := newWorld(t, web.Options{})
	exe := testprog.Build{}.Path(t)
	raw, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	build := buildOf(t, exe)
	c := crashNow(0, "shop", "")
	c.Build, c.Class, c.Message = build.ID, "panic", ""
	im := heldImage(t, testprog.Hold(t, exe, testprog.Options{Args: []string{"-kind=custom", "-goroutines=50", "-heap=1"}}, 0), &c, build)
	w.mustPut(build.ID, raw)
	random, outcomes := rand.New(rand.NewPCG(1, 2)), map[string]int{}
	for n := range 50 {
		c := crashNow(n, "shop"+fmt.Sprint(n), "")
		c.Build, c.Class, c.Message = build.ID, "panic", ""
		id := w.putCore(c, mutated(t, im, random, c.ID))
		var got *inquest.CoreAnalysis
		for got == nil || got.State == inquest.AnalysisQueued {
			time.Sleep(5 * time.Millisecond)
			got = &inquest.CoreAnalysis{}
			w.getJSON("/api/v1/cores/"+id+"/goroutines", got)
			if got.State == inquest.AnalysisOff {
				proc.Missing(t, "cores are not analysed here: %s", got.Reason)
			}
		}
		switch {
		case got.State == inquest.AnalysisDone && got.Report != nil:
		case got.State == inquest.AnalysisFailed && got.Reason != "" && got.How != "":
		default:
			t.Errorf("core %d: %+v", n, got)
		}
		outcomes[got.State+" "+got.How]++
		if a := w.get("/crashes/"+c.ID, "Accept: text/html"); a.StatusCode != http.StatusOK {
			t.Errorf("page of core %d: %s", n, a.Status)
		}
	}
	t.Logf("outcomes: %v", outcomes)
}

// TestAnalysisKilled ends the child that looks at a core.
func TestAnalysisKilled(t *testing.T) {
	w := newWorld(t, web.Options{})
	exe := testprog.Build{}.Path(t)
	raw, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	build := buildOf(t, exe)
	c := crashNow(1, "shop", "")
	c.Build = build.ID
	im := heldImage(t, testprog.Hold(t, exe, testprog.Options{Args: []string{"-kind=nil"}}, 0), &c, build)
	id := w.putCore(c, im)
	w.analysed(id, inquest.AnalysisWaiting) // the sandbox holds here
	time.Sleep(300 * time.Millisecond)
	stop, killed := make(chan struct{}), make(chan int)
	go func() { killed <- killAnalyser(stop) }()
	w.mustPut(build.ID, raw)
	got := w.analysed(id, inquest.AnalysisFailed)
	close(stop)
	if n := <-killed; n == 0 || got.How != "signal" || !strings.Contains(got.Reason, "killed") {
		t.Errorf("%d killed: %+v", n, got)
	}
	// Another executable of the build has it looked at again.
	w.mustPut(build.ID, append(bytes.Clone(raw), make([]byte, 4096)...))
	if got := w.analysed(id, inquest.AnalysisDone); got.Report.Class != "signal:SIGSEGV" {
		t.Errorf("report: %+v", got.Report)
	}
}

// killAnalyser kills the first child of this process that looks at a core, and
// returns its id, or 0 if it was stopped before.
func killAnalyser(stop <-chan struct{}) int {
	for {
		select {
		case <-stop:
			return 0
		case <-time.After(time.Millisecond):
		}
		lists, _ := filepath.Glob("/proc/self/task/*/children")
		for _, list := range lists {
			raw, _ := os.ReadFile(list)
			for _, field := range strings.Fields(string(raw)) {
				var pid int
				fmt.Sscan(field, &pid)
				line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
				if strings.Contains(string(line), "sandboxed-stage\x00analysis") && syscall.Kill(pid, syscall.SIGKILL) == nil {
					return pid
				}
			}
		}
	}
}
