package e2e_test

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/goinquest/inquest/internal/fleet"
	"github.com/goinquest/inquest/internal/proc"
)

// TestFullDisk fills the file system under the data directory: writes are
// refused with 507 or 503, reads go on, and writes come back by themselves
// once there is space.
func TestFullDisk(t *testing.T) {
	data := t.TempDir()
	if err := syscall.Mount("tmpfs", data, "tmpfs", 0, "size=96m,mode=0700"); err != nil {
		proc.Missing(t, "needs to mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(data, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	addr := freeAddr(t)
	c := startCollector(t, addr, data)
	fl, err := fleet.New(fleet.Options{Seed: 3, From: time.Now().Add(-time.Hour), Services: 1, Instances: 1, Kinds: []string{"cpu"}})
	if err != nil {
		t.Fatal(err)
	}
	stored := 0
	send := func() (int, []byte) {
		it, err := fl.Item(stored)
		if err != nil {
			t.Fatal(err)
		}
		status, answer := post(t.Context(), c.URL, fmt.Sprintf("%032x", stored+1), &it)
		if status == http.StatusOK {
			stored++
		}
		return status, answer
	}
	read := func(when string) {
		t.Helper()
		var f flame
		get(t, c.URL, "/api/v1/flamegraph", url.Values{"query": {`{service="svc-0"}`}, "type": {"cpu"}, "from": {"-3h"}, "until": {"now"}}, &f)
		if f.Coverage.Profiles != int64(stored) {
			t.Errorf("%s: %d profiles are read, %d were acknowledged", when, f.Coverage.Profiles, stored)
		}
	}
	for range 5 {
		if status, answer := send(); status != http.StatusOK {
			t.Fatalf("with space: status %d: %s", status, answer)
		}
	}
	filler := filepath.Join(data, "filler")
	fill(t, filler)
	eventually(t, 10*time.Second, "a write is refused", func() error {
		status, answer := send()
		if status == http.StatusInsufficientStorage || status == http.StatusServiceUnavailable {
			return nil
		}
		return fmt.Errorf("status %d: %s", status, answer)
	})
	read("on the full disk")
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	eventually(t, 15*time.Second, "writes come back", func() error {
		if status, answer := send(); status != http.StatusOK {
			return fmt.Errorf("status %d: %s", status, answer)
		}
		return nil
	})
	read("with space again")
	c.Kill()
	c = startCollector(t, addr, data)
	read("after a kill")
}

// fill writes a file until the file system has no byte left.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}
