//go:build linux && amd64

package coredump_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest/coredump"
	"github.com/goinquest/inquest/internal/testprog"
)

var (
	delveHead  = regexp.MustCompile(`^\*? *Goroutine (\d+) - `)
	delveFrame = regexp.MustCompile(`^\s+\d+\s+0x[0-9a-f]+ in (.*)$`)
	delvePlace = regexp.MustCompile(`^\s+at (.*:\d+)$`)
	colors     = regexp.MustCompile("\x1b\\[[0-9;]*m")
)

// delveStacks are the stacks by goroutine that Delve wrote.
func delveStacks(out string) map[string][]string {
	stacks := map[string][]string{}
	id, function := "", ""
	for line := range strings.Lines(colors.ReplaceAllString(out, "")) {
		line = strings.TrimRight(line, "\n")
		if m := delveHead.FindStringSubmatch(line); m != nil {
			id = m[1]
		} else if m := delveFrame.FindStringSubmatch(line); m != nil {
			function = m[1]
		} else if m := delvePlace.FindStringSubmatch(line); m != nil && id != "" && !strings.Contains(function, ".gowrap") { // see shownFrames
			stacks[id] = append(stacks[id], function+" "+m[1])
		}
	}
	return stacks
}

// TestAnalyzeLikeDelve compares all goroutines but those that run with what Delve finds in
// the same core by debug information.
func TestAnalyzeLikeDelve(t *testing.T) {
	for i, b := range []testprog.Build{{}, {PIE: true}} {
		t.Run(b.String(), func(t *testing.T) {
			if i > 0 && testing.Short() {
				t.Skip("short")
			}
			h := die(t, b, "repanic", "-goroutines=20", "-other", "-http=127.0.0.1:0")
			core := coreOf(t, h, present(h))
			got := delveStacks(delve(t, b.Path(t), core, "goroutines -t 60"))
			_, notes := openCore(t, core)
			rep := coredump.Analyze(notes.Process, functionsOf(t, &h.Process), coredump.ReportLimits{})
			if rep.Total != len(got) {
				t.Errorf("%d goroutines, Delve has %d", rep.Total, len(got))
			}
			for _, g := range rep.Goroutines {
				if g.Thread != 0 {
					continue // Delve begins with the handler of a signal
				}
				var frames []string
				for _, f := range shownFrames(rep.Buckets[g.Bucket].Frames) {
					frames = append(frames, fmt.Sprintf("%s %s:%d", f.Function, f.File, f.Line))
				}
				want := got[fmt.Sprint(g.ID)]
				if len(want) > 0 && strings.HasPrefix(frames[0], "runtime.gopark ") {
					want[0] = frames[0] // whose line Delve takes from behind the call
				}
				if diff := cmp.Diff(want, frames); diff != "" {
					t.Errorf("goroutine %d (-Delve +ours):\n%s", g.ID, diff)
				}
			}
		})
	}
}
