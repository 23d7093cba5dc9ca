package inquest

import "time"

// Target is one process (or the place where one should be) that an agent
// scrapes, with what became of the last scrape. Agents report it, the
// collector shows it.
type Target struct {
	ID       string            `json:"id"`                // unique and stable within the agent
	Service  string            `json:"service"`           // value of the service label
	Instance string            `json:"instance"`          // host:port
	Release  string            `json:"release,omitempty"` // explicit release label
	Build    string            `json:"build,omitempty"`   // build id once known
	Process  string            `json:"process,omitempty"` // see ProfileMeta.Process
	Labels   map[string]string `json:"labels,omitempty"`  // the target's own labels
	URL      string            `json:"url,omitempty"`     // base, up to and including /debug/pprof/
	Source   string            `json:"source"`            // static, file, host, self: how it was found
	State    string            `json:"state"`             // one of the Target… states
	Reason   string            `json:"reason,omitempty"`  // why it is not scraped, or the newest error
	Scrapes  []Scrape          `json:"scrapes,omitempty"` // the newest scrape of each kind
}

// The states of a target.
const (
	TargetUp      = "up"      // the newest scrape of every kind succeeded
	TargetDown    = "down"    // the newest scrape of some kind failed
	TargetPending = "pending" // found, not scraped yet
	TargetSkipped = "skipped" // seen but not scraped; Reason says why
)

// Scrape is the newest scrape of one kind of a target.
type Scrape struct {
	Kind     Kind          `json:"kind"`
	At       time.Time     `json:"at"`              // when it began, agent's clock, UTC
	Next     time.Time     `json:"next,omitzero"`   // when the next is due
	Duration time.Duration `json:"duration_ns"`     // wall time
	Bytes    int64         `json:"bytes"`           // body as received
	Error    string        `json:"error,omitempty"` // empty on success
	Scrapes  int64         `json:"scrapes"`         // since the agent started
	Failures int64         `json:"failures"`        // since the agent started
}

// AgentReport is what an agent says of itself every ten seconds
// (POST /api/v1/agents/{id}/report).
type AgentReport struct {
	ID       string       `json:"id"`
	Host     string       `json:"host"`
	Version  string       `json:"version"`
	Protocol int          `json:"protocol"`
	Started  time.Time    `json:"started"`
	Clock    time.Time    `json:"clock"` // agent's clock when sending, UTC
	Targets  []Target     `json:"targets"`
	Builds   []Build      `json:"builds,omitempty"` // what the running executables say of themselves
	Spool    Spool        `json:"spool"`
	Refuses  []string     `json:"refuses,omitempty"` // what this agent's config refuses: verbs of Command, RefuseUpload
	Upload   Upload       `json:"upload,omitzero"`
	Capture  CaptureState `json:"capture,omitzero"`
}

// Spool is the state of an agent's disk spool.
type Spool struct {
	Profiles   int64     `json:"profiles"`             // waiting to be shipped
	Bytes      int64     `json:"bytes"`                // on disk
	QuotaBytes int64     `json:"quota_bytes"`          // most it may take
	Oldest     time.Time `json:"oldest,omitzero"`      // when the oldest waiting one was taken
	Shipped    int64     `json:"shipped"`              // since the agent started
	Dropped    int64     `json:"dropped"`              // lost to the quota since the agent started
	Refused    int64     `json:"refused"`              // refused by the collector for good
	LastError  string    `json:"last_error,omitempty"` // newest shipping error
}

// RefuseUpload among what an agent refuses says that it uploads no binaries.
const RefuseUpload = "upload"

// Upload is the state of an agent's uploads of binaries.
type Upload struct {
	Build     string `json:"build,omitempty"`      // id of what is being uploaded, "" if nothing is
	Sent      int64  `json:"sent,omitempty"`       // bytes of it the collector has
	Bytes     int64  `json:"bytes,omitempty"`      // of the whole
	Waiting   int    `json:"waiting,omitempty"`    // builds that come after it
	Uploaded  int64  `json:"uploaded,omitempty"`   // binaries, since the agent started
	LastError string `json:"last_error,omitempty"` // newest failure, names the build; "" after a success
}

// ReportAnswer is the collector's answer to an AgentReport.
type ReportAnswer struct {
	Protocol      int           `json:"protocol"`
	Clock         time.Time     `json:"clock"`          // collector's clock, UTC
	Skew          time.Duration `json:"skew_ns"`        // agent's clock minus collector's, as measured
	MissingBuilds []string      `json:"missing_builds"` // ids whose executables the collector lacks
	Capture       CapturePolicy `json:"capture,omitzero"`
}

// Command is one thing the collector asks an agent to do.
type Command struct {
	ID      string `json:"id"`
	Verb    string `json:"verb"`              // VerbProfile, VerbSnapshot
	Target  string `json:"target"`            // Target.ID
	Kind    Kind   `json:"kind,omitempty"`    // for VerbProfile
	Seconds int    `json:"seconds,omitempty"` // for VerbProfile of a kind that takes time
	Tier    Tier   `json:"tier,omitempty"`    // for VerbSnapshot
}

// VerbProfile takes one profile of a target now.
const VerbProfile = "profile"

// CommandResult is what became of a Command
// (POST /api/v1/agents/{id}/commands/{command}).
type CommandResult struct {
	Error   string        `json:"error,omitempty"`
	Service string        `json:"service,omitempty"`
	Kind    Kind          `json:"kind,omitempty"`
	Start   time.Time     `json:"start,omitzero"`       // of the profile that was taken
	Profile string        `json:"profile,omitempty"`    // id of the stored profile
	Crash   string        `json:"crash,omitempty"`      // id of the snapshot's Crash
	Stopped time.Duration `json:"stopped_ns,omitempty"` // how long it was stopped for the snapshot
}
