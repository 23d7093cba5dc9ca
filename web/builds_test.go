package web_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest/ingest"
	"github.com/goinquest/inquest/internal/proc"
	"github.com/goinquest/inquest/store"
	"github.com/goinquest/inquest/symbolize"
	"github.com/goinquest/inquest/web"
)

// program is a real Go program in the forms that binaries come in.
type program struct {
	id                     string // GNU build id
	whole, stripped, debug []byte // debug: nil without objcopy
	path                   string // of the stripped file
}

// builtProgram is built once for all tests.
var builtProgram = sync.OnceValues(func() (*program, error) {
	dir, err := os.MkdirTemp("", "inquest-web-")
	if err != nil {
		return nil, err
	}
	files := map[string]string{
		"go.mod":  "module example.com/shop\n\ngo 1.26\n",
		"main.go": "package main\n\nimport \"fmt\"\n\n//go:noinline\nfunc work(n int) int { return n * n }\n\nfunc main() { fmt.Println(work(7)) }\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	run := func(name string, args ...string) error {
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s %v: %w: %s", name, args, err, out)
		}
		return nil
	}
	if err := run("go", "build", "-o", "whole", "."); err != nil {
		return nil, err
	}
	p := &program{path: filepath.Join(dir, "stripped")}
	if p.whole, err = os.ReadFile(filepath.Join(dir, "whole")); err != nil {
		return nil, err
	}
	if _, err := exec.LookPath("objcopy"); err == nil {
		if err := run("objcopy", "--strip-debug", "--strip-unneeded", "whole", "stripped"); err != nil {
			return nil, err
		}
		if err := run("objcopy", "--only-keep-debug", "whole", "debug"); err != nil {
			return nil, err
		}
		if p.stripped, err = os.ReadFile(p.path); err != nil {
			return nil, err
		}
		if p.debug, err = os.ReadFile(filepath.Join(dir, "debug")); err != nil {
			return nil, err
		}
	}
	b, err := symbolize.Identify(bytes.NewReader(p.whole), int64(len(p.whole)))
	if err != nil {
		return nil, err
	}
	p.id = b.GNUBuildID
	return p, nil
})

func theProgram(t *testing.T) *program {
	t.Helper()
	p, err := builtProgram()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// theStripped is theProgram where there is a stripped one, too.
func theStripped(t *testing.T) *program {
	t.Helper()
	p := theProgram(t)
	if p.debug == nil {
		proc.Missing(t, "there is no objcopy")
	}
	return p
}

func shaOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// put uploads a binary or a part of it.
func (w *world) put(id string, body []byte, headers ...string) answer {
	w.t.Helper()
	return w.do("PUT", "/api/v1/builds/"+id, bytes.NewReader(body), headers...)
}

func (w *world) mustPut(id string, body []byte, headers ...string) {
	w.t.Helper()
	if a := w.put(id, body, headers...); a.StatusCode != http.StatusOK {
		w.t.Fatalf("%s: %s", a.Status, a.body)
	}
}

func TestBuildUpload(t *testing.T) {
	p := theProgram(t)
	w := newWorld(t, web.Options{})
	wantError(t, w.get("/api/v1/builds/"+p.id), 404, "not_found", "no executable")
	w.mustPut(p.id, p.whole, "Inquest-SHA256: "+shaOf(p.whole))
	w.mustPut(p.id, p.whole) // again, without saying what comes

	a := w.get("/api/v1/builds/" + p.id)
	if a.StatusCode != 200 || !bytes.Equal(a.body, p.whole) || a.Header.Get("Inquest-SHA256") != shaOf(p.whole) || a.Header.Get("Inquest-DWARF") != "true" {
		t.Errorf("%s, %d bytes, %v", a.Status, len(a.body), a.Header)
	}
	a = w.do("HEAD", "/api/v1/builds/"+p.id, nil)
	if a.StatusCode != 200 || a.ContentLength != int64(len(p.whole)) || a.Header.Get("Inquest-DWARF") != "true" {
		t.Errorf("HEAD: %s, %v", a.Status, a.Header)
	}
	a = w.get("/api/v1/builds/"+p.id+"?debug=1", "Range: bytes=1000-1999")
	if a.StatusCode != http.StatusPartialContent || !bytes.Equal(a.body, p.whole[1000:2000]) {
		t.Errorf("range: %s, %d bytes", a.Status, len(a.body))
	}
	var missing struct{ Values []string }
	if err := json.Unmarshal(w.do("POST", "/api/v1/builds/missing", strings.NewReader(`{"ids":["`+p.id+`","aabb","aabb"]}`)).body, &missing); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"aabb"}, missing.Values); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(w.log.String(), "action=\"upload build\"") || !strings.Contains(w.log.String(), "action=\"download build\"") {
		t.Error("the audit log lacks uploads or downloads")
	}
}

func TestBuildUploadInParts(t *testing.T) {
	p := theProgram(t)
	w := newWorld(t, web.Options{BodyTimeout: 300 * time.Millisecond})
	sha, n := "Inquest-SHA256: "+shaOf(p.whole), len(p.whole)
	part := func(from, to int) answer {
		return w.put(p.id, p.whole[from:to], sha, fmt.Sprintf("Content-Range: bytes %d-%d/%d", from, to-1, n))
	}
	where := func(want string) {
		t.Helper()
		a := w.put(p.id, nil, sha, fmt.Sprintf("Content-Range: bytes */%d", n))
		if got := a.Header.Get("Range"); a.StatusCode != http.StatusPermanentRedirect || got != want {
			t.Errorf("%s, Range %q, want %q: %s", a.Status, got, want, a.body)
		}
	}
	where("")
	if a := part(0, 1000); a.StatusCode != http.StatusPermanentRedirect || a.Header.Get("Range") != "bytes=0-999" {
		t.Errorf("%s: %s", a.Status, a.body)
	}
	where("bytes=0-999")
	a := part(0, 1000)
	wantError(t, a, 409, "conflict", "1000 bytes")
	if a.Header.Get("Range") != "bytes=0-999" {
		t.Errorf("Range %q", a.Header.Get("Range"))
	}
	// A sender that stalls is sent away, and what came is kept.
	r, err := http.NewRequest("PUT", w.url+"/api/v1/builds/"+p.id, io.MultiReader(bytes.NewReader(p.whole[1000:300000]), stalled{t.Context()}))
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = int64(n - 1000)
	r.Header.Set("Inquest-SHA256", shaOf(p.whole))
	r.Header.Set("Content-Range", fmt.Sprintf("bytes 1000-%d/%d", n-1, n))
	if resp, err := w.client.Do(r); err == nil {
		resp.Body.Close()
		if resp.StatusCode != 400 {
			t.Errorf("stalled: %s", resp.Status)
		}
	}
	where("bytes=0-299999")
	if a := part(300000, n); a.StatusCode != 200 {
		t.Errorf("%s: %s", a.Status, a.body)
	}
	if a := w.put(p.id, nil, sha, fmt.Sprintf("Content-Range: bytes */%d", n)); a.StatusCode != 200 {
		t.Errorf("of what is stored: %s: %s", a.Status, a.body)
	}
}

// stalled is a reader of which nothing comes.
type stalled struct{ ctx context.Context }

func (s stalled) Read([]byte) (int, error) {
	select {
	case <-time.After(2 * time.Second):
	case <-s.ctx.Done():
	}
	return 0, io.ErrClosedPipe
}

func TestBuildUploadRefused(t *testing.T) {
	p := theProgram(t)
	w := newWorldOn(t, store.Options{BinaryBytes: int64(len(p.whole))}, web.Options{})
	sha := "Inquest-SHA256: " + shaOf(p.whole)
	wantError(t, w.put("aabbccdd", p.whole, sha), 409, "conflict", "is build "+p.id)
	wantError(t, w.put("aabbccdd", []byte("text")), 400, "invalid", "no ELF file")
	wantError(t, w.put("AABB", p.whole), 400, "invalid", "build id")
	wantError(t, w.put(p.id, append(p.whole[:len(p.whole):len(p.whole)], 1)), 413, "too_large", "bytes")
	wantError(t, w.put(p.id, p.whole, "Inquest-SHA256: abc"), 400, "invalid", "64 hex digits")
	wantError(t, w.put(p.id, p.whole, "Inquest-SHA256: "+shaOf(nil)), 400, "invalid", "SHA-256")
	wantError(t, w.put(p.id, p.whole, "Content-Range: bytes 0-1/5"), 400, "invalid", "Inquest-SHA256")
	for _, text := range []string{"bytes 5-2/9", "bytes 0-9/9", "bytes -1/9", "items 0-1/9", "bytes */0", "bytes 0-1"} {
		wantError(t, w.put(p.id, p.whole, sha, "Content-Range: "+text), 400, "invalid", "want bytes FIRST-LAST/TOTAL")
	}
	wantError(t, w.put(p.id, p.whole, sha, "Content-Range: bytes 0-4/9"), 400, "invalid", "Content-Length says")
	wantError(t, w.put(p.id, p.whole[:5], sha, "Content-Range: bytes 5-9/"+fmt.Sprint(len(p.whole))), 409, "conflict", "0 bytes")
	wantError(t, w.get("/buildid/"+p.id+"/source/main.go"), 404, "not_found", "is not here")
	if n := w.store.BinaryStats().Files; n != 0 {
		t.Errorf("%d files are stored", n)
	}
}

// A stripped program, its companion and its twin with debug information.
func TestBuildCompanions(t *testing.T) {
	p := theStripped(t)
	w := newWorld(t, web.Options{})
	w.mustPut(p.id, p.debug) // before its program: nothing says that they differ
	if a := w.get("/buildid/" + p.id + "/debuginfo"); a.StatusCode != 200 || !bytes.Equal(a.body, p.debug) {
		t.Errorf("a companion alone: %s", a.Status)
	}
	wantError(t, w.get("/buildid/"+p.id+"/executable"), 404, "not_found", "no executable")
	w.mustPut(p.id, p.stripped)
	if a := w.get("/buildid/" + p.id + "/executable"); a.StatusCode != 200 || !bytes.Equal(a.body, p.stripped) || a.Header.Get("X-DEBUGINFOD-SIZE") != fmt.Sprint(len(p.stripped)) {
		t.Errorf("stripped: %s %v", a.Status, a.Header)
	}
	w.mustPut(p.id, p.whole)
	w.mustPut(p.id, p.stripped)
	if a := w.get("/api/v1/builds/" + p.id); !bytes.Equal(a.body, p.whole) {
		t.Error("a stripped upload has replaced one with debug information")
	}
	a := w.get("/buildid/" + p.id + "/section/.gopclntab")
	want, err := symbolize.Identify(bytes.NewReader(p.whole), int64(len(p.whole)))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range want.Sections {
		if s.Name == ".gopclntab" && !bytes.Equal(a.body, p.whole[s.Offset:s.Offset+s.Size]) {
			t.Errorf("section: %s, %d bytes, want %d", a.Status, len(a.body), s.Size)
		}
	}
	wantError(t, w.get("/buildid/"+p.id+"/section/.none"), 404, "not_found", "no section")
	var states struct{ Values []ingest.BuildState }
	w.getJSON("/api/v1/builds?id="+p.id, &states)
	if len(states.Values) != 1 || states.Values[0].Code != ingest.CodeDWARF || len(states.Values[0].Binaries) != 3 || states.Values[0].Path != "example.com/shop" {
		t.Errorf("%+v", states.Values)
	}
}

func TestBuildList(t *testing.T) {
	p := theProgram(t)
	w := newWorld(t, web.Options{})
	report := `{"protocol":1,"builds":[
		{"id":"b1","go_version":"go1.24.9","path":"x/a","module":"x","version":"v1.0.0","modified":true,"go_build_id":"g1",
		 "modules":[{"path":"golang.org/x/net","version":"v0.9.0"},{"path":"old","version":"v1.0.0","replace":{"path":"new","version":"v1.5.0"}}]},
		{"id":"b2","go_version":"go1.26rc1","path":"x/b","modules":[{"path":"golang.org/x/net","version":"v0.38.0"}]}],
		"targets":[{"id":"t","build":"` + p.id + `"}]}`
	if a := w.do("POST", "/api/v1/agents/one/report", strings.NewReader(report)); a.StatusCode != 200 || !strings.Contains(string(a.body), `"missing_builds":["b1","b2","`+p.id+`"]`) {
		t.Fatalf("%s: %s", a.Status, a.body)
	}
	if a := w.do("POST", "/api/v1/agents/two/report", strings.NewReader(report)); !strings.Contains(string(a.body), `"missing_builds":[]`) {
		t.Errorf("another agent is asked for the same: %s", a.body)
	}
	w.push("service=shop&build=b2", cpuBody(recent()))
	w.mustPut(p.id, p.whole)
	for query, want := range map[string][]string{
		"":                                      {"b2", "b1", p.id},
		"goid=g1":                               {"b1"},
		"service=shop":                          {"b2"},
		"module=golang.org/x/net":               {"b2", "b1"},
		"module=new":                            {"b1"},
		"module=old":                            {},
		"module_below=golang.org/x/net@v0.38.0": {"b1"},
		"module_below=golang.org/x/net@v0.40.0": {"b2", "b1"},
		"module_below=x@v1.0.1":                 {"b1"},
		"go_below=1.25":                         {"b1"},
		"go_below=1.26":                         {"b2", "b1"},
		"dirty=true":                            {"b1"},
		"code=dwarf":                            {p.id},
		"code=missing&dirty=false":              {"b2"},
		"id=" + p.id:                            {p.id},
	} {
		var states struct{ Values []ingest.BuildState }
		w.getJSON("/api/v1/builds?"+query, &states)
		got := []string{}
		for _, s := range states.Values {
			got = append(got, s.ID)
		}
		if query == "" {
			want = []string{"b2"} // the newest data comes first, the others by id
			got = got[:1]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(query, diff)
		}
	}
	wantError(t, w.get("/api/v1/builds?module_below=x"), 400, "invalid", "golang.org/x/net@v0.38.0")
	wantError(t, w.get("/api/v1/builds?go_below=new"), 400, "invalid", "as 1.25")
}

// Another collector is a debuginfod server, too.
func TestBuildUpstream(t *testing.T) {
	p := theStripped(t)
	up := newWorld(t, web.Options{Tokens: tokens()})
	for _, raw := range [][]byte{p.stripped, p.debug} {
		up.mustPut(p.id, raw, "Authorization: Bearer secret-ingest")
	}
	base := strings.Replace(up.url, "http://", "http://x:secret-read@", 1)
	w := newWorldUpstream(t, base)
	wantError(t, w.get("/api/v1/builds/"+p.id), 404, "not_found", "no executable")
	wantError(t, w.get("/api/v1/builds/aabbccddee"), 404, "not_found", "no executable")
	for end := time.Now().Add(10 * time.Second); w.store.BinaryStats().Files < 2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not fetched: %s", w.log)
		}
	}
	if a := w.get("/api/v1/builds/" + p.id); !bytes.Equal(a.body, p.stripped) {
		t.Errorf("%s: %d bytes", a.Status, len(a.body))
	}
	if a := w.get("/api/v1/builds/" + p.id + "?debug=1"); !bytes.Equal(a.body, p.debug) {
		t.Errorf("%s: %d bytes", a.Status, len(a.body))
	}
	if b := w.store.Binaries(p.id)[0]; b.Source != store.SourceDebuginfod || !strings.HasPrefix(b.By, "127.0.0.1:") {
		t.Errorf("%+v", b)
	}
	asked := strings.Count(up.log.String(), "aabbccddee")
	w.get("/api/v1/builds/aabbccddee")
	time.Sleep(50 * time.Millisecond)
	if again := strings.Count(up.log.String(), "aabbccddee"); again != asked {
		t.Error("a server is asked again at once for what it has not")
	}
}

// newWorldUpstream is a collector that asks another one for binaries.
func newWorldUpstream(t *testing.T, base string) *world {
	t.Helper()
	return newWorldWith(t, store.Options{CommitDelay: 2 * time.Millisecond}, ingest.BinariesOptions{Upstreams: []string{base}}, web.Options{})
}

// gdb asks the collector for debug information.
func TestGDB(t *testing.T) {
	p := theStripped(t)
	gdb, err := exec.LookPath("gdb")
	if err != nil {
		proc.Missing(t, "there is no gdb")
	}
	if out, err := exec.Command(gdb, "--configuration").CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--with-debuginfod")) {
		proc.Missing(t, "gdb cannot ask debuginfod servers")
	}
	w := newWorld(t, web.Options{Tokens: tokens()})
	w.mustPut(p.id, p.debug, "Authorization: Bearer secret-ingest")
	u, err := url.Parse(w.url)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(password string) string {
		u.User = url.UserPassword("x", password)
		cmd := exec.Command(gdb, "-nx", "-batch", "-ex", "set debuginfod enabled on", "-ex", "file "+p.path, "-ex", "info line main.work")
		cmd.Env = append(os.Environ(), "DEBUGINFOD_URLS="+u.String(), "DEBUGINFOD_CACHE_PATH="+t.TempDir(), "HOME="+t.TempDir())
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	if out := ask("secret-read"); !strings.Contains(out, "main.go\" starts at address") {
		t.Errorf("gdb says: %s\n%s", out, w.log)
	}
	if out := ask("wrong"); strings.Contains(out, "main.go\" starts at address") {
		t.Errorf("without a token gdb says: %s", out)
	}
}
