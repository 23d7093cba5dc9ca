package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
	"github.com/goinquest/inquest/ingest"
	"github.com/goinquest/inquest/internal/proc"
	"github.com/goinquest/inquest/store"
	"github.com/goinquest/inquest/web"
)

// crashNow is a crash of the last minute.
func crashNow(n int, service, key string) inquest.Crash {
	process := fmt.Sprintf("boot/%s/%d", service, n)
	return inquest.Crash{
		ID: inquest.CrashID(process), Kind: inquest.CrashDeath, At: recent().Add(time.Duration(n) * time.Millisecond), Service: service, Instance: "host:80",
		Process: process, Build: "b1", Class: "panic:string", Message: "panic: no", Key: key, Tier: inquest.TierText,
		Frames: []inquest.Frame{{Function: "main.fall", File: "main.go", Line: 7}},
	}
}

// realCore is the core of a Go program that panicked, as an image.
func realCore(t *testing.T, c *inquest.Crash) (*coredump.Image, []byte) {
	t.Helper()
	dir := t.TempDir()
	source := "package main\n\nfunc main() { panic(\"no\") }\n"
	for name, text := range map[string]string{"go.mod": "module example.com/dies\n\ngo 1.26\n", "main.go": source} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-o", "dies", ".")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	release := proc.TakeCorePattern(t, "core")
	cmd := exec.Command("sh", "-c", "ulimit -c unlimited; exec ./dies")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOTRACEBACK=crash")
	out, _ := cmd.CombinedOutput() // it dies
	release()
	cores, err := filepath.Glob(filepath.Join(dir, "core*"))
	if err != nil || len(cores) != 1 {
		proc.Missing(t, "no core was written: %s", out)
	}
	f, err := os.Open(cores[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var image bytes.Buffer
	if _, err := coredump.ImportFile(context.Background(), f, &image, coredump.ImportOptions{Core: inquest.Core{Crash: c.ID}}); err != nil {
		t.Fatal(err)
	}
	im, err := coredump.OpenImage(bytes.NewReader(image.Bytes()), int64(image.Len()))
	if err != nil {
		t.Fatal(err)
	}
	return im, image.Bytes()
}

// send posts JSON and decodes the answer, if it is one of success.
func (w *world) send(method, path string, body, into any, headers ...string) answer {
	w.t.Helper()
	raw, ok := body.([]byte)
	if !ok {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			w.t.Fatal(err)
		}
	}
	a := w.do(method, path, bytes.NewReader(raw), headers...)
	if into != nil && a.StatusCode == http.StatusOK {
		if err := json.Unmarshal(a.body, into); err != nil {
			w.t.Fatalf("%s %s: %v: %s", method, path, err, a.body)
		}
	}
	return a
}

// sendBlocks sends what an answer says is missing.
func (w *world) sendBlocks(im *coredump.Image, answer *inquest.CoreAnswer) {
	w.t.Helper()
	for _, r := range answer.Missing {
		for n := r[0]; n < r[1]; n++ {
			b, err := im.Stored(n)
			if err != nil {
				w.t.Fatal(err)
			}
			if a := w.send("PUT", fmt.Sprintf("/api/v1/cores/%s/blocks/%d", answer.ID, n), b, nil); a.StatusCode != http.StatusNoContent {
				w.t.Fatalf("block %d: %s: %s", n, a.Status, a.body)
			}
		}
	}
}

func TestCrashAPI(t *testing.T) {
	w := newWorld(t, web.Options{})
	c := crashNow(1, "shop", "ab12")
	for range 2 {
		if a := w.send("POST", "/api/v1/crashes", []inquest.Crash{c, crashNow(2, "shop", "ab12"), crashNow(3, "cart", "")}, nil); a.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", a.Status, a.body)
		}
	}
	var groups struct{ Values []store.CrashGroup }
	w.getJSON("/api/v1/crashes?by=group&service=shop", &groups)
	if len(groups.Values) != 1 || groups.Values[0].Count != 2 || len(groups.Values[0].Hours) == 0 {
		t.Errorf("groups: %+v", groups)
	}
	text := "panic: no\n\ngoroutine 1 [running]:\nmain.fall()\n\t/src/main.go:7 +0x18\nmain.main()\n\t/src/main.go:3 +0x1d\n"
	if a := w.do("PUT", "/api/v1/crashes/"+c.ID+"/text", strings.NewReader(text)); a.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", a.Status, a.body)
	}
	if a := w.get("/api/v1/crashes/" + c.ID + "/text"); string(a.body) != text || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("text: %s: %q", a.Status, a.body)
	}
	var got store.StoredCrash
	w.getJSON("/api/v1/crashes/"+c.ID, &got)
	if got.Text == nil || got.Text.Goroutines != 1 || got.TextBytes != int64(len(text)) {
		t.Errorf("crash: %+v", got)
	}
	var by struct{ ID string }
	for range 2 {
		w.send("POST", "/api/v1/crashes?service=api&instance=x", []byte(text), &by, "Content-Type: text/plain")
	}
	w.getJSON("/api/v1/crashes/"+by.ID, &got)
	if got.Service != "api" || got.Class != "panic:string" && !strings.HasPrefix(got.Class, "panic:") || got.Frames[0].Function != "main.fall" {
		t.Errorf("of a text: %+v", got)
	}
	w.getJSON("/api/v1/crashes?by=group&service=api", &groups)
	if len(groups.Values) != 1 || groups.Values[0].Count != 1 {
		t.Errorf("a text sent twice counts %+v", groups)
	}
	var page struct {
		Values []store.StoredCrash
		Next   string
	}
	w.getJSON("/api/v1/crashes?limit=3", &page)
	first := len(page.Values)
	after := page.Next
	page.Next = ""
	w.getJSON("/api/v1/crashes?limit=3&after="+after, &page)
	if first != 3 || len(page.Values) != 1 || page.Next != "" {
		t.Errorf("pages of %d and %d", first, len(page.Values))
	}
}

func TestCrashRefused(t *testing.T) {
	w := newWorld(t, web.Options{})
	change := func(f func(*inquest.Crash)) []inquest.Crash {
		c := crashNow(1, "shop", "ab12")
		f(&c)
		return []inquest.Crash{c}
	}
	for name, x := range map[string]struct {
		body  any
		says  string
		types string
	}{
		"id":      {change(func(c *inquest.Crash) { c.ID = "../../etc/passwd" }), "32 hex digits", ""},
		"kind":    {change(func(c *inquest.Crash) { c.Kind = "death" }), "kind", ""},
		"tier":    {change(func(c *inquest.Crash) { c.Tier = "all" }), "tier", ""},
		"old":     {change(func(c *inquest.Crash) { c.At = c.At.AddDate(-2, 0, 0) }), "too old", ""},
		"future":  {change(func(c *inquest.Crash) { c.At = c.At.AddDate(1, 0, 0) }), "future", ""},
		"service": {change(func(c *inquest.Crash) { c.Service = "" }), "no service", ""},
		"control": {change(func(c *inquest.Crash) { c.Instance = "a\x1b[31m" }), "control", ""},
		"label":   {change(func(c *inquest.Crash) { c.Labels = map[string]string{"service": "x"} }), "reserved", ""},
		"key":     {change(func(c *inquest.Crash) { c.Key = "*" }), "hex digits", ""},
		"count":   {change(func(c *inquest.Crash) { c.Count = -1 }), "cannot be", ""},
		"json":    {[]byte(`{"id":1}`), "JSON", ""},
		"text":    {[]byte("all is well\n"), "Go crash", "Content-Type: text/plain"},
	} {
		headers := []string{}
		path := "/api/v1/crashes"
		if x.types != "" {
			headers, path = append(headers, x.types), path+"?service=a"
		}
		a := w.send("POST", path, x.body, nil, headers...)
		if a.StatusCode != http.StatusBadRequest || !strings.Contains(string(a.body), x.says) {
			t.Errorf("%s: %s: %s", name, a.Status, a.body)
		}
	}
	many := make([]inquest.Crash, ingest.MaxCrashes+1)
	wantError(t, w.send("POST", "/api/v1/crashes", many, nil), 413, "too_large", "1000")
	hostile := change(func(c *inquest.Crash) {
		c.Message, c.Exe = strings.Repeat("x", 1<<20), "\xff\xfe/bin/<script>"
		for range 1000 {
			c.Frames = append(c.Frames, inquest.Frame{Function: strings.Repeat("f", 5000)})
		}
		c.Facts = &inquest.Facts{Unit: strings.Repeat("u", 100_000), Rlimits: map[string]string{strings.Repeat("k", 9999): "1"}}
	})
	if a := w.send("POST", "/api/v1/crashes", hostile, nil); a.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", a.Status, a.body)
	}
	var got store.StoredCrash
	w.getJSON("/api/v1/crashes/"+hostile[0].ID, &got)
	if len(got.Message) > 1100 || len(got.Frames) != inquest.CrashFrames || len(got.Facts.Unit) > 1100 || !strings.Contains(got.Exe, "\uFFFD") {
		t.Errorf("kept of a hostile crash: %d, %d frames, %q", len(got.Message), len(got.Frames), got.Exe)
	}
	for _, path := range []string{"/api/v1/crashes/x", "/api/v1/crashes/" + strings.Repeat("0", 32) + "/text", "/api/v1/cores/..%2f..%2fx/core", "/api/v1/cores/" + strings.Repeat("0", 32)} {
		if a := w.get(path); a.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, a.Status)
		}
	}
	for query, says := range map[string]string{"by=service": "want group", "after=x": "after", "limit=0": "limit", "form=1": "from"} {
		wantError(t, w.get("/api/v1/crashes?"+query), 400, "invalid", says)
	}
}

func TestCoreAPI(t *testing.T) {
	w := newWorld(t, web.Options{})
	c := crashNow(1, "shop", "ab12")
	im, image := realCore(t, &c)
	offer := inquest.CoreOffer{Crash: c, Ledger: im.Ledger().Bytes()}
	var answer inquest.CoreAnswer
	wantError(t, w.send("POST", "/api/v1/cores", inquest.CoreOffer{Crash: c, Ledger: offer.Ledger[:100]}, nil), 400, "invalid", "image")
	if a := w.send("POST", "/api/v1/cores", offer, &answer); a.StatusCode != http.StatusOK || answer.Want != inquest.TierMini && answer.Want != inquest.TierFull {
		t.Fatalf("%s: %s", a.Status, a.body)
	}
	if answer.Want == inquest.TierMini && len(answer.Missing) == 0 {
		t.Fatalf("%+v", answer)
	}
	path := "/api/v1/cores/" + answer.ID
	b, err := im.Stored(0)
	if err != nil {
		t.Fatal(err)
	}
	wrong := bytes.Clone(b)
	wrong[len(wrong)/2] ^= 1
	wantError(t, w.send("PUT", path+"/blocks/0", wrong, nil), 400, "invalid", "block 0")
	wantError(t, w.send("PUT", path+"/blocks/99999", b, nil), 404, "not_found", "blocks")
	wantError(t, w.send("PUT", path+"/blocks/-1", b, nil), 400, "invalid", "number")
	cutBlock(t, w, path+"/blocks/0", b)
	if a := w.send("POST", path+"/commit", nil, nil); a.StatusCode != http.StatusConflict || !strings.Contains(string(a.body), `"missing":[[0,`) {
		t.Errorf("commit of nothing: %s: %s", a.Status, a.body)
	}
	w.sendBlocks(im, &answer)
	if a := w.send("POST", path+"/commit", nil, &answer); a.StatusCode != http.StatusOK || answer.Core == nil || !answer.Core.Complete {
		t.Fatalf("commit: %s: %s", a.Status, a.body)
	}
	if a := w.get(path + "/core?format=image"); !bytes.Equal(a.body, image) {
		t.Errorf("image of %d bytes, want %d", len(a.body), len(image))
	}
	var want bytes.Buffer
	if _, err := im.CoreFile().WriteTo(&want); err != nil {
		t.Fatal(err)
	}
	if a := w.get(path + "/core"); !bytes.Equal(a.body, want.Bytes()) {
		t.Errorf("ELF core of %d bytes, want %d", len(a.body), want.Len())
	}
	if a := w.get(path+"/core", "Range: bytes=1-3"); string(a.body) != "ELF" || a.StatusCode != http.StatusPartialContent {
		t.Errorf("range: %s %q", a.Status, a.body)
	}
	if a := w.get(path + "/core?format=tar"); a.StatusCode != http.StatusOK || len(a.body) < 1024 {
		t.Errorf("tar: %s, %d bytes", a.Status, len(a.body))
	}
	var list struct{ Values []store.StoredCore }
	w.getJSON("/api/v1/cores?service=shop", &list)
	if len(list.Values) != 1 || !list.Values[0].Complete || list.Values[0].Group == "" {
		t.Errorf("cores: %+v", list)
	}
	if a := w.do("PUT", path+"/pin", nil); a.StatusCode != http.StatusOK || !strings.Contains(string(a.body), `"pinned":true`) {
		t.Errorf("pin: %s: %s", a.Status, a.body)
	}
	if a := w.do("DELETE", path, nil); a.StatusCode != http.StatusNoContent {
		t.Errorf("delete: %s: %s", a.Status, a.body)
	}
	// What was deleted is not wanted again.
	if w.send("POST", "/api/v1/cores", offer, &answer); answer.Want != inquest.TierText {
		t.Errorf("offered after it was deleted: %+v", answer)
	}
	var audit struct{ Values []store.AuditEntry }
	w.getJSON("/api/v1/audit", &audit)
	var actions []string
	for _, e := range audit.Values {
		actions = append(actions, e.Action)
	}
	if got := strings.Join(actions, ", "); got != "delete core, pin core, read core, read core, read core" {
		t.Errorf("audit: %s", got)
	}
}

// cutBlock sends a part of a block and cuts the connection.
func cutBlock(t *testing.T, w *world, path string, b []byte) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", path, len(b))
	_, _ = conn.Write(b[:len(b)/2])
	_ = conn.Close()
}

// TestCaptureEnough has a place where a program dies again and again.
func TestCaptureEnough(t *testing.T) {
	w := newWorld(t, web.Options{})
	first := crashNow(0, "shop", "ab12")
	im, _ := realCore(t, &first)
	tier := func(service, build, key string) string {
		var a struct{ Tier string }
		w.getJSON("/api/v1/capture?service="+service+"&build="+build+"&key="+key, &a)
		return a.Tier
	}
	build := im.Ledger().Header().Core.Build
	if got := tier("shop", build, "ab12"); got != "mini" {
		t.Errorf("at first: %s", got)
	}
	wanted := 0
	for n := range 6 {
		c := crashNow(n, "shop", "ab12")
		c.Build = build
		own := relabel(t, im, c.ID)
		var answer inquest.CoreAnswer
		if a := w.send("POST", "/api/v1/cores", inquest.CoreOffer{Crash: c, Ledger: own.Ledger().Bytes()}, &answer); a.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", a.Status, a.body)
		}
		if !answer.Want.Cores() {
			continue
		}
		wanted++
		w.sendBlocks(own, &answer)
		if a := w.send("POST", "/api/v1/cores/"+answer.ID+"/commit", nil, nil); a.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", a.Status, a.body)
		}
	}
	if wanted != 3 {
		t.Errorf("%d cores of one place were wanted", wanted)
	}
	if got := tier("shop", build, "ab12"); got != "text" {
		t.Errorf("with enough: %s", got)
	}
	if got := tier("shop", build, "cd34"); got != "mini" {
		t.Errorf("of another place: %s", got)
	}
	p := w.crashes.Policy()
	if len(p.Rules) != 1 || p.Rules[0].Key != "ab12" || p.Rules[0].Tier != inquest.TierText || p.Default != inquest.TierMini || len(p.Builds) != 1 {
		t.Errorf("policy: %+v", p)
	}
	report := inquest.AgentReport{ID: "a", Protocol: inquest.ProtocolVersion, Clock: time.Now(), Started: time.Now()}
	var answer inquest.ReportAnswer
	w.send("POST", "/api/v1/agents/a/report", report, &answer)
	if len(answer.Capture.Rules) != 1 {
		t.Errorf("answer to a report: %+v", answer)
	}
	began := time.Now()
	for range 100 {
		tier("shop", build, "ab12")
	}
	if d := time.Since(began) / 100; d > 5*time.Millisecond {
		t.Errorf("an answer about capture takes %v", d)
	}
}

// relabel is an image of the same memory for another crash.
func relabel(t *testing.T, im *coredump.Image, crash string) *coredump.Image {
	t.Helper()
	h := *im.Ledger().Header()
	h.Core.Crash = crash
	h.Extents, h.Mini = h.Extents[:1], 0
	var file bytes.Buffer
	w, err := coredump.NewWriter(&file, &h)
	if err != nil {
		t.Fatal(err)
	}
	p, err := im.Process()
	if err != nil {
		t.Fatal(err)
	}
	mem := make([]byte, h.Extents[0].Size)
	if _, err := p.Memory.ReadAt(mem, int64(h.Extents[0].Addr)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(mem); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	out, err := coredump.OpenImage(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestCoreScopes asks with each scope alone for what others may.
func TestCoreScopes(t *testing.T) {
	o := web.Options{}
	for _, scope := range []web.Scope{web.ScopeIngest, web.ScopeRead, web.ScopeCore, web.ScopeAdmin} {
		o.Tokens = append(o.Tokens, web.Token{Name: string(scope), Hash: web.HashToken("token-" + string(scope)), Scopes: []web.Scope{scope}})
	}
	w := newWorld(t, o)
	id := strings.Repeat("0", 32)
	for route, scope := range map[string]web.Scope{
		"POST /api/v1/crashes": web.ScopeIngest, "PUT /api/v1/crashes/" + id + "/text": web.ScopeIngest, "POST /api/v1/cores": web.ScopeIngest,
		"PUT /api/v1/cores/" + id + "/blocks/0": web.ScopeIngest, "POST /api/v1/cores/" + id + "/commit": web.ScopeIngest, "GET /api/v1/capture": web.ScopeIngest,
		"GET /api/v1/crashes": web.ScopeRead, "GET /api/v1/crashes/" + id: web.ScopeRead, "GET /api/v1/crashes/" + id + "/text": web.ScopeRead,
		"GET /api/v1/cores": web.ScopeRead, "GET /api/v1/cores/" + id: web.ScopeRead,
		"GET /api/v1/cores/" + id + "/core": web.ScopeCore, "GET /api/v1/cores/" + id + "/ledger": web.ScopeCore, "GET /api/v1/cores/" + id + "/blocks/0": web.ScopeCore,
		"DELETE /api/v1/cores/" + id: web.ScopeCore, "PUT /api/v1/cores/" + id + "/pin": web.ScopeCore, "DELETE /api/v1/cores/" + id + "/pin": web.ScopeCore,
		"POST /api/v1/targets/snapshot": web.ScopeCore, "GET /api/v1/audit": web.ScopeAdmin,
	} {
		method, path, _ := strings.Cut(route, " ")
		for _, token := range o.Tokens {
			a := w.do(method, path, strings.NewReader("[]"), "Authorization: Bearer token-"+token.Name)
			may := token.Scopes[0] == scope || token.Scopes[0] == web.ScopeAdmin
			if refused := a.StatusCode == http.StatusForbidden; refused == may {
				t.Errorf("%s with scope %s: %s", route, token.Name, a.Status)
			}
		}
	}
}

// TestSnapshot has an agent copy a target.
func TestSnapshot(t *testing.T) {
	w := newWorld(t, web.Options{})
	report := inquest.AgentReport{ID: "a", Protocol: inquest.ProtocolVersion, Clock: time.Now(), Started: time.Now(), Targets: []inquest.Target{{ID: "t1", Service: "shop", Instance: "h:1"}}}
	if _, err := w.fleet.Report("a", &report, "h"); err != nil {
		t.Fatal(err)
	}
	go func() {
		commands, err := w.fleet.Next(context.Background(), "a", 10*time.Second)
		if err == nil && len(commands) == 1 && commands[0].Verb == inquest.VerbSnapshot && commands[0].Tier == inquest.TierMini {
			_ = w.fleet.Done("a", commands[0].ID, &inquest.CommandResult{Crash: strings.Repeat("a", 32), Stopped: 3 * time.Millisecond})
		}
	}()
	var got struct {
		Crash, Link string
		Stopped     time.Duration `json:"stopped_ns"`
	}
	if a := w.send("POST", "/api/v1/targets/snapshot", map[string]string{"agent": "a", "target": "t1"}, &got); a.StatusCode != http.StatusOK || got.Link != "/crashes/"+got.Crash || got.Stopped != 3*time.Millisecond {
		t.Errorf("%s: %s", a.Status, a.body)
	}
	wantError(t, w.send("POST", "/api/v1/targets/snapshot", map[string]string{"agent": "a", "target": "t1", "tier": "text"}, nil), 400, "invalid", "tier")
}
