package profile_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/internal/proc"
	"github.com/goinquest/inquest/profile"
)

// `go tool pprof` says of what we encoded exactly what it says of the
// original: the same samples, locations and mappings, the same totals.
func TestGoToolPprofReadsTheSame(t *testing.T) {
	where, err := exec.Command("go", "tool", "-n", "pprof").Output() // builds it if need be
	if err != nil {
		proc.Missing(t, "go tool pprof cannot be had: %v", err)
	}
	tool := strings.TrimSpace(string(where))
	bodies := map[string][]byte{}
	for _, b := range corpus.Load() {
		if b.Seq == 0 && b.Program == "etcd" {
			bodies[b.Kind] = b.Data
		}
	}
	for name, p := range producers() {
		bodies[name] = plain(t, p)
	}
	dir := t.TempDir()
	say := func(body []byte, format string) string {
		path := filepath.Join(dir, "body.pb.gz")
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(tool, "-symbolize=none", format, path)
		cmd.Env = append(os.Environ(), "PPROF_TMPDIR="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", cmd, err, out)
		}
		return string(out)
	}
	var enc profile.Encoder
	for name, body := range bodies {
		encoded := enc.AppendGzip(nil, decode(t, body))
		formats := []string{"-raw", "-top"}
		if name == "ebpf" {
			formats = formats[1:] // -raw shows ids, and these are not 1, 2, 3
		}
		for _, format := range formats {
			if diff := cmp.Diff(say(body, format), say(encoded, format)); diff != "" {
				t.Errorf("%s, %s (-original +encoded):\n%.3000s", name, format, diff)
			}
		}
	}
}
