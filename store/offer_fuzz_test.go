package store_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
)

// FuzzCoreFiles: whatever is in the files of a core that is being sent, the
// store opens, and what it then takes is what the ledger says.
func FuzzCoreFiles(f *testing.F) {
	c := crashOf(1, "shop", "k1")
	l, im, file := coreOf(f, &c, 2, 1)
	dir := f.TempDir()
	s, err := store.Open(context.Background(), store.Options{Dir: dir, Idle: true})
	if err != nil {
		f.Fatal(err)
	}
	mustTell(f, s, c)
	if _, err := s.BeginCore(&c, l, inquest.TierFull, "agent"); err != nil {
		f.Fatal(err)
	}
	b, err := im.Stored(0)
	if err != nil {
		f.Fatal(err)
	}
	if err := s.PutCoreBlock(context.Background(), l.ID(), 0, b); err != nil {
		f.Fatal(err)
	}
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	read := func(suffix string) []byte {
		raw, err := os.ReadFile(filepath.Join(dir, "cores", l.ID()+suffix))
		if err != nil {
			f.Fatal(err)
		}
		return raw
	}
	offer, have, part := read(".offer"), read(".have"), read(".part")
	catalog, err := os.ReadFile(filepath.Join(dir, "catalog.db"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(offer, have, part)
	f.Add(offer[:len(offer)/2], have[:3], part[:100])
	f.Add(offer, append(bytes.Clone(have[:5]), have...), []byte{})
	f.Fuzz(func(t *testing.T, offer, have, part []byte) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "cores"), 0o700); err != nil {
			t.Fatal(err)
		}
		for name, raw := range map[string][]byte{"catalog.db": catalog, "cores/" + l.ID() + ".offer": offer, "cores/" + l.ID() + ".have": have, "cores/" + l.ID() + ".part": part} {
			if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s, err := store.Open(context.Background(), store.Options{Dir: dir, Idle: true, MinFreeBytes: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if _, err := sendCore(s, &c, l, im, inquest.TierFull); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(readCore(t, s, l.ID()), file) {
			t.Error("the core is read with other bytes")
		}
	})
}
