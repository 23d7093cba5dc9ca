//go:build !linux

package doctor

import (
	"context"

	"github.com/goinquest/inquest"
)

// Run says that it cannot be done.
func Run(context.Context, Options) (*Report, error) {
	return nil, inquest.Errorf(inquest.ErrUnavailable, "processes cannot be looked at here: that needs Linux")
}

// Limits are none.
func Limits(context.Context) ([]Limit, error) { return []Limit{}, nil }
