package inquest

import "time"

// How far the analysis of a core is.
const (
	AnalysisWaiting = "waiting" // for the executable
	AnalysisQueued  = "queued"  // for its turn, or being done
	AnalysisDone    = "done"
	AnalysisFailed  = "failed" // Reason says why; it is done again by a newer analyser, or with another executable
	AnalysisOff     = "off"    // Reason says why
)

// CoreAnalysis is what a collector found out about a core, or why it did not.
type CoreAnalysis struct {
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"` // for people
	// How it failed: as package sandbox says it, "mismatch" if the executable is of
	// another build, "error" otherwise.
	How        string        `json:"how,omitempty"`
	Version    int           `json:"version,omitempty"` // of the analyser
	At         time.Time     `json:"at,omitzero"`
	Took       time.Duration `json:"took_ns,omitempty"`
	Executable string        `json:"executable,omitempty"` // SHA-256
	Trust      Trust         `json:"trust,omitempty"`      // that it is the one that ran
	Report     *CoreReport   `json:"report,omitempty"`
}
