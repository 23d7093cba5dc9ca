package analysis

import (
	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/sandbox"
)

// Bounds of a report, whatever the child says; in bytes, and numbers of things.
const (
	maxText     = 64 << 10
	maxName     = 4 << 10
	maxFrames   = 256 // of one stack
	maxBuckets  = 1024
	maxPanics   = 64
	maxFields   = 64
	maxProblems = 64
)

// clean makes a report fit to be shown and kept: bounded, without control
// characters, with indexes that exist.
func clean(r *inquest.CoreReport) {
	name(&r.Class, &r.GoVersion)
	r.Message, r.Fatal = sandbox.Clean(r.Message, maxText), sandbox.Clean(r.Fatal, maxText)
	r.Frames, r.System = frames(r.Frames), frames(r.System)
	if s := r.Signal; s != nil {
		name(&s.Name, &s.Note)
	}
	r.Panics = first(r.Panics, maxPanics)
	for i := range r.Panics {
		p := &r.Panics[i]
		name(&p.Type)
		p.Value = sandbox.Clean(p.Value, maxText)
		p.Fields = first(p.Fields, maxFields)
		for j := range p.Fields {
			name(&p.Fields[j].Name, &p.Fields[j].Value)
		}
	}
	r.Buckets = first(r.Buckets, maxBuckets)
	for i := range r.Buckets {
		b := &r.Buckets[i]
		name(&b.State)
		b.Frames = frames(b.Frames)
		if b.By != nil {
			frame(b.By)
		}
	}
	for i := range r.Goroutines {
		g := &r.Goroutines[i]
		name(&g.State)
		if g.Bucket < 0 || g.Bucket >= len(r.Buckets) {
			g.Bucket = -1
		}
		g.Labels = labels(g.Labels)
	}
	r.Problems = first(r.Problems, maxProblems)
	for i := range r.Problems {
		name(&r.Problems[i])
	}
	if r.Buckets == nil {
		r.Buckets = []inquest.GoroutineBucket{}
	}
	if r.Goroutines == nil {
		r.Goroutines = []inquest.Goroutine{}
	}
}

func first[T any](list []T, most int) []T { return list[:min(len(list), most)] }

func name(texts ...*string) {
	for _, s := range texts {
		*s = sandbox.Clean(*s, maxName)
	}
}

func frame(f *inquest.Frame) { name(&f.Function, &f.Symbol, &f.File) }

func frames(list []inquest.Frame) []inquest.Frame {
	list = first(list, maxFrames)
	for i := range list {
		frame(&list[i])
	}
	return list
}

func labels(of map[string]string) map[string]string {
	if len(of) == 0 {
		return nil
	}
	out := make(map[string]string, len(of))
	for k, v := range of {
		name(&k, &v)
		out[k] = v
	}
	return out
}
