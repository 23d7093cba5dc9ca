package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/goinquest/inquest"
)

// DeletionRecord is a Deletion as JSON: what the API answers, and what a line
// of the file of deletions begins with.
type DeletionRecord struct {
	Number   uint64               `json:"number,omitempty"` // 0 of a dry run
	Service  string               `json:"service,omitempty"`
	From     *time.Time           `json:"from,omitempty"`
	Until    *time.Time           `json:"until,omitempty"`
	Reason   string               `json:"reason,omitempty"`
	By       string               `json:"by"`
	At       time.Time            `json:"at"`
	Done     *time.Time           `json:"done,omitempty"`
	Profiles int64                `json:"profiles"`
	Bytes    int64                `json:"bytes"`
	Rollups  map[string]TimeRange `json:"rollups,omitempty"`
}

// TimeRange is a range of time as JSON; an end that is missing is open.
type TimeRange struct {
	From  *time.Time `json:"from,omitempty"`
	Until *time.Time `json:"until,omitempty"`
}

// Record returns d as JSON has it.
func (d *Deletion) Record() DeletionRecord {
	out := DeletionRecord{
		Number: d.Number, Service: d.Service, From: timeOrNil(d.Window.From), Until: timeOrNil(d.Window.Until), Reason: d.Reason, By: d.By,
		At: d.At, Done: timeOrNil(d.Done), Profiles: d.Profiles, Bytes: d.Bytes,
	}
	for r, w := range d.Rollups {
		if out.Rollups == nil {
			out.Rollups = map[string]TimeRange{}
		}
		out.Rollups[r] = TimeRange{timeOrNil(w.From), timeOrNil(w.Until)}
	}
	return out
}

// Deletion is the inverse of Deletion.Record.
func (r *DeletionRecord) Deletion() Deletion {
	d := Deletion{
		Number: r.Number, Service: r.Service, Window: inquest.Window{From: timeOf(r.From), Until: timeOf(r.Until)}, Reason: r.Reason, By: r.By,
		At: r.At, Done: timeOf(r.Done), Profiles: r.Profiles, Bytes: r.Bytes, Rollups: map[string]inquest.Window{},
	}
	for name, w := range r.Rollups {
		d.Rollups[name] = inquest.Window{From: timeOf(w.From), Until: timeOf(w.Until)}
	}
	return d
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// deletionLine is a line of the file of deletions: all that the catalog has of
// a deletion.
type deletionLine struct {
	DeletionRecord
	Known  int64    `json:"known"`            // see Deletion.cut
	Epoch  uint64   `json:"epoch"`            // when it was asked for, epochs up to this one were in blocks
	Blocks []string `json:"blocks,omitempty"` // that it concerned
}

// readDeletionLines reads lines of JSON, each a deletion. Those of a store's
// own file have checksums; elsewhere they may be missing. torn says that the
// last line was not finished; other lines that cannot be read are reported.
func readDeletionLines(raw []byte, own bool) (lines []deletionLine, torn bool, damaged []error) {
	number := 0
	for part := range bytes.Lines(raw) {
		number++
		if len(bytes.TrimSpace(part)) == 0 {
			continue
		}
		l, err := readDeletionLine(part, own)
		switch {
		case err == nil:
			lines = append(lines, *l)
		case !bytes.HasSuffix(part, []byte("\n")):
			torn = true
		default:
			damaged = append(damaged, fmt.Errorf("line %d: %w", number, err))
		}
	}
	return lines, torn, damaged
}

func readDeletionLine(line []byte, own bool) (*deletionLine, error) {
	object, err := openLine(line)
	if errors.Is(err, errLineNoSum) && !own {
		object, err = line, nil
	}
	if err != nil {
		return nil, err
	}
	l := &deletionLine{}
	if err := json.Unmarshal(object, l); err != nil {
		return nil, err
	}
	if l.At.IsZero() || own && l.Number == 0 {
		return nil, errors.New("it is no deletion")
	}
	d := l.Deletion()
	return l, d.check()
}

// ReadDeletions reads deletions to be done again in a store that is restored:
// the file of deletions of the store that was, or what the API answers. Lines
// that cannot be used are in damaged. The error is of kind ErrInvalid if there
// is nothing of the sort.
func ReadDeletions(r io.Reader) (ds []Deletion, damaged []error, err error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxSideBytes+1))
	if err != nil {
		return nil, nil, err
	}
	if len(raw) > maxSideBytes {
		return nil, nil, inquest.Errorf(inquest.ErrTooLarge, "it has more than %d bytes", maxSideBytes)
	}
	var answer struct{ Values []json.RawMessage }
	if json.Unmarshal(raw, &answer) == nil && answer.Values != nil {
		raw = nil
		for _, v := range answer.Values {
			var line bytes.Buffer
			if err := json.Compact(&line, v); err != nil {
				return nil, nil, err
			}
			raw = append(append(raw, line.Bytes()...), '\n')
		}
	}
	lines, torn, damaged := readDeletionLines(raw, false)
	if len(lines) == 0 && (torn || len(damaged) > 0) {
		return nil, nil, inquest.Errorf(inquest.ErrInvalid, "want the file %s of a store, or what GET /api/v1/deletions answers", deletionFile)
	}
	for i := range lines {
		ds = append(ds, lines[i].Deletion())
	}
	slices.SortStableFunc(ds, func(a, b Deletion) int { return a.At.Compare(b.At) })
	return ds, damaged, nil
}
