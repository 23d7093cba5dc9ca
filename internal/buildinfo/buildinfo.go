// Package buildinfo tells what the running program is, from the build
// information the Go linker embedded in it. It reads nothing else.
package buildinfo

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
)

// Info is what the running program says of itself.
type Info struct {
	Version  string `json:"version"`            // module version; "devel" for a build of a checkout without one
	Revision string `json:"revision,omitempty"` // full commit hash, "" if it was built without version control
	Time     string `json:"time,omitempty"`     // of the commit, RFC 3339
	Dirty    bool   `json:"dirty,omitempty"`    // built from a changed checkout
	Go       string `json:"go"`                 // "go1.26.8"
	Platform string `json:"platform"`           // "linux/amd64"
}

// Read returns what is embedded in this program.
func Read() Info {
	info := Info{Version: "devel", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	bi, ok := debug.ReadBuildInfo()
	if !ok {
		return info
	}
	if v := bi.Main.Version; v != "" && v != "(devel)" {
		info.Version = v
	}
	for _, s := range bi.Settings {
		switch s.Key {
		case "vcs.revision":
			info.Revision = s.Value
		case "vcs.time":
			info.Time = s.Value
		case "vcs.modified":
			info.Dirty = s.Value == "true"
		}
	}
	return info
}

// String spells the version and, if known, the short revision:
// "v1.2.0 (1a2b3c4d5e6f, dirty)".
func (i Info) String() string {
	var notes []string
	if i.Revision != "" {
		notes = append(notes, i.Revision[:min(12, len(i.Revision))])
	}
	if i.Dirty {
		notes = append(notes, "dirty")
	}
	if notes == nil {
		return i.Version
	}
	return i.Version + " (" + strings.Join(notes, ", ") + ")"
}

// Write writes the program's name and what it is: one fact a line, or as one
// JSON object.
func Write(w io.Writer, program string, asJSON bool) error {
	i := Read()
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(struct {
			Program string `json:"program"`
			Info
		}{program, i})
	}
	revision := i.Revision
	if revision == "" {
		revision = "unknown (built without version control)"
	}
	if i.Dirty {
		revision += " (dirty)"
	}
	_, err := fmt.Fprintf(w, "%s %s\nrevision  %s\ngo        %s\nplatform  %s\n", program, i.Version, revision, i.Go, i.Platform)
	return err
}
