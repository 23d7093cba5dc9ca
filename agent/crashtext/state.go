package crashtext

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/goinquest/inquest"
)

// state is how far logs were read, as it is on disk.
type state struct {
	Files   map[string]position `json:"files"`
	Journal string              `json:"journal,omitempty"` // cursor of the last message
}

// position is a place in a file.
type position struct {
	Inode  string `json:"inode"`
	Offset int64  `json:"offset"` // of the first byte that is to be read
	Sum    string `json:"sum"`    // of the beginning of the file, as inodes are used again
}

// readState reads the file; found is false if there is none yet. One that is
// damaged counts as none: it only costs what was written since.
func readState(name string) (s state, found bool, err error) {
	if name == "" {
		return state{Files: map[string]position{}}, false, nil
	}
	data, err := os.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return s, false, fmt.Errorf("how far logs were read: %w", err)
	default:
		found = json.Unmarshal(data, &s) == nil
	}
	if s.Files == nil {
		s.Files = map[string]position{}
	}
	return s, found, nil
}

// write replaces the file.
func (s *state) write(name string) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.WriteFile(name+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

func checkPatterns(patterns []string) error {
	for _, p := range patterns {
		if _, err := filepath.Match(p, ""); err != nil || !filepath.IsAbs(p) {
			return inquest.Errorf(inquest.ErrInvalid, "log file pattern %q: want an absolute path with * and ? as in /var/log/shop/*.log", p)
		}
	}
	return nil
}
