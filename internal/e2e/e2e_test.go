// Package e2e_test runs the project's programs as an operator would and
// checks what they promise together: nothing acknowledged is lost or doubled
// after any kill, an outage costs nothing, a full disk is survived, and what
// an agent found by itself is what pprof finds in the same bodies.
package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/goinquest/inquest/internal/fleet"
	"github.com/goinquest/inquest/internal/proc"
	"github.com/goinquest/inquest/internal/testprog"
)

var build struct {
	sync.Mutex
	dir  string
	bins map[string]string
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "inquest-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	build.dir, build.bins = dir, map[string]string{}
	code := testprog.Main(m)
	os.RemoveAll(dir)
	os.Exit(code)
}

// binary builds a program of this module once for all tests.
func binary(t *testing.T, name string) string {
	t.Helper()
	build.Lock()
	defer build.Unlock()
	if bin := build.bins[name]; bin != "" {
		return bin
	}
	bin := filepath.Join(build.dir, name)
	if err := proc.Build(t.Context(), bin, "github.com/goinquest/inquest/cmd/"+name); err != nil {
		t.Fatal(err)
	}
	build.bins[name] = bin
	return bin
}

// output collects what a program prints and shows it if the test fails.
func output(t *testing.T, name string) io.Writer {
	w := &syncBuffer{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("output of %s:\n%s", name, w)
		}
	})
	return w
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func freeAddr(t *testing.T) string {
	t.Helper()
	addr, err := proc.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// startCollector runs a collector and ends it with the test.
func startCollector(t *testing.T, addr, data string, args ...string) *proc.Collector {
	t.Helper()
	c, err := proc.StartCollector(t.Context(), output(t, "collector"), binary(t, "collector"), addr, data, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	return c
}

// get asks the API and decodes its JSON answer; any status but 200 fails.
func get(t *testing.T, base, path string, q url.Values, into any) {
	t.Helper()
	if err := tryGet(t.Context(), base, path, q, into); err != nil {
		t.Fatal(err)
	}
}

func tryGet(ctx context.Context, base, path string, q url.Values, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path+"?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s: %s", path, resp.Status, body)
	}
	if raw, ok := into.(*[]byte); ok {
		*raw = body
		return nil
	}
	return json.Unmarshal(body, into)
}

// post sends one profile under a key and returns the status, 0 if there was
// no answer.
func post(ctx context.Context, base, key string, it *fleet.Item) (status int, answer []byte) {
	req, err := it.Request(ctx, base)
	if err != nil {
		return 0, nil
	}
	req.Header.Set("Idempotency-Key", key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	if answer, err = io.ReadAll(resp.Body); err != nil {
		return 0, nil
	}
	return resp.StatusCode, answer
}

// flame is the part of a flame graph's answer the tests look at.
type flame struct {
	Names []string
	Nodes struct {
		Name, Parent []int
		Self, Cum    []float64
	}
	Total    float64
	Coverage struct {
		Profiles, Processes, Samples int64
		Incomplete                   bool
	}
}
