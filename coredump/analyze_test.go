//go:build linux && amd64

package coredump_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
	"github.com/goinquest/inquest/internal/testprog"
	"github.com/goinquest/inquest/symbolize"
)

// analyzed are the kinds of deaths whose text and core must agree.
var analyzed = []string{
	"panic", "nil", "leaf", "custom", "error", "index", "repanic", "generic", "closure", "divide", "assert",
	"int", "float", "code", "word", "pointer", "lines", "nothing", "same", "close", "stale", "fault",
	"maps", "deadlock", "locked", "stack", "oom", "abort", "segv", "goexit", "c",
}

// shownFrames are frames without what texts do not tell.
func shownFrames(frames []inquest.Frame) (out []inquest.Frame) {
	for _, f := range frames {
		if strings.Contains(f.Function, ".gowrap") {
			continue // which only GOTRACEBACK=crash shows always
		}
		out = append(out, inquest.Frame{Function: f.Function, File: f.File, Line: f.Line})
	}
	return out
}

// analyze makes the report of a held process.
func analyze(t testing.TB, h *testprog.Held) *inquest.CoreReport {
	t.Helper()
	return coredump.Analyze(&h.Process, functionsOf(t, &h.Process), coredump.ReportLimits{})
}

// textOf parses what a held process wrote.
func textOf(t testing.TB, h *testprog.Held) *coredump.Text {
	t.Helper()
	text, err := coredump.ParseText(strings.NewReader(h.Stderr), coredump.TextLimits{})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// sameDeath compares a report with the text of the same death.
func sameDeath(t *testing.T, kind string, rep *inquest.CoreReport, text *coredump.Text) {
	t.Helper()
	same := rep.Goroutine == text.Goroutine || kind == "maps" // of which several may die at once
	if rep.Class != text.Class || rep.Message != text.Message || !same {
		t.Errorf("%s: %s, %q, goroutine %d\nthe text says %s, %q, goroutine %d", kind, rep.Class, rep.Message, rep.Goroutine, text.Class, text.Message, text.Goroutine)
	}
	got, want := shownFrames(rep.Frames), shownFrames(text.Frames)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: frames (-text +core):\n%s", kind, diff)
	}
}

func TestAnalyzeLikeText(t *testing.T) {
	for i, b := range allBuilds() {
		t.Run(b.String(), func(t *testing.T) {
			if i > 2 && testing.Short() {
				t.Skip("short")
			}
			for _, kind := range analyzed {
				if b.CGO && (kind == "deadlock" || kind == "goexit") {
					continue // with C the runtime does not look for deadlocks
				}
				h := die(t, b, kind)
				rep, text := analyze(t, h), textOf(t, h)
				sameDeath(t, kind, rep, text)
				if len(rep.Problems) > 0 {
					t.Errorf("%s: %q", kind, rep.Problems)
				}
			}
		})
	}
}

// byStack makes buckets comparable: texts leave out what is read of threads, and
// write no more than a hundred frames.
func byStack(list []inquest.GoroutineBucket) map[string]int {
	out := map[string]int{}
	for _, b := range list {
		if b.State == "running" || b.State == "syscall" || b.State == "runnable" {
			continue // other threads went on until they were asked; of what comes back from a call of the kernel texts show less
		}
		key := fmt.Sprint(b.State, b.Locked, b.First, b.Cut, shownFrames(b.Frames))
		if b.By != nil {
			key += fmt.Sprint(shownFrames([]inquest.Frame{*b.By}))
		}
		out[key] += b.Count
	}
	return out
}

// TestAnalyzeBuckets compares all goroutines with those of the text.
func TestAnalyzeBuckets(t *testing.T) {
	for i, b := range allBuilds() {
		t.Run(b.String(), func(t *testing.T) {
			if i > 2 && testing.Short() {
				t.Skip("short")
			}
			h := die(t, b, "index", "-goroutines=100", "-other", "-http=127.0.0.1:0")
			rep, text := analyze(t, h), textOf(t, h)
			if diff := cmp.Diff(byStack(text.Text.Buckets), byStack(rep.Buckets)); diff != "" {
				t.Errorf("buckets (-text +core):\n%s", diff)
			}
			if rep.Total != text.Text.Goroutines || len(rep.Goroutines) != rep.Total || rep.Truncated {
				t.Errorf("%d goroutines, %d of them listed; the text has %d", rep.Total, len(rep.Goroutines), text.Text.Goroutines)
			}
			at := slices.IndexFunc(rep.Goroutines, func(g inquest.Goroutine) bool { return g.ID == rep.Goroutine })
			if at < 0 {
				t.Fatalf("goroutine %d is not listed", rep.Goroutine)
			}
			g := rep.Goroutines[at]
			want := map[string]string{"kind": "index"}
			if diff := cmp.Diff(want, g.Labels); diff != "" || g.Parent != 1 || g.System || !rep.Buckets[g.Bucket].First || g.Thread != h.Threads[0].TID {
				t.Errorf("the one that died: %+v; labels (-want +got):\n%s", g, diff)
			}
		})
	}
}

// TestAnalyzePanics looks at the values of panics.
func TestAnalyzePanics(t *testing.T) {
	failure := []inquest.PanicField{{Name: "code", Value: "6"}, {Name: "text", Value: "a failure of our own kind"}}
	for i, b := range allBuilds() {
		t.Run(b.String(), func(t *testing.T) {
			if i > 2 && testing.Short() {
				t.Skip("short")
			}
			for kind, want := range map[string][]inquest.Panic{
				"custom":  {{Type: "*main.failure", Value: "6: a failure of our own kind", Fields: failure}},
				"error":   {{Type: "*fmt.wrapError", Value: "dispatch: something is wrong", Fields: []inquest.PanicField{{Name: "msg", Value: "dispatch: something is wrong"}}}},
				"code":    {{Type: "main.code", Value: "main.code(-4)"}},
				"word":    {{Type: "main.word", Value: `main.word("of word")`}},
				"repanic": {{Type: "string", Value: "explicit: payload of the request that died", Recovered: true}, {Type: "string", Value: "again: explicit: payload of the request that died"}},
				"divide":  {{Type: "runtime.errorString", Value: "runtime error: integer divide by zero"}},
			} {
				rep := analyze(t, die(t, b, kind))
				if diff := cmp.Diff(want, rep.Panics); diff != "" {
					t.Errorf("%s (-want +got):\n%s", kind, diff)
				}
			}
		})
	}
}

// minicoreOf is a held process as its minicore has it.
func minicoreOf(t testing.TB, h *testprog.Held) *coredump.Process {
	t.Helper()
	r, err := coredump.OpenRuntime(&h.Process, functionsOf(t, &h.Process))
	if err != nil {
		t.Fatal(err)
	}
	mini, err := coredump.Select(&h.Process, r, coredump.Selection{Present: present(h)})
	if err != nil {
		t.Fatal(err)
	}
	_, notes := openCore(t, coreOf(t, h, mini))
	return notes.Process
}

// TestAnalyzeMinicore sees that a minicore tells the same as all of the memory.
func TestAnalyzeMinicore(t *testing.T) {
	for i, b := range []testprog.Build{{}, {Stripped: true}, {CGO: true, PIE: true, Stripped: true, Trimpath: true}, {Toolchain: testprog.Toolchains[0], Stripped: true}} {
		t.Run(b.String(), func(t *testing.T) {
			if i > 1 && testing.Short() {
				t.Skip("short")
			}
			for _, kind := range []string{"custom", "nil", "maps", "oom", "abort", "stack"} {
				h := die(t, b, kind, "-goroutines=500", "-heap=16")
				want := analyze(t, h)
				got := coredump.Analyze(minicoreOf(t, h), functionsOf(t, &h.Process), coredump.ReportLimits{})
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s (-full +mini):\n%s", kind, diff)
				}
			}
		})
	}
}

// TestAnalyzeWait says when the process died.
func TestAnalyzeWait(t *testing.T) {
	h := testprog.Hold(t, testprog.Build{}.Path(t), testprog.Options{Args: []string{"-kind=panic", "-goroutines=2000", "-http=127.0.0.1:0"}, Env: []string{"GOGC=1"}}, 0)
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	funcs := functionsOf(t, &h.Process)
	for _, want := range []int{0, 10} {
		l := coredump.ReportLimits{Now: now.Nano() + int64(want)*60e9}
		rep := coredump.Analyze(&h.Process, funcs, l)
		if got := rep.Buckets[0]; got.Wait != want || got.Count != 2000 {
			t.Errorf("%d wait for %d minutes, want %d", got.Count, got.Wait, want)
		}
		waits := 0
		for _, g := range rep.Goroutines {
			if g.Wait == 10 {
				waits++
			}
		}
		if waits == 0 && want > 0 {
			t.Error("no goroutine waits")
		}
	}
}

// TestAnalyzeSnapshot looks at a process that lives.
func TestAnalyzeSnapshot(t *testing.T) {
	h := testprog.Hold(t, testprog.Build{}.Path(t), testprog.Options{Args: []string{"-kind=spin", "-goroutines=10"}}, 50*time.Millisecond)
	rep := analyze(t, h)
	if rep.Class != inquest.CrashSnapshot || rep.Goroutine != 0 || rep.Total < 11 || len(rep.Frames) > 0 || rep.Signal != nil {
		t.Errorf("%+v", rep)
	}
	spins := slices.ContainsFunc(rep.Buckets, func(b inquest.GoroutineBucket) bool {
		return b.State == "running" && slices.ContainsFunc(b.Frames, func(f inquest.Frame) bool { return f.Function == "main.spin" })
	})
	if !spins {
		t.Errorf("no goroutine spins: %+v", rep.Buckets)
	}
}

// TestAnalyzeSignal looks at what is told of signals.
func TestAnalyzeSignal(t *testing.T) {
	leaf := analyze(t, die(t, testprog.Build{Stripped: true}, "leaf")).Signal
	if leaf == nil || leaf.Name != "SIGSEGV" || leaf.Addr != 16 || leaf.Code != 1 || leaf.Note != "nil address" || leaf.PC == 0 {
		t.Errorf("nil dereference: %+v", leaf)
	}
	abort := analyze(t, die(t, testprog.Build{Stripped: true}, "abort")).Signal
	if abort == nil || abort.Name != "SIGABRT" || abort.Note != "sent by a process" {
		t.Errorf("abort: %+v", abort)
	}
}

// TestAnalyzeIncomplete leaves parts of a process out: the report says so.
func TestAnalyzeIncomplete(t *testing.T) {
	h := die(t, testprog.Build{Stripped: true}, "index", "-goroutines=10")
	funcs := functionsOf(t, &h.Process)
	whole := read(t, h, present(h))
	died := analyze(t, h)
	r, _ := openRuntime(t, h)
	g, ok := r.Died()
	if !ok {
		t.Fatal("none died")
	}
	onlyStack, noStack := pages{bytes: map[uint64][]byte{}}, pages{bytes: map[uint64][]byte{}}
	for _, addr := range whole.addrs {
		sp := h.Threads[0].SP
		if addr+pageBytes > sp && addr < sp+64<<10 || addr+pageBytes > g.Stack.Addr && addr < g.Stack.End() {
			onlyStack.bytes[addr] = whole.bytes[addr]
		} else {
			noStack.bytes[addr] = whole.bytes[addr]
		}
	}
	for _, c := range []struct {
		name  string
		p     coredump.Process
		funcs *symbolize.Functions
		class string
	}{
		{"no memory", coredump.Process{Threads: h.Threads}, funcs, inquest.ClassUnknown},
		{"no executable", h.Process, nil, inquest.ClassUnknown},
		{"no threads", coredump.Process{Memory: h.Memory, Auxv: h.Auxv}, funcs, inquest.ClassUnknown},
		{"only the stack", coredump.Process{Memory: onlyStack, Auxv: h.Auxv, Threads: h.Threads}, funcs, "panic:runtime.boundsError"},
		{"without the stack", coredump.Process{Memory: noStack, Auxv: h.Auxv, Threads: h.Threads}, funcs, inquest.ClassUnknown},
	} {
		rep := coredump.Analyze(&c.p, c.funcs, coredump.ReportLimits{})
		if rep.Class != c.class || len(rep.Problems) == 0 {
			t.Errorf("%s: %s, %q", c.name, rep.Class, rep.Problems)
		}
		if diff := cmp.Diff(died.Frames[:3], rep.Frames[:min(3, len(rep.Frames))]); c.name == "only the stack" && diff != "" {
			t.Errorf("%s: frames (-whole +got):\n%s", c.name, diff)
		}
	}
}

// TestAnalyzeChatty lets the program print before it dies, so that the text of the death
// lies over the end of the runtime's ring.
func TestAnalyzeChatty(t *testing.T) {
	for _, b := range []testprog.Build{{}, {Stripped: true}} {
		for n := 0; n < 512; n += 9 {
			h := testprog.Hold(t, b.Path(t), testprog.Options{Args: []string{"-kind=chatty"}, Env: []string{"CHAT=" + strings.Repeat("x", n)}}, 0)
			if rep := analyze(t, h); rep.Class != "fatal:sync: unlock of unlocked mutex" || rep.Fatal != "fatal error: sync: unlock of unlocked mutex" {
				t.Errorf("%v, %d: %s, %q, %q", b, n, rep.Class, rep.Fatal, rep.Problems)
			}
			if testing.Short() && n > 100 {
				break
			}
		}
	}
}
