package symbolize

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"io"
	"runtime/debug"
	"strings"

	"github.com/goinquest/inquest"
)

// errNotGo says an executable was not built by Go.
var errNotGo = inquest.Errorf(inquest.ErrNotFound, "not a Go executable")

// ReadBuild reads what an executable says of itself, for a few kilobytes of
// reading. The error is of kind inquest.ErrNotFound if it was not built by Go
// (or hides it).
func ReadBuild(r io.ReaderAt) (*inquest.Build, error) {
	f, err := openELF(r, -1)
	if err != nil {
		return nil, err
	}
	return f.build()
}

// build reads the embedded build information and the ids.
func (f *image) build() (*inquest.Build, error) {
	if !f.mayBeGo() {
		return nil, errNotGo
	}
	info, err := buildinfo.Read(f.r)
	if err != nil {
		return nil, inquest.Errorf(inquest.ErrNotFound, "not a Go executable: %w", err)
	}
	b := newBuild(info)
	b.ID, b.GoBuildID = f.ids()
	return b, nil
}

// mayBeGo is the cheap check: an executable whose section names are there
// and do not name Go's build information is none of Go's.
func (f *image) mayBeGo() bool {
	return f.broken != nil || len(f.sections) == 0 || f.section(".go.buildinfo") != nil
}

// ids returns the id a binary goes by, and the Go build id.
func (f *image) ids() (id, goID string) {
	id, goID = f.buildIDs()
	if id == "" && goID != "" {
		sum := sha256.Sum256([]byte(goID))
		id = "go-" + hex.EncodeToString(sum[:])
	}
	return id, goID
}

func newBuild(info *debug.BuildInfo) *inquest.Build {
	b := &inquest.Build{GoVersion: info.GoVersion, Path: info.Path, Module: info.Main.Path, Version: released(info.Main.Version)}
	for _, dep := range info.Deps {
		b.Modules = append(b.Modules, *newModule(dep))
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			b.Revision = s.Value
		case s.Key == "vcs.time":
			b.Time = s.Value
		case s.Key == "vcs.modified":
			b.Modified = s.Value == "true"
		case !strings.HasPrefix(s.Key, "vcs"):
			if b.Settings == nil {
				b.Settings = map[string]string{}
			}
			b.Settings[s.Key] = s.Value
		}
	}
	return b
}

func newModule(m *debug.Module) *inquest.Module {
	out := &inquest.Module{Path: m.Path, Version: released(m.Version)}
	if m.Replace != nil {
		out.Replace = newModule(m.Replace)
	}
	return out
}

// released drops the version that says there is none.
func released(version string) string {
	if version == "(devel)" {
		return ""
	}
	return version
}
