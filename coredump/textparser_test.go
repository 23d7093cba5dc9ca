package coredump_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
	"github.com/google/go-cmp/cmp"
)

// TestTextClass has the rule for classes, row by row.
func TestTextClass(t *testing.T) {
	tests := []struct{ line, class string }{
		{"panic: boom", "panic:string"},
		{"panic: ", "panic:string"},
		{"panic: nil", "panic:nil"},
		{"panic: 42", "panic:int"},
		{"panic: -42 [recovered]", "panic:int"},
		{"panic: +1.500000e+000", "panic:float64"},
		{"panic: true", "panic:bool"},
		{`panic: main.MyErr("disk 7 is full")`, "panic:main.MyErr"},
		{"panic: store.Code(12)", "panic:store.Code"},
		{"panic: store.Ok(false)", "panic:store.Ok"},
		{"panic: (main.T) 0x4d2320", "panic:main.T"},
		{"panic: (*main.T) 0xc000012080", "panic:*main.T"},
		{"panic: (main.T) {…}", "panic:main.T"},
		{"panic: (see above) 0x12", "panic:string"},
		{"panic: open x (no such file)", "panic:string"},
		{"panic: runtime error: index out of range [5] with length 3", "panic:runtime.boundsError"},
		{"panic: runtime error: slice bounds out of range [:9] with capacity 4", "panic:runtime.boundsError"},
		{"panic: runtime error: integer divide by zero", "panic:runtime.errorString"},
		{"panic: interface conversion: main.I is nil, not main.T", "panic:*runtime.TypeAssertionError"},
		{"panic: panic called with nil argument (use GODEBUG=panicnil=1 to disable)", "panic:*runtime.PanicNilError"},
		{"panic: send on closed channel", "panic:runtime.plainError"},
		{"fatal error: concurrent map iteration and map write", "fatal:concurrent map iteration and map write"},
		{"fatal error: found bad pointer 0xc0001234 in span 17", "fatal:found bad pointer # in span #"},
		{`fatal error: checkptr: "a b" and s2`, "fatal:checkptr: # and s2"},
		{"[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x47a6c3]", "signal:SIGSEGV"},
		{"SIGABRT: abort", "signal:SIGABRT"},
		{"SIGNAL: none", inquest.ClassUnknown},
		{"panic: a\n\tpanic: 7", "panic:string"},
		{"panic: 7 [recovered]\n\tpanic: a", "panic:int"},
		{"panic: a\n\tfatal error: all goroutines are asleep - deadlock!", "fatal:all goroutines are asleep - deadlock!"},
		{"panic: runtime error: invalid memory address or nil pointer dereference\n[signal SIGBUS: bus error code=0x2 addr=0x0 pc=0x1]", "signal:SIGBUS"},
		{"", inquest.ClassUnknown},
	}
	for _, tt := range tests {
		text := tt.line + "\n\ngoroutine 1 [running]:\nmain.main()\n\t/src/main.go:3 +0x1d\n"
		got, err := coredump.ParseText(strings.NewReader(text), coredump.TextLimits{})
		if err != nil || got.Class != tt.class {
			t.Errorf("%q: class %q, %v, want %q", tt.line, got.Class, err, tt.class)
		}
	}
}

const report = `runtime: out of memory: cannot allocate 4194304-byte block (3900000000 in use)
fatal error: out of memory

goroutine 7 gp=0xc0000061e0 m=3 mp=0xc00007c808 [running, locked to thread]:
main.(*Server[...]).serve(0xc00001, {0x1, 0x2, ...}, 0x7?)
	/src/a b/server.go:12 +0x1d fp=0xc0000 sp=0xc0001 pc=0x401
2026/11/22 01:02:03 a line of somebody else
panic({0x4ab980?, 0x4d2340?})
	/go/src/runtime/panic.go:860 +0x13a
gopkg.in/yaml%2ev3.(*Decoder).Decode(...)
	/go/pkg/yaml.go:1
...23 frames elided...
created by main.main in goroutine 1
	/src/main.go:9 +0x2
[originating from goroutine 1]:
main.ancestor(...)
	/src/main.go:99 +0x3

goroutine 8 [chan receive, 5 minutes]:
main.wait()
	/src/main.go:20 +0x1
created by main.main
	/src/main.go:8 +0x2

goroutine 9 [chan receive, 61 minutes labels:{"a": "b, 9 minutes]:"}]:
main.wait()
	/src/main.go:20 +0x1
created by main.main
	/src/main.go:8 +0x2

goroutine 10 [select (no cases) (leaked) (scan), synctest bubble 3]:
non-Go function at pc=7f1234
main.c()
	/src/main.go:30 +0x1

goroutine 11 gp=0xc01 m=5 mp=0xc02 [running]:
	goroutine running on other thread; stack unavailable
created by main.main in goroutine 1
	/src/main.go:8 +0x2

rax    0xca
cs     0x33

-----

SIGQUIT: quit
PC=0x481063 m=1 sigcode=0

goroutine 0 gp=0xc03 m=1 mp=0xc04 [idle]:
runtime.futex(0x58aa40, 0x80)
	/go/src/runtime/sys.s:557 +0x21
goroutine 11 gp=0xc01 m=5 mp=0xc02 [running]:
main.busy()
	/src/main.go:40 +0x1
created by main.main in goroutine 1
	/src/main.go:8 +0x2
exit status 2
`

func TestTextParts(t *testing.T) {
	at := func(file string, line int, function string) inquest.Frame {
		return inquest.Frame{Function: function, File: file, Line: line}
	}
	by8 := at("/src/main.go", 8, "main.main")
	by9 := at("/src/main.go", 9, "main.main")
	died := []inquest.Frame{
		at("/src/a b/server.go", 12, "main.(*Server[...]).serve"), at("/go/src/runtime/panic.go", 860, "runtime.gopanic"),
		at("/go/pkg/yaml.go", 1, "gopkg.in/yaml%2ev3.(*Decoder).Decode"),
	}
	want := &coredump.Text{
		Class: "fatal:out of memory", Goroutine: 7, Frames: died,
		Message: "fatal error: out of memory\nruntime: out of memory: cannot allocate 4194304-byte block (3900000000 in use)",
		Text: inquest.CrashText{Goroutines: 5, Buckets: []inquest.GoroutineBucket{
			{State: "chan receive", Count: 2, IDs: []int64{8, 9}, Wait: 61, Frames: []inquest.Frame{at("/src/main.go", 20, "main.wait")}, By: &by8},
			{State: "running", Count: 1, IDs: []int64{7}, Locked: true, First: true, Cut: true, By: &by9, Frames: died},
			{State: "select (no cases) (leaked)", Count: 1, IDs: []int64{10}, Frames: []inquest.Frame{{Function: "non-Go function"}, at("/src/main.go", 30, "main.c")}},
			{State: "running", Count: 1, IDs: []int64{11}, Frames: []inquest.Frame{at("/src/main.go", 40, "main.busy")}, By: &by8},
		}},
	}
	for name, wrap := range wrappings {
		text := wrap(report)
		got, err := coredump.ParseText(strings.NewReader(text), coredump.TextLimits{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want.Text.Bytes, want.Text.Kept = int64(len(text)), int64(len(text))
		if string(got.Head) != text {
			t.Errorf("%s: the text was not kept", name)
		}
		got.Head, got.At = nil, time.Time{}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// wrappings are what logs make of a text.
var wrappings = map[string]func(string) string{
	"plain":   func(s string) string { return s },
	"windows": func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") },
	"spaces":  func(s string) string { return strings.ReplaceAll(s, "\n\t", "\n        ") },
	"docker": eachLine(func(l string) string {
		return fmt.Sprintf(`{"log":%s,"stream":"stderr","time":"2026-11-22T01:02:03.123456789Z"}`, jsonString(l+"\n"))
	}),
	"docker in parts": eachLine(func(l string) string {
		return fmt.Sprintf(`{"log":%s,"stream":"stderr","time":"2026-11-22T01:02:03Z"}`+"\n"+`{"log":%s,"stream":"stderr","time":"2026-11-22T01:02:03Z"}`,
			jsonString(l[:len(l)/2]), jsonString(l[len(l)/2:]+"\n"))
	}),
	"cri": eachLine(func(l string) string { return "2026-11-22T01:02:03.123456789Z stderr F " + l }),
	"cri in parts": eachLine(func(l string) string {
		return "2026-11-22T01:02:03Z stderr P " + l[:len(l)/2] + "\n2026-11-22T01:02:03+01:00 stderr F " + l[len(l)/2:]
	}),
	"journal":     eachLine(func(l string) string { return "Nov 22 01:02:03 host svc[123]: " + l }),
	"journal iso": eachLine(func(l string) string { return "2026-11-22T01:02:03+0000 host svc[123]: " + l }),
	"rfc3339":     eachLine(func(l string) string { return "2026-11-22T01:02:03.5Z " + l }),
	"go log":      eachLine(func(l string) string { return "2026/11/22 01:02:03.123456 " + l }),
	"compose":     eachLine(func(l string) string { return "svc-1  | " + l }),
}

func eachLine(f func(string) string) func(string) string {
	return func(s string) string {
		lines := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
		for i, l := range lines {
			lines[i] = f(l)
		}
		return strings.Join(lines, "\n") + "\n"
	}
}

func jsonString(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(s) + `"`
}

// TestTextRace reads a report of the race detector.
func TestTextRace(t *testing.T) {
	const text = `==================
WARNING: DATA RACE
Write at 0x00c00001c0b8 by goroutine 7:
  main.main.func1()
      /src/main.go:8 +0x3c
  main.main()
      /src/main.go:5 +0x1

Previous write at 0x00c00001c0b8 by main goroutine:
  main.other()
      /src/main.go:10 +0xb5

Goroutine 7 (running) created at:
  main.main()
      /src/main.go:7 +0xad
==================
`
	got, err := coredump.ParseText(strings.NewReader(text), coredump.TextLimits{})
	want := []inquest.Frame{{Function: "main.main.func1", File: "/src/main.go", Line: 8}, {Function: "main.main", File: "/src/main.go", Line: 5}}
	if err != nil || got.Class != "fatal:data race" || got.Text.Goroutines != 0 {
		t.Errorf("class %q, %d goroutines, %v", got.Class, got.Text.Goroutines, err)
	}
	if d := cmp.Diff(want, got.Frames); d != "" {
		t.Error(d)
	}
	if texts := scan([]byte(text + text)); len(texts) != 0 {
		t.Errorf("a process that goes on was taken for dead: %+v", texts[0])
	}
}

// TestTextOfCrashOutput reads what SetCrashOutput has of a throw: all but why.
func TestTextOfCrashOutput(t *testing.T) {
	_, stacks, _ := strings.Cut(report, "memory\n\n")
	got, err := coredump.ParseText(strings.NewReader("\n"+stacks), coredump.TextLimits{})
	if err != nil || got.Class != inquest.ClassUnknown || got.Message != "" || got.Goroutine != 7 {
		t.Errorf("class %q, message %q, goroutine %d, %v", got.Class, got.Message, got.Goroutine, err)
	}
	crash := inquest.Crash{Class: "fatal:out of memory", Message: "fatal error: out of memory"}
	if got.Crash(&crash); crash.Class != "fatal:out of memory" || crash.Message == "" || len(crash.Frames) != 3 || crash.Text.Goroutines != 5 {
		t.Errorf("a text without a reason took one away: %+v", crash)
	}
}

// bigText writes goroutines of many stacks until it has as many bytes.
func bigText(bytesWanted int) []byte {
	var b bytes.Buffer
	b.WriteString("fatal error: out of memory\n\n")
	for i := 1; b.Len() < bytesWanted; i++ {
		fmt.Fprintf(&b, "goroutine %d [chan receive, %d minutes]:\n", i, i%60)
		if i%10 == 0 {
			fmt.Fprintf(&b, "main.unlike%d(0x1)\n\t/src/main.go:%d +0x1d\n", i, i)
		}
		for f := range 7 {
			fmt.Fprintf(&b, "example.com/service/internal/part.(*Worker).step%d(0xc%08x, {0x1, 0x2, 0x3})\n\t/src/example.com/service/internal/part/worker.go:%d +0x1d\n", f, i, f*10)
		}
		b.WriteString("created by example.com/service.Start in goroutine 1\n\t/src/start.go:1 +0x1\n\n")
	}
	return b.Bytes()
}

func TestTextBig(t *testing.T) {
	size := 90 << 20
	if testing.Short() {
		size = 9 << 20
	}
	text := bigText(size)
	p := coredump.NewTextParser(coredump.TextLimits{Buckets: 20})
	began := time.Now()
	for rest := text; len(rest) > 0; {
		n := min(len(rest), 1<<20)
		_, _ = p.Write(rest[:n])
		rest = rest[n:]
	}
	took := time.Since(began)
	got := p.Text()
	t.Logf("%d MiB, %d goroutines in %v, %.0f MB/s", len(text)>>20, got.Text.Goroutines, took, float64(len(text))/1e6/took.Seconds())
	goroutines := bytes.Count(text, []byte("]:\n"))
	if got.Text.Goroutines != goroutines || len(got.Text.Buckets) != 20 || got.Text.Buckets[0].Count != goroutines-goroutines/10-1 && got.Text.Buckets[0].Count != goroutines-goroutines/10 ||
		got.Text.Buckets[0].Wait != 59 || !got.Text.Truncated || got.Text.Kept != 1<<20 || got.Text.Bytes != int64(len(text)) {
		t.Errorf("%d goroutines of %d, %d buckets of %d, kept %d of %d", got.Text.Goroutines, goroutines, len(got.Text.Buckets), got.Text.Buckets[0].Count, got.Text.Kept, got.Text.Bytes)
	}
}

func BenchmarkText(b *testing.B) {
	text := bigText(8 << 20)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := coredump.ParseText(bytes.NewReader(text), coredump.TextLimits{}); err != nil {
			b.Fatal(err)
		}
	}
}
