package coredump_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/goinquest/inquest/coredump"
	"github.com/google/go-cmp/cmp"
)

const (
	stackOfMain = "goroutine 1 [running]:\nmain.main()\n\t/src/main.go:3 +0x1d\n"
	recovered   = "goroutine 35 [running]:\nruntime/debug.Stack()\n\t/go/src/runtime/debug/stack.go:26 +0x5e\nmain.handle.func1()\n\t/src/main.go:9 +0x4a\npanic({0x4ab980?, 0x4d2340?})\n\t/go/src/runtime/panic.go:860 +0x13a\n"
)

// TestScanner finds deaths in logs, and takes nothing else for one.
func TestScanner(t *testing.T) {
	someLines := strings.Repeat("an ordinary line\n", 20)
	tests := map[string]struct {
		log  string
		want []string // messages
	}{
		"nothing":                {"started\nlistening on :8080\n", nil},
		"one":                    {"started\npanic: a\n\n" + stackOfMain + "exit status 2\nstarted\n", []string{"panic: a"}},
		"one after another":      {"panic: a\n\n" + stackOfMain + "exit status 2\nfatal error: b\n\n" + stackOfMain, []string{"panic: a", "fatal error: b"}},
		"without exit status":    {"panic: a\n\n" + stackOfMain + "\npanic: b\n\n" + stackOfMain, []string{"panic: a", "panic: b"}},
		"lines between":          {"panic: a\n\ngoroutine 1 [running]:\nmain.main()\n12:00:00 request done\n\t/src/main.go:3 +0x1d\n" + someLines, []string{"panic: a"}},
		"of several lines":       {"panic: a\n\tb\n\tc [recovered]\n\tpanic: d\n\n" + stackOfMain, []string{"panic: a\nb\nc\nthen panic: d"}},
		"of several lines, old":  {"panic: a\nb\nc\n\n" + stackOfMain, []string{"panic: a"}},
		"nil":                    {"panic: n\n[signal SIGSEGV: x]\n\n" + stackOfMain, []string{"panic: n\n[signal SIGSEGV: x]"}},
		"with notices":           {"runtime: goroutine stack exceeds\nruntime: sp=0x1\nfatal error: stack overflow\n\nruntime stack:\nruntime.throw()\n\t/p.go:1\n\n" + stackOfMain, []string{"fatal error: stack overflow\nruntime: goroutine stack exceeds"}},
		"signal":                 {"SIGQUIT: quit\nPC=0x481063 m=0 sigcode=0\n\n" + stackOfMain + "\nrax    0xca\n\n-----\n\nSIGQUIT: quit\nPC=0x1 m=1 sigcode=0\n\ngoroutine 0 [idle]:\n", []string{"SIGQUIT: quit"}},
		"no stack, log ends":     {"panic: a\n", []string{"panic: a"}},
		"no stack, exits":        {"panic: a\nexit status 2\nstarted\n", []string{"panic: a"}},
		"no stack, log goes on":  {"panic: a\n\nstarted\n", nil},
		"a word":                 {"panic attack\npanic: button was pressed\nmore\n", nil},
		"a server that recovers": {"2026/11/22 01:02:03 http: panic serving 1.2.3.4:5: a\n" + recovered + someLines, nil},
		"a stack for debugging":  {recovered + someLines + stackOfMain, nil},
		"recovered, logged":      {"panic: a\n" + stackOfMain + someLines, nil},
		"recovered, spaced":      {"panic: a\n\n" + recovered + someLines, nil},
		"logged with a time":     {"2026/11/22 01:02:03 panic: a\n\n" + stackOfMain + someLines, nil},
		"a supervisor's times":   {wrappings["rfc3339"]("panic: a\n\n" + stackOfMain + "started\n"), []string{"panic: a"}},
		"signal in a log":        {"SIGTERM: shutting down\n", nil},
		"interleaved containers": {wrappings["docker"]("panic: a\n\n"+stackOfMain) + "plain line\n", []string{"panic: a"}},
	}
	for name, tt := range tests {
		var got []string
		for _, text := range scan([]byte(tt.log)) {
			got = append(got, text.Message)
			if bytes.Contains(text.Head, []byte("started")) || bytes.Contains(text.Head, []byte("ordinary")) {
				t.Errorf("%s: the text has lines of the log: %q", name, text.Head)
			}
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// TestScannerMessage reads messages of journald, which has no empty lines.
func TestScannerMessage(t *testing.T) {
	at := time.Date(2026, 11, 22, 1, 2, 3, 0, time.UTC)
	var texts []*coredump.Text
	s := coredump.NewScanner(coredump.TextLimits{}, func(t *coredump.Text) { texts = append(texts, t) })
	for line := range strings.Lines("panic: a\n" + stackOfMain) {
		s.Message([]byte(strings.TrimSuffix(line, "\n")), at)
	}
	if !s.Inside() {
		t.Error("not inside of a text that may go on")
	}
	s.Flush(false)
	if len(texts) != 1 || texts[0].Message != "panic: a" || !texts[0].At.Equal(at) || s.Inside() {
		t.Errorf("%d texts: %+v", len(texts), texts)
	}
}
