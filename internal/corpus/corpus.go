// Package corpus gives real pprof bodies of real Go programs: etcd,
// nats-server, prometheus, alertmanager and caddy under light load, and the Go
// compiler. Bodies of one program and kind are successive snapshots of one
// process, in order. heap, allocs, mutex and block are cumulative, as Go serves
// them. Tests and benchmarks read all of it (Load); the fleet simulator is made
// from a smaller part, so that programs which carry it stay small (Selection).
package corpus

import (
	"embed"
	"fmt"
	"path"
	"strings"
)

//go:embed testdata
var files embed.FS

// selected is what programs carry, 2.2 MB: without allocs, which are heap
// profiles once more, and with every other heap profile. Only one of the two
// variables ends up in a program that does not use the other.
//
//go:embed testdata/cpu testdata/goroutine testdata/mutex testdata/block testdata/heap/*[02468].pb.gz
var selected embed.FS

// Body is one file of the corpus.
type Body struct {
	Program string // "etcd"
	Kind    string // folder: cpu, heap, allocs, goroutine, mutex, block
	Seq     int    // position in the program's sequence, from 0; Selection has gaps
	Name    string // "cpu/etcd.00.pb.gz"
	Data    []byte // gzip; the caller's own copy
}

// Kinds are the folders of the corpus.
var Kinds = []string{"cpu", "heap", "allocs", "goroutine", "mutex", "block"}

// SelectedKinds are the folders that Selection has.
var SelectedKinds = []string{"cpu", "heap", "goroutine", "mutex", "block"}

// Load returns the bodies of the kinds (all of them if none is named), sorted
// by kind, program and sequence. It panics on a kind that does not exist, and
// if the embedded files are not named as they should be.
func Load(kinds ...string) []Body {
	if len(kinds) == 0 {
		kinds = Kinds
	}
	return read(files, kinds)
}

// Selection is Load for the part that programs carry.
func Selection(kinds ...string) []Body {
	if len(kinds) == 0 {
		kinds = SelectedKinds
	}
	return read(selected, kinds)
}

func read(fs embed.FS, kinds []string) []Body {
	var out []Body
	for _, kind := range kinds {
		dir := path.Join("testdata", kind)
		entries, err := fs.ReadDir(dir)
		if err != nil {
			panic(fmt.Sprintf("corpus: no kind %q: %v", kind, err))
		}
		for _, e := range entries {
			data, err := fs.ReadFile(path.Join(dir, e.Name()))
			if err != nil {
				panic(err)
			}
			b := Body{Kind: kind, Name: path.Join(kind, e.Name()), Data: data}
			program, rest, _ := strings.Cut(e.Name(), ".")
			b.Program = program
			if _, err := fmt.Sscanf(rest, "%d.pb.gz", &b.Seq); err != nil {
				panic(fmt.Sprintf("corpus: name %q: %v", b.Name, err))
			}
			out = append(out, b)
		}
	}
	return out
}
