package proc_test

import (
	"testing"
	"time"

	"github.com/goinquest/inquest/internal/proc"
)

// TestCorePatternTakesTurns has two who want the pattern at a time.
func TestCorePatternTakesTurns(t *testing.T) {
	release := proc.TakeCorePattern(t, "core.first")
	first, err := proc.CorePattern()
	if err != nil || first != "core.first" {
		t.Errorf("pattern %q, %v", first, err)
	}
	type held struct {
		pattern string
		release func() error
		err     error
	}
	second := make(chan held, 1)
	go func() {
		var h held
		if h.release, h.err = proc.HoldCorePattern(); h.err == nil {
			h.pattern, h.err = proc.CorePattern()
		}
		second <- h
	}()
	select {
	case <-second:
		t.Fatal("two have the pattern")
	case <-time.After(100 * time.Millisecond):
	}
	release()
	h := <-second
	if h.err != nil || h.pattern == "core.first" {
		t.Fatalf("pattern %q after its release, %v", h.pattern, h.err)
	}
	if err := h.release(); err != nil {
		t.Error(err)
	}
	release() // does nothing the second time
}
