package store_test

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
)

// TestKeysAreFound: a block that has a key is always among those that may have
// it, whatever the keys look like.
func TestKeysAreFound(t *testing.T) {
	t.Parallel()
	seeds := uint64(30)
	if testing.Short() {
		seeds = 6
	}
	for seed := range seeds {
		rnd := rand.New(rand.NewPCG(seed, 5))
		keys := store.NewKeys(1 << 30)
		at := t0
		var all [][]inquest.Key
		next := uint64(rnd.IntN(1000))
		for n := range 1 + rnd.IntN(600) {
			list := make([]inquest.Key, rnd.IntN(1+rnd.IntN(200)))
			for i := range list {
				switch rnd.IntN(3) {
				case 0: // numbered
					binary.BigEndian.PutUint64(list[i][:8], 7)
					binary.BigEndian.PutUint64(list[i][8:], next)
					next += uint64(rnd.IntN(3)) / 2 * uint64(rnd.IntN(1000))
					next++
				case 1: // a sender without order
					binary.BigEndian.PutUint64(list[i][:8], uint64(rnd.IntN(3)))
					binary.BigEndian.PutUint64(list[i][8:], rnd.Uint64())
				default:
					binary.BigEndian.PutUint64(list[i][:8], rnd.Uint64())
					binary.BigEndian.PutUint64(list[i][8:], rnd.Uint64())
				}
			}
			step := 5 * time.Minute
			if seed%2 == 1 { // more blocks in a generation than a byte can count
				step = 20 * time.Second
			}
			at = at.Add(time.Duration(rnd.IntN(int(step))))
			if n == 500 {
				at = at.Add(4 * time.Hour)
			}
			keys.Add(list, at)
			all = append(all, list)
			if n%100 != 0 {
				continue
			}
			for b, list := range all {
				if at.Sub(t0) > 20*time.Hour {
					break // the first may be too old
				}
				for _, k := range list {
					if !slices.Contains(keys.Candidates(k), b) {
						t.Fatalf("seed %d: key %v of block %d of %d is not found", seed, k, b, n)
					}
				}
			}
		}
	}
}

// TestKeysTakeLittle measures what a day of keys takes, and how often the
// index points to a block without reason.
func TestKeysTakeLittle(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	random := func() (k inquest.Key) {
		binary.BigEndian.PutUint64(k[:8], rnd.Uint64())
		binary.BigEndian.PutUint64(k[8:], rnd.Uint64())
		return k
	}
	const blocks, perBlock = 300, 2000
	fill := func(k *store.Keys, key func(i int) inquest.Key) {
		list := make([]inquest.Key, perBlock)
		for b := range blocks {
			for i := range list {
				list[i] = key(b*perBlock + i)
			}
			k.Add(list, t0.Add(time.Duration(b)*24*time.Hour/blocks))
		}
	}
	hashed := store.NewKeys(1 << 30)
	fill(hashed, func(int) inquest.Key { return random() })
	numbered := store.NewKeys(1 << 30)
	fill(numbered, func(i int) inquest.Key { return key(i) })
	const total, tries = blocks * perBlock, 200_000
	wrong := 0
	for range tries {
		wrong += len(hashed.Candidates(random()))
	}
	t.Logf("%.2f bytes a key without number, %.4f with; %.5f blocks looked at in vain per key",
		float64(hashed.Bytes())/total, float64(numbered.Bytes())/total, float64(wrong)/tries)
	if n := hashed.Bytes(); n > 5*total {
		t.Errorf("%d keys take %d bytes", total, n)
	}
	if n := numbered.Bytes(); n > total/20 {
		t.Errorf("%d numbered keys take %d bytes", total, n)
	}
	if wrong > tries/50 {
		t.Errorf("%d of %d lookups point to a block in vain", wrong, tries)
	}

	const max = 1 << 20
	small := store.NewKeys(max)
	fill(small, func(int) inquest.Key { return random() })
	if small.Bytes() > max || small.Forgotten == 0 || small.Forgotten > total-max/8 {
		t.Errorf("%d bytes of %d; %d keys of %d forgotten", small.Bytes(), max, small.Forgotten, total)
	}
}
