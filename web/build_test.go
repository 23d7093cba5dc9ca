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

	"github.com/google/go-cmp/cmp"
	pprof "github.com/google/pprof/profile"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/proc"
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
	m := &shopMaker{dir: dir}
	m.write(".gitignore", "out*\n")
	m.write("go.mod", "module example.com/shop\n\ngo 1.26\n\nrequire (\n\texample.com/money v1.2.0\n\texample.com/tax v0.3.1\n)\n\nreplace example.com/money => ./third/money\nreplace example.com/tax => ./third/tax\n")
	m.write("third/money/go.mod", "module example.com/money\n\ngo 1.26\n")
	m.write("third/money/money.go", "package money\n\n//go:noinline\nfunc Sum(n int) int { return n * n }\n")
	m.write("third/tax/go.mod", "module example.com/tax\n\ngo 1.26\n")
	m.write("third/tax/tax.go", "package tax\n\n//go:noinline\nfunc Of(n int) int { return n / 5 }\n")
	m.write("cmd/checkout/main.go", "package main\n\nimport (\n\t\"example.com/money\"\n\t\"example.com/tax\"\n)\n\nfunc main() { println(money.Sum(7) + tax.Of(8)) }\n")
	m.run("git", "init", "-q")
	m.run("git", "add", "-A")
	m.run("git", "commit", "-q", "-m", "shop")
	s := &shopBinaries{clean: m.build()}
	if _, missing := exec.LookPath("objcopy"); missing == nil {
		m.run("objcopy", "--only-keep-debug", "out", "out.debug")
		s.debug = m.read("out.debug")
	}
	const fixed = "-ldflags=-w -B 0x00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee"
	s.twins[0] = m.build(fixed)
	m.write("third/tax/tax.go", "package tax\n\n//go:noinline\nfunc Of(n int) int { return n / 4 }\n")
	s.stripped, s.twins[1] = m.build("-ldflags=-s -w"), m.build(fixed)
	return s, m.err
}

// shopMaker makes binaries in a directory until something goes wrong.
type shopMaker struct {
	dir string
	err error
}

func (m *shopMaker) write(name, text string) {
	path := filepath.Join(m.dir, name)
	m.err = errors.Join(m.err, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600))
}

func (m *shopMaker) read(name string) (data []byte) {
	if m.err == nil {
		data, m.err = os.ReadFile(filepath.Join(m.dir, name))
	}
	return data
}

func (m *shopMaker) run(name string, args ...string) {
	if m.err != nil {
		return
	}
	if _, err := exec.LookPath(name); err != nil {
		m.err = fmt.Errorf("%s is %w", name, errNoTool)
		return
	}
	cmd := exec.Command(name, args...)
	cmd.Dir = m.dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off", "GOPROXY=off", "CGO_ENABLED=0",
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
	if out, err := cmd.CombinedOutput(); err != nil {
		m.err = fmt.Errorf("%s %v: %w: %s", name, args, err, out)
	}
}

// build builds the program as the sources are now.
func (m *shopMaker) build(args ...string) (b shopBinary) {
	m.run("go", append(append([]string{"build", "-buildvcs=true", "-o", "out"}, args...), "./cmd/checkout")...)
	b.data = m.read("out")
	if m.err != nil {
		return b
	}
	is, err := symbolize.Identify(bytes.NewReader(b.data), int64(len(b.data)))
	if err != nil {
		m.err = err
		return b
	}
	b.id = is.ID
	return b
}

// shop is theShop for a test.
func shop(t *testing.T) *shopBinaries {
	t.Helper()
	s, err := theShop()
	if errors.Is(err, errNoTool) {
		proc.Missing(t, "%v", err)
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
		Running     []struct{ Service, Instance, Host string }
		Modules     []struct{ Path string }
		Binaries    []struct{ Kind, Trust, Why string }
	}
}

func TestBuildDetail(t *testing.T) {
	w, s := newShopWorld(t, web.Options{})
	w.report("a1", func(r *inquest.AgentReport) {
		r.Host = "node-1"
		r.Targets = []inquest.Target{
			{ID: "1", Service: "checkout", Instance: "node-1:80", Build: s.clean.id, State: inquest.TargetUp},
			{ID: "2", Service: "checkout", Instance: "node-1:81", Build: s.stripped.id, State: inquest.TargetUp},
		}
	})
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
	if len(a.Running) != 0 || len(b.Running) != 1 || b.Running[0].Instance != "node-1:80" || b.Running[0].Host != "node-1" {
		t.Errorf("it runs at %+v, in short at %+v", b.Running, a.Running)
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

// TestBuildVulnerabilities: builds say how many vulnerabilities their modules
// have, one in detail which, and none says so where no database is.
func TestBuildVulnerabilities(t *testing.T) {
	known := []inquest.Vulnerability{{ID: "GO-2024-2687", Module: "golang.org/x/net", Version: "v0.20.0", Fixed: "v0.23.0"}}
	s := shop(t)
	w, _ := newShopWorld(t, web.Options{Vulnerabilities: func(b *inquest.Build) []inquest.Vulnerability {
		if b.ID == s.clean.id {
			return known
		}
		return []inquest.Vulnerability{}
	}})
	type answer struct {
		Values []struct {
			ID                 string
			Vulnerabilities    []inquest.Vulnerability
			VulnerabilityCount *int `json:"vulnerability_count"`
		}
	}
	var all, some, one answer
	w.getJSON("/api/v1/builds", &all)
	w.getJSON("/api/v1/builds?vulnerable=true", &some)
	w.getJSON("/api/v1/builds?detail=true&id="+s.clean.id, &one)
	if len(all.Values) < 4 || len(some.Values) != 1 || some.Values[0].ID != s.clean.id || some.Values[0].Vulnerabilities != nil {
		t.Errorf("%d builds, vulnerable: %+v", len(all.Values), some.Values)
	}
	if diff := cmp.Diff(known, one.Values[0].Vulnerabilities); diff != "" || *one.Values[0].VulnerabilityCount != 1 {
		t.Error(diff)
	}
	for _, b := range all.Values {
		if unknown := b.ID == "feedfacefeedfacefeedface"; unknown != (b.VulnerabilityCount == nil) {
			t.Errorf("build %s: %v", b.ID, b.VulnerabilityCount)
		}
	}
	plain, _ := newShopWorld(t, web.Options{})
	plain.getJSON("/api/v1/builds", &all)
	if all.Values[0].VulnerabilityCount != nil {
		t.Error("vulnerabilities are counted without a database")
	}
}
