package store

import (
	"encoding/json"
	"fmt"

	"github.com/goinquest/inquest"
)

// readReach reads what was noted of what is hidden: from the catalog or, if
// that has lost it, from the file that says it again.
func (s *Store) readReach(lost bool) (*reach, error) {
	s.reachFile = sideFile{ops: s.ops, dir: s.o.Dir, name: horizonFile}
	raw, err := s.catalog.get(bucketHorizon, horizonState)
	if err != nil {
		return nil, fmt.Errorf("read horizon: %w", err)
	}
	if raw == nil || lost {
		if again := s.reachOfFile(); again != nil {
			raw = again
		}
	}
	r := newReach()
	if raw == nil {
		return r, nil
	}
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, fmt.Errorf("read horizon: %w", err)
	}
	return r, nil
}

// reachOfFile is what the file says, nil if nothing can be known of it. It is
// written before the catalog, so it is never older.
func (s *Store) reachOfFile() []byte {
	raw, err := s.reachFile.read()
	if err == nil && len(raw) > 0 {
		raw, err = openLine(raw)
	}
	if err != nil {
		s.lostLog = append(s.lostLog, horizonFile+": "+err.Error())
		s.o.Logger.Error("what was hidden for its age cannot be read and may be seen again", "file", horizonFile, inquest.LogErr, err)
		return nil
	}
	if len(raw) == 0 {
		return nil
	}
	return raw
}

// putReach notes what is hidden, in the file first.
func (s *Store) putReach(r *reach) error {
	line, err := sealLine(r)
	if err != nil {
		return err
	}
	if err := s.reachFile.replace(line, ""); err != nil {
		return fmt.Errorf("write %s: %w", horizonFile, err)
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return s.catalog.put(bucketHorizon, horizonState, raw)
}
