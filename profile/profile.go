// Package profile turns pprof bytes into compact columns and back.
//
// Decoder reads a body, gzip or plain, of any producer into columns that it
// owns and uses again, so that decoding allocates nothing once warm: the
// tables of the message first, then its samples, as locations may come after
// them. KindOf and Types say what a body is. Snapshot turns cumulative values
// into deltas, Merger adds profiles of many origins into one, Truncate keeps
// an outsized one within a number of samples. AppendPprof and Encoder write
// columns as a pprof message that `go tool pprof` accepts.
//
// The format is the one of proto/profile.proto in github.com/google/pprof;
// that package is the oracle of this one's tests, in what it accepts, refuses
// and reads, and is not used here. Its legacy text formats are not read.
//
// What comes from outside is bounded by Limits before it takes memory, and
// work is linear (or n log n) in its size. Hashes of content are keyed with
// random numbers, so that colliding input cannot be prepared.
//
// Nothing in this room does I/O or reads a clock. Types are not safe for use
// by several goroutines at once.
package profile

// Profile is one pprof body as columns. Ids of the message are gone:
// everything refers by index, and indexes are valid (Decode checks them).
// All slices belong to whoever made the Profile; of one that Decode returned
// they are valid until the Decoder's next Decode.
type Profile struct {
	Strings [][]byte // Strings[0] is ""; not copied out of the decompressed body

	SampleTypes       []ValueType
	DefaultSampleType uint32 // string
	PeriodType        ValueType
	Period            int64
	TimeNanos         int64 // unix ns, 0 if not stated
	DurationNanos     int64
	Comments          []uint32 // strings
	DropFrames        uint32   // string
	KeepFrames        uint32   // string
	DocURL            uint32   // string

	Functions []Function
	Mappings  []Mapping
	Locations []Location
	Lines     []Line // of all locations, see Location.Lines

	// Samples, as columns. Sample i has the stack Stacks[StackEnds[i-1]:StackEnds[i]]
	// (location indexes, leaf first), the values Values[i*len(SampleTypes):][:len(SampleTypes)]
	// and the labels Labels[LabelEnds[i-1]:LabelEnds[i]]; the index -1 counts as 0.
	Stacks    []uint32
	StackEnds []uint32 // len == number of samples
	Values    []int64
	Labels    []Label
	LabelEnds []uint32 // len == number of samples
}

// ValueType names a column of values, both as string indexes.
type ValueType struct{ Type, Unit uint32 }

// Function is one function: indexes of strings, and where it starts.
type Function struct {
	Name, SystemName, Filename uint32 // strings
	StartLine                  int64  // 0 if unknown
}

// Mapping is one mapped file of the process.
type Mapping struct {
	Start, Limit, Offset uint64
	File, BuildID        uint32 // strings
	HasFunctions         bool
	HasFilenames         bool
	HasLineNumbers       bool
	HasInlineFrames      bool
}

// Location is one address. Its lines are Profile.Lines[LineStart:LineEnd],
// innermost (inlined) first; there are none if the address is not symbolized.
type Location struct {
	Mapping            int32 // index, -1 if there is none
	LineStart, LineEnd uint32
	Address            uint64
	IsFolded           bool
}

// Line is one (possibly inlined) call at a location.
type Line struct {
	Function     uint32 // index into Functions
	Line, Column int64
}

// Label is one label of a sample: text if Str is not 0, else a number.
type Label struct {
	Key, Str uint32 // strings
	Num      int64
	NumUnit  uint32 // string, 0 if there is none
}

// NumSamples is the number of samples.
func (p *Profile) NumSamples() int { return len(p.StackEnds) }

// Stack returns the stack of sample i: location indexes, leaf first. The
// slice is part of p.
func (p *Profile) Stack(i int) []uint32 { return p.Stacks[start(p.StackEnds, i):p.StackEnds[i]] }

// SampleLabels returns the labels of sample i. The slice is part of p.
func (p *Profile) SampleLabels(i int) []Label {
	return p.Labels[start(p.LabelEnds, i):p.LabelEnds[i]]
}

// SampleValues returns the values of sample i, one per sample type. The slice
// is part of p.
func (p *Profile) SampleValues(i int) []int64 {
	n := len(p.SampleTypes)
	return p.Values[i*n : i*n+n]
}

// String returns string i as a string of its own.
func (p *Profile) String(i uint32) string { return string(p.Strings[i]) }

func start(ends []uint32, i int) uint32 {
	if i == 0 {
		return 0
	}
	return ends[i-1]
}
