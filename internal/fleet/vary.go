package fleet

import (
	"math/rand/v2"

	"github.com/goinquest/inquest"
)

// ways is the number of ways to splice a stack that comes back.
const ways = 8

// samples writes the samples of b with other values and, for some, other
// stacks. service tells apart the splices of services that vary the same
// program.
func (w *writer) samples(b *base, o Options, service uint64, r *rand.Rand) {
	comeBack := min(o.Novelty, recurring)
	cpu := b.kind == string(inquest.KindCPU)
	for i, ids := range b.stacks {
		if cpu && r.Float64() < 0.2 {
			continue
		}
		stack := b.stack[i]
		switch draw := r.Float64(); {
		case draw < comeBack:
			way := rand.New(rand.NewPCG(o.Seed^service<<32, uint64(i*ways+r.IntN(ways))))
			other := b.stacks[way.IntN(len(b.stacks))]
			stack = w.splice(other[:way.IntN(len(other)+1)], ids[min(1, len(ids)):])
		case draw < o.Novelty:
			// Cut at any depth: so many combinations that none comes twice.
			other := b.stacks[r.IntN(len(b.stacks))]
			stack = w.splice(other[:r.IntN(len(other)+1)], ids[r.IntN(len(ids)+1):])
		}
		w.vary(b, i, o.KeepHeap, r)
		w.sample(stack, b.labels[i])
	}
}

// splice encodes the stack that has the leaf part of one and the root part of
// another. The bytes are valid until the next splice.
func (w *writer) splice(leaf, root []uint64) []byte {
	w.spliced = appendStack(w.spliced[:0], leaf, root)
	return w.spliced
}

// vary puts the varied values of sample i into w.values. A cpu sample keeps
// time = count × period; the two columns of a pair (objects and bytes,
// contentions and delay) keep their ratio.
func (w *writer) vary(b *base, i int, keepHeap bool, r *rand.Rand) {
	v := b.value[i*b.values : (i+1)*b.values]
	w.values = w.values[:0]
	switch kind := inquest.Kind(b.kind); {
	case kind == inquest.KindCPU && len(v) == 2:
		count := max(1, v[0]+int64(r.IntN(3))-1)
		w.values = append(w.values, count, count*b.period)
	case kind == inquest.KindHeap && keepHeap:
		w.values = append(w.values, v...)
	case len(v)%2 == 0:
		for j := 0; j < len(v); j += 2 {
			factor := 0.5 + r.Float64()
			w.values = append(w.values, scale(v[j], factor), int64(float64(v[j+1])*factor))
		}
	default:
		factor := 0.5 + r.Float64()
		for _, n := range v {
			w.values = append(w.values, scale(n, factor))
		}
	}
}

// scale multiplies a count, of which something stays.
func scale(n int64, factor float64) int64 {
	if m := int64(float64(n) * factor); m > 0 || n <= 0 {
		return m
	}
	return 1
}
