// Package corpus gives tests and benchmarks real pprof bodies of real Go
// programs: etcd, nats-server, prometheus, alertmanager and caddy under light
// load, and the Go compiler. Bodies of one program and kind are successive
// snapshots of one process, in order. heap, allocs, mutex and block are
// cumulative, as Go serves them.
package corpus

import (
	"embed"
	"fmt"
	"path"
	"strings"
)

//go:embed testdata
var files embed.FS

// Body is one file of the corpus.
type Body struct {
	Program string // "etcd"
	Kind    string // folder: cpu, heap, allocs, goroutine, mutex, block
	Seq     int    // position in the program's sequence, from 0
	Name    string // "cpu/etcd.00.pb.gz"
	Data    []byte // gzip; the caller's own copy
}

// Kinds are the folders of the corpus.
var Kinds = []string{"cpu", "heap", "allocs", "goroutine", "mutex", "block"}

// Load returns the bodies of the kinds (all of them if none is named), sorted
// by kind, program and sequence. It panics if the embedded files are not
// named as they should be.
func Load(kinds ...string) []Body {
	if len(kinds) == 0 {
		kinds = Kinds
	}
	var out []Body
	for _, kind := range kinds {
		dir := path.Join("testdata", kind)
		entries, err := files.ReadDir(dir)
		if err != nil {
			panic(fmt.Sprintf("corpus: no kind %q: %v", kind, err))
		}
		for _, e := range entries {
			data, err := files.ReadFile(path.Join(dir, e.Name()))
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
