package coredump_test

import (
	"bytes"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
	"github.com/google/go-cmp/cmp"
)

// FuzzText reads whatever comes, whole and byte by byte, alone and in a log.
func FuzzText(f *testing.F) {
	for _, wrap := range wrappings {
		f.Add([]byte(wrap(report)))
	}
	f.Add([]byte("panic: a\n\tb [recovered]\n\tpanic: c\n[signal SIGSEGV: x]\n\ngoroutine 1 [running]:\nmain.main()\n\t/a.go:1"))
	f.Add([]byte("WARNING: DATA RACE\n  a.b()\n      /a.go:1 +0x1\n\n"))
	f.Add([]byte("SIGQUIT: quit\nPC=0x1 m=0 sigcode=0\n\ngoroutine 0 [idle]:\n\n-----\n\nSIGQUIT: quit\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		limits := coredump.TextLimits{KeepBytes: 100, Buckets: 3}
		whole := coredump.NewTextParser(limits)
		_, _ = whole.Write(text)
		found := whole.Found()
		a := whole.Text()
		parts := coredump.NewTextParser(limits)
		for i := range text {
			_, _ = parts.Write(text[i : i+1])
		}
		if parts.Found() != found && bytes.HasSuffix(text, []byte("\n")) {
			t.Errorf("found %v whole, %v in parts", found, !found)
		}
		if d := cmp.Diff(a, parts.Text()); d != "" {
			t.Error(d)
		}
		sum := 0
		for _, b := range a.Text.Buckets {
			sum += b.Count
		}
		if sum > a.Text.Goroutines || len(a.Text.Buckets) > 3 || len(a.Frames) > inquest.CrashFrames || len(a.Head) > 100 ||
			a.Text.Bytes != int64(len(text)) || a.Class == "" || len(a.Message) > 32<<10 {
			t.Errorf("%d goroutines of %d in %d buckets, %d frames, %d bytes kept of %d, class %q", sum, a.Text.Goroutines, len(a.Text.Buckets), len(a.Frames), len(a.Head), len(text), a.Class)
		}
		for _, found := range scan(text) {
			if found.Text.Bytes > int64(len(text))+1+int64(bytes.Count(text, []byte("\n"))) {
				t.Errorf("a text of %d bytes in a log of %d", found.Text.Bytes, len(text))
			}
		}
	})
}

// TestTextHostile feeds what could take more than linear time or bounded memory.
func TestTextHostile(t *testing.T) {
	const size = 1 << 20
	stacks := "panic: x\n\ngoroutine 1 [running]:\n"
	tests := map[string]string{
		"one line":          strings.Repeat("x", size),
		"parentheses":       strings.Repeat("(", size) + ")\n",
		"calls":             stacks + strings.Repeat("a(", size/2) + ")\n",
		"colons":            stacks + "main.main()\n\t" + strings.Repeat(":1", size/2),
		"tabs":              strings.Repeat("\t\n", size/2),
		"empty lines":       stacks + strings.Repeat("\n", size),
		"panics":            strings.Repeat("panic: x\n\t", size/10),
		"fatals":            strings.Repeat("fatal error: x\n", size/15),
		"signals":           strings.Repeat("SIGQUIT: quit\n-----\n", size/20),
		"headers":           strings.Repeat("goroutine 7 [running]:\n", size/23),
		"absent":            numbered("goroutine %d [running]:\n\tgoroutine running on other thread; stack unavailable\n", size/70),
		"states":            numbered("goroutine 1 [running %d]:\n", size/30),
		"functions":         stacks + numbered("main.f%d()\n\t/a.go:1\n", size/30),
		"stacks":            numbered("goroutine 1 [running]:\nmain.f%d()\n\t/a.go:1\n", size/50),
		"long panic":        "panic: " + strings.Repeat("a\n\t", size/3),
		"docker, no end":    strings.Repeat(`{"log":"panic: x"}`+"\n", size/20),
		"docker, nested":    `{"log":"` + strings.Repeat(`{`, size) + "\n",
		"cri parts, no end": strings.Repeat("2026-11-22T01:02:03Z stderr P panic: boom\n", size/42),
		"times":             strings.Repeat("2026-11-22T01:02:03Z ", size/21),
		"races":             strings.Repeat("WARNING: DATA RACE\n  main.main()\n      /a.go:1\n\n", size/50),
		"notices":           strings.Repeat("runtime: x\n", size/11),
		"digits":            "goroutine " + strings.Repeat("9", size) + " [running]:\n",
	}
	for name, text := range tests {
		began := time.Now()
		got, _ := coredump.ParseText(strings.NewReader(text), coredump.TextLimits{})
		texts := scan([]byte(text))
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("%s: %d bytes took %v", name, len(text), took)
		}
		if len(got.Text.Buckets) > 256 || len(got.Message) > 32<<10 || len(got.Class) > 200 || len(texts) > len(text)/10 {
			t.Errorf("%s: %d buckets, message of %d bytes, class of %d, %d texts", name, len(got.Text.Buckets), len(got.Message), len(got.Class), len(texts))
		}
	}
}

// numbered repeats the line, with the numbers from 1 in place of its %d.
func numbered(line string, n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Replace(line, "%d", strconv.Itoa(i+1), 1))
	}
	return b.String()
}
