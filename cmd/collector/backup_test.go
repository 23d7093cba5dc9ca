package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/goinquest/inquest/internal/corpus"
)

// TestBackupChangesNothing: a backup of data that no collector has open ends
// epochs and does nothing else there.
func TestBackupChangesNothing(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	data := filepath.Join(t.TempDir(), "data")
	url, stop := start(t, "-data", data, "-self-profile=false", "-retention", "48h")
	awaitReady(t, url)
	body := corpus.Load("cpu")[0].Data
	for i := range 3 {
		send(t, http.MethodPost, profileURL(url, fmt.Sprint("s", i)), body)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	before := dataFiles(t, data)
	for i := range 2 {
		if err := run(t.Context(), []string{"backup", "-data", data, "-o", filepath.Join(t.TempDir(), fmt.Sprint(i))}, io.Discard, os.Stderr); err != nil {
			t.Fatal(err)
		}
	}
	after := dataFiles(t, data)
	for name, was := range before {
		if name != "store/catalog.db" && name != "store/lock" && after[name] != was {
			t.Errorf("%s is another one", name)
		}
		delete(after, name)
	}
	for name := range after {
		t.Errorf("%s is new", name)
	}
}

func dataFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		out[filepath.ToSlash(name)] = string(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
