//go:build !linux

package corepattern

import (
	"context"
	"io"
	"os"
	"time"

	"github.com/goinquest/inquest"
)

// Listener gets no deaths here.
type Listener struct{}

func unsupported() error {
	return inquest.Errorf(inquest.ErrUnavailable, "cores are not taken here: that needs Linux")
}

// Start says that it cannot be done.
func Start(Options) (*Listener, error) { return nil, unsupported() }

// State says that nothing is captured.
func (*Listener) State() inquest.CaptureState {
	return inquest.CaptureState{Mode: ModeOff, Problem: unsupported().Error()}
}

// Stop does nothing.
func (*Listener) Stop() error { return nil }

// Look says that it cannot be done.
func Look(Options) (*Plan, error) { return nil, unsupported() }

// Restore has nothing to restore.
func Restore(string) (bool, error) { return false, nil }

// Guardian says that there is nothing to guard.
func Guardian(string, io.Reader) error { return unsupported() }

// Pipe says that there is nobody to hand a core to.
func Pipe([]string, *os.File) error { return unsupported() }

// Trial is of no use here.
type Trial struct {
	Mode   string        `json:"mode"`
	Signal int           `json:"signal"`
	Took   time.Duration `json:"took_ns"`
}

// Try says that it cannot be done.
func Try(context.Context, Options) (*Trial, error) { return nil, unsupported() }

// Die ends the process.
func Die() { panic("a trial of " + CommandTrial) }
