package vulndb_test

import (
	"archive/zip"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/vulndb"
)

func read(t *testing.T, name string) *vulndb.Database {
	t.Helper()
	d, err := vulndb.Read(name)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestAffecting(t *testing.T) {
	d := read(t, "testdata")
	with := func(path, version string) inquest.Build {
		return inquest.Build{Modules: []inquest.Module{{Path: path, Version: version}}}
	}
	of := func(goVersion, goos string) inquest.Build {
		return inquest.Build{GoVersion: goVersion, Settings: map[string]string{"GOOS": goos, "GOARCH": "amd64"}}
	}
	replaced := func(m *inquest.Module) inquest.Build {
		return inquest.Build{Modules: []inquest.Module{{Path: "golang.org/x/net", Version: "v0.22.0", Replace: m}}}
	}
	tests := []struct {
		name  string
		build inquest.Build
		want  []string // module, id, version in the build, fixed
	}{
		{"older than the fix", with("golang.org/x/net", "v0.22.0"), []string{"golang.org/x/net GO-2024-2687 v0.22.0 v0.23.0"}},
		{"a candidate of the fix", with("golang.org/x/net", "v0.23.0-rc.1"), []string{"golang.org/x/net GO-2024-2687 v0.23.0-rc.1 v0.23.0"}},
		{"the fix", with("golang.org/x/net", "v0.23.0"), nil},
		{"a commit before any version", with("golang.org/x/net", "v0.0.0-20210226172049-e18ecbb05110"),
			[]string{"golang.org/x/net GO-2024-2687 v0.0.0-20210226172049-e18ecbb05110 v0.23.0"}},
		{"unknown version", with("golang.org/x/net", ""), nil},
		{"a module below the path", with("golang.org/x/net/v2", "v2.0.0"), nil},
		{"never fixed", with("github.com/dgrijalva/jwt-go", "v3.2.0+incompatible"), []string{"github.com/dgrijalva/jwt-go GO-2020-0017 v3.2.0+incompatible "}},
		{"the main module", inquest.Build{Module: "golang.org/x/net", Version: "v0.1.0"}, []string{"golang.org/x/net GO-2024-2687 v0.1.0 v0.23.0"}},
		{"replaced by a fixed version", replaced(&inquest.Module{Path: "golang.org/x/net", Version: "v0.30.0"}), nil},
		{"replaced by a fork", replaced(&inquest.Module{Path: "example.com/net", Version: "v0.1.0"}), nil},
		{"replaced by a directory", replaced(&inquest.Module{Path: "../net"}), nil},
		{"the last affected", with("example.com/last", "v1.4.0"), []string{"example.com/last X-1 v1.4.0 "}},
		{"after the last affected", with("example.com/last", "v1.4.1"), nil},
		{"before the first affected", with("example.com/last", "v0.9.0"), nil},
		{"named", with("example.com/named", "v1.2.0"), []string{"example.com/named X-1 v1.2.0 "}},
		{"not named", with("example.com/named", "v1.1.0"), nil},

		{"Go before the fix", of("go1.22.1", "linux"), []string{"stdlib GO-2024-2687 1.22.1 1.22.2"}},
		{"Go with the fix", of("go1.22.2", "linux"), nil},
		{"Go older, with the fix", of("go1.21.9", "linux"), nil},
		{"first of a series", of("go1.22", "linux"), []string{"stdlib GO-2024-2687 1.22.0 1.22.2"}},
		{"a candidate of Go", of("go1.22rc1", "linux"), []string{"stdlib GO-2024-2687 1.22.0-rc.1 1.22.2"}},
		{"a vendor's Go", of("go1.22.1 X:boringcrypto", "linux"), []string{"stdlib GO-2024-2687 1.22.1 1.22.2"}},
		{"Go of a commit", of("devel go1.23-0a1b2c3", "linux"), nil},
		{"another system", of("go1.21.3", "windows"), []string{"stdlib GO-2023-2185 1.21.3 1.21.4", "stdlib GO-2024-2687 1.21.3 1.21.9"}},
		{"this system", of("go1.21.3", "linux"), []string{"stdlib GO-2024-2687 1.21.3 1.21.9"}},
		{"unknown system", inquest.Build{GoVersion: "go1.21.3"}, []string{"stdlib GO-2023-2185 1.21.3 1.21.4", "stdlib GO-2024-2687 1.21.3 1.21.9"}},
		{"tools", of("go1.20.4", "linux"), []string{"stdlib GO-2024-2687 1.20.4 1.21.9", "toolchain GO-2023-1841 1.20.4 1.20.5"}},
	}
	for _, tt := range tests {
		var got []string
		for _, f := range d.Affecting(&tt.build) {
			got = append(got, f.Module+" "+f.ID+" "+f.Version+" "+f.Fixed)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

// A file, a directory and an archive with an index hold the same.
func TestRead(t *testing.T) {
	if n := read(t, "testdata/GO-2024-2687.json").Entries(); n != 1 {
		t.Errorf("one file: %d entries", n)
	}
	if n := read(t, "testdata").Entries(); n != 5 {
		t.Errorf("a directory: %d entries", n)
	}
	archive := filepath.Join(t.TempDir(), "vulndb.zip")
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	one, err := os.ReadFile("testdata/GO-2024-2687.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{"ID/GO-2024-2687.json": string(one), "index/modules.json": `[{"path":"stdlib"}]`, "README": "x"} {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(z.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if n := read(t, archive).Entries(); n != 1 {
		t.Errorf("an archive: %d entries", n)
	}
}

func TestReadRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "text": "hello", "other": `{"a":1}`, "list": `[{"id":"x"}, null]`, "none": "[]", "types": `{"id": 5}`,
	} {
		file := filepath.Join(t.TempDir(), name+".json")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := vulndb.Read(file); !errors.Is(err, inquest.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := vulndb.Read(filepath.Join(t.TempDir(), "nothing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := vulndb.Read(t.TempDir()); !errors.Is(err, inquest.ErrInvalid) {
		t.Errorf("an empty directory: %v", err)
	}
}
