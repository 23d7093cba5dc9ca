package push_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest/internal/push"
	"github.com/goinquest/inquest/internal/remote"
)

// taker takes whole files, as a collector does, and keeps the zips.
type taker struct {
	mu   sync.Mutex
	zips [][]byte
}

func (k *taker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var first, last, total int64
	switch {
	case r.Method == http.MethodPost:
		fmt.Fprint(w, `{"values":[]}`)
		return
	case !strings.HasPrefix(r.Header.Get("Content-Range"), "bytes */"):
		if _, err := fmt.Sscanf(r.Header.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &total); err != nil || last+1 != total {
			http.Error(w, "in parts", http.StatusBadRequest)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		if bytes.HasPrefix(body, []byte("PK")) {
			k.zips = append(k.zips, body)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"sha256": "x", "bytes": total})
	default:
		w.WriteHeader(http.StatusPermanentRedirect)
		fmt.Fprint(w, `{"received":0}`)
	}
}

// pushSource pushes a program with its source, and returns the report and the zip.
func pushSource(t *testing.T, exe, dir string) (*push.Source, []byte, error) {
	t.Helper()
	k := &taker{}
	s := httptest.NewServer(k)
	defer s.Close()
	c, err := remote.New(remote.Options{URL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r, err := push.Run(context.Background(), push.Options{Paths: []string{exe}, SourceDir: dir, Client: c})
	if err != nil {
		return nil, nil, err
	}
	f := r.Files[0]
	if f.Source == nil || f.Source.Error != "" {
		t.Fatalf("%+v", r)
	}
	if len(k.zips) == 0 {
		return f.Source, nil, nil
	}
	z, err := zip.NewReader(bytes.NewReader(k.zips[0]), int64(len(k.zips[0])))
	if err != nil {
		t.Fatal(err)
	}
	if want := "inquest source " + f.ID; z.Comment != want || len(z.File) != f.Source.Files {
		t.Errorf("a zip of %q with %d files, want %q, %d", z.Comment, len(z.File), want, f.Source.Files)
	}
	return f.Source, k.zips[0], nil
}

// names lists the files of a zip.
func names(t *testing.T, b []byte) []string {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range z.File {
		out = append(out, f.Name)
	}
	return out
}

// shop is a module that uses another in a directory beside it, and one of the
// module cache.
func shop(t *testing.T) (dir string) {
	t.Helper()
	top := t.TempDir()
	for name, text := range map[string]string{
		"shop/go.mod": "module example.org/shop\n\ngo 1.22\n\nrequire example.org/tax v0.1.0\nrequire github.com/google/go-cmp v0.7.0\n\n" +
			"replace example.org/tax => ../tax\n",
		"shop/main.go": "package main\n\nimport (\n\t\"example.org/shop/cart\"\n\t\"github.com/google/go-cmp/cmp\"\n)\n\n" +
			"func main() { println(cart.Sum(3), cmp.Equal(1, 2)) }\n",
		"shop/cart/cart.go": "package cart\n\nimport \"example.org/tax\"\n\n//go:noinline\nfunc Sum(n int) int { return tax.Of(n) + linked(n) }\n",
		"shop/cart/key.pem": "secret",
		// What a program names as its source need not be any.
		"shop/cart/other.go": "package cart\n\n//line key.pem:1\nfunc linked(n int) int { println(n); return n }\n",
		"shop/unused/no.go":  "package unused\n\nfunc No() {}\n",
		"tax/go.mod":         "module example.org/tax\n",
		"tax/tax.go":         "package tax\n\n//go:noinline\nfunc Of(n int) int { return n * 19 / 100 }\n",
	} {
		name = filepath.Join(top, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sums, err := os.ReadFile("../../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(top, "shop")
	if err := os.WriteFile(filepath.Join(dir, "go.sum"), sums, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func build(t *testing.T, dir string, args ...string) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("programs of Linux are pushed")
	}
	out := filepath.Join(t.TempDir(), "shop")
	cmd := exec.Command("go", append(append([]string{"build", "-mod=mod", "-o", out}, args...), ".")...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-buildvcs=false", "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	return out
}

func TestSource(t *testing.T) {
	dir := shop(t)
	abs := func(name string) string { return strings.TrimPrefix(filepath.Join(dir, name), "/") }
	for _, c := range []struct {
		name string
		args []string
		want []string
	}{
		{"trimmed", []string{"-trimpath"}, []string{
			"example.org/shop/main.go", "example.org/shop/cart/cart.go", "example.org/tax@v0.1.0/tax.go", "runtime/proc.go", "github.com/google/go-cmp@v0.7.0/cmp/compare.go",
		}},
		{"as it is", nil, []string{abs("main.go"), abs("cart/cart.go"), abs("../tax/tax.go"), "/src/runtime/proc.go"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			exe := build(t, dir, c.args...)
			s, first, err := pushSource(t, exe, dir)
			if err != nil {
				t.Fatal(err)
			}
			got := names(t, first)
			for _, name := range c.want {
				if !slices.ContainsFunc(got, func(f string) bool { return f == name || name[0] == '/' && strings.HasSuffix(f, name) }) {
					t.Errorf("%s is not there", name)
				}
			}
			for _, name := range got {
				if strings.HasSuffix(name, "key.pem") || strings.HasSuffix(name, "no.go") {
					t.Errorf("%s was sent", name)
				}
			}
			if !slices.IsSorted(got) || s.State != "stored" || s.Files+len(s.Missing) != s.Named || s.Bytes == 0 {
				t.Errorf("%+v", s)
			}
			if len(s.Missing) != 1 || !strings.HasSuffix(s.Missing[0].File, "key.pem") {
				t.Errorf("missing are %v", s.Missing)
			}
			if _, again, err := pushSource(t, exe, dir); err != nil || !bytes.Equal(first, again) {
				t.Errorf("the zip is another one the second time (%v)", err)
			}
		})
	}
}

// TestSourceLeftOut is about files that are there and not sent.
func TestSourceLeftOut(t *testing.T) {
	dir := shop(t)
	exe := build(t, dir, "-trimpath")
	cart, main := filepath.Join(dir, "cart/cart.go"), filepath.Join(dir, "main.go")
	secret := filepath.Join(t.TempDir(), "secret.go")
	if err := os.WriteFile(secret, []byte("package secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(cart); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, cart); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(main, 5<<20); err != nil {
		t.Fatal(err)
	}
	tax := filepath.Join(dir, "../tax")
	if err := os.RemoveAll(tax); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", "") // Go is not here
	s, _, err := pushSource(t, exe, dir)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, a := range s.Missing {
		if strings.HasPrefix(a.File, "example.org/") || a.File == "runtime/proc.go" || filepath.Base(a.File) == "key.pem" {
			got[strings.TrimPrefix(a.File, dir+"/cart/")] = a.Why
		}
	}
	want := map[string]string{
		"example.org/shop/cart/cart.go": "it is no regular file",
		"example.org/shop/main.go":      "it has more than 4 MiB",
		"example.org/tax@v0.1.0/tax.go": "the directory that replaces its module is not here",
		"key.pem":                       "it does not end as source files do",
		"runtime/proc.go":               "no standard library of the program's version of Go is here",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if s.State != "not found" || len(s.Notes) == 0 || !strings.Contains(s.Notes[0], "go command") {
		t.Errorf("%s, %q", s.State, s.Notes)
	}
}

// TestSourceOtherGo has another version of Go, an empty module cache and a
// vendor directory.
func TestSourceOtherGo(t *testing.T) {
	dir := shop(t)
	exe := build(t, dir, "-trimpath")
	vendor := exec.Command("go", "mod", "vendor")
	vendor.Dir, vendor.Env = dir, append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
	if msg, err := vendor.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	if err := os.RemoveAll(filepath.Join(dir, "../tax")); err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	script := "#!/bin/sh\necho '{\"GOROOT\":\"/nonesuch\",\"GOMODCACHE\":\"" + bin + "\",\"GOVERSION\":\"go1.20.1\"}'\n"
	if err := os.WriteFile(filepath.Join(bin, "go"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	s, zip, err := pushSource(t, exe, dir)
	if err != nil {
		t.Fatal(err)
	}
	got := names(t, zip)
	for name, want := range map[string]bool{
		"github.com/google/go-cmp@v0.7.0/cmp/compare.go": true, "example.org/tax@v0.1.0/tax.go": true, "example.org/shop/main.go": true, "runtime/proc.go": false,
	} {
		if slices.Contains(got, name) != want {
			t.Errorf("%s is sent: %v", name, !want)
		}
	}
	if len(s.Notes) == 0 || !strings.Contains(s.Notes[0], "and go1.20.1 is here") {
		t.Errorf("%q", s.Notes)
	}
}

// TestSourceOfReplacedGo has another version of Go where that was which the
// program was built by.
func TestSourceOfReplacedGo(t *testing.T) {
	dir, root := shop(t), t.TempDir()
	file := filepath.Join(root, "src/runtime/proc.go")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		filepath.Join(root, "VERSION"):      "go1.20.1\ntime 2023-02-01T00:00:00Z\n",
		file:                                "package runtime\n",
		filepath.Join(dir, "cart/other.go"): "package cart\n\n//line " + file + ":1\nfunc linked(n int) int { println(n); return n }\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, _, err := pushSource(t, build(t, dir, "-trimpath"), dir)
	if err != nil {
		t.Fatal(err)
	}
	if want := []push.Absent{{File: file, Why: "another version of Go is there now"}}; !slices.Equal(s.Missing, want) {
		t.Errorf("got %v, want %v", s.Missing, want)
	}
	if len(s.Notes) != 1 || !strings.Contains(s.Notes[0], "and go1.20.1 is where that was") {
		t.Errorf("%q", s.Notes)
	}
}

// TestSourceNewer says that files may not be those the program was built of.
func TestSourceNewer(t *testing.T) {
	dir := shop(t)
	exe := build(t, dir)
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "main.go"), later, later); err != nil {
		t.Fatal(err)
	}
	s, _, err := pushSource(t, exe, dir)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"1 file is newer than the program: its lines may have moved"}; !slices.Equal(s.Notes, want) {
		t.Errorf("got %q, want %q", s.Notes, want)
	}
}

// TestSourceDirectory refuses the root of another module.
func TestSourceDirectory(t *testing.T) {
	dir := shop(t)
	exe := build(t, dir, "-trimpath")
	for at, want := range map[string]string{
		filepath.Join(dir, "../tax"): "it is module example.org/tax",
		filepath.Join(dir, "cart"):   "it has no go.mod",
		filepath.Join(dir, "go.mod"): "want a directory",
		filepath.Join(dir, "none"):   "no such file",
	} {
		if _, _, err := pushSource(t, exe, at); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", at, err, want)
		}
	}
}
