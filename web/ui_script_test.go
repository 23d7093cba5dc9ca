package web_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/goinquest/inquest/internal/proc"
)

// TestScripts runs the unit tests of the pages' modules that need no browser.
func TestScripts(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		proc.Missing(t, "node is not on PATH")
	}
	dir := t.TempDir()
	for _, pattern := range []string{"ui/*.js", "ui/test/*.mjs"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no files like %s (%v)", pattern, err)
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, filepath.Join(dir, f), data)
		}
	}
	// Browsers take the modules by their type in the page, node by this.
	writeFile(t, filepath.Join(dir, "package.json"), []byte(`{"type":"module"}`))
	out, err := exec.Command(node, "--test", filepath.Join(dir, "ui/test")).CombinedOutput()
	if err != nil {
		t.Fatalf("node --test: %v\n%s", err, out)
	}
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
