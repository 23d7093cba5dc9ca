package debug_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
	"github.com/goinquest/inquest/coredump/debug"
	"github.com/goinquest/inquest/internal/proc"
	"github.com/goinquest/inquest/internal/testprog"
	"github.com/goinquest/inquest/symbolize"
)

// all pages through the goroutines of a session.
func all(t testing.TB, s *debug.Session, page int) []debug.Goroutine {
	t.Helper()
	var out []debug.Goroutine
	for at := 0; at >= 0; {
		list, next, err := s.Goroutines(t.Context(), at, page)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, list...)
		at = next
	}
	return out
}

// dlv runs the real one on a core, with commands.
func dlv(t testing.TB, exe, core string, commands ...string) string {
	t.Helper()
	init := filepath.Join(t.TempDir(), "init")
	if err := os.WriteFile(init, []byte(strings.Join(append(commands, "exit"), "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "tool", "-modfile=../../tools/go.mod", "dlv", "core", exe, core, "--init", init, "--allow-non-terminal-interactive=true")
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "GOMODCACHE="+goEnv(t, "GOMODCACHE"), "GOCACHE="+goEnv(t, "GOCACHE"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		proc.Missing(t, "dlv: %v\n%s", err, out)
	}
	return string(out)
}

func goEnv(t testing.TB, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func TestGoroutinesAreThoseOfDlv(t *testing.T) {
	b := unoptimized
	args := []string{"-kind=panic", "-goroutines=300", "-http=127.0.0.1:0"}
	s := session(t, b, args...)
	exe, core := crash(t, b, args...)
	printed := regexp.MustCompile(`(?m)^\*? *Goroutine (\d+) - User: (\S+):(\d+) (\S+) \(0x`).FindAllStringSubmatch(dlv(t, exe, core, "goroutines"), -1)
	want := map[int64]string{}
	for _, m := range printed {
		id, _ := strconv.ParseInt(m[1], 10, 64)
		want[id] = filepath.Base(m[2]) + ":" + m[3] + " " + m[4]
	}
	got := map[int64]string{}
	for _, g := range all(t, s, 100) {
		got[g.ID] = filepath.Base(g.At.File) + ":" + strconv.Itoa(g.At.Line) + " " + g.At.Function
		if g.Problem != "" {
			t.Errorf("goroutine %d: %s", g.ID, g.Problem)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || len(got) < 300 {
		t.Errorf("%d goroutines, dlv has %d (-want +got)\n%s", len(got), len(want), diff)
	}
}

func TestStackVariablesPanics(t *testing.T) {
	s := session(t, unoptimized, "-kind=panic", "-goroutines=300", "-http=127.0.0.1:0")
	info := s.Info()
	if info.Trust != inquest.TrustExact || info.Delve != "1.27.2" || !strings.HasPrefix(info.GoVersion, "go1.") || len(info.Threads) == 0 || info.Warning != "" {
		t.Errorf("info %+v", info)
	}
	main := info.Threads[0].Goroutine
	if main != 1 {
		t.Errorf("goroutine %d died", main)
	}
	stack, err := s.Stack(t.Context(), main, 0)
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(stack, func(f debug.Frame) bool { return f.Function == "main.explicit" })
	if at < 0 || stack[at+1].Function != "main.(*request).dispatch" || stack[at].Line == 0 || stack[at].PC == 0 {
		t.Fatalf("stack %+v", stack)
	}
	scope, err := s.Variables(t.Context(), main, at, debug.Load{})
	if err != nil {
		t.Fatal(err)
	}
	if len(scope.Arguments) != 1 || scope.Arguments[0].Name != "r" || scope.Arguments[0].Type != "*main.request" {
		t.Fatalf("arguments %+v", scope.Arguments)
	}
	fields := map[string]string{}
	for _, f := range scope.Arguments[0].Children[0].Children {
		fields[f.Name] = f.Type + " " + f.Value
	}
	want := map[string]string{"kind": "string explicit", "user": "*main.user 0x0", "payload": "[]uint8 ", "count": "int 9", "ctx": "context.Context "}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Error(diff)
	}
	text, err := s.Eval(t.Context(), main, at, `string(r.payload)`, debug.Load{String: 10})
	if err != nil || text.Value != "payload of" || text.Len != 32 || !text.Cut {
		t.Errorf("payload %+v, %v", text, err)
	}
	panics, err := s.Panics(t.Context(), main, debug.Load{})
	if err != nil || len(panics) != 1 || panics[0].Recovered || panics[0].Value.Children[0].Value != "explicit: payload of the request that died" {
		t.Errorf("panics %+v, %v", panics, err)
	}
	regs, err := s.Registers(t.Context(), 0)
	if err != nil || len(regs) < 10 {
		t.Errorf("registers %+v, %v", regs, err)
	}
}

func TestQuestionsThatHaveNoAnswer(t *testing.T) {
	s := session(t, unoptimized, "-kind=panic", "-goroutines=300", "-http=127.0.0.1:0")
	eval := func(goroutine int64, frame int, what string) error {
		_, err := s.Eval(t.Context(), goroutine, frame, what, debug.Load{})
		return err
	}
	for _, test := range []struct {
		name string
		err  error
		kind error
	}{
		{"no such goroutine", eval(1<<40, 0, "1"), inquest.ErrNotFound},
		{"no such frame", eval(1, 500, "1"), inquest.ErrNotFound},
		{"a negative frame", eval(1, -1, "1"), inquest.ErrInvalid},
		{"no such name", eval(1, 0, "nothingOfTheKind"), inquest.ErrInvalid},
		{"a call", eval(1, 0, "main.kinds()"), inquest.ErrInvalid},
		{"a long expression", eval(1, 0, strings.Repeat("1+", 5000)+"1"), inquest.ErrTooLarge},
		{"a deep expression", eval(1, 0, strings.Repeat("(", 2000)+"1"+strings.Repeat(")", 2000)), nil},
	} {
		if test.kind != nil && !errors.Is(test.err, test.kind) {
			t.Errorf("%s: %v", test.name, test.err)
		}
	}
	if err := eval(1, 0, "1+1"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestRepanic(t *testing.T) {
	s := session(t, testprog.Build{}, "-kind=repanic")
	panics, err := s.Panics(t.Context(), 1, debug.Load{})
	if err != nil || len(panics) != 2 {
		t.Fatalf("%+v, %v", panics, err)
	}
	var values []string
	for _, p := range panics {
		values = append(values, p.Value.Children[0].Value)
	}
	want := []string{"again: explicit: payload of the request that died", "explicit: payload of the request that died"}
	if diff := cmp.Diff(want, values); diff != "" {
		t.Error(diff)
	}
}

// TestMinicore opens what a collector has of most deaths, as it would.
func TestMinicore(t *testing.T) {
	confined(t)
	exe, core := crash(t, testprog.Build{}, "-kind=repanic")
	mini := filepath.Join(t.TempDir(), "core")
	writeMinicore(t, mini, exe, core)
	s, err := debug.Open(t.Context(), debug.Options{Exe: open(t, exe), Core: open(t, mini)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got, want := len(all(t, s, 0)), len(all(t, session(t, testprog.Build{}, "-kind=repanic"), 0)); got != want {
		t.Errorf("%d goroutines, the whole core has %d", got, want)
	}
	panics, err := s.Panics(t.Context(), 1, debug.Load{})
	if err != nil || len(panics) != 2 || panics[1].Value.Children[0].Value != "explicit: payload of the request that died" {
		t.Errorf("panics %+v, %v", panics, err)
	}
}

// writeMinicore makes an image of a core, as agents do, and of the image the
// ELF core, as collectors do.
func writeMinicore(t *testing.T, to, exe, core string) {
	t.Helper()
	e := open(t, exe)
	info, err := e.Stat()
	if err != nil {
		t.Fatal(err)
	}
	funcs, err := symbolize.OpenFunctions(e, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	var image bytes.Buffer
	_, err = coredump.ImportFile(t.Context(), open(t, core), &image, coredump.ImportOptions{
		Core: inquest.Core{Tier: inquest.TierMini},
		Select: func(p *coredump.Process) ([]coredump.Extent, error) {
			r, err := coredump.OpenRuntime(p, funcs)
			if err != nil {
				return nil, err
			}
			return coredump.Select(p, r, coredump.Selection{})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	im, err := coredump.OpenImage(bytes.NewReader(image.Bytes()), int64(image.Len()))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := im.CoreFile().WriteSparse(f); err != nil {
		t.Fatal(err)
	}
}

func TestWrongExecutableIsRefused(t *testing.T) {
	confined(t)
	_, core := crash(t, testprog.Build{}, "-kind=repanic")
	other := testprog.Build{Trimpath: true}.Path(t)
	_, err := debug.Open(t.Context(), debug.Options{Exe: open(t, other), Core: open(t, core)})
	if !errors.Is(err, inquest.ErrConflict) {
		t.Errorf("another build: %v", err)
	}
	_, err = debug.Open(t.Context(), debug.Options{Exe: open(t, other), Core: open(t, core), Unidentified: true})
	if !errors.Is(err, inquest.ErrConflict) {
		t.Errorf("another build, unidentified: %v", err)
	}
	_, err = debug.Open(t.Context(), debug.Options{Exe: open(t, core), Core: open(t, core)})
	if err == nil {
		t.Error("a core as an executable was taken")
	}
	stripped := testprog.Build{Stripped: true}
	exe, core := crash(t, stripped, "-kind=nil")
	_, err = debug.Open(t.Context(), debug.Options{Exe: open(t, exe), Core: open(t, core)})
	if !errors.Is(err, inquest.ErrInvalid) || !strings.Contains(err.Error(), "no debug information") {
		t.Errorf("a stripped one: %v", err)
	}
}

func TestBuildsAndDeaths(t *testing.T) {
	for _, test := range []struct {
		build testprog.Build
		kinds []string
	}{
		{testprog.Build{}, []string{"nil", "deadlock", "stack", "abort"}},
		{testprog.Build{PIE: true}, []string{"nil"}},
		{testprog.Build{CGO: true}, []string{"nil", "abort"}},
	} {
		b := test.build
		for _, kind := range test.kinds {
			t.Run(b.String()+" "+kind, func(t *testing.T) {
				s := session(t, b, "-kind="+kind)
				list := all(t, s, 0)
				if !slices.ContainsFunc(list, func(g debug.Goroutine) bool {
					return g.ID == 1 && strings.HasPrefix(g.Started.Function, "runtime.main")
				}) {
					t.Errorf("goroutines %+v", list)
				}
				for _, goroutine := range []int64{0, 1} {
					stack, err := s.Stack(t.Context(), goroutine, 50)
					if err != nil || len(stack) == 0 {
						t.Errorf("stack of %d: %+v, %v", goroutine, stack, err)
					}
					for i, f := range stack {
						if f.Function == "" {
							continue
						}
						if _, err := s.Variables(t.Context(), goroutine, i, debug.Load{}); err != nil {
							t.Errorf("variables of %d/%d: %v", goroutine, i, err)
						}
					}
				}
				main, err := s.Stack(t.Context(), 1, 0)
				if err != nil || !slices.ContainsFunc(main, func(f debug.Frame) bool { return strings.HasPrefix(f.Function, "main.") }) {
					t.Errorf("stack %+v, %v", main, err)
				}
			})
		}
	}
}

func TestJSON(t *testing.T) {
	in := debug.Variable{Name: "p", Type: "*main.T", Address: 0xc000012345}
	b, err := json.Marshal(in)
	if err != nil || string(b) != `{"name":"p","type":"*main.T","address":"0xc000012345"}` {
		t.Fatalf("%s, %v", b, err)
	}
	var out debug.Variable
	if err := json.Unmarshal(b, &out); err != nil || out.Address != in.Address {
		t.Errorf("%+v, %v", out, err)
	}
}
