package store

import (
	"slices"
	"time"

	"github.com/goinquest/inquest"
)

// Keys is an index of keys in blocks, which need not exist.
type Keys struct {
	x         *keyIndex
	number    map[*block]int
	Forgotten int
}

func NewKeys(max int64) *Keys {
	k := &Keys{number: map[*block]int{}}
	k.x = newKeyIndex(25*time.Hour, max, func(keys int, _ time.Time) { k.Forgotten += keys })
	return k
}

// Add says that a block with the next number has keys.
func (k *Keys) Add(keys []inquest.Key, at time.Time) {
	sorted := slices.Clone(keys)
	slices.SortFunc(sorted, func(a, b inquest.Key) int { return slices.Compare(a[:], b[:]) })
	runs := &keyRuns{}
	for _, key := range sorted {
		who, seq := keyHalves(key)
		runs.add(who, seq, 1)
	}
	b := &block{}
	k.number[b] = len(k.number)
	k.x.moved(b, runs, nil, at, 25*time.Hour)
}

// Candidates are the numbers of the blocks that may have a key.
func (k *Keys) Candidates(key inquest.Key) (out []int) {
	for _, b := range k.x.candidates(key) {
		out = append(out, k.number[b])
	}
	return out
}

// Bytes is what the keys take.
func (k *Keys) Bytes() int64 { return k.x.memory() }
