package inquest

import (
	"encoding/hex"
	"time"
)

// Window is a half-open range of time [From, Until), in UTC.
type Window struct {
	From, Until time.Time
}

// Contains reports whether t lies in the window.
func (w Window) Contains(t time.Time) bool { return !t.Before(w.From) && t.Before(w.Until) }

// Duration is the window's length.
func (w Window) Duration() time.Duration { return w.Until.Sub(w.From) }

// Key is the idempotency key of one stored profile: 16 bytes that stay the
// same over retries, restarts and collectors. An agent's key is 8 bytes that
// name the agent and its spool, then the big-endian spool sequence; for other
// senders the collector hashes what was sent.
type Key [16]byte

// String spells the key as 32 hex digits.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// ParseKey reads 32 hex digits. The error is of kind ErrInvalid.
func ParseKey(s string) (Key, error) {
	var k Key
	if len(s) != 2*len(k) {
		return k, Errorf(ErrInvalid, "idempotency key %.40q: want 32 hex digits, got %d characters", s, len(s))
	}
	if _, err := hex.Decode(k[:], []byte(s)); err != nil {
		return k, Errorf(ErrInvalid, "idempotency key %q: want 32 hex digits: %v", s, err)
	}
	return k, nil
}

// ProfileMeta is what is known of one profile beside its samples.
//
// A profile belongs to the window that contains Start. Delta values are the
// amount over [Start, End); an instant value stands for the time from Start on
// for as long as Hold. Start == End marks a profile that observed no time: an
// instant alone, such as the first snapshot of a cumulative kind.
type ProfileMeta struct {
	Kind   Kind
	Labels Labels // service, instance, release (explicit only), build, and the target's own
	// Process names one life of an instance: boot id, pid and start time, or a
	// session id. Empty if the sender did not say; then the instance stands for it.
	Process    string
	Start, End time.Time
	// Hold is the interval this profile stands for: the time to the next one of
	// the same process and kind as the sender plans it. 0: unknown, derived from
	// the neighbours when read.
	Hold time.Duration
	// ClockShift was added to the sender's times to bring them to the
	// collector's clock; 0 when the clocks agreed within tolerance.
	ClockShift time.Duration
	// Truncated says samples were folded into one to keep within a limit; the
	// totals are kept.
	Truncated bool
}

// Service is the value of the service label.
func (m *ProfileMeta) Service() string { return m.Labels.Get(LabelService) }

// ProcessKey names the process, or the instance when the sender did not say.
func (m *ProfileMeta) ProcessKey() string {
	if m.Process != "" {
		return m.Process
	}
	return m.Labels.Get(LabelInstance)
}

// Build is what an executable says of itself: its two ids and the build
// information embedded by the Go linker (debug.BuildInfo).
type Build struct {
	ID        string            `json:"id"`                    // GNU build id in hex, else "go-" + hex SHA-256 of the Go build id
	GoBuildID string            `json:"go_build_id,omitempty"` // as in the ELF note, empty if unknown
	GoVersion string            `json:"go_version,omitempty"`  // "go1.26.8"
	Path      string            `json:"path,omitempty"`        // import path of the main package
	Module    string            `json:"module,omitempty"`      // main module
	Version   string            `json:"version,omitempty"`     // main module's version; "(devel)" is stored as ""
	Revision  string            `json:"revision,omitempty"`    // vcs.revision
	Time      string            `json:"time,omitempty"`        // vcs.time, RFC 3339
	Modified  bool              `json:"modified,omitempty"`    // vcs.modified
	Settings  map[string]string `json:"settings,omitempty"`    // build settings other than vcs.*
	Modules   []Module          `json:"modules,omitempty"`     // what it was built from besides the main module
}

// Release names the version of a service a profile came from: the explicit
// label, else the module version, else the short revision, else the short
// build id; "" if nothing is known. b may be nil.
func Release(explicit, buildID string, b *Build) string {
	switch {
	case explicit != "":
		return explicit
	case b != nil && b.Version != "":
		return b.Version
	case b != nil && b.Revision != "":
		r := short(b.Revision)
		if b.Modified {
			r += "+dirty"
		}
		return r
	}
	return short(buildID)
}

// short cuts a hash to the twelve characters people paste.
func short(s string) string {
	if len(s) > 12 {
		return s[:12]
	}
	return s
}
