package web

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/ingest"
	"github.com/goinquest/inquest/store"
)

// buildsPage lists builds, which its script fetches from the API.
func (s *Server) buildsPage(c echo.Context) error {
	return s.renderPage(c, http.StatusOK, "builds", "Builds", nil)
}

// buildPage shows one build. Its id may be anything data came with.
func (s *Server) buildPage(c echo.Context) error {
	id := pathParam(c, "id")
	short := id
	if len(short) > 12 {
		short = clipText(short, 12)
	}
	return s.renderPage(c, http.StatusOK, "build", "Build "+short, struct{ ID string }{id})
}

// buildRow is a build as the API shows it.
type buildRow struct {
	ingest.BuildState
	ModuleCount int `json:"module_count"`
	// Vulnerabilities are known ones of its modules: listed with detail, and
	// counted; not where no database is configured.
	Vulnerabilities    []inquest.Vulnerability `json:"vulnerabilities,omitempty"`
	VulnerabilityCount *int                    `json:"vulnerability_count,omitempty"`
	// Running is where it runs now, with detail about one build.
	Running  []running   `json:"running,omitempty"`
	Binaries []candidate `json:"binaries"` // in the place of the state's
}

// running is a place where a build runs now, as its agent says.
type running struct {
	Service  string `json:"service"`
	Instance string `json:"instance"`
	Host     string `json:"host"`
}

// mostRunning is how many places of a build are listed.
const mostRunning = 1000

// running lists the targets of a build that agents reported lately.
func (s *Server) running(build string) []running {
	out := []running{}
	for _, a := range s.o.Fleet.Agents() {
		for i := range a.Targets {
			t := &a.Targets[i]
			if t.Build == build && !a.Silent && len(out) < mostRunning {
				out = append(out, running{t.Service, t.Instance, a.Host})
			}
		}
	}
	return out
}

// candidate is a stored binary of a build.
type candidate struct {
	store.StoredBinary
	Trust inquest.Trust `json:"trust,omitempty"` // asked for with detail
	Why   string        `json:"why,omitempty"`   // it is trusted so
}

// buildRow makes a row, without what only detail has.
func (s *Server) buildRow(b *ingest.BuildState, detail bool) buildRow {
	row := buildRow{BuildState: *b, ModuleCount: len(b.Modules), Binaries: make([]candidate, len(b.Binaries))}
	if s.o.Vulnerabilities != nil && b.GoVersion != "" {
		if all := s.o.Vulnerabilities(&b.Build); all != nil {
			n := len(all)
			row.VulnerabilityCount = &n
			if detail {
				row.Vulnerabilities = all
			}
		}
	}
	if !detail {
		row.Modules, row.Settings = nil, nil
	}
	for i := range b.Binaries {
		row.Binaries[i].StoredBinary = b.Binaries[i]
		if !detail {
			continue
		}
		if trust, why, err := s.o.Binaries.Trust(&b.Binaries[i]); err == nil { // else it has just gone
			row.Binaries[i].Trust, row.Binaries[i].Why = trust, why
		}
	}
	return row
}
