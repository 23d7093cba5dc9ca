// Package doctor says why a core dump, a crash text or a profile of a Go
// process of this host would be missing, and what cures it. It looks at /proc,
// changes nothing, and says so where it cannot tell.
package doctor

import (
	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/corepattern"
)

// What a finding is worth.
const (
	Fine    = "fine"
	Missing = "missing" // something will be missing, and there is a cure
	Unknown = "unknown" // it cannot be told from here
	Note    = "note"    // to be known, nothing to be cured
)

// Finding is the result of one check.
type Finding struct {
	Check string `json:"check"` // "traceback", "core limit", …
	State string `json:"state"` // Fine, Missing, Unknown, Note
	Text  string `json:"text"`  // what was found
	Cure  string `json:"cure,omitempty"`
}

// Process is what was found of one Go process.
type Process struct {
	PID      int       `json:"pid"`
	Service  string    `json:"service"`
	Exe      string    `json:"exe"`
	Findings []Finding `json:"findings"`
}

// State is the worst of the process's findings.
func (p *Process) State() string { return worst(p.Findings) }

// Report is what was found of a host. The findings of the host hold for all of
// its processes.
type Report struct {
	Mode      string    `json:"mode"` // by which cores are taken, or would be
	Host      []Finding `json:"host"`
	Processes []Process `json:"processes"`
}

// State is Missing if anything is missing, else Unknown if something could not
// be told, else Fine.
func (r *Report) State() string {
	state := worst(r.Host)
	for i := range r.Processes {
		if s := r.Processes[i].State(); s == Missing || state != Missing && s == Unknown {
			state = s
		}
	}
	return state
}

func worst(list []Finding) string {
	state := Fine
	for _, f := range list {
		if f.State == Missing || f.State == Unknown && state != Missing {
			state = f.State
		}
	}
	return state
}

// Options say what to look at. The zero value is all Go processes of the host,
// and an agent with default settings.
type Options struct {
	Only       string           // a PID, or the name of a service; "" for all
	Mode       string           // see corepattern.Options
	Dir        string           // see corepattern.Options
	Cores      []string         // see corepattern.Options
	Spool      string           // directory; "" leaves it out
	SpoolQuota int64            // bytes; 0 leaves it out
	Targets    []inquest.Target // of agent.Look; nil leaves profiles out
}

// LeastCore is the least RLIMIT_CORE in bytes for which the kernel writes a
// file.
const LeastCore = 4096

// Limit is the RLIMIT_CORE of one Go process.
type Limit struct {
	PID     int    `json:"pid"`
	Service string `json:"service"`
	Bytes   uint64 `json:"bytes"` // corepattern.NoCoreLimit: any size
}

// list collects findings.
type list []Finding

func (l *list) add(check, state, text, cure string) {
	*l = append(*l, Finding{check, state, text, cure})
}

// byFile says that the kernel writes files in a mode, so that a process's own
// limits and directories count.
func byFile(mode string) bool { return mode == corepattern.ModeDirectory }
