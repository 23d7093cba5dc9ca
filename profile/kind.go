package profile

import (
	"strings"

	"github.com/goinquest/inquest"
)

// KindOf says what kind p is, from its sample types and what the sender
// stated ("" if nothing). A mutex and a block body look alike, so one of them
// must be stated. A stated KindOther is believed; any other stated kind that
// p's sample types contradict is an error of kind ErrInvalid that names both.
// What Go does not serve is KindOther.
func KindOf(p *Profile, stated inquest.Kind) (inquest.Kind, error) {
	found := guess(p)
	switch {
	case stated == inquest.KindOther:
		return stated, nil
	case stated == "" && found == contention:
		return "", inquest.Errorf(inquest.ErrInvalid, "body has sample types %s: that is a mutex or a block profile, which look alike; say kind=mutex or kind=block", sampleTypes(p))
	case stated == "" || stated == found:
		return found, nil
	case found == contention && (stated == inquest.KindMutex || stated == inquest.KindBlock):
		return stated, nil
	case found == inquest.KindOther && stated == inquest.KindCPU && column(p, isCPU):
		return stated, nil // such as wall and cpu time in one body
	}
	what := "a " + string(found) + " profile"
	switch found {
	case contention:
		what = "a mutex or block profile"
	case inquest.KindOther:
		what = "none that Go serves (kind=other)"
	}
	return "", inquest.Errorf(inquest.ErrInvalid, "body has sample types %s, that is %s, but kind=%s was stated", sampleTypes(p), what, stated)
}

// contention stands for mutex or block, which the body does not tell.
const contention inquest.Kind = "contention"

// guess names the kind of the sample types alone.
func guess(p *Profile) inquest.Kind {
	switch {
	case column(p, isHeap):
		return inquest.KindHeap
	case column(p, isCPU) && every(p, func(typ, unit string) bool { return isCPU(typ, unit) || isSamples(typ, unit) }):
		return inquest.KindCPU
	case isCPU(p.String(p.PeriodType.Type), p.String(p.PeriodType.Unit)) && len(p.SampleTypes) > 0 && every(p, isSamples):
		return inquest.KindCPU // only counted, every so much cpu time
	case column(p, named("contentions")) && column(p, named("delay")):
		return contention
	case column(p, named("objects")) && column(p, named("space")):
		return inquest.KindHeap
	case len(p.SampleTypes) != 1:
		return inquest.KindOther
	case column(p, named("goroutine")) || column(p, named("goroutines")):
		return inquest.KindGoroutine
	case column(p, named("threadcreate")):
		return inquest.KindThreadCreate
	case column(p, named("goroutineleak")):
		return inquest.KindGoroutineLeak
	}
	return inquest.KindOther
}

func isHeap(typ, unit string) bool {
	switch typ {
	case "alloc_objects", "inuse_objects":
		return unit == "count" || unit == ""
	case "alloc_space", "inuse_space":
		return unit == "bytes" || unit == ""
	}
	return false
}

func isCPU(typ, unit string) bool {
	switch unit {
	case "nanoseconds", "microseconds", "milliseconds", "seconds":
		return typ == "cpu"
	}
	return false
}

func isSamples(typ, unit string) bool {
	return (typ == "samples" || typ == "sample") && unit == "count"
}

func named(name string) func(typ, unit string) bool {
	return func(typ, _ string) bool { return typ == name }
}

// column reports whether any sample type is.
func column(p *Profile, is func(typ, unit string) bool) bool {
	for _, vt := range p.SampleTypes {
		if is(p.String(vt.Type), p.String(vt.Unit)) {
			return true
		}
	}
	return false
}

// every reports whether all sample types are.
func every(p *Profile, is func(typ, unit string) bool) bool {
	return !column(p, func(typ, unit string) bool { return !is(typ, unit) })
}

// sampleTypes spells the sample types as people know them:
// "samples/count, cpu/nanoseconds".
func sampleTypes(p *Profile) string {
	const most = 8
	var b strings.Builder
	for i, vt := range p.SampleTypes {
		if i > 0 {
			b.WriteString(", ")
		}
		if i == most {
			b.WriteString("…")
			break
		}
		b.WriteString(clip(p.String(vt.Type)) + "/" + clip(p.String(vt.Unit)))
	}
	if b.Len() == 0 {
		return "(none)"
	}
	return b.String()
}

// clip cuts what a stranger sent to a length for messages.
func clip(s string) string {
	if len(s) > 40 {
		return strings.ToValidUTF8(s[:40], "") + "…"
	}
	return s
}

// Types returns one Type per sample type of p, in their order.
func Types(kind inquest.Kind, p *Profile) []inquest.Type {
	types := make([]inquest.Type, len(p.SampleTypes))
	for i, vt := range p.SampleTypes {
		types[i] = inquest.TypeOf(kind, p.String(vt.Type), p.String(vt.Unit))
	}
	return types
}

// Cumulative reports whether a body of the kind, as Go serves it, counts
// since the process started.
func Cumulative(kind inquest.Kind) bool {
	switch kind {
	case inquest.KindHeap, inquest.KindMutex, inquest.KindBlock:
		return true
	}
	return false
}
