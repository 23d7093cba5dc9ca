//go:build !linux

package capture

import (
	"context"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/corepattern"
)

// Capturer takes what dying processes leave, see the package.
type Capturer struct{}

func unsupported() error {
	return inquest.Errorf(inquest.ErrUnavailable, "processes are captured on Linux only")
}

// New says that there is nothing to capture here.
func New(Options) (*Capturer, error) { return nil, unsupported() }

// SetPolicy does nothing.
func (c *Capturer) SetPolicy(inquest.CapturePolicy) {}

// Start does nothing.
func (c *Capturer) Start() {}

// Stop does nothing.
func (c *Capturer) Stop() {}

// Death lets the process go.
func (c *Capturer) Death(_ context.Context, d *corepattern.Death) { d.Release() }

// Snapshot says that it cannot be done here.
func (c *Capturer) Snapshot(context.Context, int, inquest.Tier) (*inquest.Crash, error) {
	return nil, unsupported()
}

// Watch does nothing.
func (c *Capturer) Watch([]int) {}

// State is empty.
func (c *Capturer) State() inquest.CaptureState { return inquest.CaptureState{} }

// Facts are those of nothing.
func Facts(int) *inquest.Facts { return &inquest.Facts{} }
