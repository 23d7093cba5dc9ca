//go:build linux && amd64

package coredump_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
	"github.com/goinquest/inquest/internal/testprog"
)

// analyzed are the kinds of deaths whose text and core must agree.
var analyzed = []string{
	"panic", "nil", "leaf", "custom", "error", "index", "repanic", "generic", "closure", "divide", "assert",
	"maps", "deadlock", "locked", "stack", "oom", "abort", "segv", "goexit", "c",
}

// shownFrames are frames without what texts do not tell.
func shownFrames(frames []inquest.Frame) (out []inquest.Frame) {
	for _, f := range frames {
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
	if rep.Class != text.Class || rep.Message != text.Message || rep.Goroutine != text.Goroutine {
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
