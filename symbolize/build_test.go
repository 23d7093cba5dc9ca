package symbolize_test

import (
	"bytes"
	"debug/elf"
	"encoding/hex"
	"errors"
	"os"
	"testing"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/symbolize"
)

// gnuID reads a build id the way the standard library does, as the oracle.
func gnuID(t *testing.T, path string) string {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	s := f.Section(".note.gnu.build-id")
	if s == nil {
		return ""
	}
	data, err := s.Data()
	if err != nil || len(data) < 16 {
		t.Fatal(err)
	}
	return hex.EncodeToString(data[16:])
}

func TestReadBuildOfThisTest(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := elf.NewFile(f); err != nil {
		t.Skip("executables are not ELF here")
	}
	b, err := symbolize.ReadBuild(f)
	if err != nil {
		t.Fatal(err)
	}
	if b.GoBuildID == "" || b.GoVersion == "" || b.Settings["GOOS"] == "" {
		t.Errorf("build %+v", b)
	}
	want := gnuID(t, exe)
	if want == "" && len(b.ID) != len("go-")+64 || want != "" && b.ID != want {
		t.Errorf("id %q, want %q or the hash of the Go build id", b.ID, want)
	}
}

func TestReadBuildOfOthers(t *testing.T) {
	for _, data := range []string{"", "#!/bin/sh\n", "\x7fELF", "\x7fELF\x02\x01\x01" + string(make([]byte, 100))} {
		if _, err := symbolize.ReadBuild(bytes.NewReader([]byte(data))); !errors.Is(err, inquest.ErrNotFound) {
			t.Errorf("ReadBuild(%q): %v, want not found", data, err)
		}
	}
}

func FuzzReadBuild(f *testing.F) {
	f.Add([]byte("\x7fELF\x02\x01\x01" + string(make([]byte, 100))))
	f.Add([]byte("\x7fELF\x01\x02\x01" + string(make([]byte, 100))))
	f.Fuzz(func(t *testing.T, data []byte) {
		if b, err := symbolize.ReadBuild(bytes.NewReader(data)); err == nil && b == nil {
			t.Error("neither a build nor an error")
		}
	})
}
