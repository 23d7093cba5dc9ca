package store_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/goinquest/inquest/store"
)

func sample(tb testing.TB, pattern string) [][]byte {
	tb.Helper()
	names, err := filepath.Glob(filepath.Join(formatDirs, pattern))
	if err != nil || len(names) == 0 {
		tb.Fatalf("%s: %v", pattern, err)
	}
	var out [][]byte
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

// FuzzBlock: no bytes make the readers of a block panic or allocate without
// bound, with checksums or behind them.
func FuzzBlock(f *testing.F) {
	for _, b := range sample(f, "blocks/*.blk") {
		if err := store.ReadBlock(b, true); err != nil {
			f.Fatal(err)
		}
		if n := store.CheckBlock(b); n > 0 {
			f.Fatal(n, "problems")
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := store.ReadBlock(data, true); store.CheckBlock(data) == 0 && err != nil {
			t.Fatalf("a check finds nothing, a reader %v", err)
		}
		_ = store.ReadBlock(data, false)
	})
}

// FuzzDict: the same for the unpacked sections of a dictionary.
func FuzzDict(f *testing.F) {
	for _, b := range sample(f, "blocks/*.blk") {
		d := store.DictSections(b)
		if err := store.ReadDict(d); err != nil {
			f.Fatal(err)
		}
		f.Add(d)
	}
	f.Fuzz(func(_ *testing.T, data []byte) { _ = store.ReadDict(data) })
}

// FuzzLog: the same for a log file.
func FuzzLog(f *testing.F) {
	for _, b := range sample(f, "log/*.log") {
		if store.ScanLog(b) == 0 {
			f.Fatal("no profile in the sample log")
		}
		f.Add(b)
	}
	f.Fuzz(func(_ *testing.T, data []byte) { store.ScanLog(data) })
}

// FuzzRecord: the same for what a frame's checksum covers.
func FuzzRecord(f *testing.F) {
	f.Add([]byte{1, 1, 1, 1, 3, 'a', 'b', 'c', 0}, uint32(1))
	f.Fuzz(func(_ *testing.T, data []byte, samples uint32) { store.ReadGrowth(data, samples) })
}

// FuzzRolled: the same for the streams of rollups: cells, digests, and where
// functions are.
func FuzzRolled(f *testing.F) {
	for _, s := range store.RolledStreams() {
		f.Add(s[0], s[1], s[2], s[3], s[4], 2, 1)
	}
	f.Fuzz(func(_ *testing.T, cells, shape, self, cums, bits []byte, rows, cols int) {
		if rows < 0 || rows > 64 || cols < 0 || cols > 4 {
			return
		}
		store.ReadRolled(cells, shape, self, cums, bits, rows, cols)
	})
}

// FuzzGroup: the same for the streams of a row group.
func FuzzGroup(f *testing.F) {
	f.Add([]byte{0, 1, 5}, []byte{0, 7}, []byte{}, []byte{}, []byte{}, 1, 10)
	f.Add([]byte{1, 2, 1, 1, 3, 1}, []byte{4, 3, 2, 1}, []byte{1}, []byte{}, []byte{}, 2, 10)
	f.Add([]byte{1, 1, 1, 1}, []byte{6, 2, 1}, []byte{}, []byte{16}, []byte{0}, 1, 10)
	f.Add([]byte{0, 1, 1, 5, 6}, []byte{9, 4, 6}, []byte{}, []byte{}, []byte{0, 7, 8}, 2, 10)
	f.Fuzz(func(_ *testing.T, series, values, bits, sizes, rest []byte, rows, limit int) {
		if rows < 0 || rows > 1<<12 || limit < 0 || limit > 1<<20 {
			return
		}
		store.ReadGroup(series, values, bits, sizes, rest, rows, limit)
	})
}

// FuzzPages: the same for the pages of a catalog.
func FuzzPages(f *testing.F) {
	for _, b := range sample(f, "catalog.db") {
		if n, err := store.ReadPages(b); err != nil || n == 0 {
			f.Fatal(n, err)
		}
		f.Add(b)
	}
	f.Fuzz(func(_ *testing.T, data []byte) { _, _ = store.ReadPages(data) })
}

// FuzzManifest: the same for the manifest of a backup.
func FuzzManifest(f *testing.F) {
	const good = `{"version":1,"created":"2026-11-01T12:00:00Z","catalog":"catalog-20261101T120000.000000000Z.db","files":[
		{"name":"catalog-20261101T120000.000000000Z.db","bytes":3,"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}]}`
	if _, err := store.ReadManifest([]byte(good)); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(good))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := store.ReadManifest(data)
		if err != nil {
			return
		}
		for _, file := range m.Files {
			if !filepath.IsLocal(file.Name) {
				t.Fatalf("%q leads elsewhere", file.Name)
			}
		}
	})
}

// FuzzBackup: the same for a backup as a tar stream.
func FuzzBackup(f *testing.F) {
	s := open(f, f.TempDir())
	var b bytes.Buffer
	_, err := s.BackupTar(f.Context(), &b, nil, nil)
	if err := errors.Join(err, s.Close()); err != nil {
		f.Fatal(err)
	}
	if n, err := store.ReadBackup(b.Bytes()); n != 1 || err != nil {
		f.Fatal(n, err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(_ *testing.T, data []byte) { _, _ = store.ReadBackup(data) })
}
