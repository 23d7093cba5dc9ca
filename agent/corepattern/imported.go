package corepattern

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/goinquest/inquest"
)

// imported remembers which stored cores were dealt with, over restarts. It is
// safe for concurrent use.
type imported struct {
	path string // "" forgets at the end

	mu    sync.Mutex
	files map[string]int64 // by path: when the file was changed last, ns
}

// openImported reads what is known in a directory, which is made if needed.
func openImported(dir string) (*imported, error) {
	m := &imported{files: map[string]int64{}}
	if dir == "" {
		return m, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	m.path = filepath.Join(dir, importedName)
	data, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &m.files)
	}
	if err != nil {
		return nil, inquest.Errorf(inquest.ErrInvalid, "%s, which says what cores were taken: %w", m.path, err)
	}
	return m, nil
}

func (m *imported) has(path string, changed int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, ok := m.files[path]
	return ok && at == changed
}

// add remembers a file. It is on disk when add returns: a core that was taken
// is not taken again.
func (m *imported) add(path string, changed int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[path] = changed
	return m.write()
}

// keep forgets the files that are not there any more.
func (m *imported) keep(there map[string]bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := len(m.files)
	for path := range m.files {
		if !there[path] {
			delete(m.files, path)
		}
	}
	if len(m.files) == before {
		return nil
	}
	return m.write()
}

func (m *imported) write() error {
	if m.path == "" {
		return nil
	}
	data, err := json.Marshal(m.files)
	if err != nil {
		return err
	}
	return writeDurably(m.path, data)
}
