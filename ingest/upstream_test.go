package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/ingest"
	"github.com/goinquest/inquest/internal/proc"
	"github.com/goinquest/inquest/symbolize"
)

// selfID is the GNU build id of this test's program and its file.
func selfID(t *testing.T) (id, file string) {
	t.Helper()
	file = "/proc/self/exe"
	f, err := os.Open(file)
	if err != nil {
		t.Skip("there is no /proc: ", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b, err := symbolize.Identify(f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	return b.GNUBuildID, file
}

// Servers that answer wrongly cost nothing but the question.
func TestHostileUpstream(t *testing.T) {
	id, file := selfID(t)
	other := strings.Repeat("ab", 20)
	for name, test := range map[string]struct {
		id      string
		most    int64
		handler http.HandlerFunc
	}{
		"another program": {other, 0, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) }},
		"no program":      {id, 0, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }},
		"nothing":         {id, 0, func(http.ResponseWriter, *http.Request) {}},
		"too large":       {id, 1000, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) }},
		"without a size":  {id, 1000, func(w http.ResponseWriter, r *http.Request) { endless(w, r) }},
		"cut off": {id, 0, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9999")
			io.WriteString(w, "\x7fELF")
		}},
		"another scheme":   {id, 0, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "file://"+file, http.StatusFound) }},
		"for ever":         {id, 0, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }},
		"a server's error": {id, 0, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int64
			up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				test.handler(w, r)
			}))
			defer up.Close()
			b := newBinaries(t, ingest.BinariesOptions{Upstreams: []string{up.URL + "/below"}, UpstreamBytes: test.most, UpstreamTimeout: 5 * time.Second})
			b.Want(test.id)
			for end := time.Now().Add(10 * time.Second); b.Fetching(test.id); time.Sleep(5 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("it does not end")
				}
			}
			if asked.Load() < 2 {
				t.Errorf("asked %d times", asked.Load())
			}
			if len(b.Missing([]string{test.id})) != 1 {
				t.Error("something was stored")
			}
			b.Want("go-" + test.id) // nobody knows these
			if b.Fetching("go-" + test.id) {
				t.Error("a Go build id is asked for")
			}
		})
	}
}

// endless sends until the other end has enough.
func endless(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		if _, err := w.Write(make([]byte, 4096)); err != nil {
			return
		}
	}
}

// The real debuginfod serves what it finds in a directory.
func TestRealDebuginfod(t *testing.T) {
	server, err := exec.LookPath("debuginfod")
	if err != nil {
		proc.Missing(t, "there is no debuginfod: %v", err)
	}
	id, file := selfID(t)
	dir := t.TempDir()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "program"), raw, 0o700); err != nil {
		t.Fatal(err)
	}
	free := httptest.NewServer(nil) // its port is free afterwards
	address := free.Listener.Addr().String()
	free.Close()
	_, port, _ := strings.Cut(address, ":")
	cmd := exec.Command(server, "-p", port, "-d", filepath.Join(dir, "db.sqlite"), "-F", dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	b := newBinaries(t, ingest.BinariesOptions{Upstreams: []string{fmt.Sprint("http://127.0.0.1:", port)}, UpstreamPause: time.Millisecond})
	for end := time.Now().Add(20 * time.Second); len(b.Missing([]string{id})) > 0; time.Sleep(100 * time.Millisecond) {
		b.Want(id) // it looks at its files first
		if time.Now().After(end) {
			t.Fatal("not fetched")
		}
	}
}

// TestUpstreamSource asks another server for source files: once each, below its
// own path, and no more of them than is taken.
func TestUpstreamSource(t *testing.T) {
	const id = "aabbccddeeff0011"
	var asked []string
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path)
		switch r.URL.Path {
		case "/base/buildid/" + id + "/source/src/main.go":
			_, _ = w.Write([]byte("package main\n"))
		case "/base/buildid/" + id + "/source/huge.go":
			_, _ = w.Write(make([]byte, 5<<20))
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer up.Close()
	b := newBinaries(t, ingest.BinariesOptions{Upstreams: []string{up.URL + "/base"}})
	for _, ask := range []struct {
		build, file, want string
		err               error
	}{
		{id, "/src/main.go", "package main\n", nil},
		{id, "/src/main.go", "package main\n", nil}, // remembered
		{id, "/src/other.go", "", inquest.ErrNotFound},
		{id, "/src/other.go", "", inquest.ErrNotFound}, // remembered
		{id, "/../../../../secret", "", inquest.ErrNotFound},
		{id, "/huge.go", "", inquest.ErrNotFound},
		{"../x", "/src/main.go", "", inquest.ErrNotFound},
		{id, "", "", inquest.ErrInvalid},
	} {
		text, _, err := b.Source(context.Background(), ask.build, ask.file)
		if string(text) != ask.want || !errors.Is(err, ask.err) {
			t.Errorf("%s of %s: %q, %v", ask.file, ask.build, text, err)
		}
	}
	want := []string{"src/main.go", "src/other.go", "secret", "huge.go"}
	for i := range want {
		want[i] = "/base/buildid/" + id + "/source/" + want[i]
	}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("asked (-want +got)\n%s", diff)
	}
}
