package profile

import (
	"cmp"
	"slices"
)

// TruncatedFrame is the function name of the sample that stands for those
// Truncate folded.
const TruncatedFrame = "[truncated]"

// Truncate keeps p within limit samples (at least 1): the smallest ones by the
// default sample type, else by the last, are folded into one without labels,
// whose only frame is TruncatedFrame. The total of every column stays.
// Cumulative values must have become deltas before: what is folded differs
// from body to body. It returns how many samples were folded, 0 if there were
// not too many.
func (p *Profile) Truncate(limit int) (folded int) {
	n := p.NumSamples()
	if limit = max(limit, 1); n <= limit {
		return 0
	}
	drop := p.smallest(n - limit + 1)
	cols := len(p.SampleTypes)
	rest := make([]int64, cols)
	keep := 0
	stacks, labels := uint32(0), uint32(0)
	for i := range n {
		if drop[i] {
			for c, v := range p.SampleValues(i) {
				rest[c] += v
			}
			continue
		}
		p.moveSample(i, keep, &stacks, &labels)
		keep++
	}
	folded = n - keep
	p.shrink(keep, stacks, labels)

	name := uint32(len(p.Strings))
	p.Strings = append(p.Strings, []byte(TruncatedFrame))
	p.Functions = append(p.Functions, Function{Name: name, SystemName: name})
	line := uint32(len(p.Lines))
	p.Lines = append(p.Lines, Line{Function: uint32(len(p.Functions) - 1)})
	p.Locations = append(p.Locations, Location{Mapping: -1, LineStart: line, LineEnd: line + 1})
	p.Stacks = append(p.Stacks, uint32(len(p.Locations)-1))
	p.StackEnds = append(p.StackEnds, uint32(len(p.Stacks)))
	p.LabelEnds = append(p.LabelEnds, uint32(len(p.Labels)))
	p.Values = append(p.Values, rest...)
	return folded
}

// smallest marks the n samples with the least absolute value; of equal ones
// the later go first.
func (p *Profile) smallest(n int) []bool {
	cols := len(p.SampleTypes)
	by := cols - 1
	for c, vt := range p.SampleTypes {
		if p.DefaultSampleType != 0 && string(p.Strings[vt.Type]) == string(p.Strings[p.DefaultSampleType]) {
			by = c
		}
	}
	order := make([]int32, p.NumSamples())
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		x, y := magnitude(p.Values[int(a)*cols+by]), magnitude(p.Values[int(b)*cols+by])
		return cmp.Or(cmp.Compare(x, y), cmp.Compare(b, a))
	})
	marks := make([]bool, len(order))
	for _, i := range order[:n] {
		marks[i] = true
	}
	return marks
}

func magnitude(v int64) uint64 {
	if v < 0 {
		return -uint64(v)
	}
	return uint64(v)
}

// moveSample moves sample i to place to, at or before it, whose stack and
// labels begin at *stacks and *labels, and moves those on. Samples must be
// moved in order: then the ends of sample i-1 are still what they were, since
// place i-1 is only written when nothing before it was left out.
func (p *Profile) moveSample(i, to int, stacks, labels *uint32) {
	from, end := start(p.StackEnds, i), p.StackEnds[i]
	lfrom, lend := start(p.LabelEnds, i), p.LabelEnds[i]
	*stacks += uint32(copy(p.Stacks[*stacks:], p.Stacks[from:end]))
	*labels += uint32(copy(p.Labels[*labels:], p.Labels[lfrom:lend]))
	p.StackEnds[to], p.LabelEnds[to] = *stacks, *labels
	cols := len(p.SampleTypes)
	copy(p.Values[to*cols:][:cols], p.Values[i*cols:][:cols])
}

// shrink drops all samples from place n on, after moveSample.
func (p *Profile) shrink(n int, stacks, labels uint32) {
	p.Stacks, p.StackEnds = p.Stacks[:stacks], p.StackEnds[:n]
	p.Labels, p.LabelEnds = p.Labels[:labels], p.LabelEnds[:n]
	p.Values = p.Values[:n*len(p.SampleTypes)]
}
