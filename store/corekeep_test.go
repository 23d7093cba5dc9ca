package store_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/goinquest/inquest/store"
)

// TestPlanCores holds what goes of random cores against what must stay.
func TestPlanCores(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	for round := range 3000 {
		var cores []store.KeptCore
		for n := range rnd.IntN(40) {
			cores = append(cores, store.KeptCore{
				ID: fmt.Sprintf("c%02d", n), Group: fmt.Sprint("g", rnd.IntN(5)), At: int64(rnd.IntN(100)), Bytes: int64(1 + rnd.IntN(50)), Pinned: rnd.IntN(8) == 0,
			})
		}
		oldest, more, most := int64(rnd.IntN(60)), rnd.IntN(4), int64(rnd.IntN(600))
		gone := store.PlanCores(cores, oldest, more, most)
		if msg := planWrong(cores, gone, oldest, more, most); msg != "" {
			t.Fatalf("seed %d, round %d: %s\ncores %v\ngone %v, oldest %d, more %d, most %d", seed, round, msg, cores, gone, oldest, more, most)
		}
		rnd.Shuffle(len(cores), func(i, j int) { cores[i], cores[j] = cores[j], cores[i] })
		again := store.PlanCores(cores, oldest, more, most)
		if fmt.Sprint(again) != fmt.Sprint(gone) {
			t.Fatalf("seed %d, round %d: the order of cores matters: %v, then %v", seed, round, gone, again)
		}
	}
}

// planWrong says what of a plan breaks a rule.
func planWrong(cores []store.KeptCore, gone map[string]bool, oldest int64, more int, most int64) string {
	left, young := map[string][]store.KeptCore{}, map[string][]store.KeptCore{}
	var total int64
	space, free := false, false
	for _, c := range cores {
		bySpace, goes := gone[c.ID]
		space = space || bySpace
		switch {
		case goes && c.Pinned:
			return c.ID + " is pinned and goes"
		case !goes && !c.Pinned && c.At < oldest:
			return c.ID + " is too old and stays"
		}
		if c.Pinned || c.At >= oldest {
			young[c.Group] = append(young[c.Group], c)
		}
		if !goes {
			left[c.Group] = append(left[c.Group], c)
			total += c.Bytes
			free = free || !c.Pinned
		}
	}
	if total > most && free {
		return fmt.Sprintf("%d bytes stay, %d may", total, most)
	}
	thickest := 0
	for _, group := range left {
		thickest = max(thickest, len(group))
	}
	for name, group := range young {
		free := func(c store.KeptCore) bool { return !c.Pinned }
		loose := 0
		for _, c := range left[name] {
			if free(c) {
				loose++
			}
		}
		if loose > 3+more {
			return fmt.Sprintf("%d of group %s stay, %d may", loose, name, 3+more)
		}
		if len(left[name]) == 0 && len(group) > 0 && space {
			for other, rest := range left {
				if len(rest) > 1 && slices.ContainsFunc(rest, free) {
					return fmt.Sprintf("group %s lost all while %s has %d", name, other, len(rest))
				}
			}
		}
		if space {
			continue
		}
		first, last, largest := group[0], group[0], group[0]
		for _, c := range group {
			if c.At < first.At {
				first = c
			}
			if c.At > last.At {
				last = c
			}
			if c.Bytes > largest.Bytes {
				largest = c
			}
		}
		for what, c := range map[string]store.KeptCore{"first": first, "last": last, "largest": largest} {
			if !slices.ContainsFunc(left[name], func(o store.KeptCore) bool {
				return what == "first" && o.At == c.At || what == "last" && o.At == c.At || what == "largest" && o.Bytes >= c.Bytes
			}) {
				return fmt.Sprintf("the %s of group %s goes", what, name)
			}
		}
	}
	return ""
}
