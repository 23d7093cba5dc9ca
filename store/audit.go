package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/goinquest/inquest"
)

// AuditEntry is one thing that somebody did, or tried to.
type AuditEntry struct {
	Number uint64            `json:"number"` // one more than the entry before: a gap is something that was taken away
	At     time.Time         `json:"at"`
	Who    string            `json:"who"`    // name of the token
	Action string            `json:"action"` // "read core", "delete core", …
	Object string            `json:"object,omitempty"`
	Result string            `json:"result"` // "ok", or what went wrong
	Remote string            `json:"remote,omitempty"`
	Notes  map[string]string `json:"notes,omitempty"`
}

// What the audit log takes at most, see auditLog.
const (
	auditFileBytes = 8 << 20
	auditFiles     = 64 // older ones, beside the newest
	mostAudited    = 1000
)

// auditLog is a file of lines that is only appended to. When it is large it
// gets another name and a new one begins; when there are too many, the oldest
// goes, and an entry says which numbers went with it.
type auditLog struct {
	mu    sync.Mutex
	file  sideFile
	next  uint64 // number of the next entry
	seq   uint64 // of the next file that gets another name
	bytes int64  // of a file; tests make it small
	files int
}

// openAudit finds out where the log ends. What a crash left of a line is cut
// off, and an entry says so.
func (s *Store) openAudit() error {
	a := &s.audit
	a.file = sideFile{ops: s.ops, dir: s.o.Dir, name: auditFile}
	a.bytes, a.files, a.next, a.seq = auditFileBytes, auditFiles, 1, 1
	names, err := a.older()
	if err != nil {
		return err
	}
	for _, name := range names {
		a.seq = max(a.seq, auditNumber(name)+1)
	}
	raw, err := a.file.read()
	if err != nil {
		return fmt.Errorf("read the audit log: %w", err)
	}
	last := lastAudit(raw)
	if last == 0 && len(names) > 0 {
		older := sideFile{ops: s.ops, dir: s.o.Dir, name: names[len(names)-1]}
		if raw, err := older.read(); err == nil {
			last = lastAudit(raw)
		}
	}
	a.next = last + 1
	if torn := int64(len(raw)) - a.file.size; last > 0 && torn > 0 && !s.o.Idle {
		s.o.Logger.Warn("an entry of the audit log that was not finished is cut off", inquest.LogBytes, torn)
		return s.Audit(AuditEntry{Who: "collector", Action: "open audit log", Result: "an entry that was not finished is cut off"})
	}
	return nil
}

// lastAudit is the number of the last entry that can be read, 0 if there is
// none.
func lastAudit(raw []byte) (last uint64) {
	for line := range bytes.Lines(raw) {
		if e, err := readAudit(line); err == nil {
			last = max(last, e.Number)
		}
	}
	return last
}

func readAudit(line []byte) (*AuditEntry, error) {
	object, err := openLine(line)
	if err != nil {
		return nil, err
	}
	e := &AuditEntry{}
	return e, json.Unmarshal(object, e)
}

// auditNumber reads the number in the name of an older file, 0 if it has none.
func auditNumber(name string) uint64 {
	text, ok := strings.CutPrefix(name, auditPrefix)
	text, ok2 := strings.CutSuffix(text, auditSuffix)
	n, err := strconv.ParseUint(text, 10, 64)
	if !ok || !ok2 || err != nil {
		return 0
	}
	return n
}

// older names the older files, the oldest first.
func (a *auditLog) older() ([]string, error) {
	entries, err := a.file.ops.ReadDir(a.file.dir)
	if err != nil {
		return nil, fmt.Errorf("list the audit log: %w", err)
	}
	var names []string
	for _, e := range entries {
		if auditNumber(e.Name()) > 0 {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// Audit writes an entry down, durably; it gets its number and time. After an
// error, ErrDiskFull or ErrUnavailable, there is none, and what it is about
// should not be done.
func (s *Store) Audit(e AuditEntry) error {
	a := &s.audit
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.rotate(s); err != nil {
		return s.writeError(err)
	}
	return s.writeAudit(e)
}

// writeAudit appends an entry; s.audit.mu is held.
func (s *Store) writeAudit(e AuditEntry) error {
	a := &s.audit
	e.Number, e.At = a.next, s.o.Now().UTC()
	line, err := sealLine(e)
	if err != nil {
		return err
	}
	if err := a.file.append(line); err != nil {
		return s.writeError(fmt.Errorf("write the audit log: %w", err))
	}
	a.next++
	return nil
}

// rotate begins a new file if this one is large.
func (a *auditLog) rotate(s *Store) error {
	if a.file.size < a.bytes {
		return nil
	}
	ops := a.file.ops
	name := fmt.Sprintf("%s%08d%s", auditPrefix, a.seq, auditSuffix)
	if err := ops.Rename(a.file.path(), filepath.Join(a.file.dir, name)); err != nil {
		return err
	}
	a.seq++
	a.file.size = 0
	if err := ops.SyncDir(a.file.dir); err != nil {
		return err
	}
	names, err := a.older()
	if err != nil {
		return err
	}
	for len(names) > a.files {
		if err := a.forget(s, names[0]); err != nil {
			return err
		}
		names = names[1:]
	}
	return nil
}

// forget deletes the oldest file, after an entry said what goes.
func (a *auditLog) forget(s *Store, name string) error {
	old := sideFile{ops: a.file.ops, dir: a.file.dir, name: name}
	raw, err := old.read()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	s.o.Logger.Warn("the audit log is full: its oldest file is deleted", "file", name, "last", lastAudit(raw))
	err = s.writeAudit(AuditEntry{
		Who: "collector", Action: "delete oldest of audit log", Object: name, Result: "ok",
		Notes: map[string]string{"last_number": strconv.FormatUint(lastAudit(raw), 10)},
	})
	if err != nil {
		return err
	}
	return a.file.ops.Remove(old.path())
}

// AuditLog lists entries, the newest first: those with a lower number than
// before, 0 for the newest. An entry that cannot be read counts as one that
// says so.
func (s *Store) AuditLog(before uint64, limit int) ([]AuditEntry, error) {
	if limit <= 0 || limit > mostAudited {
		limit = mostAudited
	}
	a := &s.audit
	a.mu.Lock()
	defer a.mu.Unlock()
	names, err := a.older()
	if err != nil {
		return nil, err
	}
	names = append(names, auditFile)
	out := []AuditEntry{}
	for i := len(names) - 1; i >= 0 && len(out) < limit; i-- {
		f := sideFile{ops: a.file.ops, dir: a.file.dir, name: names[i]}
		raw, err := f.read()
		if err != nil {
			return nil, fmt.Errorf("read the audit log: %w", err)
		}
		var entries []AuditEntry
		for line := range bytes.Lines(raw[:f.size]) {
			e, err := readAudit(line)
			if err != nil {
				e = &AuditEntry{Who: "collector", Action: "read audit log", Object: names[i], Result: "an entry cannot be read: " + err.Error()}
				if n := len(entries); n > 0 {
					e.Number, e.At = entries[n-1].Number+1, entries[n-1].At
				}
			}
			if before == 0 || e.Number < before {
				entries = append(entries, *e)
			}
		}
		slices.Reverse(entries)
		out = append(out, entries[:min(len(entries), limit-len(out))]...)
	}
	return out, nil
}
