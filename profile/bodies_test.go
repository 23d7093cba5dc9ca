package profile_test

import (
	"encoding/binary"
	"slices"
	"testing"

	pprof "github.com/google/pprof/profile"
)

// num and sub write one field of a message, as a number or as bytes.
func num(field int, v uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(nil, uint64(field)<<3), v)
}

func sub(field int, parts ...[]byte) []byte {
	body := slices.Concat(parts...)
	b := binary.AppendUvarint(nil, uint64(field)<<3|2)
	return append(binary.AppendUvarint(b, uint64(len(body))), body...)
}

func packed(vs ...uint64) []byte {
	var b []byte
	for _, v := range vs {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func str(s string) []byte { return sub(6, []byte(s)) }

// Parts of the messages below: one sample type, strings "", "a", "b".
var (
	aType   = sub(1, num(1, 1), num(2, 2))
	strs    = slices.Concat(str(""), str("a"), str("b"))
	aFunc   = sub(5, num(1, 1), num(2, 1))
	aLoc    = sub(4, num(1, 1), num(3, 0x1000), sub(4, num(1, 1), num(2, 7)))
	aSample = sub(2, num(1, 1), num(2, 5))
)

// made are bodies of other producers than Go, and odd ones, which google/pprof
// accepts.
func made(t testing.TB) map[string][]byte {
	huge := ^uint64(0)
	bodies := map[string][]byte{
		"least":                slices.Concat(str("")),
		"unpacked":             slices.Concat(aType, strs, aFunc, aLoc, aSample),
		"no samples":           slices.Concat(aType, strs),
		"empty stack":          slices.Concat(aType, strs, sub(2, num(2, 5))),
		"samples first":        slices.Concat(aSample, aLoc, aFunc, strs, aType),
		"unknown fields":       slices.Concat(aType, strs, num(99, 7), sub(2000, []byte("xx")), []byte{16<<3&0x7f | 1 | 0x80, 1, 1, 2, 3, 4, 5, 6, 7, 8}, []byte{0x05, 1, 2, 3, 4}, sub(2, num(2, 5), num(17, 1), sub(9, []byte("y")))),
		"field zero":           slices.Concat(aType, strs, []byte{0, 1}, sub(2, num(2, 5), []byte{0, 9})),
		"pieces":               slices.Concat(aType, aType, strs, aFunc, aLoc, sub(2, sub(1, packed(1)), num(2, 5), num(1, 1), sub(1, packed(1, 1)), sub(2, packed(6)))),
		"last one counts":      slices.Concat(aType, strs, sub(5, num(1, 9), num(2, 77777), num(1, 1), num(2, 1)), sub(4, num(1, 5), num(1, 1), sub(4, num(1, 8), num(1, 1))), aSample),
		"ids backwards":        slices.Concat(aType, strs, sub(5, num(1, 2), num(2, 2)), aFunc, sub(4, num(1, 3), sub(4, num(1, 2))), sub(4, num(1, 2), sub(4, num(1, 1))), aLoc, sub(2, sub(1, packed(1, 2, 3)), num(2, 5))),
		"huge ids":             slices.Concat(aType, strs, sub(5, num(1, huge), num(2, 1)), sub(3, num(1, huge-1), num(2, 4)), sub(4, num(1, huge-2), num(2, huge-1), sub(4, num(1, huge))), sub(2, num(1, huge-2), num(2, 5))),
		"ids from 0x10000":     slices.Concat(aType, strs, sub(5, num(1, 0x10001), num(2, 1)), sub(4, num(1, 0x10001), sub(4, num(1, 0x10001))), sub(4, num(1, 0x10000)), sub(2, sub(1, packed(0x10001, 0x10000)), num(2, 5))),
		"mapping unknown":      slices.Concat(aType, strs, aFunc, sub(4, num(1, 1), num(2, 12)), aSample),
		"mapping unknown huge": slices.Concat(aType, strs, sub(3, num(1, 1)), sub(4, num(1, 1), num(2, huge)), sub(4, num(1, 2), num(2, 1)), aSample),
		"mapping sparse":       slices.Concat(aType, strs, sub(3, num(1, 7), num(5, 1), num(6, 2)), sub(3, num(1, 3)), sub(4, num(1, 1), num(2, 3)), sub(4, num(1, 2), num(2, 7)), sub(4, num(1, 3), num(2, 1)), sub(2, sub(1, packed(1, 2, 3)), num(2, 5))),
		"labels":               slices.Concat(aType, strs, sub(2, num(2, 5), sub(3, num(1, 1), num(2, 2)), sub(3, num(1, 1), num(2, 1)), sub(3, num(1, 1), num(3, 4)), sub(3, num(1, 1), num(3, 5), num(4, 2)), sub(3, num(1, 2)), sub(3, num(1, 2), num(4, 1)), sub(3, num(1, 2), num(2, 1), num(3, 9), num(4, 99999)))),
		"labels of empty text": slices.Concat(aType, strs, str(""), sub(2, num(2, 5), sub(3, num(1, 1), num(2, 3)))),
		"negative":             slices.Concat(aType, strs, sub(2, num(2, huge), sub(3, num(1, 1), num(3, huge))), num(12, huge), num(10, huge)),
		"ten-byte overflow":    slices.Concat(aType, strs, sub(2, []byte{0x10, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x7f})),
		"long varints":         slices.Concat(aType, strs, sub(2, []byte{0x90, 0x80, 0x00, 0x85, 0x80, 0x80, 0x00})),
		"period type twice":    slices.Concat(aType, strs, sub(11, num(1, 1), num(2, 2)), sub(11, num(2, 1))),
		"comments":             slices.Concat(aType, strs, num(13, 1), sub(13, packed(2, 1)), num(14, 1), num(15, 2), num(7, 1), num(8, 2)),
		"time zero twice":      slices.Concat(aType, strs, num(9, 0), num(9, 5)),
		"no sample types":      slices.Concat(strs, aFunc, aLoc),
	}
	for name, p := range producers() {
		bodies[name] = plain(t, p)
		bodies[name+", gzip"] = pack(t, bodies[name], 6)
	}
	return bodies
}

// producers imitate what others than Go's runtime write.
func producers() map[string]*pprof.Profile {
	bin := &pprof.Mapping{ID: 1, Start: 0x400000, Limit: 0x500000, File: "/srv/app", BuildID: "abcdef", HasFunctions: true, HasFilenames: true, HasLineNumbers: true, HasInlineFrames: true}
	lib := &pprof.Mapping{ID: 2, Start: 0x7f0000000000, Limit: 0x7f0000100000, Offset: 0x1000, File: "/lib/libc.so.6", BuildID: "123"}
	kernel := &pprof.Mapping{ID: 3, Start: 0xffffffff80000000, Limit: 0xffffffffffffffff, File: "[kernel.kallsyms]_text", KernelRelocationSymbol: "_text"}
	f1 := &pprof.Function{ID: 1, Name: "main.main", SystemName: "main.main", Filename: "/src/main.go", StartLine: 10}
	f2 := &pprof.Function{ID: 2, Name: "std::vector<int>::push_back", SystemName: "_ZNSt6vectorIiE9push_backEv", Filename: "vector.h"}
	f3 := &pprof.Function{ID: 3, Name: "java.util.HashMap.get", Filename: "HashMap.java"}
	cgo := &pprof.Profile{
		SampleType: []*pprof.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		PeriodType: &pprof.ValueType{Type: "cpu", Unit: "nanoseconds"}, Period: 1e7, TimeNanos: 1.7e18, DurationNanos: 1e10,
		Mapping: []*pprof.Mapping{bin, lib}, Function: []*pprof.Function{f1, f2},
		Location: []*pprof.Location{
			{ID: 1, Mapping: bin, Address: 0x401000, Line: []pprof.Line{{Function: f2, Line: 3, Column: 9}, {Function: f1, Line: 12}}},
			{ID: 2, Mapping: lib, Address: 0x7f0000000100},
		},
		Comments: []string{"made by hand"}, DropFrames: "drop.*", KeepFrames: "keep.*", DocURL: "https://example.com/doc", DefaultSampleType: "cpu",
	}
	cgo.Sample = []*pprof.Sample{
		{Location: []*pprof.Location{cgo.Location[1], cgo.Location[0]}, Value: []int64{1, 1e7}, Label: map[string][]string{"route": {"/a", "/b"}, "id": {"x"}}},
		{Location: []*pprof.Location{cgo.Location[0]}, Value: []int64{2, 2e7}, NumLabel: map[string][]int64{"bytes": {512}, "x": {1, 2}}, NumUnit: map[string][]string{"bytes": {"bytes"}, "x": {"", "ms"}}},
		{Location: []*pprof.Location{cgo.Location[0]}, Value: []int64{3, 3e7}},
	}
	cpp := &pprof.Profile{
		SampleType: []*pprof.ValueType{{Type: "objects", Unit: "count"}, {Type: "space", Unit: "bytes"}},
		PeriodType: &pprof.ValueType{Type: "space", Unit: "bytes"}, Period: 524288,
		Mapping: []*pprof.Mapping{bin, lib}, Function: []*pprof.Function{f2},
		Location: []*pprof.Location{{ID: 1, Mapping: bin, Address: 0x400123, IsFolded: true, Line: []pprof.Line{{Function: f2}}}},
	}
	cpp.Sample = []*pprof.Sample{{Location: []*pprof.Location{cpp.Location[0]}, Value: []int64{3, 4096}, NumLabel: map[string][]int64{"bytes": {1365}}}}
	java := &pprof.Profile{
		SampleType: []*pprof.ValueType{{Type: "wall", Unit: "microseconds"}, {Type: "alloc", Unit: "bytes"}, {Type: "lock", Unit: "count"}},
		Function:   []*pprof.Function{f3}, Location: []*pprof.Location{{ID: 1, Line: []pprof.Line{{Function: f3, Line: 4}}}},
	}
	java.Sample = []*pprof.Sample{{Location: []*pprof.Location{java.Location[0], java.Location[0]}, Value: []int64{1, 2, 3}, Label: map[string][]string{"thread": {"main"}}}}
	ebpf := &pprof.Profile{
		SampleType: []*pprof.ValueType{{Type: "samples", Unit: "count"}},
		PeriodType: &pprof.ValueType{Type: "cpu", Unit: "nanoseconds"}, Period: 52631578,
		Mapping:  []*pprof.Mapping{bin, lib, kernel},
		Location: []*pprof.Location{{ID: 0xdeadbeef, Mapping: kernel, Address: 0xffffffff81000000}, {ID: 0xfeedface, Mapping: bin, Address: 0x400999}, {ID: 7, Address: 0x1234}},
	}
	ebpf.Sample = []*pprof.Sample{{Location: ebpf.Location, Value: []int64{4}}}
	empty := &pprof.Profile{
		SampleType: []*pprof.ValueType{{Type: "contentions", Unit: "count"}, {Type: "delay", Unit: "nanoseconds"}},
		PeriodType: &pprof.ValueType{Type: "contentions", Unit: "count"}, Period: 1,
	}
	return map[string]*pprof.Profile{"cgo": cgo, "c++": cpp, "java": java, "ebpf": ebpf, "empty": empty}
}
