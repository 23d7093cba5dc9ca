package query

import "time"

// Coverage says what an answer rests on.
type Coverage struct {
	// Profiles are those selected by type, window and the matchers on their own
	// labels. A matcher on a label of samples selects those it may find a sample
	// in: profiles without the label count too if they are stored in one part
	// with such that have it.
	Profiles  int64 `json:"profiles"`
	Processes int64 `json:"processes"` // distinct processes of these, per service
	Samples   int64 `json:"samples"`   // rows added up: stacks of single profiles
	// From and Until are the window, half-open, UTC.
	From       time.Time `json:"from"`
	Until      time.Time `json:"until"`
	Resolution string    `json:"resolution"` // "raw"
	// ObservedProcessSeconds is Σ (End−Start), PresentProcessSeconds is Σ hold over the profiles.
	ObservedProcessSeconds float64 `json:"observed_process_seconds"`
	PresentProcessSeconds  float64 `json:"present_process_seconds"`
	Pruned                 Pruned  `json:"pruned"`
	// Unsymbolized is the self value on frames without a name, in the answer's
	// unit; 0 in answers that do not look at stacks.
	Unsymbolized float64  `json:"unsymbolized"`
	Estimated    bool     `json:"estimated,omitempty"`          // scaled by present ÷ observed
	Incomplete   bool     `json:"incomplete,omitempty"`         // the store still replays its log
	Truncated    int64    `json:"truncated_profiles,omitempty"` // profiles whose smallest samples were folded into one
	Damaged      []string `json:"damaged,omitempty"`            // blocks that could not be read
}

// Pruned is what a drawing leaves out; tables and totals hold it.
type Pruned struct {
	Nodes int     `json:"nodes"`
	Value float64 `json:"value"` // self value of these nodes, in the answer's unit
}
