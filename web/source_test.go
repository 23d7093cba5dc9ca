package web_test

import (
	"archive/zip"
	"bytes"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	pprofile "github.com/google/pprof/profile"

	"github.com/goinquest/inquest/web"
)

//go:noinline
func burn(until time.Time) (sum float64) {
	for time.Now().Before(until) {
		for i := range 100_000 {
			sum += math.Sqrt(float64(i)) // the line that costs
		}
	}
	return sum
}

const burnName = "github.com/goinquest/inquest/web_test.burn"

// burnt is a CPU profile of burn, with addresses alone.
func burnt(t *testing.T) (body []byte, build string) {
	t.Helper()
	p := profiled(t, func() { burn(time.Now().Add(time.Second)) })
	return addressesOf(t, p), p.Mapping[0].BuildID
}

// profiled is a CPU profile of some work of this program.
func profiled(t *testing.T, work func()) *pprofile.Profile {
	t.Helper()
	var b bytes.Buffer
	if err := pprof.StartCPUProfile(&b); err != nil {
		t.Fatal(err)
	}
	work()
	pprof.StopCPUProfile()
	p, err := pprofile.ParseData(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// addressesOf writes a profile without the names of functions.
func addressesOf(t *testing.T, p *pprofile.Profile) []byte {
	t.Helper()
	p = p.Copy()
	p.Function, p.Mapping[0].HasFunctions = nil, false
	for _, l := range p.Location {
		l.Line = nil
	}
	return encoded(t, p)
}

func encoded(t *testing.T, p *pprofile.Profile) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// sourceZip has a source file of a build, as inquest push -source makes it.
func sourceZip(t *testing.T, build, path string, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	if err := z.SetComment("inquest source " + build); err != nil {
		t.Fatal(err)
	}
	f, err := z.Create(strings.TrimPrefix(path, "/"))
	if err == nil {
		_, err = f.Write(text)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type sourceAnswer struct {
	Build string
	Files []struct {
		File, From string
		Lines      []struct {
			Line      int
			Text      string
			Self, Cum float64
		}
	}
	Instructions []struct {
		Address   uint64
		Text      string
		File      string
		Line      int
		Inlined   []string
		OwnLine   int `json:"own_line"`
		Target    string
		Self, Cum float64
	}
	Self, Cum, Total float64
	CodeMissing      string `json:"code_missing"`
	Unit             string
	Coverage         struct{ Unsymbolized float64 }
}

// TestSource follows a function from addresses in a profile to the line of its
// source, as its binary and then its source come.
func TestSource(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("not disassembled")
	}
	w := newWorld(t, web.Options{})
	body, build := burnt(t)
	w.push("service=burner&instance=i&kind=cpu", body)
	path := "/api/v1/source?" + url.Values{"function": {burnName}, "type": {"cpu"}, "from": {"-1h"}, "until": {"now"}, "query": {`{service="burner"}`}}.Encode()
	wantError(t, w.get(path), 404, "not_found", "none of the profiles")

	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Skip(err)
	}
	w.mustPut(build, exe)
	var a sourceAnswer
	w.getJSON(path, &a)
	if a.Build != build || a.CodeMissing != "" || len(a.Instructions) < 10 || len(a.Files) == 0 {
		t.Fatalf("%+v", a)
	}
	lines, code := 0.0, 0.0
	for _, f := range a.Files {
		for _, l := range f.Lines {
			lines += l.Self
			if l.Text != "" || f.From != "" {
				t.Errorf("there is text of %s: %q", f.File, l.Text)
			}
		}
	}
	for _, in := range a.Instructions {
		code += in.Self
		if in.Text == "" || in.File == "" || in.Line == 0 {
			t.Errorf("%+v", in)
		}
	}
	if lines == 0 || code < lines || a.Coverage.Unsymbolized > code/10 {
		t.Errorf("lines add up to %v, instructions to %v %s, %v is not symbolized", lines, code, a.Unit, a.Coverage.Unsymbolized)
	}

	if a.Self < lines || a.Cum < a.Self || a.Total < a.Cum {
		t.Errorf("self %v, cum %v of %v; lines add up to %v", a.Self, a.Cum, a.Total, lines)
	}
	_, file, _, _ := runtime.Caller(0)
	text, err := os.ReadFile("source_test.go")
	if err != nil {
		t.Fatal(err)
	}
	w.mustPut(build, sourceZip(t, build, file, text))
	w.getJSON(path, &a)
	found := false
	for _, f := range a.Files {
		for _, l := range f.Lines {
			found = found || f.File == file && strings.Contains(l.Text, "// the line that costs") && l.Cum > 0
		}
	}
	if !found {
		t.Errorf("no line of the source costs: %+v", a.Files)
	}
	if got := w.get("/buildid/" + build + "/source" + file); got.StatusCode != http.StatusOK || string(got.body) != string(text) {
		t.Errorf("%s: %d bytes of %d", got.Status, len(got.body), len(text))
	}
	wantError(t, w.get("/buildid/"+build+"/source/nowhere.go"), 404, "not_found", "is not here")
	wantError(t, w.put(build, sourceZip(t, "aabbccddee", file, text)), 409, "conflict", "aabbccddee")
	wantError(t, w.put(build, []byte("PK\x03\x04 and no more")), 400, "invalid", "zip")
	wantError(t, w.get(fmt.Sprintf("/api/v1/source?function=%s&type=cpu&rate=true", burnName)), 400, "invalid", "rate")
	if bad := w.get("/api/v1/source?type=cpu"); bad.StatusCode != 400 {
		t.Errorf("without a function: %s", bad.Status)
	}
}
