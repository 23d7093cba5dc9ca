package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"

	"github.com/goinquest/inquest"
)

const mostSourceBytes = 4 << 20 // of one file, as the collector has it

// sourceTypes are the endings of source files. A program may name any file as
// its source, so whoever is given one to push must not lose a key by it.
var sourceTypes = strings.Fields(".go .s .S .sx .c .h .cc .cpp .cxx .c++ .hh .hpp .hxx .h++ .inc .inl .ipp .tcc .m .mm .f .f90 .rs .d .zig .swift .y .l .rl .templ .qtpl")

// absentError says why a file is not sent; what others there are end the push.
type absentError struct{ why string }

func (e *absentError) Error() string { return e.why }

var errNoFile = absent("no such file")

func absent(format string, args ...any) error { return &absentError{fmt.Sprintf(format, args...)} }

// lookup finds the source files of one program: absolute paths as they are,
// and of what was built with -trimpath the standard library below GOROOT,
// modules in the module cache or a vendor directory, and the main module in
// the directory that was given.
type lookup struct {
	build   *inquest.Build
	built   time.Time // of the program's file
	modules map[string]*inquest.Module
	dir     *os.Root // nil: it is not the main module of this program
	vendor  string   // its vendor/modules.txt
	std     *os.Root // GOROOT/src; nil: there is none of the program's version
	cache   *os.Root // GOMODCACHE; nil: there is none
	others  map[string]*os.Root
	goroot  string // that absolute names of the standard library are below; "" if unknown
	moved   bool   // another version of Go is at goroot now
	newer   int
	notes   []string
}

// lookup prepares to find these names. The error is about the directory.
func (o *Options) lookup(ctx context.Context, f *File, names []string) (*lookup, error) {
	l := &lookup{build: &f.build, built: f.built, modules: map[string]*inquest.Module{}, others: map[string]*os.Root{}}
	for i := range l.build.Modules {
		m := &l.build.Modules[i]
		l.modules[m.Path+"@"+m.Version] = m
	}
	l.modules[l.build.Module+"@"+l.build.Version] = &inquest.Module{Path: l.build.Module, Version: l.build.Version}
	if l.build.Module != "" && moduleOf(o.SourceDir) == l.build.Module {
		var err error
		if l.dir, err = os.OpenRoot(o.SourceDir); err != nil {
			return nil, err
		}
		vendor, _ := l.dir.ReadFile("vendor/modules.txt") // most have none
		l.vendor = "\n" + string(vendor)
	}
	l.checkGOROOT(names)
	trimmed := func(name string) bool { return strings.Index(name, "/") > 0 }
	if l.build.GoVersion != "" && slices.ContainsFunc(names, trimmed) {
		l.openGo(ctx)
	}
	return l, nil
}

func (l *lookup) close() {
	for _, r := range append(slices.Collect(maps.Values(l.others)), l.dir, l.std, l.cache) {
		if r != nil {
			_ = r.Close() // only read
		}
	}
}

// finish adds what there is to say once all files were read.
func (l *lookup) finish() []string {
	switch {
	case l.newer == 1:
		l.note("1 file is newer than the program: its lines may have moved")
	case l.newer > 1:
		l.note("%s files are newer than the program: their lines may have moved", grouped(l.newer))
	}
	return l.notes
}

// note says something once.
func (l *lookup) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(l.notes, text) {
		l.notes = append(l.notes, text)
	}
}

// read returns a file; an absentError if it is not to be had.
func (l *lookup) read(name string) ([]byte, error) {
	if !slices.Contains(sourceTypes, path.Ext(name)) {
		return nil, absent("it does not end as source files do")
	}
	if filepath.IsAbs(name) {
		isGo := l.goroot != "" && strings.HasPrefix(name, l.goroot+"/")
		if isGo && l.moved {
			return nil, absent("another version of Go is there now")
		}
		return l.readRegular(os.Lstat, os.Open, filepath.Clean(name), !isGo && !strings.Contains(name, "@v"))
	}
	if !fs.ValidPath(name) {
		return nil, absent("its name says not where it is")
	}
	mod, rest, ok := splitVersion(name)
	if ok {
		return l.readModule(mod, rest)
	}
	if rest, ok := strings.CutPrefix(name, l.build.Module+"/"); ok && l.build.Module != "" {
		if l.dir == nil {
			l.note("module %s is not looked for: -source names another directory", l.build.Module)
			return nil, absent("it is of module %s, of which -source is not the root", l.build.Module)
		}
		return l.readRoot(l.dir, rest, true)
	}
	if first, _, ok := strings.Cut(name, "/"); !ok || strings.Contains(first, ".") || l.build.GoVersion == "" {
		return nil, absent("its name says not where it is")
	}
	if l.std == nil {
		return nil, absent("no standard library of the program's version of Go is here")
	}
	return l.readRoot(l.std, name, false)
}

// splitVersion splits "golang.org/x/net@v0.38.0/http2/x.go".
func splitVersion(name string) (mod, rest string, ok bool) {
	at := strings.IndexByte(name, '@')
	if at < 0 {
		return "", "", false
	}
	slash := strings.IndexByte(name[at:], '/')
	if slash < 0 {
		return "", "", false
	}
	return name[:at+slash], name[at+slash+1:], true
}

// readModule reads a file of a module that the program was built from.
func (l *lookup) readModule(mod, rest string) ([]byte, error) {
	m := l.modules[mod]
	if m == nil {
		return nil, absent("the program was not built from module %s", mod)
	}
	text, err := l.readBuilt(m.Built(), rest)
	if err != nil && l.vendored(m) {
		return l.readRoot(l.dir, path.Join("vendor", m.Path, rest), true)
	}
	return text, err
}

// vendored says whether the main module has a copy of this version of a module.
func (l *lookup) vendored(m *inquest.Module) bool {
	line := "\n# " + m.Path + " " + m.Version
	return l.dir != nil && (strings.Contains(l.vendor, line+"\n") || strings.Contains(l.vendor, line+" =>"))
}

// readBuilt reads a file of a module, or of the one that replaces it.
func (l *lookup) readBuilt(m *inquest.Module, rest string) ([]byte, error) {
	if m.Version == "" {
		return l.readReplaced(m.Path, rest)
	}
	if l.cache == nil {
		return nil, absent("no module cache is here")
	}
	dir, err := cacheDir(m)
	if err != nil {
		return nil, absent("%v", err)
	}
	text, err := l.readRoot(l.cache, path.Join(dir, rest), false)
	if errors.Is(err, errNoFile) {
		err = absent("module %s@%s is not in the module cache, or not this file of it", m.Path, m.Version)
	}
	return text, err
}

// cacheDir is where a module is in the module cache.
func cacheDir(m *inquest.Module) (string, error) {
	p, err := module.EscapePath(m.Path)
	if err != nil {
		return "", err
	}
	v, err := module.EscapeVersion(m.Version)
	return p + "@" + v, err
}

// readReplaced reads a file of a module that a directory stands for.
func (l *lookup) readReplaced(dir, rest string) ([]byte, error) {
	if !filepath.IsAbs(dir) {
		if l.dir == nil {
			return nil, absent("it is beside module %s, of which -source is not the root", l.build.Module)
		}
		dir = filepath.Join(l.dir.Name(), filepath.FromSlash(dir))
	}
	root, ok := l.others[dir]
	if !ok {
		root, _ = os.OpenRoot(dir) // what is not there stays nil
		l.others[dir] = root
	}
	if root == nil {
		return nil, absent("the directory that replaces its module is not here")
	}
	return l.readRoot(root, rest, true)
}

// readRoot reads a file below a directory; links do not lead out of it.
func (l *lookup) readRoot(root *os.Root, name string, may bool) ([]byte, error) {
	return l.readRegular(root.Lstat, root.Open, filepath.FromSlash(path.Clean(name)), may)
}

// readRegular reads a regular file. may says whether it may have changed since
// the program was built: what has a version does not.
func (l *lookup) readRegular(lstat func(string) (fs.FileInfo, error), open func(string) (*os.File, error), name string, may bool) ([]byte, error) {
	info, err := lstat(name)
	switch {
	case err != nil:
		return nil, unreadable(err)
	case !info.Mode().IsRegular():
		return nil, absent("it is no regular file")
	case info.Size() > mostSourceBytes:
		return nil, absent("it has more than %d MiB", mostSourceBytes>>20)
	}
	f, err := open(name)
	if err != nil {
		return nil, unreadable(err)
	}
	defer func() { _ = f.Close() }() // only read
	if opened, err := f.Stat(); err != nil || !os.SameFile(info, opened) {
		return nil, absent("it changes while it is read")
	}
	text, err := io.ReadAll(io.LimitReader(f, mostSourceBytes+1))
	switch {
	case err != nil:
		return nil, unreadable(err)
	case len(text) > mostSourceBytes:
		return nil, absent("it has more than %d MiB", mostSourceBytes>>20)
	}
	if may && info.ModTime().After(l.built) {
		l.newer++
	}
	return text, nil
}

// unreadable says why a file cannot be read; its path is known.
func unreadable(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errNoFile
	}
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return absent("%v", err)
}
