package inquest

import "strings"

// Kind is what one pprof body is. It has one stack column and one or more
// value columns, stored once. Queries name types, storage names kinds.
type Kind string

// The kinds. A pprof body of any other producer has KindOther.
const (
	KindCPU           Kind = "cpu"
	KindHeap          Kind = "heap" // /debug/pprof/allocs is this kind too
	KindGoroutine     Kind = "goroutine"
	KindMutex         Kind = "mutex"
	KindBlock         Kind = "block"
	KindThreadCreate  Kind = "threadcreate"
	KindGoroutineLeak Kind = "goroutineleak"
	KindOther         Kind = "other"
)

// Kinds lists every kind in the order people expect to see them.
var Kinds = []Kind{KindCPU, KindHeap, KindGoroutine, KindMutex, KindBlock, KindThreadCreate, KindGoroutineLeak, KindOther}

// Temporality says what a value means in time.
type Temporality uint8

const (
	// Delta is an amount that came about during [Start, End).
	Delta Temporality = iota
	// Instant is a level that was found at one moment.
	Instant
)

// String returns "delta" or "instant".
func (t Temporality) String() string {
	if t == Instant {
		return "instant"
	}
	return "delta"
}

// Type is one value of a kind: a name of ours, the unit as pprof spells it
// ("nanoseconds", "bytes", "count", …) and its temporality.
type Type struct {
	Name        string      `json:"name"`
	Kind        Kind        `json:"kind"`
	Unit        string      `json:"unit"`
	Temporality Temporality `json:"-"`
}

// TypeOf names the value column of a kind whose pprof sample type is
// (sampleType, unit), and says its temporality. Names are those of the API
// (design: "Type names"); a column that Go does not have keeps its pprof name.
func TypeOf(kind Kind, sampleType, unit string) Type {
	t := Type{Name: sampleType, Kind: kind, Unit: unit}
	switch kind {
	case KindMutex, KindBlock:
		switch sampleType {
		case "contentions":
			t.Name = string(kind) + "_count"
		case "delay":
			t.Name = string(kind) + "_delay"
		}
	case KindHeap:
		switch sampleType {
		case "objects": // legacy form of the Go and C++ heap profiles
			t.Name = "inuse_objects"
		case "space":
			t.Name = "inuse_space"
		}
		if strings.HasPrefix(t.Name, "inuse_") {
			t.Temporality = Instant
		}
	case KindGoroutine, KindThreadCreate, KindGoroutineLeak:
		if unit == "count" || unit == "" {
			t.Name = string(kind)
			t.Unit = "count"
		}
		t.Temporality = Instant
	case KindOther:
		if strings.HasPrefix(sampleType, "inuse_") {
			t.Temporality = Instant
		}
	}
	return t
}

// KindOfType returns the kind a type name of the API belongs to, KindOther
// for a name that Go's profiles do not have.
func KindOfType(name string) Kind {
	switch name {
	case "cpu", "samples":
		return KindCPU
	case "alloc_objects", "alloc_space", "inuse_objects", "inuse_space":
		return KindHeap
	case "goroutine":
		return KindGoroutine
	case "mutex_count", "mutex_delay":
		return KindMutex
	case "block_count", "block_delay":
		return KindBlock
	case "threadcreate":
		return KindThreadCreate
	case "goroutineleak":
		return KindGoroutineLeak
	}
	return KindOther
}

// DefaultType returns the type shown when only the kind is named.
func DefaultType(kind Kind) string {
	switch kind {
	case KindHeap:
		return "inuse_space"
	case KindMutex:
		return "mutex_delay"
	case KindBlock:
		return "block_delay"
	}
	return string(kind)
}

// ParseKind reads a kind, or any type of a kind, as the API's kind= and type=
// parameters give it ("heap", "inuse_space" and "allocs" are all KindHeap;
// "profile" is KindCPU, as in Go's URL). "" returns "". The error is of kind
// ErrInvalid and lists what is known.
func ParseKind(s string) (Kind, error) {
	switch s {
	case "":
		return "", nil
	case "profile":
		return KindCPU, nil
	case "allocs", "memory":
		return KindHeap, nil
	}
	for _, k := range Kinds {
		if s == string(k) {
			return k, nil
		}
	}
	if k := KindOfType(s); k != KindOther {
		return k, nil
	}
	names := make([]string, len(Kinds))
	for i, k := range Kinds {
		names[i] = string(k)
	}
	return "", Errorf(ErrInvalid, "unknown kind %q; known kinds are %s", s, strings.Join(names, ", "))
}
