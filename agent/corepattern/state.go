package corepattern

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/goinquest/inquest"
)

// state is what has to be known to undo what an agent did to a host. It is
// written before anything is changed, and counts until the host is booted.
type state struct {
	Boot    string `json:"boot"`              // id of the boot
	Pattern string `json:"pattern,omitempty"` // ours; "" when the old one is back
	Limit   string `json:"limit,omitempty"`   // of concurrent pipes, ours; "" if it was left
	// OldPattern and OldLimit were there before, and are when Pattern is "".
	OldPattern string `json:"old_pattern"`
	OldLimit   string `json:"old_limit,omitempty"`
	// Gaps counts the times that a pattern of ours was there without an agent,
	// and that no agent has been told of.
	Gaps int64 `json:"gaps,omitempty"`
}

// oldDefault is the kernel's own pattern, for when nothing else is known.
const oldDefault = "core"

// old is the pattern that the host had before.
func (st state) old() string {
	if st.OldPattern == "" {
		return oldDefault
	}
	return st.OldPattern
}

// readState reads the state in dir; the zero state if there is none, or only
// one of an earlier boot, of which nothing is left to undo.
func readState(dir, boot string) (state, error) {
	var st state
	data, err := os.ReadFile(statePath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return state{Boot: boot}, nil
	}
	if err != nil {
		return st, err
	}
	if err := json.Unmarshal(data, &st); err != nil {
		return st, inquest.Errorf(inquest.ErrInvalid, "%s: %w", statePath(dir), err)
	}
	if st.Boot != boot {
		return state{Boot: boot, Gaps: st.Gaps}, nil
	}
	return st, nil
}

// write replaces the state in dir. It is on disk when write returns.
func (st state) write(dir string) error {
	data, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return writeDurably(statePath(dir), data)
}

// writeDurably replaces a file whole or not at all.
func writeDurably(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
