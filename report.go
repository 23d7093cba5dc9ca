package inquest

// CoreReport is what a core tells without debug information: why the process
// died, and what each of its goroutines did.
type CoreReport struct {
	Class   string `json:"class"`   // as in Crash
	Message string `json:"message"` // as in Crash
	// Goroutine is the one that died; 0 if that was the runtime on a stack of
	// its own, with none running.
	Goroutine int64        `json:"goroutine,omitempty"`
	Frames    []Frame      `json:"frames,omitempty"` // of it, innermost first
	Cut       bool         `json:"cut,omitempty"`    // it has more frames, or they could not be followed
	System    []Frame      `json:"system,omitempty"` // of the runtime, where it died on a stack of its own
	Signal    *DeathSignal `json:"signal,omitempty"`
	Panics    []Panic      `json:"panics,omitempty"` // that of the goroutine that died, the first one first
	Fatal     string       `json:"fatal,omitempty"`  // what the runtime wrote when it threw, with the lines before it that explain it

	GoVersion string `json:"go_version,omitempty"` // of the executable
	Release   int    `json:"release,omitempty"`    // whose layout fits: 26 is Go 1.26

	Total      int               `json:"total"`   // goroutines
	Buckets    []GoroutineBucket `json:"buckets"` // those with the most goroutines first
	Goroutines []Goroutine       `json:"goroutines"`
	Truncated  bool              `json:"truncated,omitempty"` // there are more goroutines or buckets
	Problems   []string          `json:"problems,omitempty"`  // what is missing, or does not hold
}

// Goroutine is one of a process that died.
type Goroutine struct {
	ID     int64             `json:"id"`
	State  string            `json:"state"`                  // what it waits for, else its state, as in GoroutineBucket
	Wait   int               `json:"wait_minutes,omitempty"` // at least
	Locked bool              `json:"locked,omitempty"`       // to a thread
	Thread int               `json:"thread,omitempty"`       // that runs it
	Parent int64             `json:"parent,omitempty"`       // what started it; where that was is in the bucket
	System bool              `json:"system,omitempty"`       // the runtime's own
	Labels map[string]string `json:"labels,omitempty"`       // of runtime/pprof; shared, not to be changed
	Bucket int               `json:"bucket"`                 // index in CoreReport.Buckets, -1 if that is not among them
}

// DeathSignal is the signal that a goroutine died of, or that its panic was
// made of.
type DeathSignal struct {
	Number int    `json:"number"`
	Name   string `json:"name"` // "SIGSEGV"
	Code   int64  `json:"code"` // si_code
	Addr   uint64 `json:"addr"` // that was accessed
	PC     uint64 `json:"pc"`   // of the process
	Note   string `json:"note,omitempty"`
}

// Panic is one of the panics on top of each other in a goroutine.
type Panic struct {
	Type       string       `json:"type,omitempty"` // dynamic, "*main.failure"; "" if it is not known any more
	Value      string       `json:"value"`          // as the runtime writes it
	Fields     []PanicField `json:"fields,omitempty"`
	Recovered  bool         `json:"recovered,omitempty"`
	Repanicked bool         `json:"repanicked,omitempty"` // the next one has the same value
	Goexit     bool         `json:"goexit,omitempty"`     // no panic, but runtime.Goexit
}

// PanicField is a field of the struct that a panic has as its value: a string,
// a number or a bool.
type PanicField struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}
