package spool

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/goinquest/inquest/agent/durable"
)

// fileKey is the name of a baseline's files without the extension.
func fileKey(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:16])
}

// Baseline returns the committed state of a key; ok is false if there is
// none, or none that can be read (which is then gone: the next profile is a
// first one).
func (s *Spool) Baseline(key string) (b Baseline, ok bool) {
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	k := fileKey(key)
	if s.promote(k) != nil {
		return Baseline{}, false
	}
	name := k + extBaseline
	data, err := os.ReadFile(s.files.Path(dirBaselines, name))
	if errors.Is(err, fs.ErrNotExist) {
		return Baseline{}, false
	}
	h, body, parseErr := parseBaseline(data)
	if err = errors.Join(err, parseErr); err == nil && h.Key != key {
		err = fmt.Errorf("it is the baseline of %q", h.Key)
	}
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.bytes -= s.baselines[k]
		delete(s.baselines, k)
		s.quarantine(dirBaselines, name, int64(len(data)), err.Error())
		return Baseline{}, false
	}
	return Baseline{Key: key, Taken: h.Taken, Data: body}, true
}

// clearStage lets a state that is committed but has not taken its place do so
// before the put overwrites it: that would bring the one before it back.
func (s *Spool) clearStage(p *put) error {
	if p.err != nil || p.baseline == nil {
		return nil
	}
	return s.promote(fileKey(p.baseline.Key))
}

// unstage takes back the state that was staged for a put that failed.
func (s *Spool) unstage(p *put) {
	if p.baseline == nil {
		return
	}
	if err := s.files.Remove(dirBaselines + "/" + fileKey(p.baseline.Key) + extNext); err != nil {
		s.SetLastError(fmt.Errorf("remove staged baseline: %w", err))
	}
}

// promote lets the staged state of a committed profile take the old one's
// place. Callers hold commitMu.
func (s *Spool) promote(k string) error {
	if !s.unpromoted[k] {
		return nil
	}
	if err := s.files.Rename(dirBaselines+"/"+k+extNext, dirBaselines+"/"+k+extBaseline); err != nil {
		err = fmt.Errorf("commit baseline: %w", err)
		s.SetLastError(err)
		return err
	}
	delete(s.unpromoted, k)
	return nil
}

// Forget removes the baselines of which keep says no and that did not change
// since before.
func (s *Spool) Forget(before time.Time, keep map[string]bool) {
	kept := make(map[string]bool, len(keep))
	for key := range keep {
		kept[fileKey(key)] = true
	}
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	list, err := s.files.List(dirBaselines)
	if err != nil {
		s.SetLastError(err)
		return
	}
	for _, f := range list {
		k, ok := strings.CutSuffix(f.Name, extBaseline)
		if !ok || kept[k] || !f.Info.ModTime().Before(before) {
			continue
		}
		if err := s.files.Remove(dirBaselines + "/" + f.Name); err != nil {
			s.SetLastError(err)
			continue
		}
		s.mu.Lock()
		s.bytes -= s.baselines[k]
		delete(s.baselines, k)
		s.mu.Unlock()
	}
}

// recoverBaselines settles the states that were staged when the agent died:
// one whose profile is queued is committed, any other never was.
func (s *Spool) recoverBaselines() error {
	list, err := s.files.List(dirBaselines)
	if err != nil {
		return err
	}
	queued := make(map[uint64]bool, len(s.entries))
	for _, e := range s.entries {
		queued[e.seq] = true
	}
	for _, f := range list {
		if k, ok := strings.CutSuffix(f.Name, extNext); ok {
			if err := s.settle(k, f, queued); err != nil {
				return err
			}
		}
	}
	if err := s.files.SyncDir(dirBaselines); err != nil {
		return err
	}
	if list, err = s.files.List(dirBaselines); err != nil {
		return err
	}
	for _, f := range list {
		if k, ok := strings.CutSuffix(f.Name, extBaseline); ok {
			s.baselines[k] = f.Info.Size()
			s.bytes += f.Info.Size()
		}
	}
	return nil
}

// settle decides on one staged state.
func (s *Spool) settle(k string, f durable.Found, queued map[uint64]bool) error {
	data, err := os.ReadFile(s.files.Path(dirBaselines, f.Name))
	if err != nil {
		return err
	}
	h, _, err := parseBaseline(data)
	switch {
	case err != nil:
		// Which profile it belongs to is not known, so the older state may
		// have been used up already: starting afresh loses one interval,
		// using it could count one twice.
		s.quarantine(dirBaselines, f.Name, f.Info.Size(), err.Error())
		return s.files.Remove(dirBaselines + "/" + k + extBaseline)
	case queued[h.Sequence]:
		return s.files.Rename(dirBaselines+"/"+f.Name, dirBaselines+"/"+k+extBaseline)
	default:
		return s.files.Remove(dirBaselines + "/" + f.Name)
	}
}
