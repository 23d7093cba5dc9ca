package demo

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/goinquest/inquest/internal/demo/fleet"
)

// sources are the files of package fleet. They use nothing but the standard
// library, so they build in a module of their own without any download.
//
//go:embed fleet/process.go fleet/catalog.go fleet/checkout.go fleet/search.go
var sources embed.FS

// The module the services are built in. Its name is what people see in front
// of the functions of the demo.
const (
	module = "inquest.demo/shop"
	goMod  = "module " + module + "\n\ngo 1.22\n"
	mainGo = `package main

import (
	"fmt"
	"os"

	"` + module + `/fleet"
)

var release string // set when linking

func main() {
	if err := fleet.Main(%q, release, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
`
)

// compile writes the sources and builds every service in every release, each
// with a build id of its own. It returns the directory that has the programs,
// as RELEASE/SERVICE.
func (f *Fleet) compile(ctx context.Context, goTool string) (bin string, err error) {
	src := filepath.Join(f.o.Dir, "src")
	if err := writeSources(src); err != nil {
		return "", err
	}
	bin = filepath.Join(f.o.Dir, "bin")
	tmp := filepath.Join(f.o.Dir, "tmp")
	if err := os.MkdirAll(tmp, 0o700); err != nil {
		return "", err
	}
	for _, release := range fleet.Releases {
		out := filepath.Join(bin, release)
		if err := os.MkdirAll(out, 0o700); err != nil {
			return "", err
		}
		// Linking without DWARF (-w) is much faster, and profiles name their
		// functions all the same.
		args := []string{"build", "-buildvcs=false", "-ldflags=-X main.release=" + release, "-o", out + string(filepath.Separator)}
		for _, service := range fleet.Services {
			args = append(args, "./"+service)
		}
		cmd := exec.Command(goTool, args...)
		cmd.Dir = src
		// Nothing of the caller's settings may lead the build to another module
		// or to the network; temporary files go where they will be removed.
		cmd.Env = append(os.Environ(), "GO111MODULE=on", "GOFLAGS=", "GOWORK=off", "GOPROXY=off", "GOTMPDIR="+tmp)
		if err := f.children.run(ctx, cmd); err != nil {
			return "", fmt.Errorf("go build of release %s: %w", release, err)
		}
	}
	return bin, nil
}

func writeSources(dir string) error {
	files := map[string][]byte{"go.mod": []byte(goMod)}
	for _, service := range fleet.Services {
		files[service+"/main.go"] = fmt.Appendf(nil, mainGo, service)
	}
	entries, err := sources.ReadDir("fleet")
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := "fleet/" + e.Name()
		if files[name], err = sources.ReadFile(name); err != nil {
			return err
		}
	}
	for name, data := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func executable(name string) string {
	if runtime.GOOS == "windows" {
		return name + ".exe"
	}
	return name
}

// lastLines is the end of what a command wrote.
func lastLines(b []byte, n int) []byte {
	b = bytes.TrimSpace(b)
	lines := bytes.Split(b, []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-n):], []byte("\n"))
}
