package symbolize_test

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/symbolize"
)

// described is a file as far as Pair looks at it.
func described(t *testing.T, file string) *inquest.Binary {
	t.Helper()
	f, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := &inquest.Binary{Arch: f.Machine.String()}
	for _, s := range f.Sections {
		if s.Type == elf.SHT_NULL {
			continue
		}
		out := inquest.Section{Name: s.Name, Addr: s.Addr, Offset: s.Offset, Size: s.Size, Absent: s.Type == elf.SHT_NOBITS}
		if !out.Absent && s.FileSize < 64<<20 {
			data, err := s.Data()
			if err != nil {
				t.Fatal(err)
			}
			switch s.Name {
			case ".text", ".rodata", ".gopclntab":
				sum := sha256.Sum256(data)
				out.SHA256 = hex.EncodeToString(sum[:])
			case ".note.gnu.build-id":
				b.GNUBuildID = hex.EncodeToString(data[16:])
			case ".note.go.buildid":
				b.GoBuildID = string(data[16:])
			}
		}
		b.Sections = append(b.Sections, out)
	}
	return b
}

// TestPair builds a program in several ways and sees which files may stand for
// which: those made of one another by strip and objcopy, exactly; a second build with
// other flags of the linker, for names.
func TestPair(t *testing.T) {
	dir := t.TempDir() // its name is in the table of functions
	files := map[string]string{
		"plain":        goProgram(t, dir, "amd64"),
		"plain again":  goProgram(t, dir, "amd64"),
		"stripped":     goProgram(t, dir, "amd64", "-ldflags=-s -w"),
		"other flags":  goProgram(t, dir, "amd64", "-gcflags=-l"),
		"pie":          goProgram(t, dir, "amd64", "-buildmode=pie"),
		"pie stripped": goProgram(t, dir, "amd64", "-buildmode=pie", "-ldflags=-s -w"),
		"no ids":       goProgram(t, dir, "amd64", "-ldflags=-B none -buildid="),
		"arm64":        goProgram(t, dir, "arm64"),
	}
	for _, name := range []string{"plain", "pie", "no ids"} {
		for suffix, args := range map[string][]string{
			" strip": {"strip", "-o"}, " half strip": {"strip", "-g", "-o"}, " companion": {"objcopy", "--only-keep-debug"},
		} {
			out := filepath.Join(t.TempDir(), "out")
			if args[0] == "strip" {
				args = append(args, out, files[name])
			} else {
				args = append(args, files[name], out)
			}
			runTool(t, "", args[0], args[1:]...)
			files[name+suffix] = out
		}
	}
	binaries := map[string]*inquest.Binary{}
	for name, file := range files {
		binaries[name] = described(t, file)
	}
	family := map[string]string{}
	for name := range files {
		family[name] = name
	}
	for _, name := range []string{"plain", "pie", "no ids"} {
		for _, suffix := range []string{" strip", " half strip", " companion"} {
			family[name+suffix] = name
		}
	}
	family["plain again"] = "plain"
	// Builds with the same table of functions.
	names := [][2]string{{"plain", "stripped"}, {"pie", "pie stripped"}, {"plain", "no ids"}, {"stripped", "no ids"}}
	for _, a := range slices.Sorted(maps.Keys(files)) {
		for _, b := range slices.Sorted(maps.Keys(files)) {
			want := inquest.TrustNone
			if slices.Contains(names, [2]string{family[a], family[b]}) || slices.Contains(names, [2]string{family[b], family[a]}) {
				want = inquest.TrustNames
			}
			companion := strings.HasSuffix(a, " companion") || strings.HasSuffix(b, " companion")
			if companion {
				want = inquest.TrustNone // no bytes to compare
			}
			if family[a] == family[b] && (!companion || family[a] != "no ids") {
				want = inquest.TrustExact
			}
			got, reason := symbolize.Pair(binaries[a], binaries[b])
			if got != want {
				t.Errorf("%s and %s: %s (%s), want %s", a, b, got, reason, want)
			}
			if reason == "" {
				t.Errorf("%s and %s: no reason", a, b)
			}
		}
	}
	changed := *binaries["plain strip"]
	changed.Sections = slices.Clone(changed.Sections)
	for i := range changed.Sections {
		if s := &changed.Sections[i]; s.Name == ".text" {
			s.SHA256 = hex.EncodeToString(make([]byte, 32))
		}
	}
	if got, reason := symbolize.Pair(binaries["plain"], &changed); got != inquest.TrustNames {
		t.Errorf("same ids, other code: %s (%s), want names", got, reason)
	}
}
