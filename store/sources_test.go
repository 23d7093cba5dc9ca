package store

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestResolveSources: whatever files a crash leaves, and the catalog being
// lost, every profile is in exactly one block that counts.
func TestResolveSources(t *testing.T) {
	type file struct {
		id      string
		level   uint8
		sources []string
		beside  []string
		from    int64 // days
		until   int64
	}
	head := func(id string) file { return file{id: id, level: levelHead} }
	days := func(f file, from, until int64) file { f.from, f.until = from, until; return f }
	merged := func(id string, sources ...string) file { return file{id: id, level: levelMerged, sources: sources} }
	rollup := func(id string, beside ...string) file { return file{id: id, level: levelRollup, beside: beside} }
	compacted := func(id string, sources ...string) file {
		return file{id: id, level: levelRollup, sources: sources, beside: []string{"a", "lost"}}
	}
	for _, c := range []struct {
		name       string
		files      []file
		unreadable []string
		want       map[string]bool // blocks that count → rolled
	}{
		{"no merge", []file{head("a"), head("b")}, nil, map[string]bool{"a": false, "b": false}},
		{"rolled", []file{head("a"), head("b"), rollup("r", "a")}, nil, map[string]bool{"a": true, "b": false, "r": false}},
		{"before the swap, all outputs", []file{head("a"), head("b"), rollup("r", "a", "b"), merged("m", "a", "b"), merged("n", "a", "b")}, nil,
			map[string]bool{"a": true, "b": true, "r": false}},
		{"before the swap, one output", []file{head("a"), head("b"), rollup("r", "a", "b"), merged("m", "a", "b")}, nil,
			map[string]bool{"a": true, "b": true, "r": false}},
		{"before the swap, a source is damaged", []file{head("a"), merged("m", "a", "b")}, []string{"b"}, map[string]bool{"a": false}},
		{"after the swap, some sources gone", []file{head("b"), rollup("r", "a", "b"), merged("m", "a", "b"), merged("n", "a", "b")}, nil,
			map[string]bool{"m": true, "n": true, "r": false}},
		{"after the swap, all sources gone", []file{rollup("r", "a", "b"), merged("m", "a", "b"), merged("n", "a", "b"), head("c")}, nil,
			map[string]bool{"m": true, "n": true, "r": false, "c": false}},
		{"rollups before their swap", []file{head("a"), rollup("r", "a"), rollup("s", "b"), compacted("x", "r", "s")}, nil,
			map[string]bool{"a": true, "r": false, "s": false}},
		{"rollups after their swap, some gone", []file{head("a"), rollup("s", "b"), compacted("x", "r", "s")}, nil,
			map[string]bool{"a": true, "x": false}},
		{"rollups after their swap", []file{compacted("x", "r", "s"), merged("m", "a", "b")}, nil, map[string]bool{"x": false, "m": true}},
		{"rollups of all days", []file{days(head("a"), 0, 1), head("b"), rollup("r", "a", "b"), days(rollup("s", "a", "b"), 1, 1)}, nil,
			map[string]bool{"a": true, "b": true, "r": false, "s": false}},
		{"before the last day's rollup", []file{days(head("a"), 0, 1), head("b"), rollup("r", "a", "b")}, nil,
			map[string]bool{"a": false, "b": false}},
		{"the last day's rollup is damaged, and the others were merged", []file{days(head("a"), 0, 1), compacted("x", "r", "s")}, []string{"y"},
			map[string]bool{"a": true, "x": false}},
		{"the last day's rollup is damaged, and a block was merged", []file{days(head("a"), 0, 1), rollup("r", "a", "lost")}, nil,
			map[string]bool{"a": true, "r": false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var all []*foundBlock
			for _, f := range c.files {
				l := &blockListing{id: f.id, level: f.level, sources: f.sources, beside: f.beside}
				b := &foundBlock{l.info(1, stream{}), l}
				b.info.from, b.info.to = f.from*dayNanos, f.until*dayNanos
				all = append(all, b)
			}
			unreadable := map[string]error{}
			for _, id := range c.unreadable {
				unreadable[id] = errors.New("damaged")
			}
			got := map[string]bool{}
			for _, b := range resolveSources(all, unreadable) {
				got[b.info.id] = b.info.rolled
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
