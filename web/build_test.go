package web_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	pprof "github.com/google/pprof/profile"

	"github.com/goinquest/inquest/symbolize"
	"github.com/goinquest/inquest/web"
)

// shopBinary is a real program in a file.
type shopBinary struct {
	id   string
	data []byte
}

// shopBinaries are builds of a small program with modules, one of which is
// replaced, in a repository of its own.
type shopBinaries struct {
	clean    shopBinary    // with DWARF
	stripped shopBinary    // of changed sources, with -s -w
	twins    [2]shopBinary // of one id, of different code
	debug    []byte        // companion of clean; nil if there is no objcopy
}

var errNoTool = errors.New("not on PATH")

// theShop is built once for all tests.
var theShop = sync.OnceValues(buildShop)

func buildShop() (*shopBinaries, error) {
	dir, err := os.MkdirTemp("", "inquest-shop-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600))
	}
	run := func(name string, args ...string) {
		if err != nil {
			return
		}
		if _, missing := exec.LookPath(name); missing != nil {
			err = fmt.Errorf("%s is %w", name, errNoTool)
			return
		}
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off", "GOPROXY=off", "CGO_ENABLED=0",
			"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
		if out, failed := cmd.CombinedOutput(); failed != nil {
			err = fmt.Errorf("%s %v: %w: %s", name, args, failed, out)
		}
	}
	program := func(say string) {
		write("cmd/checkout/main.go", "package main\n\nimport (\n\t\"example.com/money\"\n\t\"example.com/tax\"\n)\n\nfunc main() { println(money.Sum(7) + tax.Of(8), \""+say+"\") }\n")
	}
	build := func(args ...string) (b shopBinary) {
		run("go", append(append([]string{"build", "-buildvcs=true", "-o", "out"}, args...), "./cmd/checkout")...)
		if err != nil {
			return b
		}
		if b.data, err = os.ReadFile(filepath.Join(dir, "out")); err != nil {
			return b
		}
		is, bad := symbolize.Identify(bytes.NewReader(b.data), int64(len(b.data)))
		if bad != nil {
			err = bad
			return b
		}
		b.id = is.ID
		return b
	}
	write(".gitignore", "out*\n")
	write("go.mod", "module example.com/shop\n\ngo 1.26\n\nrequire (\n\texample.com/money v1.2.0\n\texample.com/tax v0.3.1\n)\n\nreplace example.com/money => ./third/money\nreplace example.com/tax => ./third/tax\n")
	write("third/money/go.mod", "module example.com/money\n\ngo 1.26\n")
	write("third/money/money.go", "package money\n\n//go:noinline\nfunc Sum(n int) int { return n * n }\n")
	write("third/tax/go.mod", "module example.com/tax\n\ngo 1.26\n")
	write("third/tax/tax.go", "package tax\n\n//go:noinline\nfunc Of(n int) int { return n / 5 }\n")
	program("clean")
	run("git", "init", "-q")
	run("git", "add", "-A")
	run("git", "commit", "-q", "-m", "shop")
	s := &shopBinaries{clean: build()}
	if _, missing := exec.LookPath("objcopy"); missing == nil {
		run("objcopy", "--only-keep-debug", "out", "out.debug")
		if err == nil {
			s.debug, err = os.ReadFile(filepath.Join(dir, "out.debug"))
		}
	}
	const fixed = "-ldflags=-w -B 0x00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee"
	s.twins[0] = build(fixed)
	program("dirty")
	write("third/tax/tax.go", "package tax\n\n//go:noinline\nfunc Of(n int) int { return n / 4 }\n")
	s.stripped, s.twins[1] = build("-ldflags=-s -w"), build(fixed)
	return s, err
}

// shop is theShop for a test.
func shop(t *testing.T) *shopBinaries {
	t.Helper()
	s, err := theShop()
	if errors.Is(err, errNoTool) {
		missing(t, strings.Fields(err.Error())[0])
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newShopWorld is a collector with binaries of the shop, and profiles that say
// they are of them, and of a build nothing else is known of.
func newShopWorld(t *testing.T, o web.Options, headers ...string) (*world, *shopBinaries) {
	t.Helper()
	s, w := shop(t), newWorld(t, o)
	w.mustPut(s.clean.id, s.clean.data, headers...)
	w.mustPut(s.stripped.id, s.stripped.data, append([]string{"Inquest-Agent: node-1/a"}, headers...)...)
	w.mustPut(s.twins[0].id, s.twins[0].data, headers...)
	w.mustPut(s.twins[1].id, s.twins[1].data, headers...)
	if s.debug != nil {
		w.mustPut(s.clean.id, s.debug, headers...)
	}
	now := time.Now().UTC()
	for i, p := range []struct{ service, build, release string }{
		{"checkout", s.clean.id, "v1"}, {"checkout", s.stripped.id, "v2"}, {"cart", s.stripped.id, ""}, {"legacy", "feedfacefeedfacefeedface", ""},
	} {
		start := now.Add(time.Duration(i-200) * time.Minute)
		body := checkoutProfile(t, start)
		w.push(fmt.Sprintf("service=%s&build=%s&release=%s&kind=cpu&start=%s&end=%s", p.service, p.build, p.release, start.Format(time.RFC3339), start.Add(10*time.Second).Format(time.RFC3339)), body, headers...)
	}
	return w, s
}

// checkoutProfile is a second of one function, of no executable by itself.
func checkoutProfile(t *testing.T, start time.Time) []byte {
	t.Helper()
	fn := &pprof.Function{ID: 1, Name: "main.checkout", Filename: "main.go"}
	at := &pprof.Location{ID: 1, Line: []pprof.Line{{Function: fn, Line: 8}}}
	p := &pprof.Profile{
		SampleType: []*pprof.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		PeriodType: &pprof.ValueType{Type: "cpu", Unit: "nanoseconds"}, Period: 10_000_000, TimeNanos: start.UnixNano(), DurationNanos: 10e9,
		Sample: []*pprof.Sample{{Location: []*pprof.Location{at}, Value: []int64{100, 1e9}}}, Location: []*pprof.Location{at}, Function: []*pprof.Function{fn},
	}
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// buildAnswer is what the tests read of /api/v1/builds.
type buildAnswer struct {
	Values []struct {
		ID, Code    string
		ModuleCount int `json:"module_count"`
		Conflict    bool
		Modules     []struct{ Path string }
		Binaries    []struct{ Kind, Trust, Why string }
	}
}

func TestBuildDetail(t *testing.T) {
	w, s := newShopWorld(t, web.Options{})
	var short, long, twin buildAnswer
	w.getJSON("/api/v1/builds?id="+s.clean.id, &short)
	w.getJSON("/api/v1/builds?detail=true&id="+s.clean.id, &long)
	w.getJSON("/api/v1/builds?detail=true&id="+s.twins[0].id, &twin)
	if len(short.Values) != 1 || len(long.Values) != 1 || len(twin.Values) != 1 {
		t.Fatalf("one build each is wanted: %+v\n%+v\n%+v", short, long, twin)
	}
	a, b := short.Values[0], long.Values[0]
	if a.ModuleCount != 2 || len(a.Modules) != 0 || len(a.Binaries) == 0 || a.Binaries[0].Trust != "" {
		t.Errorf("without detail: %+v, want the number of modules, not what they are, and no trust", a)
	}
	if b.ModuleCount != 2 || len(b.Modules) != 2 || b.Code != "dwarf" {
		t.Errorf("with detail: %+v, want both modules", b)
	}
	for _, c := range b.Binaries {
		if c.Trust != "exact" || c.Why == "" {
			t.Errorf("%s is trusted %q (%q), want exact and a reason", c.Kind, c.Trust, c.Why)
		}
	}
	if s.debug != nil && len(b.Binaries) != 2 {
		t.Errorf("%d binaries, want the program and its companion", len(b.Binaries))
	}
	for _, c := range twin.Values[0].Binaries {
		if c.Trust != "none" || !strings.Contains(c.Why, "other code") {
			t.Errorf("a binary whose id another one has is trusted %q (%q)", c.Trust, c.Why)
		}
	}
}
