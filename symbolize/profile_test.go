package symbolize_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/goinquest/inquest"
	"github.com/google/go-cmp/cmp"
	"github.com/google/pprof/profile"
)

// TestLikeProfile compares with the functions that a CPU profile has itself:
// its addresses are made offsets in the file, and these addresses as linked.
// Profiles have the full names of generic functions, and one file for each
// function, which need not be that of a line: files are not compared.
func TestLikeProfile(t *testing.T) {
	for _, p := range []program{{}, {args: []string{"-buildmode=pie"}, cgo: true, strip: true}} {
		t.Run(p.String(), func(t *testing.T) {
			path := p.build(t)
			cpu := filepath.Join(t.TempDir(), "cpu")
			cmd := exec.Command(path, "-profile", "1s")
			cmd.Env = append(os.Environ(), "CPU_PROFILE="+cpu)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			prof, err := profile.Parse(bytes.NewReader(readFile(t, cpu)))
			if err != nil {
				t.Fatal(err)
			}
			table := newTable(t, readFile(t, path))
			checked := 0
			for _, l := range prof.Location {
				if l.Mapping == nil || filepath.Base(l.Mapping.File) != "load" || len(l.Line) == 0 {
					continue
				}
				var want []inquest.Frame
				for _, line := range l.Line {
					f := line.Function
					want = append(want, inquest.Frame{Function: f.Name, Line: int(line.Line), StartLine: int(f.StartLine)})
				}
				addr, ok := table.Address(l.Address - l.Mapping.Start + l.Mapping.Offset)
				if !ok {
					t.Errorf("%#x is not in the file", l.Address)
				}
				got := table.Frames(nil, addr)
				for i := range got {
					got[i] = inquest.Frame{Function: got[i].Profiled(), Line: got[i].Line, StartLine: got[i].StartLine}
				}
				if d := cmp.Diff(want, got); d != "" {
					t.Errorf("%#x (-want, +got):\n%s", l.Address, d)
				}
				checked++
			}
			if checked < 20 {
				t.Errorf("only %d addresses", checked)
			}
			t.Logf("%d addresses", checked)
		})
	}
}
