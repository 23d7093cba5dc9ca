package corpus_test

import (
	"bytes"
	"testing"

	"github.com/goinquest/inquest/internal/corpus"
)

// What programs carry is part of the corpus, has every program there is of
// each kind, and stays small.
func TestSelection(t *testing.T) {
	all := map[string][]byte{}
	programs := map[string]bool{}
	for _, b := range corpus.Load(corpus.SelectedKinds...) {
		all[b.Name] = b.Data
		programs[b.Kind+" "+b.Program] = true
	}
	size := 0
	for _, b := range corpus.Selection() {
		if !bytes.Equal(b.Data, all[b.Name]) {
			t.Errorf("%s is not in the corpus", b.Name)
		}
		delete(programs, b.Kind+" "+b.Program)
		size += len(b.Data)
	}
	if len(programs) > 0 {
		t.Errorf("not selected: %v", programs)
	}
	if size > 2_300_000 {
		t.Errorf("the selection has %d bytes; documentation says 2.2 MB", size)
	}
}
