package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var serving = regexp.MustCompile(`serving (http://\S+),`)

// start runs the collector in this process and returns its URL, and what ends
// it and gives its error.
func start(t *testing.T, args ...string) (url string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := run(ctx, append([]string{"-listen", "127.0.0.1:0", "-log-level", "error"}, args...), w, os.Stderr)
		w.CloseWithError(io.EOF)
		done <- err
	}()
	buf := make([]byte, 1000)
	n, err := r.Read(buf)
	if err != nil {
		t.Fatalf("the collector ended: %v", <-done)
	}
	m := serving.FindSubmatch(buf[:n])
	if m == nil {
		t.Fatalf("the first line is %q", buf[:n])
	}
	go io.Copy(io.Discard, r)
	return string(m[1]), func() error {
		cancel()
		return <-done
	}
}

func TestRunLeavesNothingRunning(t *testing.T) {
	defer goleak.VerifyNone(t)
	defer http.DefaultClient.CloseIdleConnections()
	url, stop := start(t, "-data", t.TempDir())
	resp, err := http.Get(url + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	began := time.Now()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("took %v to stop", d)
	}
}

// TestRollback has the store fail after the listener was made.
func TestRollback(t *testing.T) {
	defer goleak.VerifyNone(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	if err := run(t.Context(), []string{"-listen", addr, "-data", file}, io.Discard, io.Discard); err == nil {
		t.Fatal("a collector started with a file for a data directory")
	}
	ln, err = net.Listen("tcp", addr)
	if err != nil {
		t.Fatalf("the address is not free again: %v", err)
	}
	ln.Close()
}
