package demo_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest/internal/demo"
)

func TestMain(m *testing.M) {
	if acted, err := demo.Act(); acted {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func run(t *testing.T) (targets []demo.Target, said string) {
	t.Helper()
	var lines []string
	f, err := demo.Start(t.Context(), demo.Options{
		Dir: t.TempDir(),
		Say: func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Stop()
	targets = f.Targets()
	got := make(map[string]int)
	for _, target := range targets {
		got[target.Service+" "+target.Release]++
		resp, err := http.Get(target.URL + "/debug/pprof/heap")
		if err != nil {
			t.Errorf("%s of %s: %v", target.URL, target.Service, err)
			continue
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s of %s: %s", target.URL, target.Service, resp.Status)
		}
	}
	want := map[string]int{"checkout v1": 1, "checkout v2": 1, "catalog v1": 2, "catalog v2": 2, "search v1": 1, "search v2": 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("processes (-want +got):\n%s", diff)
	}
	f.Stop()
	for _, target := range targets {
		if _, err := http.Get(target.URL); err == nil {
			t.Errorf("%s of %s still answers after Stop", target.URL, target.Service)
		}
	}
	return targets, strings.Join(lines, "\n")
}

func TestBuilt(t *testing.T) {
	_, said := run(t)
	if !strings.Contains(said, "built 3 services × 2 releases") {
		t.Errorf("said:\n%s\nwant that services were built", said)
	}
}

func TestWithoutGo(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, said := run(t)
	if !strings.Contains(said, "no go command found") {
		t.Errorf("said:\n%s\nwant that there is no go command", said)
	}
}

// TestBrokenGo has a go command that fails: the demo must go on, and say why.
func TestBrokenGo(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go"), []byte("#!/bin/sh\necho this go is broken; exit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH"))
	_, said := run(t)
	if !strings.Contains(said, "building the services failed") || !strings.Contains(said, "this go is broken") {
		t.Errorf("said:\n%s\nwant that building failed and why", said)
	}
}

func TestCanceled(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if f, err := demo.Start(ctx, demo.Options{Dir: t.TempDir()}); err == nil {
		f.Stop()
		t.Fatal("started although its context ended")
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("took %v to give up", d)
	}
}

// TestSourcesComplete sees that every file of package fleet is embedded.
func TestSourcesComplete(t *testing.T) {
	files, err := filepath.Glob("fleet/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if _, err := demo.Sources.Open(file); err != nil && !strings.HasSuffix(file, "_test.go") {
			t.Errorf("%s is not embedded: add it to the go:embed line of build.go", file)
		}
	}
}
