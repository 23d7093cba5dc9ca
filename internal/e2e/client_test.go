package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestClient runs the tests of the module that users import, which ./... of this
// one does not reach, and sees that it brings nothing along.
func TestClient(t *testing.T) {
	dir := filepath.Join("..", "..", "client")
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mod), "require") || !strings.Contains(string(mod), "\ngo 1.23\n") {
		t.Errorf("client/go.mod: want Go 1.23 and no requirements:\n%s", mod)
	}
	for _, args := range [][]string{{"vet", "./..."}, {"test", "./..."}} {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("go %s: %v\n%s", args, err, out)
		}
	}
}
