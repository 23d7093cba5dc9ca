package coredump_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
)

// textDeaths are the ways testdata/dies knows, and what its text must tell.
var textDeaths = []struct {
	way, class, message string // message: a part of it
	signal              int
	function            string // that died, the first of package main
}{
	{"string", "panic:string", "panic: boom 42", 0, "main."},
	{"error", "panic:string", "panic: no such thing", 0, "main."},
	{"failure", "panic:string", "panic: failure of x", 0, "main."},
	{"string2", "panic:string", "panic: wrapped: x", 0, "main."},
	{"code", "panic:main.code", "panic: main.code(7)", 0, "main."},
	{"struct", "panic:main.point", "panic: (main.point) ", 0, "main."},
	{"pointer", "panic:*main.point", "panic: (*main.point) 0x", 0, "main."},
	{"again", "panic:string", "panic: first\nthen panic: second", 0, "main.again.func1"},
	{"same", "panic:string", "panic: first", 0, "main.again.func1"},
	{"deferred", "panic:string", "panic: root\nthen panic: in the deferred function", 0, "main."},
	{"index", "panic:runtime.boundsError", "index out of range [8] with length 0", 0, "main."},
	{"generic", "panic:runtime.boundsError", "index out of range [3]", 0, "main.pick[...]"},
	{"nil", "signal:SIGSEGV", "[signal SIGSEGV: segmentation violation code=", 11, "main."},
	{"divide", "panic:runtime.errorString", "integer divide by zero", 0, "main."},
	{"conversion", "panic:*runtime.TypeAssertionError", "interface conversion: interface {} is string, not int", 0, "main."},
	{"closed", "panic:runtime.plainError", "close of closed channel", 0, "main."},
	{"nilmap", "panic:runtime.plainError", "assignment to entry in nil map", 0, "main."},
	{"maps", "fatal:concurrent map writes", "fatal error: concurrent map writes", 0, "main."},
	{"deadlock", "fatal:all goroutines are asleep - deadlock!", "deadlock", 0, "main."},
	{"unlock", "fatal:sync: unlock of unlocked mutex", "unlocked mutex", 0, "main."},
	{"overflow", "fatal:stack overflow", "runtime: goroutine stack exceeds 1000000000-byte limit", 0, "main.deep"},
	{"memory", "fatal:out of memory", "", 0, "main."},
	{"fault", "signal:SIGSEGV", "unexpected fault address", 11, "main."},
	{"goroutine", "panic:string", "panic: elsewhere", 0, "main."},
	{"quit", "signal:SIGQUIT", "SIGQUIT: quit", 3, "main.raise"},
	{"abort", "signal:SIGABRT", "SIGABRT: abort", 6, "main.raise"},
	{"lines", "panic:string", "panic: boom\n\ngoroutine 1 [running]:", 0, "main."},
}

// buildDies builds testdata/dies with a release of Go, "" for the local one.
func buildDies(t testing.TB, toolchain string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "dies")
	cmd := exec.Command("go", "build", "-o", out, ".")
	cmd.Dir = filepath.Join("testdata", "dies")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off")
	if toolchain != "" {
		cmd.Env = append(cmd.Env, "GOTOOLCHAIN="+toolchain)
	}
	if msg, err := cmd.CombinedOutput(); err != nil {
		if toolchain != "" && os.Getenv("CI") != "true" && (bytes.Contains(msg, []byte("toolchain not available")) || bytes.Contains(msg, []byte("download go1"))) {
			t.Skipf("%s cannot be had: %s", toolchain, msg)
		}
		t.Fatalf("%s: %v\n%s", cmd, err, msg)
	}
	return out
}

// dieOf runs the program and returns what it wrote to its standard error.
func dieOf(t testing.TB, exe, traceback string, args ...string) []byte {
	t.Helper()
	// No core is wanted of those that ask for one.
	cmd := exec.CommandContext(t.Context(), "sh", append([]string{"-c", `ulimit -c 0; exec "$0" "$@"`, exe}, args...)...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "GOTRACEBACK="+traceback)
	var text bytes.Buffer
	cmd.Stderr = &text
	if err := cmd.Run(); err == nil {
		t.Fatalf("%s %v lives", exe, args)
	}
	return text.Bytes()
}

func TestTextOfDeaths(t *testing.T) {
	exe := buildDies(t, "")
	for _, level := range []string{"none", "single", "all", "system", "crash"} {
		t.Run(level, func(t *testing.T) { checkDeaths(t, exe, level) })
	}
}

// TestTextOfReleases reads the texts of older releases.
func TestTextOfReleases(t *testing.T) {
	if testing.Short() {
		t.Skip("builds with several releases of Go")
	}
	for _, release := range []string{"go1.20.14", "go1.21.13", "go1.22.12", "go1.23.12", "go1.24.9", "go1.25.5"} {
		t.Run(release, func(t *testing.T) {
			exe := buildDies(t, release)
			checkDeaths(t, exe, "all")
		})
	}
}

func checkDeaths(t *testing.T, exe, level string) {
	for _, d := range textDeaths {
		if d.way == "overflow" && level != "single" || d.way == "lines" && level != "single" {
			continue // the first takes a gigabyte; old releases do not indent the second, and it wants to be taken for a stack
		}
		const waiting = 25
		raw := dieOf(t, exe, level, d.way, "25")
		got, err := coredump.ParseText(bytes.NewReader(raw), coredump.TextLimits{})
		if err != nil {
			t.Errorf("%s, %s: %v\n%s", d.way, level, err, raw)
			continue
		}
		if !strings.HasPrefix(got.Class, d.class) || !strings.Contains(got.Message, d.message) || got.Signal != d.signal {
			t.Errorf("%s, %s: class %q, signal %d, message %q; want %q, %d, %q\n%s", d.way, level, got.Class, got.Signal, got.Message, d.class, d.signal, d.message, raw)
		}
		if level == "none" {
			continue
		}
		ours := ""
		for _, f := range got.Frames {
			if strings.HasPrefix(f.Function, "main.") {
				ours = f.Function
				if !strings.HasSuffix(f.File, "/main.go") || f.Line == 0 {
					t.Errorf("%s, %s: frame %+v", d.way, level, f)
				}
				break
			}
		}
		sent := d.way == "quit" || d.way == "abort" // whichever thread takes the signal, it may be idle
		if !strings.HasPrefix(ours, d.function) && !(sent && got.Goroutine == 0) {
			t.Errorf("%s, %s: died in %q, want %s\n%s", d.way, level, ours, d.function, raw)
		}
		checkBuckets(t, d.way+", "+level, got, level != "single", sent, waiting, raw)
		checkScan(t, d.way+", "+level, raw, got)
	}
}

// checkBuckets looks for the goroutines that wait, in one bucket.
func checkBuckets(t *testing.T, name string, got *coredump.Text, all, sent bool, waiting int, raw []byte) {
	t.Helper()
	sum, found, died := 0, 0, 0
	for _, b := range got.Text.Buckets {
		sum += b.Count
		if b.By != nil && b.By.Function == "main.main" && b.State == "chan receive" {
			found = b.Count
		}
		if b.First {
			died++
		}
	}
	if sum != got.Text.Goroutines || (died != 1 || got.Goroutine == 0) && !sent {
		t.Errorf("%s: %d goroutines in buckets, %d in all; %d died (%d)\n%s", name, sum, got.Text.Goroutines, died, got.Goroutine, raw)
	}
	if all && found != waiting {
		t.Errorf("%s: %d goroutines wait, want %d\n%s", name, found, waiting, raw)
	}
}

// checkScan looks for the text in a log.
func checkScan(t *testing.T, name string, raw []byte, want *coredump.Text) {
	t.Helper()
	var log bytes.Buffer
	log.WriteString("2026/11/22 01:02:03 listening\npanic attack\ngoroutine pool started\n\n")
	log.Write(raw)
	for range 40 {
		log.WriteString("2026/11/22 01:02:04 started again\n")
	}
	texts := scan(log.Bytes())
	if len(texts) != 1 {
		t.Errorf("%s: %d texts in the log, want 1\n%s", name, len(texts), raw)
		return
	}
	if got := texts[0]; got.Class != want.Class || got.Message != want.Message || got.Text.Goroutines != want.Text.Goroutines || len(got.Frames) != len(want.Frames) ||
		got.Text.Bytes < int64(len(raw))-2 || got.Text.Bytes > int64(len(raw)) {
		t.Errorf("%s: in a log it is %q, %q, %d goroutines, %d bytes; alone %q, %q, %d, %d", name, got.Class, got.Message, got.Text.Goroutines, got.Text.Bytes,
			want.Class, want.Message, want.Text.Goroutines, len(raw))
	}
}

func scan(log []byte) []*coredump.Text {
	var texts []*coredump.Text
	s := coredump.NewScanner(coredump.TextLimits{}, func(t *coredump.Text) { texts = append(texts, t) })
	for line := range bytes.Lines(log) {
		s.Line(bytes.TrimSuffix(line, []byte("\n")))
	}
	s.Flush(true)
	return texts
}

func TestTextIsNone(t *testing.T) {
	for _, text := range []string{"", "hello\n", "2026/11/22 01:02:03 panic attack\n\n\n", "{\"log\":7}", "exit status 2\n"} {
		_, err := coredump.ParseText(strings.NewReader(text), coredump.TextLimits{})
		if !errors.Is(err, inquest.ErrInvalid) {
			t.Errorf("%q: %v, want it invalid", text, err)
		}
	}
}
