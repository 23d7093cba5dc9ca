package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestMergeBatch: which blocks are merged next.
func TestMergeBatch(t *testing.T) {
	const mb = 1 << 20
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	// id is "services/age": a block of services a…c that is 30 min old is "ac-30".
	info := func(id string, size int64) *blockInfo {
		services, _, _ := strings.Cut(id, "-")
		age := 0
		if _, err := fmt.Sscanf(id, services+"-%d", &age); err != nil {
			t.Fatal(err)
		}
		return &blockInfo{
			id: id, size: size, rolled: true, created: now.Add(-time.Duration(age) * time.Minute).UnixNano(),
			first: services[:1], last: services[len(services)-1:],
		}
	}
	many := func(services string, n int, size int64) (out []*blockInfo) {
		for i := range n {
			out = append(out, info(fmt.Sprintf("%s-%d", services, i), size))
		}
		return out
	}
	fresh := info("s-9", mb)
	fresh.rolled = false
	done := info("s-9", mb)
	done.level = levelMerged
	for _, c := range []struct {
		name    string
		blocks  []*blockInfo
		damaged string
		want    string
	}{
		{"none", nil, "", ""},
		{"few", many("s", 7, mb), "", ""},
		{"eight of a service", many("s", 8, mb), "", "s-7 s-6 s-5 s-4 s-3 s-2 s-1 s-0"},
		{"not yet in rollups", append(many("s", 7, mb), fresh), "", ""},
		{"merged already", append(many("s", 7, mb), done), "", ""},
		{"damaged", many("s", 8, mb), "s-3/0", ""},
		{"two are many bytes", many("s", 2, 17*mb), "", "s-1 s-0"},
		{"large ones stay", many("s", 9, 32*mb), "", ""},
		{"old", []*blockInfo{info("s-240", mb), info("s-10", mb)}, "", "s-240 s-10"},
		{"old and alone", []*blockInfo{info("s-240", mb)}, "", ""},
		{"one step", many("s", 16, 31*mb), "", "s-15 s-14 s-13 s-12 s-11 s-10 s-9 s-8"},
		{"services of an epoch", append(many("ac", 7, mb), many("dz", 7, mb)...), "", ""},
		{"shared", append(many("ac", 8, mb), many("dz", 2, mb)...), "", "ac-7 ac-6 ac-5 ac-4 ac-3 ac-2 ac-1 dz-1 ac-0 dz-0"},
		{"too many for a step: the most frequent first", append(many("ac", 7, 20*mb), many("dz", 9, 20*mb)...), "",
			"dz-8 dz-7 ac-6 dz-6 ac-5 dz-5 ac-4 dz-4 dz-3 dz-2 dz-1 dz-0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &Store{o: Options{Now: func() time.Time { return now }}, damaged: map[string]string{}}
			s.o.setDefaults()
			s.keeper = newKeeper(s)
			if c.damaged != "" {
				s.damaged[c.damaged] = "so"
			}
			for _, info := range c.blocks {
				s.blocks = append(s.blocks, &block{info: info})
			}
			var got []string
			for _, b := range s.mergeBatch() {
				got = append(got, b.info.id)
			}
			if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestMergeFiles: small parts share files, large ones have their own.
func TestMergeFiles(t *testing.T) {
	sources := map[string][]*mergeSource{}
	add := func(service string, sizes ...int64) {
		for _, n := range sizes {
			sources[service] = append(sources[service], &mergeSource{info: &partInfo{service: service}, size: n})
		}
	}
	add("a", 10, 10)
	add("b", 30, 30, 30, 30) // two of its own
	add("c", 20)
	add("d", 25)
	add("e", 100)
	var got []string
	for _, file := range mergeFiles(sources, &mergeSizes{own: 32, file: 64}) {
		var parts []string
		for _, list := range file {
			parts = append(parts, fmt.Sprint(list[0].info.service, len(list)))
		}
		got = append(got, strings.Join(parts, "+"))
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"a2+c1", "b2", "b2", "d1", "e1"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestPace: jobs take a quarter of a processor and no more than their share
// of the disk, unless somebody waits for them.
func TestPace(t *testing.T) {
	for _, c := range []struct {
		name    string
		spell   time.Duration // of work between calls
		bytes   int
		waiting bool
		want    time.Duration // for a hundred calls
	}{
		{"work", 10 * time.Millisecond, 0, false, 4 * time.Second},
		{"bytes", time.Millisecond, 1 << 20, false, 100 * time.Second},
		{"both", 500 * time.Millisecond, 1 << 20, false, 200 * time.Second},
		{"in a hurry", 10 * time.Millisecond, 1 << 20, true, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKeeper(&Store{o: Options{KeeperBytesPerSecond: 1 << 20}})
				if c.waiting {
					k.waits = append(k.waits, make(chan error, 1))
				}
				began := time.Now()
				k.resumed = began
				for range 100 {
					time.Sleep(c.spell)
					if err := k.pace(context.Background(), c.bytes); err != nil {
						t.Fatal(err)
					}
				}
				if got := time.Since(began); got < c.want*99/100 || got > c.want*101/100 {
					t.Errorf("%v, want %v", got, c.want)
				}
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				if err := k.pace(ctx, 0); err != context.Canceled {
					t.Error(err)
				}
			})
		})
	}
}
