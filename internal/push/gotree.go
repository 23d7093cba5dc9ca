package push

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/modfile"

	"github.com/goinquest/inquest"
)

const goEnvTime = 10 * time.Second

// goTree is what the go command says of where it keeps source.
type goTree struct {
	GOROOT, GOMODCACHE, GOVERSION string
}

// askGo asks the go command; it is not made to fetch another version of itself.
func askGo(ctx context.Context) (*goTree, error) {
	ctx, cancel := context.WithTimeout(ctx, goEnvTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "env", "-json", "GOROOT", "GOMODCACHE", "GOVERSION")
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local")
	cmd.Dir = os.TempDir() // no go.mod or go.work has a say
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	t := &goTree{}
	return t, json.Unmarshal(out, t)
}

// openGo opens the standard library and the module cache, as far as there are any.
func (l *lookup) openGo(ctx context.Context) {
	t, err := askGo(ctx)
	if err != nil {
		l.note("the go command does not work here: only absolute paths and the module at -source are looked for")
		return
	}
	l.cache, _ = openAbsolute(t.GOMODCACHE) // there is none before the first download
	src := filepath.Join(t.GOROOT, "src")
	if !sameGo(t.GOVERSION, l.build.GoVersion) {
		// The go command keeps other versions of itself as modules.
		src = filepath.Join(t.GOMODCACHE, "golang.org", "toolchain@v0.0.1-"+release(l.build.GoVersion)+"."+runtime.GOOS+"-"+runtime.GOARCH, "src")
	}
	if l.std, err = openAbsolute(src); err != nil {
		l.note("the standard library is left out: the program was built by %s, and %s is here", l.build.GoVersion, t.GOVERSION)
	}
}

// openAbsolute opens a directory that was told by the go command, which may know
// of none.
func openAbsolute(dir string) (*os.Root, error) {
	if !filepath.IsAbs(dir) {
		return nil, inquest.Errorf(inquest.ErrNotFound, "directory %q is not absolute", dir)
	}
	return os.OpenRoot(dir)
}

// checkGOROOT looks whether absolute names of the standard library lead to that
// of another version by now.
func (l *lookup) checkGOROOT(names []string) {
	const known = "/src/runtime/proc.go" // in all programs
	i := slices.IndexFunc(names, func(name string) bool { return path.IsAbs(name) && strings.HasSuffix(name, known) })
	if i < 0 || l.build.GoVersion == "" {
		return
	}
	root := strings.TrimSuffix(names[i], known)
	text, err := os.ReadFile(filepath.Join(root, "VERSION"))
	if err != nil {
		return // of a toolchain somebody built; or nothing is there
	}
	l.goroot = root
	version, _, _ := strings.Cut(string(text), "\n")
	if version = strings.TrimSpace(version); !sameGo(version, l.build.GoVersion) {
		l.moved = true
		l.note("the standard library is left out: the program was built by %s, and %s is where that was", l.build.GoVersion, version)
	}
}

// sameGo compares versions of Go; experiments do not make another library.
func sameGo(a, b string) bool { return release(a) == release(b) }

func release(version string) string {
	version, _, _ = strings.Cut(version, " X:")
	return version
}

// moduleOf is the path of the module whose root a directory is; "" if it is none.
func moduleOf(dir string) string {
	text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return ""
	}
	return modfile.ModulePath(text)
}

// checkSourceDir says whether the directory is of use: where programs were
// built with -trimpath, it is the root of the module of one of them.
func (o *Options) checkSourceDir(files []File) error {
	if info, err := os.Stat(o.SourceDir); err != nil {
		return err
	} else if !info.IsDir() {
		return inquest.Errorf(inquest.ErrInvalid, "-source %s: want a directory, the root of the module", o.SourceDir)
	}
	here := moduleOf(o.SourceDir)
	var other *File
	for i := range files {
		f := &files[i]
		if f.build.Module == "" || f.build.Settings["-trimpath"] != "true" {
			continue
		}
		if f.build.Module == here {
			return nil
		}
		other = f
	}
	switch {
	case other == nil:
		return nil
	case here == "":
		return inquest.Errorf(inquest.ErrInvalid, "-source %s: it has no go.mod; %s was built from module %s, want the root of that", o.SourceDir, other.Path, other.build.Module)
	}
	return inquest.Errorf(inquest.ErrInvalid, "-source %s: it is module %s; %s was built from module %s, want the root of that", o.SourceDir, here, other.Path, other.build.Module)
}
