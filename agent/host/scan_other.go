//go:build !linux

package host

import (
	"context"

	"github.com/goinquest/inquest"
)

// Scanner finds nothing here.
type Scanner struct{}

// NewScanner returns a Scanner that finds nothing: there is no /proc.
func NewScanner(Options) *Scanner { return &Scanner{} }

// Scan says that it cannot be done.
func (*Scanner) Scan(context.Context, map[uint16]bool) (*Snapshot, error) {
	return nil, inquest.Errorf(inquest.ErrUnavailable, "host discovery is not supported here: it needs Linux's /proc")
}

// Alive is true: a process cannot be watched here.
func Alive(string) bool { return true }

// SelfID is "": a process has no name here that outlives its number.
func SelfID() string { return "" }

// Identify says that it cannot be done.
func Identify(int) (Identity, error) {
	return Identity{}, inquest.Errorf(inquest.ErrUnavailable, "processes cannot be looked at here: it needs Linux's /proc")
}
