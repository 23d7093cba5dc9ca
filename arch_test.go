package inquest_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const modulePath = "github.com/goinquest/inquest"

// arrows says which rooms a room may import, besides the dictionary and
// itself. A room that is not here does not exist: add it with its arrows, as
// ARCHITECTURE.md has them, when it is built.
var arrows = map[string][]string{
	"":                  {},
	"profile":           {},
	"calltree":          {},
	"symbolize":         {},
	"store":             {"profile", "calltree", "coredump"},
	"coredump":          {"symbolize"},
	"coredump/analysis": {"coredump", "symbolize", "internal/sandbox"},
	"coredump/debug":    {"coredump", "symbolize", "internal/sandbox"},
	"ingest":            {"profile", "store", "symbolize", "coredump", "coredump/analysis", "internal/sandbox"},
	"query":             {"profile", "calltree", "store"},
	"agent":             {"profile", "symbolize", "coredump", "internal/upload"},
	"web":               {"profile", "calltree", "store", "ingest", "query"},

	"cmd/collector": {"profile", "calltree", "store", "ingest", "query", "agent", "web",
		"internal/settings", "internal/program", "internal/buildinfo", "internal/demo", "internal/vulndb", "internal/sandbox", "coredump/analysis"},
	"cmd/agent": {"agent", "internal/settings", "internal/program", "internal/buildinfo"},
	"cmd/inquest": {"internal/load", "internal/fleet", "internal/corpus", "internal/push", "internal/inventory", "internal/postmortem", "internal/remote", "internal/vulndb",
		"internal/settings", "internal/program"},

	"internal/settings":   {"internal/buildinfo"},
	"internal/program":    {"internal/settings"},
	"internal/buildinfo":  {},
	"internal/demo":       {},
	"internal/load":       {"internal/fleet", "internal/remote", "internal/settings"},
	"internal/fleet":      {"profile", "internal/corpus"},
	"internal/corpus":     {},
	"internal/upload":     {},
	"internal/remote":     {},
	"internal/push":       {"symbolize", "internal/remote", "internal/settings", "internal/upload"},
	"internal/inventory":  {"internal/remote", "internal/settings", "internal/vulndb"},
	"internal/postmortem": {"coredump", "internal/remote", "internal/settings"},
	"internal/vulndb":     {},
	"internal/sandbox":    {},
}

// helpers are rooms that exist for tests and benchmarks: they may import
// everything a test may, and no program may import them.
var helpers = []string{"internal/bench", "internal/chromium", "internal/e2e", "internal/proc", "internal/script", "internal/testprog"}

// heavy names the only room that may import a dependency, in its tests too.
// "" means nobody. The longest matching prefix counts.
var heavy = map[string]string{
	"go.etcd.io/bbolt":                               "store",
	"github.com/labstack/echo":                       "web",
	"github.com/go-delve/delve":                      "coredump/debug",
	"github.com/google/go-dap":                       "coredump/debug",
	"github.com/elastic/go-seccomp-bpf":              "internal/sandbox",
	"github.com/landlock-lsm/go-landlock":            "internal/sandbox",
	"kernel.org/pub/linux/libs/security/libcap":      "internal/sandbox",
	"github.com/prometheus/prometheus/discovery":     "agent",
	"github.com/prometheus/prometheus/model/relabel": "agent",
	"github.com/prometheus/prometheus/promql":        "query",

	// What systemd-coredump packs by, besides zstd.
	"github.com/pierrec/lz4":  "agent",
	"github.com/ulikunitz/xz": "agent",

	"debug/buildinfo":                    "symbolize",
	"debug/dwarf":                        "symbolize",
	"debug/elf":                          "symbolize",
	"debug/gosym":                        "symbolize",
	"github.com/ianlancetaylor/demangle": "symbolize",
	"golang.org/x/arch":                  "symbolize",
}

// testOnly are dependencies that no program links.
var testOnly = []string{
	"github.com/google/pprof",
	"github.com/google/go-cmp",
	"github.com/chromedp",
	"github.com/rogpeppe/go-internal",
	"go.uber.org/goleak",
}

// source is one Go file of the module.
type source struct {
	path string // from the module's root, with slashes
	room string
	test bool // or a helper of tests
	file *ast.File
	set  *token.FileSet
}

// sources parses every Go file of the module.
func sources(t *testing.T) []source {
	t.Helper()
	var out []source
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			// Directories that begin with a dot and other modules are not ours.
			if name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || exists(filepath.Join(name, "go.mod"))) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		r := room(path.Dir(name))
		test := strings.HasSuffix(name, "_test.go") || slices.Contains(helpers, r)
		out = append(out, source{name, r, test, f, set})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// subRooms are rooms in rooms, with what the outer one must not link.
var subRooms = []string{"coredump/analysis", "coredump/debug"}

// room is the room a directory belongs to: its first element, or the first
// two below cmd and internal and where there are rooms in rooms.
func room(dir string) string {
	if dir == "." {
		return ""
	}
	parts := strings.Split(dir, "/")
	if (parts[0] == "cmd" || parts[0] == "internal" || len(parts) > 1 && slices.Contains(subRooms, parts[0]+"/"+parts[1])) && len(parts) > 1 {
		return parts[0] + "/" + parts[1]
	}
	return parts[0]
}

func (s source) imports() []string {
	var out []string
	for _, i := range s.file.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			panic(err) // the file was parsed
		}
		out = append(out, p)
	}
	return out
}

func hasPrefix(importPath, prefix string) bool {
	return importPath == prefix || strings.HasPrefix(importPath, prefix+"/")
}

// TestArrows fails on an import between rooms that is not in the table. Tests
// put real parts together and may import any room.
func TestArrows(t *testing.T) {
	for _, s := range sources(t) {
		allowed, known := arrows[s.room]
		if !known && !slices.Contains(helpers, s.room) {
			t.Errorf("%s: room %q is not in the table of arrows", s.path, s.room)
			continue
		}
		for _, p := range s.imports() {
			dir, ours := strings.CutPrefix(p, modulePath+"/")
			if s.test || !ours {
				continue
			}
			if to := room(dir); to != s.room && !slices.Contains(allowed, to) {
				t.Errorf("%s: %s may not import %s; it may import the dictionary and %v", s.path, s.room, to, allowed)
			}
		}
	}
}

// TestDictionaryIsPlain fails when package inquest imports anything but the
// standard library, or what reaches outside of the process.
func TestDictionaryIsPlain(t *testing.T) {
	for _, s := range sources(t) {
		if s.room != "" || s.test {
			continue
		}
		for _, p := range s.imports() {
			first, _, _ := strings.Cut(p, "/")
			if strings.Contains(first, ".") || slices.Contains([]string{"os", "net", "io/fs", "log/slog", "sync"}, p) {
				t.Errorf("%s: the dictionary may not import %s", s.path, p)
			}
		}
	}
}

// TestHeavyDependencies fails on a second user of a dependency that belongs
// to one room, and on a program that links what only tests need.
func TestHeavyDependencies(t *testing.T) {
	for _, s := range sources(t) {
		for _, p := range s.imports() {
			owner, prefix := "", ""
			for dep, o := range heavy {
				if hasPrefix(p, dep) && len(dep) > len(prefix) {
					owner, prefix = o, dep
				}
			}
			if prefix != "" && owner != s.room {
				t.Errorf("%s: %s belongs to room %q alone", s.path, p, owner)
			}
			for _, dep := range testOnly {
				if hasPrefix(p, dep) && !s.test {
					t.Errorf("%s: %s is for tests only", s.path, p)
				}
			}
		}
	}
}

// The sizes at which somebody has to look again (house style); tables of
// cases and scripts in tests may be longer functions.
const (
	maxFileLines     = 700
	maxFunctionLines = 100
)

// TestSizes fails on files and functions that ran away.
func TestSizes(t *testing.T) {
	for _, s := range sources(t) {
		if n := s.set.File(s.file.FileStart).LineCount(); n > maxFileLines {
			t.Errorf("%s has %d lines, at most %d are wanted", s.path, n, maxFileLines)
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || s.test {
				continue
			}
			if n := s.set.Position(f.End()).Line - s.set.Position(f.Pos()).Line + 1; n > maxFunctionLines {
				t.Errorf("%s: func %s has %d lines, at most %d are wanted", s.path, f.Name.Name, n, maxFunctionLines)
			}
		}
	}
	if err := uiSizes(func(name string, lines int) {
		t.Errorf("%s has %d lines, at most %d are wanted", name, lines, maxFileLines)
	}); err != nil {
		t.Error(err)
	}
}

// uiSizes reports files of the pages that are too long.
func uiSizes(report func(name string, lines int)) error {
	return filepath.WalkDir(filepath.Join("web", "ui"), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !slices.Contains([]string{".js", ".css", ".html"}, filepath.Ext(name)) {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if n := bytes.Count(data, []byte("\n")); n > maxFileLines {
			report(name, n)
		}
		return nil
	})
}

// TestArrowsAreDrawn sees that ARCHITECTURE.md names every room there is.
func TestArrowsAreDrawn(t *testing.T) {
	page, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	rooms := slices.Concat(slices.Collect(maps.Keys(arrows)), helpers)
	for _, r := range rooms {
		if r != "" && !bytes.Contains(page, fmt.Appendf(nil, "`%s`", r)) {
			t.Errorf("ARCHITECTURE.md does not mention room `%s`", r)
		}
	}
}
