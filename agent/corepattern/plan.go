package corepattern

// Plan is what a listener would do on this host, and why.
type Plan struct {
	Mode    string `json:"mode"`              // that would be used; ModeOff if there is none
	Problem string `json:"problem,omitempty"` // why it is off, or less than it could be
	Other   string `json:"other,omitempty"`   // directory of another agent that takes the host's cores
	Kernel  string `json:"kernel"`            // release
	Pattern string `json:"pattern"`           // the host's core pattern now
	Limit   string `json:"pipe_limit"`        // core_pipe_limit now
	// Then and ThenLimit are what they would be; "" leaves them.
	Then      string   `json:"then,omitempty"`
	ThenLimit string   `json:"then_pipe_limit,omitempty"`
	Old       string   `json:"old"`               // the pattern that would get what is none of ours
	Watched   []string `json:"watched,omitempty"` // directories that would be looked at
	// Limited says that RLIMIT_CORE decides whether there is a core at all.
	Limited bool        `json:"limited"`
	Modes   []ModeState `json:"modes"` // all of them, the best first
}

// ModeState says whether a mode can be used.
type ModeState struct {
	Mode   string `json:"mode"`
	Usable bool   `json:"usable"`
	Reason string `json:"reason"` // why, or why not
}
