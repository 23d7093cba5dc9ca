package store

import "time"

// Resolution says how finely the rows of a section divide time: a row is one
// profile, or all of a service, build and explicit release that started in one
// step. Steps are multiples of their length since the epoch, in UTC.
type Resolution uint8

// The resolutions, from the finest. They are stored: the numbers stay.
const (
	Raw Resolution = iota
	FiveMinutes
	Hour
	Day
)

// Duration is the length of a step, 0 for Raw.
func (r Resolution) Duration() time.Duration {
	switch r {
	case FiveMinutes:
		return 5 * time.Minute
	case Hour:
		return time.Hour
	case Day:
		return 24 * time.Hour
	}
	return 0
}

// String is how answers and settings spell it: raw, 5m, 1h, 1d.
func (r Resolution) String() string {
	switch r {
	case FiveMinutes:
		return "5m"
	case Hour:
		return "1h"
	case Day:
		return "1d"
	}
	return "raw"
}
