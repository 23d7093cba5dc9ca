package symbolize_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest"
)

// TestFiles compares the files of a table with those that its frames name.
func TestFiles(t *testing.T) {
	exe := readFile(t, program{args: []string{"-trimpath"}}.build(t))
	table := newTable(t, exe)
	got := table.Files()
	var want []string
	_, text := gosymTable(t, exe)
	var frames []inquest.Frame
	for addr := text; ; addr++ {
		frames = table.Frames(frames[:0], addr)
		if len(frames) == 0 && addr > text+1<<20 {
			break
		}
		for _, f := range frames {
			if f.File != "" {
				want = append(want, f.File)
			}
		}
		if len(want) > 1<<16 {
			slices.Sort(want)
			want = slices.Compact(want)
		}
	}
	slices.Sort(want)
	want = slices.Compact(want)
	if err := table.Err(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files of frames (-) and of the table (+):\n%s", diff)
	}
	if !slices.Contains(got, "runtime/proc.go") || !slices.Contains(got, "fmt/print.go") {
		t.Errorf("%q", got)
	}
}

// TestFilesOfC lists the files of a program that Go did not build.
func TestFilesOfC(t *testing.T) {
	file := compileNative(t, "gcc", "-g", "-O1", "sums.c", "sums_main.c")
	for _, name := range newTable(t, readFile(t, file)).Files() {
		if filepath.Base(name) == "sums.c" {
			return
		}
	}
	t.Error("sums.c is not among the files")
}
