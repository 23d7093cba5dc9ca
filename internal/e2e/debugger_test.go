package e2e_test

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/goinquest/inquest/internal/proc"
	"github.com/goinquest/inquest/symbolize"
)

const waitingSource = `package main

import (
	"fmt"
	"time"
)

//go:noinline
func wait(order int) {
	fmt.Println("waiting")
	time.Sleep(time.Hour)
	fmt.Println(order)
}

func main() { wait(4711) }
`

// TestDebuggers opens a core of a stripped program with Delve, which finds what
// is missing by build id at the collector, and shows nothing of it without.
func TestDebuggers(t *testing.T) {
	for _, tool := range []string{"gcore", "strip", "objcopy", "debuginfod-find"} {
		if _, err := exec.LookPath(tool); err != nil {
			proc.Missing(t, "%v", err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "go", "tool", "-modfile=../../tools/go.mod", "dlv", "version").CombinedOutput(); err != nil {
		proc.Missing(t, "Delve cannot be had: %v: %s", err, out)
	}
	dir := t.TempDir()
	for file, text := range map[string]string{
		"go.mod": "module waiting\n\ngo 1.25\n", "main.go": waitingSource, "init": "goroutine 1 stack\nexit\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	run("go", "build", "-buildvcs=false", "-o", "whole", ".")
	run("objcopy", "--only-keep-debug", "whole", "debug")
	run("strip", "-o", "stripped", "whole")

	program := exec.CommandContext(t.Context(), filepath.Join(dir, "stripped"))
	out, err := program.StdoutPipe()
	if err == nil {
		err = program.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Wait() }) // the context has ended it
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	pid := strconv.Itoa(program.Process.Pid)
	run("gcore", "-o", "core", pid)

	c := startCollector(t, freeAddr(t), filepath.Join(dir, "data"))
	stack := func(urls string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "go", "tool", "-modfile=../../tools/go.mod", "dlv", "core",
			filepath.Join(dir, "stripped"), filepath.Join(dir, "core."+pid), "--init", filepath.Join(dir, "init"), "--allow-non-terminal-interactive=true")
		cmd.Env = append(os.Environ(), "DEBUGINFOD_URLS="+urls, "DEBUGINFOD_CACHE_PATH="+t.TempDir())
		out, _ := cmd.CombinedOutput() // it fails where it finds no goroutine
		return string(out)
	}
	if got := stack(""); strings.Contains(got, "main.wait") {
		t.Errorf("without the collector Delve knows main.wait:\n%s", got)
	}
	for _, file := range []string{"stripped", "debug"} {
		body, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		b, err := symbolize.Identify(bytes.NewReader(body), int64(len(body)))
		if err != nil {
			t.Fatal(err)
		}
		put(t, c.URL+"/api/v1/builds/"+b.ID, body)
	}
	if got := stack(c.URL); !strings.Contains(got, "main.wait") || !strings.Contains(got, "main.go:") {
		t.Errorf("with the collector Delve does not know main.wait:\n%s", got)
	}
}

// put uploads a body.
func put(t *testing.T, url string, body []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("PUT %s: %s", url, resp.Status)
	}
}
