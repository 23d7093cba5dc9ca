package symbolize_test

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"encoding/hex"
	"errors"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/symbolize"
	"github.com/google/go-cmp/cmp"
)

// TestIdentify compares with what the standard library says of programs of
// all kinds.
func TestIdentify(t *testing.T) {
	tests := []struct {
		p              program
		kind           string
		dwarf, symbols bool
	}{
		{program{}, inquest.BinaryExecutable, true, true},
		{program{args: []string{"-ldflags=-s -w"}}, inquest.BinaryExecutable, false, false},
		{program{strip: true}, inquest.BinaryExecutable, false, false},
		{program{args: []string{"-buildmode=pie"}}, inquest.BinaryPIE, true, true},
		{program{cgo: true}, inquest.BinaryExecutable, true, true},
		{program{args: []string{"-buildmode=pie"}, cgo: true, strip: true}, inquest.BinaryPIE, false, false},
		{program{args: []string{"-buildmode=c-shared"}, cgo: true}, inquest.BinaryLibrary, true, true},
		{program{arch: "arm64"}, inquest.BinaryExecutable, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.p.String(), func(t *testing.T) {
			exe := readFile(t, tt.p.build(t))
			b, err := symbolize.Identify(bytes.NewReader(exe), int64(len(exe)))
			if err != nil {
				t.Fatal(err)
			}
			if b.Kind != tt.kind || b.DWARF != tt.dwarf || b.Symtab != tt.symbols || !b.Pclntab || b.Bytes != int64(len(exe)) {
				t.Errorf("kind %s, DWARF %t, symbols %t, pclntab %t, %d bytes; want %s, %t, %t, true, %d",
					b.Kind, b.DWARF, b.Symtab, b.Pclntab, b.Bytes, tt.kind, tt.dwarf, tt.symbols, len(exe))
			}
			info, err := buildinfo.Read(bytes.NewReader(exe))
			if err != nil {
				t.Fatal(err)
			}
			arch := tt.p.arch
			if arch == "" {
				arch = b.Settings["GOARCH"]
			}
			if b.GoVersion != info.GoVersion || b.Path != "load" || b.Arch != arch || b.GoBuildID == "" || b.ID == "" {
				t.Errorf("binary %+v", b)
			}
			if b.GNUBuildID != "" && b.ID != b.GNUBuildID {
				t.Errorf("id %q, GNU build id %q", b.ID, b.GNUBuildID)
			}
			checkSections(t, exe, b)
		})
	}
}

func checkSections(t *testing.T, exe []byte, b *inquest.Binary) {
	f, err := elf.NewFile(bytes.NewReader(exe))
	if err != nil {
		t.Fatal(err)
	}
	var want []inquest.Section
	for _, s := range f.Sections[1:] {
		out := inquest.Section{Name: s.Name, Addr: s.Addr, Offset: s.Offset, Size: s.FileSize, Absent: s.Type == elf.SHT_NOBITS}
		switch s.Name {
		case ".text", ".rodata", ".gopclntab":
			data, err := s.Data()
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(data)
			out.SHA256 = hex.EncodeToString(sum[:])
		}
		want = append(want, out)
	}
	got := append([]inquest.Section(nil), b.Sections...)
	for i := range got {
		if i < len(want) && got[i].Absent {
			want[i].Size = got[i].Size // there, it is 0 in the file
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestDebugCompanion identifies what is left when the code is taken out.
func TestDebugCompanion(t *testing.T) {
	program{}.need(t, "objcopy")
	path := program{}.build(t)
	companion := filepath.Join(t.TempDir(), "load.debug")
	if msg, err := exec.Command("objcopy", "--only-keep-debug", path, companion).CombinedOutput(); err != nil {
		t.Fatalf("objcopy: %v\n%s", err, msg)
	}
	exe, debug := readFile(t, path), readFile(t, companion)
	a, err := symbolize.Identify(bytes.NewReader(exe), int64(len(exe)))
	if err != nil {
		t.Fatal(err)
	}
	b, err := symbolize.Identify(bytes.NewReader(debug), int64(len(debug)))
	if err != nil {
		t.Fatal(err)
	}
	if b.Kind != inquest.BinaryDebug || !b.DWARF || b.Pclntab || b.ID != a.ID {
		t.Errorf("kind %s, DWARF %t, pclntab %t, id %s; want a debug companion of %s", b.Kind, b.DWARF, b.Pclntab, b.ID, a.ID)
	}
}

// TestModules reads what a program of many modules was built from.
func TestModules(t *testing.T) {
	path := filepath.Join(t.TempDir(), "collector")
	buildCommand(t, path)
	exe := readFile(t, path)
	b, err := symbolize.ReadBuild(bytes.NewReader(exe))
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for _, m := range b.Modules {
		versions[m.Path] = m.Built().Version
	}
	if b.Module != "github.com/goinquest/inquest" || versions["go.etcd.io/bbolt"] == "" || versions["go.etcd.io/bbolt"][0] != 'v' {
		t.Errorf("module %s, modules %v", b.Module, versions)
	}
	sum, err := symbolize.Sum(bytes.NewReader(exe), int64(len(exe)))
	if want := sha256.Sum256(exe); err != nil || sum != hex.EncodeToString(want[:]) {
		t.Errorf("sum %s, %v; want %x", sum, err, want)
	}
	if _, err := symbolize.Sum(bytes.NewReader(exe), int64(len(exe))+1); !errors.Is(err, inquest.ErrInvalid) {
		t.Errorf("sum of more than there is: %v", err)
	}
}

// TestIdentifyOthers asks for files that are not ours.
func TestIdentifyOthers(t *testing.T) {
	if _, err := symbolize.Identify(bytes.NewReader([]byte("#!/bin/sh\n")), 10); !errors.Is(err, inquest.ErrNotFound) {
		t.Errorf("a script: %v, want not found", err)
	}
	path, err := exec.LookPath("cat")
	if err != nil {
		t.Skip("no program of others is here")
	}
	exe := readFile(t, path)
	b, err := symbolize.Identify(bytes.NewReader(exe), int64(len(exe)))
	if err != nil || b.GoVersion != "" || b.ID != b.GNUBuildID {
		t.Errorf("cat: %+v, %v", b, err)
	}
}
